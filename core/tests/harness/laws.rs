//! A connection that checks the laws at every report, against a ledger of its own.

use core::time::Duration;

use dataserver_core::{
    Connection, Error, Instant, LocalError, PeerError, Refusal, Step, Timeouts, Timer,
};

use super::scenario::{Role, Scenario};

pub(super) struct Lawful {
    connection: Connection,
    sends: bool,
    chunk: usize,
    /// The declared size.
    declared: Option<u64>,
    /// The most bytes that may move.
    most: u64,
    /// How many bytes were reported.
    moved: u64,
    timeouts: Timeouts,
    began: Instant,
    /// The first wait since the last report.
    waits_since: Option<Instant>,
    reports: u32,
}

type Report = (&'static str, fn(&mut Connection));

/// Those that can be misuse.
const REPORTS: [Report; 8] = [
    ("feed", |connection| {
        connection.feed(&[0]);
    }),
    ("advance", |connection| connection.advance(1)),
    ("end_of_stream", Connection::end_of_stream),
    ("shut_down", Connection::shut_down),
    ("accept", |connection| connection.accept(u64::MAX)),
    ("refuse", |connection| connection.refuse(Refusal::NotRegistered)),
    ("end_of_object", Connection::end_of_object),
    ("commit", Connection::commit),
];

impl Lawful {
    pub(super) fn new(scenario: &Scenario, role: Role) -> Self {
        let config = scenario.parties[role as usize].config;
        let (packet, now) = (scenario.packet(), scenario.epoch);
        let sends = role == scenario.sender();
        let declared = packet.size().bytes();
        let limit = match role {
            Role::Client => config.limit,
            Role::Server => config.limit.min(scenario.accepts),
        };
        let lawful = Self {
            connection: match role {
                Role::Client => Connection::client(config, packet, now),
                Role::Server => Connection::server(config, now),
            },
            sends,
            chunk: config.chunk.get() as usize,
            declared,
            most: declared.unwrap_or(if sends { u64::MAX } else { limit }),
            moved: 0,
            timeouts: config.timeouts,
            began: now,
            waits_since: None,
            reports: 0,
        };
        lawful.check();
        lawful
    }

    pub(super) fn step(&self) -> Step<'_> {
        self.connection.step()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connection.deadline()
    }

    pub(super) fn result(&self) -> Result<u64, Error> {
        let Step::Done(result) = self.step() else { panic!("liveness: {:?}", self.step()) };
        result
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let Step::Read { max } = self.step() else { panic!("{:?}", self.step()) };
        let mut taken = 0;
        self.report(|connection| taken = connection.feed(bytes));
        assert_eq!(taken, bytes.len().min(max), "split: takes its own bytes and no more");
        taken
    }

    pub(super) fn advance(&mut self, n: usize) {
        let (packet, payload) = match self.step() {
            Step::Write { bytes, payload } => (bytes.len(), payload),
            Step::Receive { max } | Step::Send { max } => (0, max),
            _ => (0, 0), // an error, of the peer's or of the application's
        };
        let allowed = packet + payload;
        if n <= allowed {
            self.moved += n.saturating_sub(packet) as u64;
        }
        self.report(|connection| connection.advance(n));
        let failed = matches!(self.step(), Step::Done(Err(_)));
        assert_eq!(failed, n > allowed, "conservation: {n} bytes moved, {allowed} allowed");
    }

    pub(super) fn end_of_stream(&mut self) {
        self.report(Connection::end_of_stream);
    }

    pub(super) fn shut_down(&mut self) {
        self.report(Connection::shut_down);
    }

    pub(super) fn reset(&mut self) {
        self.report(Connection::reset);
    }

    pub(super) fn accept(&mut self, limit: u64) {
        self.report(|connection| connection.accept(limit));
    }

    pub(super) fn refuse(&mut self, reason: Refusal) {
        self.report(|connection| connection.refuse(reason));
    }

    pub(super) fn end_of_object(&mut self) {
        self.report(Connection::end_of_object);
    }

    pub(super) fn commit(&mut self) {
        self.report(Connection::commit);
    }

    pub(super) fn abort(&mut self, reason: &'static str) {
        self.report(|connection| connection.abort(reason));
    }

    pub(super) fn wait(&mut self, now: Instant) {
        self.waits_since = self.waits_since.or(Some(now));
        self.connection.wait(now);
        self.check();
    }

    /// Time: a deadline that is due ends the connection, and only then.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let before = self.connection.clone();
        let expected = self.expected_timer().filter(|(due, _)| *due <= now);
        self.connection.handle_timeout(now);
        match expected {
            Some((_, timer)) => assert_eq!(self.result(), Err(Error::TimedOut(timer)), "time"),
            None => assert_eq!(self.connection, before, "time: a spurious call is a no-op"),
        }
        self.check();
    }

    /// Finality: after the end nothing changes, whatever is reported.
    pub(super) fn check_finality(&self) {
        let mut after = self.connection.clone();
        for (_, report) in REPORTS {
            report(&mut after);
        }
        after.reset();
        after.abort("too late");
        after.wait(self.began);
        after.handle_timeout(Instant::new(Duration::MAX));
        assert_eq!(after, self.connection, "finality");
    }

    fn report(&mut self, report: impl FnOnce(&mut Connection)) {
        assert!(!matches!(self.step(), Step::Done(_)), "a driver goes on after the end");
        let step = format!("{:?}", self.step());
        report(&mut self.connection);
        self.waits_since = None;
        self.reports += 1;
        self.check();
        if let Step::Done(Err(Error::Local(
            LocalError::Misuse { .. } | LocalError::Overrun { .. },
        ))) = self.step()
        {
            panic!("the driver did as {step} said, and that was {:?}", self.step());
        }
    }

    fn check(&self) {
        self.check_step();
        self.check_deadline();
        if self.reports < 32 || self.reports % 32 == 0 {
            self.check_rejections();
            self.check_overrun();
        }
    }

    /// Purity, conservation and chunk.
    fn check_step(&self) {
        let before = self.connection.clone();
        assert_eq!(self.connection.step(), before.step(), "purity: of step");
        assert_eq!(self.connection.moved(), self.moved, "conservation: of what was reported");
        assert!(self.moved <= self.most, "conservation: at most {}", self.most);
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
            Step::Done(Ok(n)) => {
                assert_eq!(n, self.moved, "conservation");
                assert!(self.declared.is_none_or(|declared| n == declared), "conservation");
                None
            }
            Step::Done(Err(Error::Peer(
                PeerError::Reset { moved }
                | PeerError::ClosedEarly { moved }
                | PeerError::Truncated { received: moved, .. },
            ))) => {
                assert_eq!(moved, self.moved, "conservation: of what an error says");
                None
            }
            _ => None,
        };
        if let Some(max) = max {
            assert!((1..=self.chunk).contains(&max), "chunk: {max}");
            assert!(max as u64 <= self.most - self.moved, "chunk: {max} is not left");
        }
        assert_eq!(self.connection, before, "purity: asking changes nothing");
    }

    /// Time: the deadline is where the ledger has it, inclusive, and not a nanosecond earlier.
    fn check_deadline(&self) {
        let expected = self.expected_timer();
        assert_eq!(self.connection.deadline(), expected.map(|(due, _)| due), "time");
        let Some((due, timer)) = expected else {
            let mut late = self.connection.clone();
            late.handle_timeout(Instant::new(Duration::MAX));
            assert_eq!(late, self.connection, "time: no timer runs");
            return;
        };
        if let Some(before) = due.since_epoch().checked_sub(Duration::from_nanos(1)) {
            let mut early = self.connection.clone();
            early.handle_timeout(Instant::new(before));
            assert_eq!(early, self.connection, "time: not due yet");
        }
        let mut late = self.connection.clone();
        late.handle_timeout(due);
        assert_eq!(late.step(), Step::Done(Err(Error::TimedOut(timer))), "time: due");
    }

    /// Purity: a report that is rejected changes nothing but the failure that it records.
    fn check_rejections(&self) {
        let due = format!("{:?}", self.step());
        for (name, report) in REPORTS {
            let mut after = self.connection.clone();
            report(&mut after);
            let Step::Done(Err(Error::Local(error))) = after.step() else { continue };
            if let (LocalError::Misuse { verb, step }, false) = (error, due.starts_with("Done")) {
                assert_eq!(verb, name, "purity: the misuse is of another report");
                assert!(due.starts_with(step), "purity: {step} was not due, but {due}");
            }
            assert_eq!(after.moved(), self.connection.moved(), "purity: {name}");
            assert_eq!(after.packet(), self.connection.packet(), "purity: {name}");
        }
    }

    /// Conservation: nothing is counted of a report of more than the step allows.
    fn check_overrun(&self) {
        let max = match self.step() {
            Step::Write { bytes, payload } => bytes.len() + payload,
            Step::Receive { max } | Step::Send { max } => max,
            _ => return,
        };
        let mut after = self.connection.clone();
        after.advance(max + 1);
        let overrun = LocalError::Overrun { reported: max + 1, max };
        assert_eq!(after.step(), Step::Done(Err(overrun.into())), "conservation");
        assert_eq!(after.moved(), self.moved, "conservation: of too much");
    }

    /// The timer that runs out first, by the rules of each.
    fn expected_timer(&self) -> Option<(Instant, Timer)> {
        let waits = self.waits_since;
        let (timer, from, timeout) = match self.step() {
            Step::Done(_) => return None,
            Step::Read { .. } | Step::Write { .. } => {
                (Timer::Start, Some(self.began), self.timeouts.start)
            }
            Step::AwaitEnd if self.sends => (Timer::End, waits, self.timeouts.end),
            Step::Decide(_) | Step::Commit => (Timer::Idle, None, self.timeouts.idle),
            _ => (Timer::Idle, waits, self.timeouts.idle),
        };
        let due = |from: Instant, timeout| match timeout {
            Duration::MAX => None,
            timeout => from.since_epoch().checked_add(timeout),
        };
        let timers = [
            (from.and_then(|from| due(from, timeout)), timer),
            (due(self.began, self.timeouts.transfer), Timer::Transfer),
        ];
        let running = timers.into_iter().filter_map(|(due, timer)| Some((due?, timer)));
        running.map(|(due, timer)| (Instant::new(due), timer)).min_by_key(|(due, _)| *due)
    }
}
