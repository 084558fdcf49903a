//! Frames against literal bytes: every kind, every code, and the bounds of the value.

use dataserver_core::{AbortReason, Frame, FrameParser, MalformedFrame};

const MAX: u64 = (1 << 63) - 1;

/// Each frame and its bytes on the wire.
const FRAMES: [(Frame, [u8; 12]); 20] = [
    (Frame::Open { offset: 0 }, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (Frame::Open { offset: MAX }, [1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127]),
    (Frame::Data { len: 1 }, [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    (Frame::Data { len: 0x0102 }, [2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]),
    (Frame::Data { len: MAX }, [2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127]),
    (Frame::Last { len: 0 }, [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (Frame::Last { len: 0x0807_0605_0403_0201 }, [3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
    (Frame::Last { len: MAX }, [3, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127]),
    (Frame::Receipt { size: 0 }, [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (Frame::Receipt { size: MAX }, [4, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127]),
    (abort(AbortReason::Failed { code: 0 }), [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (
        abort(AbortReason::Failed { code: u64::MAX }),
        [5, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
    ),
    (abort(AbortReason::Refused), [5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::Busy), [5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::TooLarge { limit: 256 }), [5, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::Closing), [5, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::Malformed), [5, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::Mismatch), [5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (abort(AbortReason::TimedOut), [5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (
        abort(AbortReason::Unknown { code: 0x0809, value: 1 << 63 }),
        [5, 0, 9, 8, 0, 0, 0, 0, 0, 0, 0, 128],
    ),
];

const fn abort(reason: AbortReason) -> Frame {
    Frame::Abort(reason)
}

#[test]
fn each_frame_has_these_bytes() {
    for (frame, bytes) in FRAMES {
        assert_eq!(frame.to_bytes(), bytes, "{frame:?}");
        assert_eq!(Frame::from_bytes(bytes), Ok(frame), "{bytes:?}");
    }
}

#[test]
fn an_abort_whose_code_has_no_value_is_parsed_with_any_value() {
    for (code, reason) in [
        (1, AbortReason::Refused),
        (2, AbortReason::Busy),
        (4, AbortReason::Closing),
        (5, AbortReason::Malformed),
        (6, AbortReason::Mismatch),
        (7, AbortReason::TimedOut),
    ] {
        let bytes = [5, 0, code, 0, 9, 0, 0, 0, 0, 0, 0, 128];
        assert_eq!(Frame::from_bytes(bytes), Ok(abort(reason)));
    }
}

#[test]
fn a_value_beyond_the_bounds_of_its_kind_is_malformed() {
    let beyond = [0, 0, 0, 0, 0, 0, 0, 128];
    for (kind, value, bytes) in [
        (1, 1 << 63, beyond),
        (2, 0, [0; 8]),
        (2, 1 << 63, beyond),
        (3, 1 << 63, beyond),
        (4, 1 << 63, beyond),
        (3, u64::MAX, [255; 8]),
    ] {
        expect_malformed(kind, 0, value, bytes);
    }
}

#[test]
fn a_kind_that_is_unknown_is_malformed() {
    for kind in (0..=u16::MAX).filter(|kind| !(1..=5).contains(kind)) {
        expect_malformed(kind, 0, 1, [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn a_code_outside_of_an_abort_is_malformed() {
    for kind in 1..=4 {
        for code in 1..=u16::MAX {
            expect_malformed(kind, code, 1, [1, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
}

#[test]
fn a_malformed_frame_says_what_was_received_and_what_was_expected() {
    let message = |kind, code, value| MalformedFrame { kind, code, value }.to_string();
    let kinds = "expected 1 (OPEN), 2 (DATA), 3 (LAST), 4 (RECEIPT) or 5 (ABORT)";
    assert_eq!(message(6, 0, 0), format!("kind 6, {kinds}"));
    assert_eq!(
        message(1, 0, u64::MAX),
        format!("OPEN with the offset {}, expected 0 to {MAX}", u64::MAX)
    );
    assert_eq!(message(2, 0, 0), format!("DATA with the length 0, expected 1 to {MAX}"));
    let value = 1 << 63;
    assert_eq!(message(3, 0, value), format!("LAST with the length {value}, expected 0 to {MAX}"));
    assert_eq!(message(4, 0, value), format!("RECEIPT with the size {value}, expected 0 to {MAX}"));
    assert_eq!(message(3, 7, 1), "LAST with the code 7, expected 0");
}

#[test]
fn the_parser_takes_one_header_in_any_two_pieces_and_leaves_the_rest() {
    for (frame, header) in FRAMES {
        let stream = [&header[..], b"body"].concat();
        for cut in 0..12 {
            let mut parser = FrameParser::new();
            assert_eq!(parser.feed(&stream[..cut]), cut);
            assert_eq!((parser.missing(), parser.frame()), (12 - cut, None));
            assert_eq!(parser.feed(&stream[cut..]), 12 - cut);
            assert_eq!((parser.missing(), parser.frame()), (0, Some(Ok(frame))));
        }
    }
}

fn expect_malformed(kind: u16, code: u16, value: u64, bytes: [u8; 8]) {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&kind.to_le_bytes());
    header[2..4].copy_from_slice(&code.to_le_bytes());
    header[4..].copy_from_slice(&bytes);
    assert_eq!(Frame::from_bytes(header), Err(MalformedFrame { kind, code, value }));
}
