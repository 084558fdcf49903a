//! A connection that checks its invariants after every report, and counts bytes and time itself.

use core::time::Duration;

use dataserver_core::{
    Cause, Config, Connection, Instant, LocalError, ObjectSize, PeerError, Refusal, StartPacket,
    Step, Timeouts, Timer,
};

use super::scenario::{Role, Scenario};

pub(super) struct CheckedConnection {
    connection: Connection,
    sends: bool,
    chunk: usize,
    /// The declared size.
    declared: Option<u64>,
    /// The most bytes that may move.
    limit: u64,
    /// The number of bytes reported.
    moved: u64,
    /// Whether the application has offered the end, and whether the driver has reported an open peer.
    end_offered: bool,
    still_open: bool,
    timeouts: Timeouts,
    began: Instant,
    /// The latest time that was reported.
    now: Instant,
    /// The first failed attempt since the last progress.
    waiting_since: Option<Instant>,
    /// How many retries of a writer have failed.
    retries: u32,
    /// Since when the application has not kept the driver from trying the stream.
    ready_since: Instant,
    /// Whether a retry of a write succeeded, and whether the last possible one did.
    retries_succeeded: [bool; 2],
    reports: u32,
}

/// What happens if the next retry fails.
enum Next {
    /// Another retry follows.
    Retry,
    Fail(Timer),
}

