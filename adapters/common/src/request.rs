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
    framed: Option<bool>,
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
        Self { key, size: None, framed: None }
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
        Self { framed: Some(true), ..self }
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
        Self { framed: Some(false), ..self }
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
        Self { framed: self.framed.or(Some(true)), ..self }
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
        let packet = if self.framed == Some(true) { packet.framed() } else { packet };
        packet.with_object_size(self.size.unwrap_or(ObjectSize::UNKNOWN))
    }
}

impl From<Key> for Request {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}
