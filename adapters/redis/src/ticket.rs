//! What is issued, and what is shown of it.

use std::time::Duration;

use dataserver_core::{Direction, Key, ObjectSize};

/// What a ticket allows: one object for this key and direction.
///
/// A ticket is for one claim, allows any size, carries no bytes and does not expire, unless it is told
/// otherwise.
///
/// ```
/// use std::time::Duration;
/// use dataserver_core::Key;
/// use dataserver_redis::Ticket;
///
/// let upload = Ticket::put(Key::from_bytes([7; 16]))
///     .until_delivered()
///     .max_size(1 << 30)
///     .expires_after(Duration::from_secs(3600))
///     .data("inbox/report.csv");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) direction: Direction,
    pub(crate) key: Key,
    pub(crate) until_delivered: bool,
    pub(crate) size: Option<ObjectSize>,
    pub(crate) max_size: Option<u64>,
    pub(crate) valid_for: Option<Duration>,
    pub(crate) data: Vec<u8>,
}

impl Ticket {
    /// The most bytes of the application that a ticket carries: 64 KiB.
    pub const MAX_DATA: usize = 64 * 1024;

    /// For an object that a client puts.
    ///
    /// ```
    /// let ticket = dataserver_redis::Ticket::put(dataserver_core::Key::from_bytes([7; 16]));
    /// ```
    pub const fn put(key: Key) -> Self {
        Self::new(Direction::Put, key)
    }

    /// For an object that a client gets.
    ///
    /// ```
    /// let ticket = dataserver_redis::Ticket::get(dataserver_core::Key::from_bytes([7; 16]));
    /// ```
    pub const fn get(key: Key) -> Self {
        Self::new(Direction::Get, key)
    }

    pub(crate) const fn new(direction: Direction, key: Key) -> Self {
        Self {
            direction,
            key,
            until_delivered: false,
            size: None,
            max_size: None,
            valid_for: None,
            data: Vec::new(),
        }
    }

    /// Allows one claim at a time, until an object is delivered (at least once). Otherwise a ticket is for one
    /// claim, even if the transfer fails (at most once).
    ///
    /// ```
    /// # use dataserver_redis::Ticket;
    /// let ticket = Ticket::put(dataserver_core::Key::from_bytes([7; 16])).until_delivered();
    /// ```
    #[must_use]
    pub fn until_delivered(self) -> Self {
        Self { until_delivered: true, ..self }
    }

    /// Allows only objects for which this size is declared.
    ///
    /// ```
    /// # use dataserver_redis::Ticket;
    /// use dataserver_core::ObjectSize;
    ///
    /// let ticket = Ticket::put(dataserver_core::Key::from_bytes([7; 16])).exact_size(ObjectSize::new(5)?);
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    #[must_use]
    pub fn exact_size(self, size: ObjectSize) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Allows objects of at most this many bytes.
    ///
    /// ```
    /// # use dataserver_redis::Ticket;
    /// let ticket = Ticket::put(dataserver_core::Key::from_bytes([7; 16])).max_size(1 << 30);
    /// ```
    #[must_use]
    pub fn max_size(self, bytes: u64) -> Self {
        Self { max_size: Some(bytes), ..self }
    }

    /// Expires when it has been issued for this long, in milliseconds. A transfer that has begun by then goes on.
    ///
    /// ```
    /// # use dataserver_redis::Ticket;
    /// # use std::time::Duration;
    /// let hour = Duration::from_secs(3600);
    /// let ticket = Ticket::put(dataserver_core::Key::from_bytes([7; 16])).expires_after(hour);
    /// ```
    #[must_use]
    pub fn expires_after(self, duration: Duration) -> Self {
        Self { valid_for: Some(duration), ..self }
    }

    /// Carries these bytes to the handler, at most [`MAX_DATA`](Self::MAX_DATA).
    ///
    /// ```
    /// # use dataserver_redis::Ticket;
    /// let ticket = Ticket::put(dataserver_core::Key::from_bytes([7; 16])).data("inbox/report.csv");
    /// ```
    #[must_use]
    pub fn data(self, data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), ..self }
    }
}

/// A ticket that was found.
///
/// ```no_run
/// # fn example(found: dataserver_redis::Found) {
/// println!("{} bytes of the application", found.data.len());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Whether it stays until an object is delivered. Otherwise it is for one claim.
    pub until_delivered: bool,
    /// The size that has to be declared, if only one is allowed.
    pub exact_size: Option<ObjectSize>,
    /// The most bytes that an object may have.
    pub max_size: Option<u64>,
    /// How long it is valid from now on.
    pub expires_in: Option<Duration>,
    /// Who is serving it now.
    pub owner: Option<String>,
    /// The application's bytes.
    pub data: Vec<u8>,
}
