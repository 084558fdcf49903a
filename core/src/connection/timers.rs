//! The timers of a connection: how long a driver waits, and what happens when the time is over.

use core::time::Duration;

use super::{Connection, State};
use crate::start_packet::{Direction, StartPacket};
use crate::time::{Instant, Timer};

pub(super) const FOREVER: Instant = Instant::new(Duration::MAX);

/// How often a writer tries again, each eighth of the idle timeout, before its peer is idle. It notices
/// progress up to an eighth late, which makes 12 eighths at most. With 5 s the 11 eighths are longer than
/// the 6.6 s that a peer at 20 kB/s takes for the 128 KiB of Linux's default receive buffer.
const WRITER_TRIES: u8 = 11;

/// The idle timeout of [`Timeouts::default`](crate::Timeouts).
const DEFAULT_IDLE: Duration = Duration::from_secs(5);

pub(super) fn or_forever(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(Duration::MAX)
}

/// An eighth of this timeout; no limit stays no limit.
fn eighth(timeout: Duration) -> Duration {
    match timeout {
        Duration::MAX => timeout,
        _ => timeout.checked_div(8).unwrap_or(timeout),
    }
}

/// To report on time.
impl Connection {
    /// When a driver that waits for the peer at `now` should try the step again at the latest. `None` if
    /// there is no limit.
    ///
    /// A driver that sleeps until the transport is ready or until this time, and then tries the step
    /// again, neither hangs nor spins. Any report may change the deadline. While the connection waits for
    /// its own application, ignore it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Instant};
    ///
    /// let now = Instant::new(Duration::from_secs(1));
    /// let connection = Connection::server(Config::default(), Instant::default());
    /// assert_eq!(connection.deadline(now), Some(Instant::new(Duration::from_secs(5))));
    /// ```
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let retry = match (self.retry, self.wait_for_peer()) {
            (Some(retry), _) => retry,
            (None, Some((_, timeout))) => self.first_retry(now, timeout),
            (None, None) => FOREVER,
        };
        let total = match self.total_has_begun {
            true => self.total,
            false if self.is_between_objects() => FOREVER,
            false => now.saturating_add(self.total.since_epoch()),
        };
        match self.state {
            State::Done => None,
            _ => Some(retry.min(total)).filter(|deadline| *deadline < FOREVER),
        }
    }

    /// The transport was not ready for the step, in an attempt that began at `now`.
    ///
    /// The first such report starts the idle timer, or the receipt timer while the receipt is due.
    /// Progress stops it. The timer ends the connection only if an attempt fails that began when the
    /// timer had run out. So bytes that arrived in time are never late.
    ///
    /// A writer sees its peer's progress late and in steps: a socket can have room for a long time before
    /// it counts as writable, and a slow receiver opens its window only when a whole buffer is free. So
    /// a writer gets a [`deadline`](Self::deadline) each eighth of the idle timeout, and is given up at
    /// the eleventh: a peer is cut at most 1.5 idle timeouts after its last progress.
    ///
    /// A slow application does not count against the peer: if a step needs both, ask the application
    /// first, then try the transport. A driver that stops working on a connection because others should
    /// have their turn does not report this.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Cause, Instant, Key, StartPacket, Step, Timer};
    ///
    /// let at = |seconds| Instant::new(Duration::from_secs(seconds));
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let mut client = Connection::client(Config::default(), packet, at(0));
    /// client.handle_moved(25);
    ///
    /// client.handle_blocked(at(60));
    /// assert_eq!(client.deadline(at(60)), Some(at(65)));
    /// client.handle_moved(1);
    /// client.handle_blocked(at(65)); // the idle timer starts again
    /// client.handle_blocked(at(70));
    /// assert_eq!(client.step(), Step::Done(Err(Cause::TimedOut(Timer::Idle))));
    /// ```
    pub fn handle_blocked(&mut self, now: Instant) {
        self.handle_timeout(now);
        let Some((timer, timeout)) = self.wait_for_peer() else {
            return; // it is the application's turn
        };
        match self.retry {
            None => {
                self.tries = if self.is_writing() { WRITER_TRIES } else { 1 };
                self.retry = Some(self.first_retry(now, timeout));
            }
            Some(retry) if now < retry || retry == FOREVER => {}
            Some(_) if self.tries <= 1 => self.time_out(timer),
            Some(retry) => {
                self.tries = self.tries.saturating_sub(1);
                self.retry = Some(retry.saturating_add(eighth(timeout)));
            }
        }
    }

    /// Ends the connection if the total timer is due at `now`. Progress does not extend it, so a driver
    /// calls this after progress. [`handle_blocked`](Self::handle_blocked) includes it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Config, Connection, Cause, Instant, Step, Timeouts, Timer};
    ///
    /// let config = Config::default().timeouts(Timeouts::default().total(Duration::from_secs(60)));
    /// let mut server = Connection::server(config, Instant::default());
    /// server.handle_timeout(Instant::new(Duration::from_secs(59)));
    /// assert_eq!(server.step(), Step::Read { max: 25 });
    /// server.handle_timeout(Instant::new(Duration::from_secs(60)));
    /// assert_eq!(server.step(), Step::Done(Err(Cause::TimedOut(Timer::Total))));
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin_absolute_timer(now);
        if self.state == State::Done || self.is_between_objects() {
            return;
        }
        if !self.total_has_begun {
            self.total = now.saturating_add(self.total.since_epoch());
            self.total_has_begun = true;
        } else if now >= self.total && self.total < FOREVER {
            self.total = FOREVER; // an ABORT may follow, within an idle timeout
            self.time_out(Timer::Total);
        }
    }

    /// Bytes do not put off the start timer of a later object, nor what follows a failure. Both begin with
    /// the first report of time.
    fn begin_absolute_timer(&mut self, now: Instant) {
        let timeout = match self.state {
            State::Done => return,
            _ if self.failure.is_some() => self.after_failure(),
            State::ReadPacket { start } => start, // between objects, the keep-alive timer runs already
            _ => return,
        };
        match self.retry {
            None => {
                self.retry = Some(now.saturating_add(timeout));
                self.tries = 1;
            }
            Some(retry) if self.failure.is_some() && now >= retry && retry < FOREVER => {
                self.enter(State::Done);
            }
            Some(_) => {}
        }
    }

    /// The timer that runs in this state, if the driver waits for the peer in it.
    fn wait_for_peer(&self) -> Option<(Timer, Duration)> {
        match self.state {
            State::Decide
            | State::Resume
            | State::Digest
            | State::OfferEnd
            | State::Offer
            | State::Peek
            | State::Commit
            | State::Done => None,
            _ if self.failure.is_some() => Some((Timer::Idle, self.after_failure())),
            State::ReadPacket { start } => Some((Timer::Start, start)),
            State::AwaitEnd | State::ReadOpen(_) | State::ReadDigest => {
                Some((Timer::Receipt, self.receipt))
            }
            State::ReadFrame(_) if self.awaits_application() => {
                Some((Timer::Receipt, self.receipt))
            }
            State::Write(_)
            | State::Object
            | State::Shutdown
            | State::ReadFrame(_)
            | State::Body => Some((Timer::Idle, self.idle)),
        }
    }

    /// How long a failed connection may take for its ABORT, and for the peer to end: one idle timeout. Without
    /// one it is the default, since a peer that was refused must not keep a connection forever.
    fn after_failure(&self) -> Duration {
        match self.idle {
            Duration::MAX => DEFAULT_IDLE,
            idle => idle,
        }
    }

    /// Whether the frame that is due is one that the peer's application must do something for: the
    /// receipt, or the first of a get or behind OPEN.
    pub(super) fn awaits_application(&self) -> bool {
        let prepares =
            |packet: StartPacket| packet.direction() == Direction::Get || packet.is_resumable();
        self.sends() || (self.moved() == 0 && self.packet().is_some_and(prepares))
    }

    /// When a wait that begins `now` has its first retry: see [`WRITER_TRIES`].
    fn first_retry(&self, now: Instant, timeout: Duration) -> Instant {
        now.saturating_add(if self.is_writing() { eighth(timeout) } else { timeout })
    }

    /// Whether the driver waits for room to write. After a failure it has one timeout, whatever it does.
    fn is_writing(&self) -> bool {
        let writes = match self.state {
            State::Write(_) | State::Shutdown => true,
            State::Object | State::Body => self.sends(),
            _ => false,
        };
        writes && self.failure.is_none()
    }

    fn time_out(&mut self, timer: Timer) {
        match self.state {
            _ if self.is_between_objects() => self.end_session(),
            // A part may have left. And who is slow to commit may have done so.
            State::Write(_) | State::Commit => self.fail(timer),
            _ => self.give_up(timer),
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.progress();
    }

    /// Ends a wait, except after a failure: what follows it has one timeout in all.
    pub(super) fn progress(&mut self) {
        if self.failure.is_none() {
            self.retry = None;
        }
    }
}
