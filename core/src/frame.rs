//! The 12-byte headers of the framed format.

use core::fmt;

/// A header of the framed format.
///
/// | offset | bytes | field | meaning |
/// |---|---|---|---|
/// | 0 | 2 | kind | 1 = OPEN, 2 = DATA, 3 = LAST, 4 = RECEIPT, 5 = ABORT; anything else is malformed |
/// | 2 | 2 | code | 0, except in ABORT |
/// | 4 | 8 | value | at most 2^63 - 1, except in ABORT |
///
/// Integers are little-endian. The body of DATA and LAST follows the header. With a digest, its 32 bytes
/// follow the body of LAST.
///
/// ```
/// use dataserver_core::Frame;
///
/// let header = Frame::Last { len: 5 }.to_bytes();
/// assert_eq!(header, [3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
/// assert_eq!(Frame::from_bytes(header), Ok(Frame::Last { len: 5 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// From the receiver of a resumable transfer: how much of the object it has.
    Open {
        /// How many bytes of the object the receiver has, 0 to 2^63 - 1. The sender sends the rest.
        offset: u64,
    },
    /// From the sender: this many bytes of the object follow, at least 1.
    Data {
        /// The length of the body, 1 to 2^63 - 1 bytes.
        len: u64,
    },
    /// From the sender: the object ends with the bytes that follow.
    Last {
        /// The length of the body, 0 to 2^63 - 1 bytes.
        len: u64,
    },
    /// From the receiver: it has committed the object.
    Receipt {
        /// The size of the whole object, 0 to 2^63 - 1 bytes.
        size: u64,
    },
    /// From either side: it has given up.
    Abort(AbortReason),
}

const OPEN: u16 = 1;
const DATA: u16 = 2;
const LAST: u16 = 3;
const RECEIPT: u16 = 4;
const ABORT: u16 = 5;

/// The largest value of a frame other than ABORT.
pub(crate) const MAX_VALUE: u64 = i64::MAX as u64;

impl Frame {
    /// The length of a header: 12 bytes.
    ///
    /// ```
    /// assert_eq!(dataserver_core::Frame::LEN, 12);
    /// ```
    pub const LEN: usize = 12;

    /// Parses a header.
    ///
    /// # Errors
    /// Returns [`MalformedFrame`] for an unknown kind, and for a code or a value that the kind does not
    /// have. An ABORT with an unknown code is not malformed.
    ///
    /// ```
    /// use dataserver_core::{Frame, MalformedFrame};
    ///
    /// let error = MalformedFrame { kind: 9, code: 0, value: 0 };
    /// assert_eq!(Frame::from_bytes([9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(error));
    /// ```
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Result<Self, MalformedFrame> {
        let [k0, k1, c0, c1, a, b, c, d, e, f, g, h] = bytes;
        let (kind, code) = (u16::from_le_bytes([k0, k1]), u16::from_le_bytes([c0, c1]));
        let value = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        match (kind, code, value) {
            (OPEN, 0, 0..=MAX_VALUE) => Ok(Self::Open { offset: value }),
            (DATA, 0, 1..=MAX_VALUE) => Ok(Self::Data { len: value }),
            (LAST, 0, 0..=MAX_VALUE) => Ok(Self::Last { len: value }),
            (RECEIPT, 0, 0..=MAX_VALUE) => Ok(Self::Receipt { size: value }),
            (ABORT, ..) => Ok(Self::Abort(AbortReason::new(code, value))),
            _ => Err(MalformedFrame { kind, code, value }),
        }
    }

    /// The header as it goes over the wire.
    ///
    /// ```
    /// use dataserver_core::{AbortReason, Frame};
    ///
    /// let busy = Frame::Abort(AbortReason::Busy);
    /// assert_eq!(busy.to_bytes(), [5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    /// ```
    pub const fn to_bytes(&self) -> [u8; Self::LEN] {
        let (kind, code, value) = match *self {
            Self::Open { offset } => (OPEN, 0, offset),
            Self::Data { len } => (DATA, 0, len),
            Self::Last { len } => (LAST, 0, len),
            Self::Receipt { size } => (RECEIPT, 0, size),
            Self::Abort(reason) => (ABORT, reason.code(), reason.value()),
        };
        let [k0, k1] = kind.to_le_bytes();
        let [c0, c1] = code.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        [k0, k1, c0, c1, a, b, c, d, e, f, g, h]
    }
}

