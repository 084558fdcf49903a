//! What both servers go by when they have no place for another connection.

use std::time::Duration;

/// How many objects a session carries at least, where others wait for its place.
pub const SHARE: u32 = 32;

/// How long a session may wait for its next object, where others wait for its place. A client that goes on at
/// once does so within this time.
pub const GRACE: Duration = Duration::from_millis(20);
