//! The clock that the adapters give to the core.

use std::sync::OnceLock;
use std::time::{Duration, Instant as StdInstant};

use dataserver_core::Instant;

/// The present, on a clock that starts when this process first asks.
///
/// ```
/// let earlier = dataserver_adapter::now();
/// assert!(dataserver_adapter::now() >= earlier);
/// ```
pub fn now() -> Instant {
    Instant::new(epoch().elapsed())
}

/// The same point in time for the standard library; `None` where that cannot hold it.
///
/// ```
/// use dataserver_adapter::{now, to_std};
///
/// assert!(to_std(now()).unwrap() <= std::time::Instant::now());
/// ```
pub fn to_std(instant: Instant) -> Option<StdInstant> {
    epoch().checked_add(instant.since_epoch())
}

/// So long from now: when an [`Entry`](dataserver_core::Entry) should expire.
///
/// ```
/// use std::time::Duration;
/// use dataserver_adapter::{after, now};
///
/// assert!(after(Duration::from_secs(60)) > now());
/// ```
pub fn after(duration: Duration) -> Instant {
    now().saturating_add(duration)
}

fn epoch() -> StdInstant {
    static EPOCH: OnceLock<StdInstant> = OnceLock::new();
    *EPOCH.get_or_init(StdInstant::now)
}
