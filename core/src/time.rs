//! Time as a value: the core has no clock.

use core::fmt;
use core::time::Duration;

/// A point in time: the duration since an epoch of the caller's choosing.
///
/// All instants that are passed to one connection or registry must have the same epoch, and a clock that
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
    /// The instant that is this long after the epoch.
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

    /// The instant that is this much later, or the latest one if that is out of range.
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

    /// How much later this is than `earlier`; zero if it is not later.
    ///
    /// A driver may sleep for `deadline.saturating_since(now)`.
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

/// How long each part of a connection may take. `None` is no limit.
///
/// ```
/// use core::time::Duration;
/// use dataserver_core::Timeouts;
///
/// let timeouts = Timeouts::default().idle(Duration::from_secs(60)).receipt(None);
/// assert_eq!(timeouts.start, Some(Duration::from_secs(5)));
/// assert_eq!(timeouts.receipt, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timeouts {
    /// Server: from the beginning of the connection until all 25 bytes of the start packet have been
    /// read. A client that sends them slowly does not extend it. Default 5 s, the original's timeout.
    pub start: Option<Duration>,
    /// While the driver waits for the peer
    /// ([`Connection::handle_blocked`](crate::Connection::handle_blocked)) and no byte moves. A writer may
    /// notice the peer's last progress late: such a peer has up to 1.5 times this. Default 5 s, the
    /// original's timeout. A framed connection that has failed has one such timeout for its last frame, and 5 s if
    /// there is none.
    pub idle: Option<Duration>,
    /// While a sender waits for its receipt, because the receiver commits. In the framed format also while
    /// the client of a get waits for the first frame, because the server looks for the object. Default
    /// 60 s.
    pub receipt: Option<Duration>,
    /// Server, framed: from the end of an object until the first byte of the next start packet. The session
    /// then ends, which is not a failure. Default 5 s.
    pub keep_alive: Option<Duration>,
    /// From the beginning of the connection until it is done, or from the first byte of a later start packet.
    /// Default no limit.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Sets [`start`](Self::start).
    ///
    /// ```
    /// assert_eq!(dataserver_core::Timeouts::default().start(None).start, None);
    /// ```
    #[must_use]
    pub fn start(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { start: timeout.into(), ..self }
    }

    /// Sets [`idle`](Self::idle).
    ///
    /// ```
    /// assert_eq!(dataserver_core::Timeouts::default().idle(None).idle, None);
    /// ```
    #[must_use]
    pub fn idle(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { idle: timeout.into(), ..self }
    }

    /// Sets [`receipt`](Self::receipt).
    ///
    /// ```
    /// assert_eq!(dataserver_core::Timeouts::default().receipt(None).receipt, None);
    /// ```
    #[must_use]
    pub fn receipt(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { receipt: timeout.into(), ..self }
    }

    /// Sets [`keep_alive`](Self::keep_alive).
    ///
    /// ```
    /// assert_eq!(dataserver_core::Timeouts::default().keep_alive(None).keep_alive, None);
    /// ```
    #[must_use]
    pub fn keep_alive(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { keep_alive: timeout.into(), ..self }
    }

    /// Sets [`total`](Self::total).
    ///
    /// ```
    /// use core::time::Duration;
    ///
    /// let hour = Duration::from_secs(3600);
    /// assert_eq!(dataserver_core::Timeouts::default().total(hour).total, Some(hour));
    /// ```
    #[must_use]
    pub fn total(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { total: timeout.into(), ..self }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Some(Duration::from_secs(5)),
            idle: Some(Duration::from_secs(5)),
            receipt: Some(Duration::from_secs(60)),
            keep_alive: Some(Duration::from_secs(5)),
            total: None,
        }
    }
}

/// One of the [`Timeouts`].
///
/// ```
/// assert_eq!(dataserver_core::Timer::Idle.to_string(), "idle");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// [`Timeouts::start`].
    Start,
    /// [`Timeouts::idle`].
    Idle,
    /// [`Timeouts::receipt`].
    Receipt,
    /// [`Timeouts::total`].
    Total,
}

/// The name of the field in [`Timeouts`].
impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Idle => "idle",
            Self::Receipt => "receipt",
            Self::Total => "total",
        })
    }
}

impl core::error::Error for Timer {}
