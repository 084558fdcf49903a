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
    /// The application has said that the object ends, and the driver that the peer has not closed.
    ended: bool,
    still_open: bool,
    timeouts: Timeouts,
    began: Instant,
    /// The last time that was reported.
    now: Instant,
    /// The first failed attempt since the last progress.
    waits_since: Option<Instant>,
    /// How many retries of a writer have failed.
    retries: u32,
    /// Since when the driver could try the stream: its application has not kept it from that.
    ready_since: Instant,
    /// There was room at a retry, and at the last one.
    found_room: [bool; 2],
    reports: u32,
}

/// What follows when the next retry fails.
enum Next {
    /// One more retry.
    Retries,
    Fails(Timer),
}

type Report = (&'static str, fn(&mut Connection));

/// Those that can be misuse.
const REPORTS: [Report; 9] = [
    ("feed", |connection| {
        connection.feed(&[0]);
    }),
    ("advance", |connection| connection.advance(1)),
    ("end_of_stream", Connection::end_of_stream),
    ("still_open", Connection::still_open),
    ("shut_down", Connection::shut_down),
    ("accept", |connection| connection.accept(u64::MAX)),
    ("refuse", |connection| connection.refuse(Refusal::NotRegistered)),
    ("offer", |connection| connection.offer(1, false)),
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
            ended: false,
            still_open: false,
            timeouts: config.timeouts,
            began: now,
            now,
            waits_since: None,
            retries: 0,
            ready_since: now,
            found_room: [false, false],
            reports: 0,
        };
        lawful.check();
        lawful
    }

    pub(super) fn step(&self) -> Step<'_> {
        self.connection.step()
    }

    pub(super) fn found_room(&self) -> [bool; 2] {
        self.found_room
    }

    /// Of a driver that waits from now on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connection.deadline(self.now)
    }

    /// The time of all that follows.
    pub(super) fn it_is(&mut self, now: Instant) {
        self.now = now;
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
        if self.due().is_some_and(|(due, _)| due <= self.now) {
            self.found_room[usize::from(self.retries == 10)] |= self.writes();
        }
        let ready_since = self.ready_since;
        self.report(|connection| connection.advance(n));
        self.ready_since = ready_since; // it is the peer that let it go on, and earlier than this
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

    pub(super) fn offer(&mut self, n: usize, last: bool) {
        let before = self.connection.clone();
        self.connection.offer(n, last);
        match self.step() {
            Step::Peek => {
                assert_eq!((n, last), (0, true), "receipt: only the application ends an object");
                self.ended = true;
            }
            Step::Done(Err(Error::Local(LocalError::LongerThanDeclared { .. }))) => {
                assert!(n > 0 && self.declared == Some(self.moved));
            }
            Step::Done(Err(Error::Local(LocalError::ShorterThanDeclared { .. }))) => {
                assert!((n, last) == (0, true) && self.declared > Some(self.moved));
            }
            _ => assert_eq!(self.connection, before, "purity: an offer of ({n}, {last})"),
        }
        if self.connection != before {
            self.has_reported();
        }
    }

    pub(super) fn still_open(&mut self) {
        self.still_open = true;
        self.report(Connection::still_open);
    }

    pub(super) fn commit(&mut self) {
        self.report(Connection::commit);
    }

    pub(super) fn abort(&mut self, reason: &'static str) {
        self.report(|connection| connection.abort(reason));
    }

    /// The application keeps the driver from trying the stream until then.
    pub(super) fn application_waits(&mut self, until: Instant) {
        self.ready_since = self.ready_since.max(until);
    }

    /// Time: a wait ends by an attempt that fails at the last retry or later, and only then. There was
    /// something new for this end at `progress`, and not since.
    pub(super) fn would_block(&mut self, progress: Instant) {
        let now = self.now;
        let idle = self.timeouts.idle;
        let hurried = self.transfer_due().is_some_and(|due| due <= now);
        let retry = self.due().filter(|(due, _)| *due <= now);
        match (self.waits_since, &retry) {
            (None, _) => self.waits_since = Some(now),
            (_, Some((_, Next::Retries))) => self.retries += 1,
            _ => {}
        }
        self.connection.would_block(now);
        match (self.step(), retry) {
            (step, _) if hurried => assert_eq!(step, timed_out(Timer::Transfer), "time"),
            (step, Some((_, Next::Fails(timer)))) => assert_eq!(step, timed_out(timer), "time"),
            (step, _) => assert!(!matches!(step, Step::Done(_)), "time: {step:?} before it is due"),
        }
        let most = idle.saturating_add(idle / 2);
        let silence = now.saturating_since(progress.max(self.ready_since));
        match self.step() {
            Step::Done(Err(Error::TimedOut(Timer::Idle))) => {
                let silence_of_peer = now.saturating_since(progress);
                assert!(silence_of_peer >= idle, "time: cut {silence_of_peer:?} after progress");
                assert!(silence <= most, "time: cut no earlier than after {silence:?}");
            }
            // Under other timers.
            Step::Done(_) | Step::Read { .. } => {}
            Step::AwaitEnd if self.sends => {}
            _ => assert!(silence < most, "time: not cut after {silence:?}"),
        }
        self.check();
    }

    /// Time: a transfer timer that is due ends the connection, and no other timer does.
    pub(super) fn handle_timeout(&mut self) {
        let before = self.connection.clone();
        let is_due = self.transfer_due().is_some_and(|due| due <= self.now);
        self.connection.handle_timeout(self.now);
        match is_due {
            true => assert_eq!(self.step(), timed_out(Timer::Transfer), "time"),
            false => assert_eq!(self.connection, before, "time: a spurious call is a no-op"),
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
        after.would_block(self.began);
        after.would_block(Instant::new(Duration::MAX));
        after.handle_timeout(Instant::new(Duration::MAX));
        assert_eq!(after, self.connection, "finality");
    }

    fn report(&mut self, report: impl FnOnce(&mut Connection)) {
        assert!(!matches!(self.step(), Step::Done(_)), "a driver goes on after the end");
        let step = format!("{:?}", self.step());
        report(&mut self.connection);
        self.has_reported();
        if let Step::Done(Err(Error::Local(
            LocalError::Misuse { .. } | LocalError::Overrun { .. },
        ))) = self.step()
        {
            panic!("the driver did as {step} said, and that was {:?}", self.step());
        }
    }

    fn has_reported(&mut self) {
        self.waits_since = None;
        self.retries = 0;
        self.ready_since = self.now;
        self.reports += 1;
        let timed_out = matches!(self.step(), Step::Done(Err(Error::TimedOut(_))));
        assert!(!timed_out, "time: only a failed attempt and the time itself end a wait");
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
            Step::Offer { max } => {
                assert!(self.sends && self.declared == Some(self.moved), "only at the end");
                assert_eq!(max, self.chunk, "chunk: of an offer");
                None
            }
            Step::Peek => {
                assert!(self.sends && self.ended, "receipt: the application has not said so");
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

    /// Receipt: a sender asks its application and looks at its peer before it ends the object.
    fn check_end(&self) {
        assert!(!self.sends || (self.ended && self.still_open), "receipt: nobody was asked");
    }

    /// Time: the deadline is where the ledger has it, inclusive, and not a nanosecond earlier.
    fn check_deadline(&self) {
        for now in [self.now, self.now.saturating_add(Duration::from_secs(1))] {
            let retry = self.due_of_wait(self.waits_since.unwrap_or(now)).map(|(due, _)| due);
            let expected = retry.into_iter().chain(self.transfer_due()).min();
            assert_eq!(self.connection.deadline(now), expected, "time: of a wait at {now:?}");
        }
        let transfer = self.transfer_due().unwrap_or(END_OF_TIME);
        if let Some(early) = just_before(transfer) {
            self.after(early, Connection::handle_timeout, None);
        }
        let end = self.transfer_due().map(|_| Timer::Transfer);
        self.after(transfer, Connection::handle_timeout, end);
        self.after(transfer, Connection::would_block, end.or(self.timer_due_by(transfer)));

        let Some((due, next)) = self.due().filter(|(due, _)| *due < transfer) else { return };
        if let Some(early) = just_before(due) {
            self.after(early, Connection::would_block, None);
        }
        self.after(due, Connection::handle_timeout, None);
        match next {
            Next::Fails(timer) => self.after(due, Connection::would_block, Some(timer)),
            Next::Retries => self.after(due, Connection::would_block, None),
        }
    }

    /// Tells a connection like this one the time: it fails by this timer, or goes on.
    fn after(&self, now: Instant, tell: fn(&mut Connection, Instant), expected: Option<Timer>) {
        let mut told = self.connection.clone();
        tell(&mut told, now);
        match expected {
            Some(timer) => assert_eq!(told.step(), timed_out(timer), "time: at {now:?}"),
            None => assert_eq!(told.step(), self.step(), "time: at {now:?}"),
        }
    }

    /// The timer that an attempt which fails then runs out.
    fn timer_due_by(&self, now: Instant) -> Option<Timer> {
        match self.due().filter(|(due, _)| *due <= now)? {
            (_, Next::Fails(timer)) => Some(timer),
            (_, Next::Retries) => None,
        }
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

    /// When the next retry is of a wait that has begun, and what follows if it fails.
    fn due(&self) -> Option<(Instant, Next)> {
        let is_starting = matches!(self.step(), Step::Read { .. });
        let since = if is_starting { Some(self.began) } else { self.waits_since };
        self.due_of_wait(since?)
    }

    /// The same of a wait that began at `since`, by the rules of each timer. A server's wait for the
    /// start packet began with the connection.
    fn due_of_wait(&self, since: Instant) -> Option<(Instant, Next)> {
        let Timeouts { start, idle, end, .. } = self.timeouts;
        let (since, timeout, timer) = match self.step() {
            Step::Done(_) | Step::Decide(_) | Step::Offer { .. } | Step::Peek | Step::Commit => {
                return None;
            }
            Step::Read { .. } => (self.began, start, Timer::Start),
            Step::AwaitEnd if self.sends => (since, end, Timer::End),
            _ => (since, idle, Timer::Idle),
        };
        if timeout == Duration::MAX {
            return None;
        }
        let retry = since.saturating_add((timeout / 8).saturating_mul(self.retries + 1));
        Some(match (self.writes(), self.retries) {
            (true, ..10) => (retry, Next::Retries),
            (true, _) => (retry, Next::Fails(timer)),
            (false, _) => (since.saturating_add(timeout), Next::Fails(timer)),
        })
    }

    fn writes(&self) -> bool {
        matches!(self.step(), Step::Write { .. } | Step::Send { .. } | Step::Shutdown)
    }

    fn transfer_due(&self) -> Option<Instant> {
        let runs = self.timeouts.transfer < Duration::MAX && !matches!(self.step(), Step::Done(_));
        runs.then(|| self.began.saturating_add(self.timeouts.transfer))
    }
}

const END_OF_TIME: Instant = Instant::new(Duration::MAX);

fn just_before(instant: Instant) -> Option<Instant> {
    instant.since_epoch().checked_sub(Duration::from_nanos(1)).map(Instant::new)
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(timer.into()))
}
