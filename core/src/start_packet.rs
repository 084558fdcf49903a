//! The 25 bytes with which every connection starts.

use core::fmt;

use crate::key::Key;

/// Which way the object goes, as the client sees it.
///
/// ```
/// use dataserver_core::{Direction, Key, StartPacket};
///
/// assert_eq!(StartPacket::get(Key::from_name("start")).direction(), Direction::Get);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Client to server. On the wire 0, the original's READ: the server reads.
    Put,
    /// Server to client. On the wire 1, the original's WRITE: the server writes.
    Get,
}

/// `put` or `get`.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
        })
    }
}

/// The size of an object in bytes, 0 to 2^63 - 1, or unknown.
///
/// Declare a size if it is known: then both sides can tell that the object is complete. Without it a
/// truncation looks like an end if the peer does not arm its socket to reset.
///
/// ```
/// use dataserver_core::ObjectSize;
///
/// assert_eq!(ObjectSize::new(5)?.bytes(), Some(5));
/// assert_eq!(ObjectSize::UNKNOWN.bytes(), None);
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectSize(i64);

impl ObjectSize {
    /// The size is unknown: -1 on the wire.
    ///
    /// ```
    /// use dataserver_core::{Key, ObjectSize, StartPacket};
    ///
    /// assert_eq!(StartPacket::put(Key::from_name("log")).size(), ObjectSize::UNKNOWN);
    /// ```
    pub const UNKNOWN: Self = Self(-1);

    /// A size in bytes.
    ///
    /// # Errors
    /// Returns [`SizeOutOfRange`] above 2^63 - 1, the largest value of the signed field on the wire.
    ///
    /// ```
    /// use dataserver_core::ObjectSize;
    ///
    /// assert!(ObjectSize::new(i64::MAX as u64).is_ok());
    /// assert!(ObjectSize::new(1 << 63).is_err());
    /// ```
    pub const fn new(bytes: u64) -> Result<Self, SizeOutOfRange> {
        if bytes > i64::MAX as u64 {
            return Err(SizeOutOfRange(bytes));
        }
        Ok(Self(bytes as i64))
    }

    /// The size in bytes; `None` if it is unknown.
    ///
    /// ```
    /// use dataserver_core::ObjectSize;
    ///
    /// assert_eq!(ObjectSize::new(0)?.bytes(), Some(0));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub const fn bytes(self) -> Option<u64> {
        if self.0 < 0 { None } else { Some(self.0 as u64) }
    }
}

/// `5 bytes`, or `unknown size`.
impl fmt::Display for ObjectSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "{bytes} bytes"),
            None => f.write_str("unknown size"),
        }
    }
}

/// The ticket of a connection: direction, object size and key, in 25 bytes.
///
/// | offset | bytes | field | meaning |
/// |---|---|---|---|
/// | 0 | 1 | type | 0 = put, 1 = get; 128 more in the framed format, 160 with a digest, 224 with resume too; anything else is malformed |
/// | 1 | 8 | object size | signed, little-endian; -1 = unknown; below -1 is malformed |
/// | 9 | 16 | key | which registered callback this is for |
///
/// It is kept as it goes over the wire, so that two packets are equal exactly when their bytes are:
/// that is how the original looks a callback up.
///
/// ```
/// use dataserver_core::{Direction, Key, ObjectSize, StartPacket};
///
/// const TICKET: StartPacket = StartPacket::put(Key::from_name("start"));
///
/// let sized = TICKET.with_size(256)?;
/// assert_eq!(sized.direction(), Direction::Put);
/// assert_eq!(sized.size(), ObjectSize::new(256)?);
/// assert_eq!(StartPacket::from_bytes(*sized.as_bytes()), Ok(sized));
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartPacket([u8; StartPacket::LEN]);

/// The direction: clear for a put, set for a get.
const GET: u8 = 1;
/// The framed format. Bits 1 to 4 are reserved.
const FRAMED: u8 = 1 << 7;
/// The framed format, and a digest follows the object.
const DIGEST: u8 = FRAMED | 1 << 5;
/// All of that, and the receiver first says how much of the object it has.
const RESUME: u8 = DIGEST | 1 << 6;

impl StartPacket {
    /// The length of a start packet: 25 bytes.
    ///
    /// ```
    /// assert_eq!(dataserver_core::StartPacket::LEN, 25);
    /// ```
    pub const LEN: usize = 25;

    /// Client to server, size unknown.
    ///
    /// ```
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// assert_eq!(StartPacket::put(Key::from_bytes([0; 16])).direction(), Direction::Put);
    /// ```
    pub const fn put(key: Key) -> Self {
        Self::from_fields(0, ObjectSize::UNKNOWN, &key)
    }

    /// Server to client, size unknown.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// assert_eq!(StartPacket::get(Key::from_bytes([0; 16])).as_bytes()[0], 1);
    /// ```
    pub const fn get(key: Key) -> Self {
        Self::from_fields(GET, ObjectSize::UNKNOWN, &key)
    }