/// `OPEN at 5 bytes`, `DATA of 5 bytes`, `LAST of 0 bytes`, `RECEIPT of 5 bytes`, or `ABORT: busy: …`.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { offset } => write!(f, "OPEN at {offset} bytes"),
            Self::Data { len } => write!(f, "DATA of {len} bytes"),
            Self::Last { len } => write!(f, "LAST of {len} bytes"),
            Self::Receipt { size } => write!(f, "RECEIPT of {size} bytes"),
            Self::Abort(reason) => write!(f, "ABORT: {reason}"),
        }
    }
}

/// Why a side has given up, as its ABORT frame says.
///
/// ```
/// use dataserver_core::AbortReason;
///
/// let reason = AbortReason::TooLarge { limit: 9 };
/// assert_eq!((reason.code(), reason.value()), (3, 9));
/// assert_eq!(reason.to_string(), "the object is larger than the limit of 9 bytes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortReason {
    /// 0: a sender could not read the object, or a receiver could not store it.
    Failed {
        /// What the application says about it, or 0.
        code: u64,
    },
    /// 1: the start packet was refused: unknown key, other size or direction, used up, or expired. Another
    /// try does not help.
    Refused,
    /// 2: another connection has claimed the entry. Nothing was claimed. Another try can help later.
    Busy,
    /// 3: the object is too large.
    TooLarge {
        /// The largest object that is received, in bytes.
        limit: u64,
    },
    /// 4: the server ends the session. It has looked up no further start packet, so that another try over a
    /// new connection is safe.
    Closing,
    /// 5: what this side sent was malformed, or needs a feature that the peer does not have.
    Malformed,
    /// 6: the bytes of the receiver are not the object of the sender. The receiver has discarded them. Another
    /// try sends the whole object.
    Mismatch,
    /// 7: a timeout ran out. Another try can help later.
    TimedOut,
    /// A code that this version does not know.
    Unknown {
        /// The code.
        code: u16,
        /// The value of the frame.
        value: u64,
    },
}

impl AbortReason {
    /// The reason with this code. The value is used for the codes that have one.
    ///
    /// ```
    /// use dataserver_core::AbortReason;
    ///
    /// assert_eq!(AbortReason::new(0, 28), AbortReason::Failed { code: 28 });
    /// assert_eq!(AbortReason::new(2, 28), AbortReason::Busy);
    /// ```
    pub const fn new(code: u16, value: u64) -> Self {
        match code {
            0 => Self::Failed { code: value },
            1 => Self::Refused,
            2 => Self::Busy,
            3 => Self::TooLarge { limit: value },
            4 => Self::Closing,
            5 => Self::Malformed,
            6 => Self::Mismatch,
            7 => Self::TimedOut,
            code => Self::Unknown { code, value },
        }
    }

    /// The code on the wire.
    ///
    /// ```
    /// assert_eq!(dataserver_core::AbortReason::Busy.code(), 2);
    /// ```
    pub const fn code(self) -> u16 {
        match self {
            Self::Failed { .. } => 0,
            Self::Refused => 1,
            Self::Busy => 2,
            Self::TooLarge { .. } => 3,
            Self::Closing => 4,
            Self::Malformed => 5,
            Self::Mismatch => 6,
            Self::TimedOut => 7,
            Self::Unknown { code, .. } => code,
        }
    }

