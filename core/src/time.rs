//! Time as a value: the core has no clock.

use core::fmt;
use core::time::Duration;

/// A point in time: the duration since an epoch of the caller's choosing.
///
/// All instants that one connection or registry is given must be of one epoch, and of a clock that
/// does not run backwards.
///
/// ```
/// use core::time::Duration;
/// use dataserver_core::Instant;
///
/// let start = std::time::Instant::now();                  // the epoch
/// let now = Instant::new(start.elapsed());
/// assert!(now.saturating_add(Duration::from_secs(5)) > now);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// So long after the epoch.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::Instant;
    ///
    /// assert_eq!(Instant::new(Duration::ZERO), Instant::default());
    /// ```
    pub const fn new(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    /// How long after the epoch this is.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::Instant;
    ///
    /// let second = Duration::from_secs(1);
    /// assert_eq!(Instant::new(second).since_epoch(), second);
    /// ```
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// So much later; at the end of time where that is out of range.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::Instant;
    ///
    /// let later = Instant::default().saturating_add(Duration::from_secs(1));
    /// assert_eq!(later.since_epoch(), Duration::from_secs(1));
    /// ```
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How much later this is than `earlier`; zero where it is not.
    ///
    /// What a driver may sleep: `deadline.saturating_since(now)`.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::Instant;
    ///
    /// let now = Instant::new(Duration::from_secs(7));
    /// let deadline = Instant::new(Duration::from_secs(10));
    /// assert_eq!(deadline.saturating_since(now), Duration::from_secs(3));
    /// assert_eq!(now.saturating_since(deadline), Duration::ZERO);
    /// ```
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        const SECOND: u128 = 1_000_000_000;
        // Not `Duration::saturating_sub`: it holds a panic that the optimiser does not see is dead.
        let nanos = self.0.as_nanos().saturating_sub(earlier.0.as_nanos());
        Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
    }
}

/// How long each part of a connection may take. [`Duration::MAX`] is for ever.
///
/// ```
/// use core::time::Duration;
/// use dataserver_core::Timeouts;
///
/// let patient = Timeouts { idle: Duration::from_secs(60), ..Timeouts::default() };
/// assert_eq!(patient.start, Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Server: from the beginning of the connection until all 25 bytes of the start packet have been
    /// read. A client that sends them slowly does not extend it. Default 5 s, the original's timeout.
    pub start: Duration,
    /// While the driver waits for the peer
    /// ([`Connection::would_block`](crate::Connection::would_block)) and no byte moves. A writer may
    /// notice the peer's last progress late: such a peer has up to 1.5 times this. Default 5 s, the
    /// original's timeout.
    pub idle: Duration,
    /// While a sender waits for the receipt: longer, since a commit can take long. Default 60 s.
    pub end: Duration,
    /// From the beginning of the connection until it is done. Default for ever.
    pub transfer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            end: Duration::from_secs(60),
            transfer: Duration::MAX,
        }
    }
}

/// Which of the [`Timeouts`] has run out.
///
/// ```
/// assert_eq!(dataserver_core::Timer::Idle.to_string(), "idle");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// [`Timeouts::start`].
    Start,
    /// [`Timeouts::idle`].
    Idle,
    /// [`Timeouts::end`].
    End,
    /// [`Timeouts::transfer`].
    Transfer,
}

/// The name of the field in [`Timeouts`].
impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Idle => "idle",
            Self::End => "end",
            Self::Transfer => "transfer",
        })
    }
}
