//! What a side may write, byte by byte, by the rules of the specification.

use dataserver_core::{AbortReason, Frame};

use super::scenario::{Object, Role};

pub(super) struct Wire {
    role: Role,
    expected: Expected,
    /// How many bytes of the object were written.
    position: usize,
    /// The ABORT that was written whole.
    pub(super) abort: Option<AbortReason>,
}

enum Expected {
    /// The start packet, of which this many bytes were written.
    StartPacket(usize),
    /// A frame, of which these bytes were written.
    Frame(Vec<u8>),
    Body {
        left: u64,
        last: bool,
    },
    Nothing,
}

impl Wire {
    pub(super) fn new(role: Role) -> Self {
        let mut wire = Self { role, expected: Expected::Nothing, position: 0, abort: None };
        wire.begin_object();
        wire
    }

    /// A client writes the start packet first.
    pub(super) fn begin_object(&mut self) {
        self.position = 0;
        self.expected = match self.role {
            Role::Client => Expected::StartPacket(0),
            Role::Server => Expected::Frame(Vec::new()),
        };
    }

    /// Nothing more may be written: this side does not know where it is.
    pub(super) fn give_up(&mut self) {
        self.expected = Expected::Nothing;
    }

    /// Whether an ABORT may follow, as far as the stream tells.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(&self.expected, Expected::Frame(bytes) if bytes.is_empty())
    }

    /// Checks what this side has written. A server has no object before its decision. A receiver has
    /// committed an object of so many bytes, or none.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        object: Option<(usize, &Object)>,
        committed: Option<usize>,
    ) {
        let source = object.map(|(index, object)| object.bytes(index)).unwrap_or_default();
        let sends = object.is_some_and(|(_, object)| object.sender() == self.role);
        for byte in bytes {
            match &mut self.expected {
                Expected::StartPacket(written) => {
                    let (index, object) = object.expect("a client has an object");
                    let packet = object.packet(index);
                    assert_eq!(*byte, packet.as_bytes()[*written], "another start packet");
                    *written += 1;
                    if *written == packet.as_bytes().len() {
                        self.expected = Expected::Frame(Vec::new());
                    }
                }
                Expected::Frame(header) => {
                    header.push(*byte);
                    if let Ok(header) = header.as_slice().try_into() {
                        let frame = Frame::from_bytes(header).expect("a frame");
                        self.frame(frame, sends, source.len(), committed);
                    }
                }
                Expected::Body { left, last } => {
                    let expected = source.get(self.position);
                    assert_eq!(Some(byte), expected, "R12: something else inside a body");
                    self.position += 1;
                    let (left, last) = (*left - 1, *last);
                    self.body(left, last);
                }
                Expected::Nothing => panic!("R6, R7: a byte where nothing may be written"),
            }
        }
    }

    fn frame(&mut self, frame: Frame, sends: bool, size: usize, committed: Option<usize>) {
        match frame {
            Frame::Abort(reason) => {
                assert_eq!(committed, None, "R7: an ABORT after the commit");
                self.abort = Some(reason);
                self.expected = Expected::Nothing;
            }
            Frame::Data { len } if sends => self.body(len, false),
            Frame::Last { len } if sends => {
                assert_eq!(self.position + len as usize, size, "R3: LAST is not the end");
                self.body(len, true);
            }
            Frame::Receipt { size } if !sends => {
                assert_eq!(committed, Some(size as usize), "R4: a receipt without a commit");
                self.expected = Expected::Nothing;
            }
            frame => panic!("{frame} is for the other side to send"),
        }
    }

    fn body(&mut self, left: u64, last: bool) {
        self.expected = match (left, last) {
            (1.., _) => Expected::Body { left, last },
            (0, false) => Expected::Frame(Vec::new()),
            (0, true) => Expected::Nothing,
        };
    }
}
