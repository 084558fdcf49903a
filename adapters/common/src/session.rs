//! Limits for sessions when a server has no place for another connection.

use std::time::Duration;

/// How many objects a session may carry while other clients wait for its place.
pub const SHARE: u32 = 32;

/// How long a session may wait for its next object while other clients wait for its place. A client that goes on at
/// once does so within this time.
pub const GRACE: Duration = Duration::from_millis(20);
