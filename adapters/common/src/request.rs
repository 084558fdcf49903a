//! What a client asks for.

use dataserver_core::{Direction, Key, ObjectSize, StartPacket};

/// A key, and the size of the object. The direction is given by the method that takes the request.
///
/// Unless it is told otherwise, a put declares its size if the sender knows it: for a slice, and for a
/// regular file.
///
/// ```
/// use dataserver_common::Request;
/// use dataserver_core::{Key, ObjectSize};
///
/// const REPORT: Key = Key::from_name("report");
///
/// let request = Request::from(REPORT);
/// let exact = Request::new(REPORT).size(ObjectSize::new(5)?);
/// assert_ne!(request, exact);
/// # Ok::<(), dataserver_core::SizeOutOfRange>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    key: Key,
    /// `None`: what the sender knows.
    size: Option<ObjectSize>,
    /// `None` for the format that the client uses by default.
    format: Option<Format>,
}

/// Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Bare,
    Framed,
    #[cfg(feature = "digest")]
    Digest,
    #[cfg(feature = "digest")]
    Resumable,
}

impl Request {
    /// A request for this key.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::Key;
    ///
    /// let key = Key::from_name("report");
    /// assert_eq!(Request::new(key), Request::from(key));
    /// ```
    pub const fn new(key: Key) -> Self {
        Self { key, size: None, format: None }
    }

    /// Asks for the framed format: the end of the object, the receipt and the reason for a failure are on
    /// the wire. They hold over proxies, tunnels, TLS and Unix sockets. A peer that has only the bare format,
    /// such as the original, refuses it.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("report")).framed();
    /// assert!(request.packet(Direction::Put).is_framed());
    /// ```
    #[must_use]
    pub const fn framed(self) -> Self {
        self.at_least(Format::Framed)
    }

    /// Uses the bare format, which is the default of a client without TLS.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("report")).bare();
    /// assert!(!request.packet(Direction::Put).is_framed());
    /// ```
    #[must_use]
    pub const fn bare(self) -> Self {
        Self { format: Some(Format::Bare), ..self }
    }

    #[doc(hidden)]
    /// For an adapter: uses the framed format, unless the request names one.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("report")).framed_by_default();
    /// assert!(request.packet(Direction::Put).is_framed());
    /// ```
    #[must_use]
    pub fn framed_by_default(self) -> Self {
        Self { format: self.format.or(Some(Format::Framed)), ..self }
    }

    /// Asks for the framed format, with a digest: the receiver commits only the object that the sender has, byte
    /// for byte. A server without the feature `digest` refuses it.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("report")).with_digest();
    /// assert!(request.packet(Direction::Put).has_digest());
    /// ```
    #[cfg(feature = "digest")]
    #[must_use]
    pub const fn with_digest(self) -> Self {
        self.at_least(Format::Digest)
    }

    /// Asks for the framed format, with a digest, and for a transfer that goes on where an earlier one broke. A
    /// receiver that stores to a file keeps what it has if the connection fails. The next transfer with the same
    /// key and declared size to the same file goes on behind it, and the digest shows at the end whether it is
    /// still the same object. If it is not, the transfer fails, and the next one begins at 0.
    ///
    /// The application of the sender gives the whole object in any case. What the receiver has is hashed, and
    /// not sent.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let request = Request::new(Key::from_name("report")).resumable();
    /// assert!(request.packet(Direction::Get).is_resumable());
    /// ```
    #[cfg(feature = "digest")]
    #[must_use]
    pub const fn resumable(self) -> Self {
        self.at_least(Format::Resumable)
    }

    const fn at_least(self, format: Format) -> Self {
        match self.format {
            Some(chosen) if chosen as u8 >= format as u8 => self,
            _ => Self { format: Some(format), ..self },
        }
    }

    /// Declares this size, or none with [`ObjectSize::UNKNOWN`]. The object must have exactly this size, or
    /// the transfer fails on both sides. That also holds for a get.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Key, ObjectSize};
    ///
    /// let request = Request::new(Key::from_name("report")).size(ObjectSize::UNKNOWN);
    /// ```
    #[must_use]
    pub const fn size(self, size: ObjectSize) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Whether a put declares the size that its sender knows.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::Key;
    ///
    /// assert!(Request::new(Key::from_name("report")).declares_known_size());
    /// ```
    pub const fn declares_known_size(&self) -> bool {
        self.size.is_none()
    }

    /// The start packet, as far as it is known.
    ///
    /// ```
    /// use dataserver_common::Request;
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// let key = Key::from_name("report");
    /// assert_eq!(Request::new(key).packet(Direction::Get), StartPacket::get(key));
    /// ```
    pub fn packet(&self, direction: Direction) -> StartPacket {
        let packet = match direction {
            Direction::Put => StartPacket::put(self.key),
            Direction::Get => StartPacket::get(self.key),
        };
        let packet = match self.format.unwrap_or(Format::Bare) {
            Format::Bare => packet,
            Format::Framed => packet.framed(),
            #[cfg(feature = "digest")]
            Format::Digest => packet.with_digest(),
            #[cfg(feature = "digest")]
            Format::Resumable => packet.resumable(),
        };
        packet.with_object_size(self.size.unwrap_or(ObjectSize::UNKNOWN))
    }
}

impl From<Key> for Request {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
