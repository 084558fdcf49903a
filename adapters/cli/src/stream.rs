//! A file or a standard stream that is read or written piece by piece.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

/// Reads and writes a file that may be a pipe, a terminal or a device, also one that was made non-blocking by
/// another process. Counts the bytes, and does not exceed a rate.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    file: &'a File,
    pace: Option<Pace>,
    moved: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Pace {
    bytes_per_second: NonZeroU64,
    began: Instant,
    moved: u64,
}

impl Pace {
    /// The most bytes to move at once: those of a tenth of a second.
    fn step(&self) -> usize {
        usize::try_from(self.bytes_per_second.get() / 10).unwrap_or(usize::MAX).max(1)
    }

    /// When the bytes that have been moved may have been moved.
    fn due(&self) -> Duration {
        let nanos =
            u128::from(self.moved) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl<'a> Stream<'a> {
    /// `moved` is increased by each byte.
    pub(crate) fn new(file: &'a File, rate: Option<NonZeroU64>, moved: &Arc<AtomicU64>) -> Self {
        let pace =
            rate.map(|bytes_per_second| Pace { bytes_per_second, began: Instant::now(), moved: 0 });
        Self { file, pace, moved: Arc::clone(moved) }
    }

    fn move_some(
        &mut self,
        len: usize,
        readiness: PollFlags,
        mut attempt: impl FnMut(&File, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let max = self.pace.as_ref().map_or(len, |pace| len.min(pace.step()));
        let moved = loop {
            match attempt(self.file, max) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.file, readiness)];
                    retry_on_intr(|| poll(&mut fds, None))?;
                }
                moved => break moved?,
            }
        };
        self.moved.fetch_add(moved as u64, Ordering::Relaxed);
        if let Some(pace) = &mut self.pace {
            pace.moved += moved as u64;
            thread::sleep(pace.due().saturating_sub(pace.began.elapsed()));
        }
        Ok(moved)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.move_some(buffer.len(), PollFlags::IN, |mut file, max| file.read(&mut buffer[..max]))
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.move_some(bytes.len(), PollFlags::OUT, |mut file, max| file.write(&bytes[..max]))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_however_small_or_large_it_is() {
        for (rate, step, second) in [(1, 1, 1), (50, 5, 50), (1 << 30, (1 << 30) / 10, 1 << 30)] {
            let bytes_per_second = NonZeroU64::new(rate).unwrap();
            let mut pace = Pace { bytes_per_second, began: Instant::now(), moved: 0 };
            assert_eq!(pace.step(), step);
            assert_eq!(pace.due(), Duration::ZERO);
            pace.moved = second;
            assert_eq!(pace.due(), Duration::from_secs(1));
        }
    }
}
