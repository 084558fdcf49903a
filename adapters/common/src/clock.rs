//! The clock that the adapters give to the core.

use std::sync::OnceLock;
use std::time::{Duration, Instant as StdInstant};

use dataserver_core::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The present for connections, on a clock that starts when this process first asks. It stands still
/// while the machine is suspended, so that a suspended machine blames no peer.
///
/// ```
/// let earlier = dataserver_common::now();
/// assert!(dataserver_common::now() >= earlier);
/// ```
pub fn now() -> Instant {
    Instant::new(epoch().elapsed())
}

/// The same point in time for the standard library; `None` where that cannot hold it.
///
/// ```
/// use dataserver_common::{now, to_std};
///
/// assert!(to_std(now()).unwrap() <= std::time::Instant::now());
/// ```
pub fn to_std(instant: Instant) -> Option<StdInstant> {
    epoch().checked_add(instant.since_epoch())
}

/// The present for entries that expire, on a clock that also runs while the machine is suspended.
///
/// ```
/// let earlier = dataserver_common::registry_now();
/// assert!(dataserver_common::registry_now() >= earlier);
/// ```
pub fn registry_now() -> Instant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic; // it runs during suspend on Apple systems, clock_gettime(3)
    let now = clock_gettime(CLOCK);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Instant::new(Duration::new(seconds, nanos))
}

fn epoch() -> StdInstant {
    static EPOCH: OnceLock<StdInstant> = OnceLock::new();
    *EPOCH.get_or_init(StdInstant::now)
}
