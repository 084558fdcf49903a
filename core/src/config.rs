//! The settings of one side.

use core::num::NonZeroU32;

use crate::time::Timeouts;
use crate::transfer::Transfer;

/// The settings of this side for its connections. The peer does not see them.
///
/// ```
/// use core::num::NonZeroU32;
/// use dataserver_core::{Config, Timeouts};
///
/// let config = Config::default()
///     .chunk(NonZeroU32::new(64 * 1024).unwrap())
///     .max_object_size(1 << 30)
///     .timeouts(Timeouts::default().idle(None));
/// assert_eq!(config.max_object_size, Some(1 << 30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The most bytes that one step moves. Default [`Transfer::DEFAULT_CHUNK`].
    pub chunk: NonZeroU32,
    /// The largest object that this side receives, in bytes. Default no limit.
    pub max_object_size: Option<u64>,
    /// How long each part may take.
    pub timeouts: Timeouts,
}

impl Config {
    /// Sets [`chunk`](Self::chunk).
    ///
    /// ```
    /// use core::num::NonZeroU32;
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Config::default().chunk(NonZeroU32::MIN).chunk.get(), 1);
    /// ```
    #[must_use]
    pub fn chunk(self, chunk: NonZeroU32) -> Self {
        Self { chunk, ..self }
    }

    /// Sets [`max_object_size`](Self::max_object_size).
    ///
    /// ```
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Config::default().max_object_size(9).max_object_size, Some(9));
    /// ```
    #[must_use]
    pub fn max_object_size(self, bytes: impl Into<Option<u64>>) -> Self {
        Self { max_object_size: bytes.into(), ..self }
    }

    /// Sets [`timeouts`](Self::timeouts).
    ///
    /// ```
    /// use dataserver_core::{Config, Timeouts};
    ///
    /// let timeouts = Timeouts::default().start(None);
    /// assert_eq!(Config::default().timeouts(timeouts).timeouts, timeouts);
    /// ```
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chunk: Transfer::DEFAULT_CHUNK,
            max_object_size: None,
            timeouts: Timeouts::default(),
        }
    }
}