    /// The same packet with a declared size in bytes.
    ///
    /// # Errors
    /// Returns [`SizeOutOfRange`] above 2^63 - 1.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(1)?;
    /// assert_eq!(packet.as_bytes()[1..9], [1, 0, 0, 0, 0, 0, 0, 0]);
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub const fn with_size(self, bytes: u64) -> Result<Self, SizeOutOfRange> {
        match ObjectSize::new(bytes) {
            Ok(size) => Ok(Self::from_fields(self.0[0], size, &self.key())),
            Err(error) => Err(error),
        }
    }

    /// The same packet with this size, which may be unknown.
    ///
    /// ```
    /// use dataserver_core::{Key, ObjectSize, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert_eq!(packet.with_object_size(ObjectSize::UNKNOWN), packet);
    /// ```
    pub const fn with_object_size(self, size: ObjectSize) -> Self {
        Self::from_fields(self.0[0], size, &self.key())
    }

    /// The same packet in the framed format.
    ///
    /// In the bare format, the default, the object ends with the end of the stream, and its receipt is a
    /// graceful close. That holds over one TCP connection. In the framed format both are on the wire, and
    /// hold over any byte stream.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start")).framed();
    /// assert_eq!(packet.as_bytes()[0], 129);
    /// ```
    #[must_use]
    pub const fn framed(self) -> Self {
        Self::from_fields(self.0[0] | FRAMED, self.size(), &self.key())
    }

    /// Whether it asks for the framed format.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert!(!packet.is_framed());
    /// assert!(packet.framed().is_framed());
    /// ```
    pub const fn is_framed(&self) -> bool {
        self.0[0] & FRAMED != 0
    }

    /// The same packet in the framed format, with a digest.
    ///
    /// The digest of the sender follows the object. The receiver compares it with that of what it has stored,
    /// and commits only the object that was sent.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start")).with_digest();
    /// assert_eq!(packet.as_bytes()[0], 161);
    /// assert!(packet.is_framed());
    /// ```
    #[must_use]
    pub const fn with_digest(self) -> Self {
        Self::from_fields(self.0[0] | DIGEST, self.size(), &self.key())
    }

    /// Whether a digest follows the object.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert!(!packet.framed().has_digest());
    /// assert!(packet.with_digest().has_digest());
    /// ```
    pub const fn has_digest(&self) -> bool {
        self.0[0] & DIGEST == DIGEST
    }

    /// The same packet in the framed format, with a digest, and the transfer can be resumed.
    ///
    /// The receiver first says how much of the object it has from an earlier attempt, and the sender sends the
    /// rest. The digest covers the whole object.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start")).resumable();
    /// assert_eq!(packet.as_bytes()[0], 225);
    /// assert!(packet.has_digest());
    /// ```
    #[must_use]
    pub const fn resumable(self) -> Self {
        Self::from_fields(self.0[0] | RESUME, self.size(), &self.key())
    }

    /// Whether the transfer can be resumed.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert!(!packet.with_digest().is_resumable());
    /// assert!(packet.resumable().is_resumable());
    /// ```
    pub const fn is_resumable(&self) -> bool {
        self.0[0] & RESUME == RESUME
    }

    /// Parses 25 bytes as they arrive.
    ///
    /// # Errors
    /// Returns [`Malformed`] for a type other than 0, 1, 128, 129, 160, 161, 224 and 225, and for a size below
    /// -1.
    ///
    /// ```
    /// use dataserver_core::{Malformed, StartPacket};
    ///
    /// assert!(StartPacket::from_bytes([0; 25]).is_ok());
    /// assert_eq!(StartPacket::from_bytes([2; 25]), Err(Malformed::Type(2)));
    /// ```
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Result<Self, Malformed> {
        let packet = Self(bytes);
        match (bytes[0] & !GET, packet.size()) {
            (0 | FRAMED | DIGEST | RESUME, ObjectSize(-1..)) => Ok(packet),
            (0 | FRAMED | DIGEST | RESUME, ObjectSize(size)) => Err(Malformed::Size(size)),
            _ => Err(Malformed::Type(bytes[0])),
        }
    }

    /// The 25 bytes, as they go over the wire.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// assert_eq!(packet.as_bytes()[9..], *Key::from_name("start").as_bytes());
    /// ```
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Which way the object goes.
    ///
    /// ```
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// assert_eq!(StartPacket::put(Key::from_bytes([0; 16])).direction(), Direction::Put);
    /// ```
    pub const fn direction(&self) -> Direction {
        if self.0[0] & GET == 0 { Direction::Put } else { Direction::Get }
    }

