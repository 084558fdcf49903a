//! Frames: any twelve bytes, in any pieces.

#![no_main]

use dataserver_core::{Frame, FrameParser};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, pieces) = input;
    let Some(header) = bytes.first_chunk::<{ Frame::LEN }>() else { return };
    let frame = Frame::from_bytes(*header);
    assert_eq!(frame.is_ok(), is_frame(header), "{frame:?}");
    if let Ok(frame) = frame {
        let encoded = frame.to_bytes();
        assert_eq!(Frame::from_bytes(encoded), Ok(frame), "round trip");
        // The value of an ABORT counts only for the codes that have one.
        assert!(encoded == *header || (header[0] == 5 && encoded[..4] == header[..4]));
        assert!(!frame.to_string().is_empty());
    }

    let mut parser = FrameParser::new();
    let mut left = &bytes[..];
    for piece in pieces.iter().map(|piece| usize::from(*piece)).chain([bytes.len()]) {
        assert_eq!(parser.frame().is_some(), parser.missing() == 0);
        let missing = parser.missing();
        let read = &left[..piece.min(left.len())];
        let taken = parser.feed(read);
        assert_eq!(taken, read.len().min(missing), "split: what follows is left alone");
        left = &left[taken..];
    }
    assert_eq!(parser.frame(), Some(frame), "split: the same frame");
});

/// The rules of the specification, in other words than those of the core.
fn is_frame(header: &[u8; Frame::LEN]) -> bool {
    let [kind, 0, code @ .., a, b, c, d, e, f, g, h] = *header else { return false };
    let value = i64::from_le_bytes([a, b, c, d, e, f, g, h]);
    match kind {
        2 => code == [0, 0] && value > 0,
        1 | 3 | 4 => code == [0, 0] && value >= 0,
        5 => true,
        _ => false,
    }
}