type Report = (&'static str, fn(&mut Connection));

/// The reports that can be misuse.
const REPORTS: [Report; 10] = [
    ("handle_read", |connection| {
        connection.handle_read(&[0]);
    }),
    ("handle_moved", |connection| connection.handle_moved(1)),
    ("handle_end_of_stream", Connection::handle_end_of_stream),
    ("handle_still_open", Connection::handle_still_open),
    ("handle_shutdown", Connection::handle_shutdown),
    ("accept", |connection| connection.accept(None)),
    ("refuse", |connection| connection.refuse(Refusal::NotRegistered)),
    ("offer", |connection| connection.offer(1, false)),
    ("committed", Connection::committed),
    ("declare", |connection| connection.declare(ObjectSize::UNKNOWN)),
];

impl CheckedConnection {
    pub(super) fn new(scenario: &Scenario, role: Role) -> Self {
        let config = scenario.parties[role as usize].config;
        let (packet, now) = (scenario.packet(), scenario.epoch);
        let sends = role == scenario.sender();
        let declared = packet.size().bytes();
        let accepted = scenario.accepts.filter(|_| role == Role::Server);
        let limit = config.max_object_size.into_iter().chain(accepted).min().unwrap_or(u64::MAX);
        let lawful = Self {
            connection: match role {
                Role::Client if scenario.declares_late() => declare_late(config, packet, now),
                Role::Client => Connection::client(config, packet, now),
                Role::Server => Connection::server(config, now),
            },
            sends,
            chunk: config.chunk.get() as usize,
            declared,
            limit: declared.unwrap_or(if sends { u64::MAX } else { limit }),
            moved: 0,
            end_offered: false,
            still_open: false,
            timeouts: config.timeouts,
            began: now,
            now,
            waiting_since: None,
            retries: 0,
            ready_since: now,
            retries_succeeded: [false, false],
            reports: 0,
        };
        lawful.check();
        lawful
    }

    pub(super) fn step(&self) -> Step<'_> {
        self.connection.step()
    }

    pub(super) fn retries_succeeded(&self) -> [bool; 2] {
        self.retries_succeeded
    }

    /// The deadline of a driver that starts to wait now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connection.deadline(self.now)
    }

    /// Sets the time of all following reports.
    pub(super) fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    pub(super) fn result(&self) -> Result<u64, Cause> {
        let Step::Done(result) = self.step() else { panic!("liveness: {:?}", self.step()) };
        result
    }

    pub(super) fn handle_read(&mut self, bytes: &[u8]) -> usize {
        let Step::Read { max } = self.step() else { panic!("{:?}", self.step()) };
        let mut taken = 0;
        self.report(|connection| taken = connection.handle_read(bytes));
        assert_eq!(taken, bytes.len().min(max), "fragmentation: takes the start packet only");
        taken
    }

    pub(super) fn handle_moved(&mut self, n: usize) {
        let (packet, payload) = match self.step() {
            Step::Write { bytes, payload } => (bytes.len(), payload),
            Step::Receive { max } | Step::Send { max } => (0, max),
            _ => (0, 0), // an error of the peer or of the application
        };
        let allowed = packet + payload;
        if n <= allowed {
            self.moved += n.saturating_sub(packet) as u64;
        }
        if self.due().is_some_and(|(due, _)| due <= self.now) {
            self.retries_succeeded[usize::from(self.retries == 10)] |= self.is_writing();
        }
        let ready_since = self.ready_since;
        self.report(|connection| connection.handle_moved(n));
        self.ready_since = ready_since; // the peer made this progress, and it did so earlier
        let failed = matches!(self.step(), Step::Done(Err(_)));
        assert_eq!(failed, n > allowed, "conservation: {n} bytes moved, {allowed} allowed");
    }

    pub(super) fn handle_end_of_stream(&mut self) {
        self.report(Connection::handle_end_of_stream);
    }

    pub(super) fn handle_shutdown(&mut self) {
        self.report(Connection::handle_shutdown);
    }

    pub(super) fn handle_reset(&mut self) {
        self.report(Connection::handle_reset);
    }

    pub(super) fn accept(&mut self, limit: Option<u64>) {
        self.report(|connection| connection.accept(limit));
    }

    pub(super) fn refuse(&mut self, reason: Refusal) {
        self.report(|connection| connection.refuse(reason));
    }

    pub(super) fn offer(&mut self, n: usize, last: bool) {
        let before = self.connection.clone();
        self.connection.offer(n, last);
        match self.step() {
            Step::Peek => {
                assert_eq!((n, last), (0, true), "receipt: only the application ends an object");
                self.end_offered = true;
            }
            Step::Done(Err(Cause::Local(LocalError::LongerThanDeclared { .. }))) => {
                assert!(n > 0 && self.declared == Some(self.moved));
            }
            Step::Done(Err(Cause::Local(LocalError::ShorterThanDeclared { .. }))) => {
                assert!((n, last) == (0, true) && self.declared > Some(self.moved));
            }
            _ => assert_eq!(self.connection, before, "purity: an offer of ({n}, {last})"),
        }
        if self.connection != before {
            self.after_report();
        }
    }

    pub(super) fn handle_still_open(&mut self) {
        self.still_open = true;
        self.report(Connection::handle_still_open);
    }

    pub(super) fn committed(&mut self) {
        self.report(Connection::committed);
    }

    pub(super) fn abort(&mut self, reason: &'static str) {
        self.report(|connection| connection.abort(reason));
    }

    /// The application keeps the driver from trying the stream until then.
    pub(super) fn application_blocks_until(&mut self, until: Instant) {
        self.ready_since = self.ready_since.max(until);
    }

    /// Time: only an attempt that fails at the last retry or later ends a wait. The peer made its last
    /// progress at `progress`.
    pub(super) fn handle_blocked(&mut self, progress: Instant) {
        let now = self.now;
        let idle = self.timeouts.idle.unwrap_or(Duration::MAX);
        let total_expired = self.total_due().is_some_and(|due| due <= now);
        let retry = self.due().filter(|(due, _)| *due <= now);
        match (self.waiting_since, &retry) {
            (None, _) => self.waiting_since = Some(now),
            (_, Some((_, Next::Retry))) => self.retries += 1,
            _ => {}
        }
        self.connection.handle_blocked(now);
        match (self.step(), retry) {
            (step, _) if total_expired => assert_eq!(step, timed_out(Timer::Total), "time"),
            (step, Some((_, Next::Fail(timer)))) => assert_eq!(step, timed_out(timer), "time"),
            (step, _) => assert!(!matches!(step, Step::Done(_)), "time: {step:?} before it is due"),
        }
        let most = idle.saturating_add(idle / 2);
        let silence = now.saturating_since(progress.max(self.ready_since));
        match self.step() {
            Step::Done(Err(Cause::TimedOut(Timer::Idle))) => {
                let silence_of_peer = now.saturating_since(progress);
                assert!(silence_of_peer >= idle, "time: ended {silence_of_peer:?} after progress");
                assert!(silence <= most, "time: ended only after {silence:?}");
            }
            // Other timers apply here.
            Step::Done(_) | Step::Read { .. } => {}
            Step::AwaitEnd if self.sends => {}
            _ => assert!(silence < most, "time: not ended after {silence:?}"),
        }
        self.check();
    }

    /// Time: an expired total timer ends the connection, and no other timer does.
    pub(super) fn handle_timeout(&mut self) {
        let before = self.connection.clone();
        let is_due = self.total_due().is_some_and(|due| due <= self.now);
        self.connection.handle_timeout(self.now);
        match is_due {
            true => assert_eq!(self.step(), timed_out(Timer::Total), "time"),
            false => assert_eq!(self.connection, before, "time: a spurious call is a no-op"),
        }
        self.check();
    }

    /// Finality: after the end, no report changes anything.
    pub(super) fn check_finality(&self) {
        let mut after = self.connection.clone();
        for (_, report) in REPORTS {
            report(&mut after);
        }
        after.handle_reset();
        after.abort("too late");
        after.handle_blocked(self.began);
        after.handle_blocked(Instant::new(Duration::MAX));
        after.handle_timeout(Instant::new(Duration::MAX));
        assert_eq!(after, self.connection, "finality");
    }

    fn report(&mut self, report: impl FnOnce(&mut Connection)) {
        assert!(!matches!(self.step(), Step::Done(_)), "a driver continues after the end");
        let step = format!("{:?}", self.step());
        report(&mut self.connection);
        self.after_report();
        if let Step::Done(Err(Cause::Local(
            LocalError::Misuse { .. } | LocalError::Overrun { .. },
        ))) = self.step()
        {
            panic!("the driver followed {step}, which led to {:?}", self.step());
        }
    }

    fn after_report(&mut self) {
        self.waiting_since = None;
        self.retries = 0;
        self.ready_since = self.now;
        self.reports += 1;
        let timed_out = matches!(self.step(), Step::Done(Err(Cause::TimedOut(_))));
        assert!(!timed_out, "time: this report cannot end a wait");
        self.check();
    }

    fn check(&self) {
        self.check_step();
        self.check_deadline();
        if self.reports < 32 || self.reports % 32 == 0 {
            self.check_rejections();
            self.check_overrun();
        }
    }

    /// Purity, conservation, and chunk.
    fn check_step(&self) {
        let before = self.connection.clone();
        assert_eq!(self.connection.step(), before.step(), "purity: step");
        assert_eq!(self.connection.moved(), self.moved, "conservation: the reported bytes");
        assert!(self.moved <= self.limit, "conservation: at most {}", self.limit);
        let max = match self.connection.step() {
            Step::Receive { max } | Step::Send { max } => Some(max),
            Step::Write { payload: 0, bytes } => {
                assert!(!bytes.is_empty(), "nothing to write");
                None
            }
            Step::Write { payload, .. } => {
                assert!(self.sends, "chunk: a receiver sends no payload");
                Some(payload)
            }
            Step::Offer { max } => {
                assert!(
                    self.sends && self.declared == Some(self.moved),
                    "chunk: an offer before the end"
                );
                assert_eq!(max, self.chunk, "chunk: an offer");
                None
            }
            Step::Peek => {
                assert!(self.sends && self.end_offered, "receipt: no end was offered");
                None
            }
            Step::Shutdown => {
                self.check_end();
                None
            }
            Step::Done(Ok(n)) => {
                self.check_end();
                assert_eq!(n, self.moved, "conservation");
                assert!(self.declared.is_none_or(|declared| n == declared), "conservation");
                None
            }
            Step::Done(Err(Cause::Peer(
                PeerError::Reset { moved }
                | PeerError::ClosedEarly { moved }
                | PeerError::Truncated { received: moved, .. },
            ))) => {
                assert_eq!(moved, self.moved, "conservation: the bytes in an error");
                None
            }
            _ => None,
        };
        if let Some(max) = max {
            assert!((1..=self.chunk).contains(&max), "chunk: {max}");
            assert!(max as u64 <= self.limit - self.moved, "chunk: less than {max} is left");
        }
        assert_eq!(self.connection, before, "purity: queries change nothing");
    }

    /// Receipt: a sender asks its application and checks its peer before it ends the object.
    fn check_end(&self) {
        assert!(
            !self.sends || (self.end_offered && self.still_open),
            "receipt: no offer or no peek"
        );
    }

    /// Time: a timer expires at its deadline, and not a nanosecond earlier.
    fn check_deadline(&self) {
        for now in [self.now, self.now.saturating_add(Duration::from_secs(1))] {
            let retry = self.due_of_wait(self.waiting_since.unwrap_or(now)).map(|(due, _)| due);
            let expected = retry.into_iter().chain(self.total_due()).min();
            assert_eq!(
                self.connection.deadline(now),
                expected,
                "time: deadline of a wait at {now:?}"
            );
        }
        let total = self.total_due().unwrap_or(END_OF_TIME);
        if let Some(early) = just_before(total) {
            self.after(early, Connection::handle_timeout, None);
        }
        let end = self.total_due().map(|_| Timer::Total);
        self.after(total, Connection::handle_timeout, end);
        self.after(total, Connection::handle_blocked, end.or(self.timer_due_by(total)));

        let Some((due, next)) = self.due().filter(|(due, _)| *due < total) else { return };
        if let Some(early) = just_before(due) {
            self.after(early, Connection::handle_blocked, None);
        }
        self.after(due, Connection::handle_timeout, None);
        match next {
            Next::Fail(timer) => self.after(due, Connection::handle_blocked, Some(timer)),
            Next::Retry => self.after(due, Connection::handle_blocked, None),
        }
    }

    /// Reports the time to a copy of the connection. The copy fails by this timer, or continues.
    fn after(&self, now: Instant, tell: fn(&mut Connection, Instant), expected: Option<Timer>) {
        let mut told = self.connection.clone();
        tell(&mut told, now);
        match expected {
            Some(timer) => assert_eq!(told.step(), timed_out(timer), "time: at {now:?}"),
            None => assert_eq!(told.step(), self.step(), "time: at {now:?}"),
        }
    }

    /// The timer that an attempt which fails at this time reports.
    fn timer_due_by(&self, now: Instant) -> Option<Timer> {
        match self.due().filter(|(due, _)| *due <= now)? {
            (_, Next::Fail(timer)) => Some(timer),
            (_, Next::Retry) => None,
        }
    }

    /// Purity: a rejected report changes nothing but the outcome.
    fn check_rejections(&self) {
        let due = format!("{:?}", self.step());
        for (name, report) in REPORTS {
            let mut after = self.connection.clone();
            report(&mut after);
            let Step::Done(Err(Cause::Local(error))) = after.step() else { continue };
            if let (LocalError::Misuse { verb, step }, false) = (error, due.starts_with("Done")) {
                assert_eq!(verb, name, "purity: the misuse names another method");
                assert!(due.starts_with(step), "purity: {step} was not due, but {due}");
            }
            assert_eq!(after.moved(), self.connection.moved(), "purity: {name}");
            assert_eq!(after.packet(), self.connection.packet(), "purity: {name}");
        }
    }

    /// Conservation: a report of more bytes than the step allows counts no bytes.
    fn check_overrun(&self) {
        let max = match self.step() {
            Step::Write { bytes, payload } => bytes.len() + payload,
            Step::Receive { max } | Step::Send { max } => max,
            _ => return,
        };
        let mut after = self.connection.clone();
        after.handle_moved(max + 1);
        let overrun = LocalError::Overrun { reported: max + 1, max };
        assert_eq!(after.step(), Step::Done(Err(overrun.into())), "conservation");
        assert_eq!(after.moved(), self.moved, "conservation: too many bytes");
    }

    /// The next retry of the current wait, and what happens if it fails.
    fn due(&self) -> Option<(Instant, Next)> {
        let is_starting = matches!(self.step(), Step::Read { .. });
        let since = if is_starting { Some(self.began) } else { self.waiting_since };
        self.due_of_wait(since?)
    }

    /// The same for a wait that began at `since`, by the rules of each timer. A server waits for the start
    /// packet from the beginning of the connection.
    fn due_of_wait(&self, since: Instant) -> Option<(Instant, Next)> {
        let Timeouts { start, idle, receipt, .. } = self.timeouts;
        let (since, timeout, timer) = match self.step() {
            Step::Done(_) | Step::Decide(_) | Step::Offer { .. } | Step::Peek | Step::Commit => {
                return None;
            }
            Step::Read { .. } => (self.began, start, Timer::Start),
            Step::AwaitEnd if self.sends => (since, receipt, Timer::Receipt),
            _ => (since, idle, Timer::Idle),
        };
        let timeout = timeout?;
        let retry = since.saturating_add((timeout / 8).saturating_mul(self.retries + 1));
        Some(match (self.is_writing(), self.retries) {
            (true, ..10) => (retry, Next::Retry),
            (true, _) => (retry, Next::Fail(timer)),
            (false, _) => (since.saturating_add(timeout), Next::Fail(timer)),
        })
    }

    fn is_writing(&self) -> bool {
        matches!(self.step(), Step::Write { .. } | Step::Send { .. } | Step::Shutdown)
    }

    fn total_due(&self) -> Option<Instant> {
        match self.step() {
            Step::Done(_) => None,
            _ => self.timeouts.total.map(|timeout| self.began.saturating_add(timeout)),
        }
    }
}

/// Creates the client without the size, and declares it before the first write. Each declaration replaces
/// the one before it.
fn declare_late(config: Config, packet: StartPacket, now: Instant) -> Connection {
    let undeclared = packet.with_object_size(ObjectSize::UNKNOWN);
    let mut client = Connection::client(config, undeclared, now);
    for size in [ObjectSize::new(0).unwrap(), ObjectSize::UNKNOWN, packet.size()] {
        let declared = packet.with_object_size(size);
        client.declare(size);
        assert_eq!(client.packet(), Some(declared), "declaration");
        let Step::Write { bytes, .. } = client.step() else { panic!("{:?}", client.step()) };
        assert_eq!(bytes, declared.as_bytes(), "declaration");
    }
    assert_eq!(client, Connection::client(config, packet, now), "declaration");
    client
}

const END_OF_TIME: Instant = Instant::new(Duration::MAX);

fn just_before(instant: Instant) -> Option<Instant> {
    instant.since_epoch().checked_sub(Duration::from_nanos(1)).map(Instant::new)
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(timer.into()))
}