    /// The value on the wire, which is 0 for most codes.
    ///
    /// ```
    /// assert_eq!(dataserver_core::AbortReason::Failed { code: 28 }.value(), 28);
    /// ```
    pub const fn value(self) -> u64 {
        match self {
            Self::Failed { code: value }
            | Self::TooLarge { limit: value }
            | Self::Unknown { value, .. } => value,
            _ => 0,
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { code: 0 } => f.write_str("its application failed"),
            Self::Failed { code } => write!(f, "its application failed with code {code}"),
            Self::Refused => f.write_str("it refused the start packet"),
            Self::Busy => f.write_str("another connection is using this registration"),
            Self::TooLarge { limit } => {
                write!(f, "the object is larger than the limit of {limit} bytes")
            }
            Self::Closing => f.write_str("it is closing the connection"),
            Self::Malformed => f.write_str("it does not support what this side sent"),
            Self::Mismatch => f.write_str("the bytes of the receiver are not those of the object"),
            Self::TimedOut => f.write_str("a timeout of its side ran out"),
            Self::Unknown { code, value } => write!(f, "unknown code {code}, value {value}"),
        }
    }
}

/// Twelve bytes that are not a frame.
///
/// ```
/// use dataserver_core::MalformedFrame;
///
/// let error = MalformedFrame { kind: 2, code: 0, value: 0 };
/// assert_eq!(error.to_string(), "DATA with the length 0, expected 1 to 9223372036854775807");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MalformedFrame {
    /// The kind that was received.
    pub kind: u16,
    /// The code that was received.
    pub code: u16,
    /// The value that was received.
    pub value: u64,
}

impl fmt::Display for MalformedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, code, value } = self;
        let (name, field, least) = match *kind {
            OPEN => ("OPEN", "offset", 0),
            DATA => ("DATA", "length", 1),
            LAST => ("LAST", "length", 0),
            RECEIPT => ("RECEIPT", "size", 0),
            kind => {
                return write!(
                    f,
                    "kind {kind}, expected 1 (OPEN), 2 (DATA), 3 (LAST), 4 (RECEIPT) or 5 (ABORT)"
                );
            }
        };
        match code {
            0 => write!(f, "{name} with the {field} {value}, expected {least} to {MAX_VALUE}"),
            code => write!(f, "{name} with the code {code}, expected 0"),
        }
    }
}

impl core::error::Error for MalformedFrame {}

/// Puts a header together from bytes that come in any number of pieces.
///
/// ```
/// use dataserver_core::{Frame, FrameParser};
///
/// let mut stream = Frame::Data { len: 3 }.to_bytes().to_vec();
/// stream.extend_from_slice(b"abc");
///
/// let mut parser = FrameParser::new();
/// assert_eq!(parser.feed(&stream[..5]), 5);
/// assert_eq!(parser.frame(), None);
/// assert_eq!(parser.feed(&stream[5..]), 7); // the body is left alone
/// assert_eq!(parser.frame(), Some(Ok(Frame::Data { len: 3 })));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameParser {
    bytes: [u8; Frame::LEN],
    received: u8,
}

impl FrameParser {
    /// A parser that has received nothing.
    ///
    /// ```
    /// assert_eq!(dataserver_core::FrameParser::new().missing(), 12);
    /// ```
    pub const fn new() -> Self {
        Self { bytes: [0; Frame::LEN], received: 0 }
    }

    /// How many bytes are still to come, 0 to 12.
    ///
    /// ```
    /// let mut parser = dataserver_core::FrameParser::new();
    /// parser.feed(&[0; 4]);
    /// assert_eq!(parser.missing(), 8);
    /// ```
    pub const fn missing(&self) -> usize {
        Frame::LEN.saturating_sub(self.received as usize)
    }

    /// Takes as many bytes as are missing, from the front, and returns how many it took.
    ///
    /// ```
    /// let mut parser = dataserver_core::FrameParser::new();
    /// assert_eq!(parser.feed(&[0; 100]), 12);
    /// assert_eq!(parser.feed(&[0; 100]), 0);
    /// ```
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let free = self.bytes.iter_mut().skip(usize::from(self.received));
        let taken = free.zip(bytes).map(|(to, from)| *to = *from).count();
        self.received = self.received.saturating_add(taken as u8); // at most 12
        taken
    }

    /// The frame once all 12 bytes are here, or why they are none; `None` before that.
    ///
    /// ```
    /// assert_eq!(dataserver_core::FrameParser::new().frame(), None);
    /// ```
    pub const fn frame(&self) -> Option<Result<Frame, MalformedFrame>> {
        if self.missing() > 0 {
            return None;
        }
        Some(Frame::from_bytes(self.bytes))
    }
}