    /// The declared size.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// assert_eq!(StartPacket::put(Key::from_bytes([0; 16])).size().bytes(), None);
    /// ```
    pub const fn size(&self) -> ObjectSize {
        let [_, a, b, c, d, e, f, g, h, ..] = self.0;
        ObjectSize(i64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Which registered callback this is for.
    ///
    /// ```
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// assert_eq!(StartPacket::put(Key::from_bytes([3; 16])).key(), Key::from_bytes([3; 16]));
    /// ```
    pub const fn key(&self) -> Key {
        match self.0.last_chunk() {
            Some(key) => Key::from_bytes(*key),
            None => Key::from_bytes([0; Key::LEN]), // 25 bytes do have a last 16
        }
    }

    const fn from_fields(kind: u8, size: ObjectSize, key: &Key) -> Self {
        let [a, b, c, d, e, f, g, h] = size.0.to_le_bytes();
        let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15] =
            *key.as_bytes();
        Self([
            kind, a, b, c, d, e, f, g, h, k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12,
            k13, k14, k15,
        ])
    }
}

/// `put of 5 bytes, key ea2b…`, what a log needs. The framed format is `framed put of …`, with a digest it is
/// `checked put of …`, and with resume too it is `resumable put of …`.
impl fmt::Display for StartPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0[0] & !GET {
            RESUME => "resumable ",
            DIGEST => "checked ",
            FRAMED => "framed ",
            _ => "",
        })?;
        write!(f, "{} of {}, key {}", self.direction(), self.size(), self.key())
    }
}

impl fmt::Debug for StartPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartPacket({self})")
    }
}

/// Puts a start packet together from bytes that come in any number of pieces.
///
/// ```
/// use dataserver_core::{Key, StartPacket, StartPacketParser};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let mut stream = packet.as_bytes().to_vec();
/// stream.extend_from_slice(b"payload");
///
/// let mut parser = StartPacketParser::new();
/// assert_eq!(parser.feed(&stream[..3]), 3);
/// assert_eq!(parser.packet(), None);
/// assert_eq!(parser.feed(&stream[3..]), 22); // what follows is payload, and is left alone
/// assert_eq!(parser.packet(), Some(Ok(packet)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartPacketParser {
    bytes: [u8; StartPacket::LEN],
    received: u8,
}

impl StartPacketParser {
    /// A parser that has seen nothing.
    ///
    /// ```
    /// assert_eq!(dataserver_core::StartPacketParser::new().missing(), 25);
    /// ```
    pub const fn new() -> Self {
        Self { bytes: [0; StartPacket::LEN], received: 0 }
    }

    /// How many bytes are still to come, 0 to 25.
    ///
    /// ```
    /// let mut parser = dataserver_core::StartPacketParser::new();
    /// parser.feed(&[0; 20]);
    /// assert_eq!(parser.missing(), 5);
    /// ```
    pub const fn missing(&self) -> usize {
        StartPacket::LEN.saturating_sub(self.received as usize)
    }

    /// Takes as many bytes as are missing, from the front, and returns how many it took.
    ///
    /// ```
    /// let mut parser = dataserver_core::StartPacketParser::new();
    /// assert_eq!(parser.feed(&[0; 100]), 25);
    /// assert_eq!(parser.feed(&[0; 100]), 0);
    /// ```
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let free = self.bytes.iter_mut().skip(usize::from(self.received));
        let taken = free.zip(bytes).map(|(to, from)| *to = *from).count();
        self.received = self.received.saturating_add(taken as u8); // at most 25
        taken
    }

    /// The packet once all 25 bytes are here, or why they are none; `None` before that.
    ///
    /// ```
    /// use dataserver_core::{Malformed, StartPacketParser};
    ///
    /// let mut parser = StartPacketParser::new();
    /// parser.feed(&[0xff; 25]);
    /// assert_eq!(parser.packet(), Some(Err(Malformed::Type(255))));
    /// ```
    pub const fn packet(&self) -> Option<Result<StartPacket, Malformed>> {
        if self.missing() > 0 {
            return None;
        }
        Some(StartPacket::from_bytes(self.bytes))
    }

    /// Whether the first byte asks for the framed format, even in a malformed packet.
    pub(crate) const fn is_framed(&self) -> bool {
        self.bytes[0] & FRAMED != 0
    }
}

/// A parser that has received this packet.
impl From<StartPacket> for StartPacketParser {
    fn from(packet: StartPacket) -> Self {
        Self { bytes: packet.0, received: StartPacket::LEN as u8 }
    }
}

/// Why 25 bytes are not a start packet.
///
/// ```
/// use dataserver_core::{Malformed, StartPacket};
///
/// let error = StartPacket::from_bytes([2; 25]).unwrap_err();
/// assert_eq!(error.to_string(), "type 2, expected 0 (put) or 1 (get), alone or plus 128 (framed), 160 (with a digest) or 224 (resumable)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The type byte is none of those that this version knows.
    Type(u8),
    /// The object size is below -1.
    Size(i64),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(value) => write!(
                f,
                "type {value}, expected 0 (put) or 1 (get), alone or plus 128 (framed), 160 (with a digest) or 224 (resumable)"
            ),
            Self::Size(value) => write!(f, "object size {value}, expected -1 (unknown) or more"),
        }
    }
}

impl core::error::Error for Malformed {}

/// A size is above 2^63 - 1 bytes, which the start packet cannot hold.
///
/// ```
/// use dataserver_core::{ObjectSize, SizeOutOfRange};
///
/// assert_eq!(ObjectSize::new(u64::MAX), Err(SizeOutOfRange(u64::MAX)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SizeOutOfRange(pub u64);

impl fmt::Display for SizeOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object size {}, expected at most {}", self.0, i64::MAX)
    }
}

impl core::error::Error for SizeOutOfRange {}
