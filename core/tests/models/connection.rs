//! A connection against a model of it: any reports in any order, right or not, at any times.
//!
//! The model says the rules as they are documented, state by state, with a growing list for the
//! bytes of the start packet and without a thought of size or speed.

use core::num::NonZeroU32;
use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    Config, Connection, Direction, Error, Instant, Key, LocalError, Malformed, PeerError, Refusal,
    Side, StartPacket, Step, Timeouts, Timer,
};

/// One report: the step that was due, and the step that followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) sends: bool,
    pub(crate) due: &'static str,
    pub(crate) verb: &'static str,
    pub(crate) followed: &'static str,
}

/// Makes a connection and reports to it, until the bytes to choose by are used up. Panics where the
/// connection and its model, or the connection and a law, are at odds.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut pair = Pair::choose(&mut unstructured).expect("choices do not fail");
    while !unstructured.is_empty() && seen.len() < 300 {
        seen.push(pair.act(&mut unstructured).expect("choices do not fail"));
    }
    seen
}

/// The connection and its model, which are told the same.
struct Pair {
    connection: Connection,
    model: Model,
    /// What the peer's start packet will be, and how much of it has been fed.
    peers_packet: [u8; 25],
    fed: usize,
    /// How many more reports will be what the step asks for.
    obeys: u8,
    now: Instant,
}

impl Pair {
    fn choose(u: &mut Unstructured<'_>) -> Result<Self> {
        let client = u.arbitrary()?;
        let config = Config {
            chunk: NonZeroU32::new(*u.choose(&[10, 1, 2, 26, u32::MAX])?).expect("not zero"),
            limit: *u.choose(&[u64::MAX, 0, 12, 300])?,
            timeouts: Timeouts {
                start: choose_duration(u)?,
                idle: choose_duration(u)?,
                end: choose_duration(u)?,
                transfer: choose_duration(u)?,
            },
        };
        let now = Instant::new(choose_duration(u)?);
        let packet = choose_packet(u)?;
        let (connection, model) = if client {
            let packet = StartPacket::parse(packet).unwrap_or(StartPacket::put(Key::new([7; 16])));
            (Connection::client(config, packet, now), Model::client(config, packet, now))
        } else {
            (Connection::server(config, now), Model::new(config, now))
        };
        let obeys = u.int_in_range(0..=12)?;
        let pair = Self { connection, model, peers_packet: packet, fed: 0, obeys, now };
        pair.check();
        Ok(pair)
    }

    /// One report to both: first some that the steps ask for, so that runs come far; then any.
    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<Seen> {
        let before = self.connection.clone();
        let due = name(&before.step());
        let sends = self.model.sends;
        let verb = match u.int_in_range(0..=20)? {
            _ if self.obeys > 0 => {
                self.obeys -= 1;
                self.obey(u)?
            }
            0..=7 => self.obey(u)?,
            8 => self.feed(u.int_in_range(0..=60)?),
            9 => {
                let n = choose_count(u)?;
                self.advance(n)
            }
            10 => self.end_of_stream(),
            11 => self.shut_down(),
            12 => self.reset(),
            13 => self.accept(u.arbitrary()?),
            14 => self.refuse(),
            15 => {
                let n = choose_count(u)?;
                self.offer(n, u.arbitrary()?)
            }
            16 => self.commit(),
            17 => self.abort(),
            18 => {
                self.pass_time(u)?;
                self.would_block()
            }
            19 => self.still_open(),
            _ => {
                self.pass_time(u)?;
                self.handle_timeout()
            }
        };
        self.check();
        self.check_finality_and_purity(&before);
        Ok(Seen { sends, due, verb, followed: name(&self.connection.step()) })
    }

    /// Reports something that the step asks for.
    fn obey(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        let share = |u: &mut Unstructured<'_>, max: usize| -> Result<usize> {
            Ok(match u.int_in_range(0..=3)? {
                0 => max,
                1 => max.min(1),
                _ => u.int_in_range(1..=max.clamp(1, 300))?,
            })
        };
        Ok(match self.connection.step() {
            Step::Read { max } => {
                let n = share(u, max)?;
                self.feed(n)
            }
            Step::Decide(_) => self.accept(u64::MAX),
            Step::Write { bytes, payload } => {
                let n = share(u, bytes.len() + payload)?;
                self.advance(n)
            }
            Step::Receive { max } | Step::Send { max } => match u.ratio(1, 4)? {
                true if self.model.sends => self.offer(0, true),
                true => self.end_of_stream(),
                false => {
                    let n = share(u, max)?;
                    self.advance(n)
                }
            },
            Step::Offer { .. } => self.offer(0, true),
            Step::Peek => self.still_open(),
            Step::Commit => self.commit(),
            Step::Shutdown => self.shut_down(),
            Step::AwaitEnd => self.end_of_stream(),
            Step::Done(_) => self.handle_timeout(),
        })
    }

    /// The next `n` bytes of what the peer sends: its start packet, then ones.
    fn feed(&mut self, n: usize) -> &'static str {
        let bytes = self.peers_packet.iter().copied().chain([1; 100]);
        let bytes: Vec<u8> = bytes.skip(self.fed).take(n).collect();
        let taken = self.connection.feed(&bytes);
        assert_eq!(taken, self.model.feed(&bytes), "split: takes its own bytes and no more");
        self.fed += taken;
        "feed"
    }

    fn advance(&mut self, n: usize) -> &'static str {
        self.connection.advance(n);
        self.model.advance(n);
        "advance"
    }

    fn end_of_stream(&mut self) -> &'static str {
        self.connection.end_of_stream();
        self.model.end_of_stream();
        "end_of_stream"
    }

    fn shut_down(&mut self) -> &'static str {
        self.connection.shut_down();
        self.model.shut_down();
        "shut_down"
    }

    fn reset(&mut self) -> &'static str {
        self.connection.reset();
        self.model.fail(PeerError::Reset { moved: self.model.moved });
        "reset"
    }

    fn accept(&mut self, limit: u64) -> &'static str {
        self.connection.accept(limit);
        self.model.accept(limit);
        "accept"
    }

    fn refuse(&mut self) -> &'static str {
        self.connection.refuse(Refusal::InUse);
        match self.model.state {
            State::Decide => self.model.fail(Refusal::InUse),
            _ => self.model.misuse("refuse"),
        }
        "refuse"
    }

    fn offer(&mut self, n: usize, last: bool) -> &'static str {
        self.connection.offer(n, last);
        self.model.offer(n, last);
        "offer"
    }

    fn still_open(&mut self) -> &'static str {
        self.connection.still_open();
        match self.model.state {
            State::Peek => self.model.enter(State::Shutdown),
            _ => self.model.misuse("still_open"),
        }
        "still_open"
    }

    fn commit(&mut self) -> &'static str {
        self.connection.commit();
        match self.model.state {
            State::Commit => self.model.enter(State::Shutdown),
            _ => self.model.misuse("commit"),
        }
        "commit"
    }

    fn abort(&mut self) -> &'static str {
        self.connection.abort("gives up");
        self.model.fail(LocalError::Aborted { reason: "gives up" });
        "abort"
    }

    fn would_block(&mut self) -> &'static str {
        self.connection.would_block(self.now);
        self.model.would_block(self.now);
        "would_block"
    }

    fn handle_timeout(&mut self) -> &'static str {
        self.connection.handle_timeout(self.now);
        self.model.handle_timeout(self.now);
        "handle_timeout"
    }

    /// To anywhere, back too: that is the caller's affair, and may confuse nothing else. Or to where
    /// it matters.
    fn pass_time(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let deadline = self.connection.deadline(self.now).map(Instant::since_epoch);
        let nano = Duration::from_nanos(1);
        self.now = Instant::new(match (u.int_in_range(0..=3)?, deadline) {
            (0, _) => self.now.since_epoch().saturating_add(choose_duration(u)?),
            (1, Some(deadline)) => deadline.saturating_sub(nano),
            (2, Some(deadline)) => deadline,
            _ => choose_duration(u)?,
        });
        Ok(())
    }

    fn check(&self) {
        let Self { connection, model, .. } = self;
        let before = connection.clone();
        assert_eq!(connection.step(), model.step());
        assert_eq!(connection.moved(), model.moved, "conservation");
        assert_eq!(connection.packet(), model.packet);
        let side = model.packet.map(|packet| {
            let puts = packet.direction() == Direction::Put;
            if puts == model.is_client { Side::Sender } else { Side::Receiver }
        });
        assert_eq!(connection.side(), side);
        if let Step::Receive { max } | Step::Send { max } = connection.step() {
            assert!(max >= 1 && max <= model.config.chunk.get() as usize, "chunk: {max}");
        }
        for now in [self.now, Instant::default(), END_OF_TIME] {
            assert_eq!(connection.deadline(now), model.deadline(now), "time: waits at {now:?}");
        }
        assert_eq!(*connection, before, "purity: asking changes nothing");
        self.check_timers();
    }

    /// What each call that takes the time would do, just before all times that matter, and at them.
    fn check_timers(&self) {
        let Self { connection, model, .. } = self;
        let dues = [model.due().map(|(due, _)| due), model.transfer_due(), Some(END_OF_TIME)];
        for due in dues.into_iter().flatten() {
            let early = due.since_epoch().checked_sub(Duration::from_nanos(1)).map(Instant::new);
            for now in early.into_iter().chain([due]) {
                let hurried = model.transfer_due().is_some_and(|due| due <= now);
                let waited = model.due().filter(|(due, _)| *due <= now);
                let mut told = connection.clone();
                told.handle_timeout(now);
                match hurried {
                    true => assert_eq!(told.step(), timed_out(Timer::Transfer), "time: due"),
                    false => assert_eq!(told, *connection, "time: not due yet"),
                }
                let mut tried = connection.clone();
                tried.would_block(now);
                match (hurried, waited) {
                    (true, _) => assert_eq!(tried.step(), timed_out(Timer::Transfer)),
                    (_, Some((_, Next::Fails(timer)))) => {
                        assert_eq!(tried.step(), timed_out(timer), "time: due");
                    }
                    (_, Some((_, Next::Retries))) => {
                        assert_eq!(tried.step(), connection.step(), "time: one more try");
                        assert_ne!(tried, *connection, "time: the first retry is over");
                    }
                    (false, None) if model.waits_since.is_some() || !model.waits_for_peer() => {
                        assert_eq!(tried, *connection, "time: not due yet");
                    }
                    (false, None) => {
                        assert_eq!(tried.step(), connection.step(), "time: the wait begins");
                    }
                }
            }
        }
    }

    fn check_finality_and_purity(&self, before: &Connection) {
        if let Step::Done(_) = before.step() {
            assert_eq!(self.connection, *before, "finality");
        }
        if let Step::Done(Err(_)) = self.connection.step() {
            assert_eq!(self.connection.moved(), before.moved(), "purity: of a rejected report");
            assert_eq!(self.connection.deadline(self.now), None, "finality");
        }
    }
}

/// What a connection should be.
struct Model {
    config: Config,
    began: Instant,
    /// The bytes of the start packet: those that came, or those that are to be written.
    bytes: Vec<u8>,
    written: usize,
    packet: Option<StartPacket>,
    is_client: bool,
    sends: bool,
    declared: Option<u64>,
    /// The most bytes that may move.
    most: u64,
    moved: u64,
    /// The first failed attempt since the last progress. A server waits from the beginning.
    waits_since: Option<Instant>,
    /// How many retries of a writer have failed.
    retries: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Read,
    Decide,
    Write,
    Object,
    Offer,
    Peek,
    Commit,
    Shutdown,
    Receipt,
    Done(core::result::Result<(), Error>),
}

/// What follows when the next retry fails.
enum Next {
    /// One more retry.
    Retries,
    Fails(Timer),
}

const END_OF_TIME: Instant = Instant::new(Duration::MAX);

impl Model {
    fn new(config: Config, now: Instant) -> Self {
        Self {
            config,
            began: now,
            bytes: Vec::new(),
            written: 0,
            packet: None,
            is_client: false,
            sends: false,
            declared: None,
            most: config.limit,
            moved: 0,
            waits_since: Some(now),
            retries: 0,
            state: State::Read,
        }
    }

    fn client(config: Config, packet: StartPacket, now: Instant) -> Self {
        let mut client = Self::new(config, now);
        client.bytes = packet.as_bytes().to_vec();
        client.packet = Some(packet);
        client.enter(State::Write);
        client.is_client = true;
        client.take_side(packet, packet.direction() == Direction::Put, config.limit);
        client
    }

    /// A sender sends what it declared, or any amount. A receiver refuses what declares too much.
    fn take_side(&mut self, packet: StartPacket, sends: bool, limit: u64) {
        let declared = packet.size().bytes();
        if let Some(declared) = declared.filter(|declared| !sends && *declared > limit) {
            return self.fail(Refusal::TooLarge { declared, limit });
        }
        self.sends = sends;
        self.declared = declared;
        self.most = declared.unwrap_or(if sends { u64::MAX } else { limit });
    }

    fn step(&self) -> Step<'_> {
        match self.state {
            State::Read => Step::Read { max: 25 - self.bytes.len() },
            State::Decide => Step::Decide(self.packet.expect("to be decided on")),
            State::Write => Step::Write {
                bytes: &self.bytes[self.written..],
                payload: if self.sends { self.max() } else { 0 },
            },
            State::Object if self.sends => Step::Send { max: self.max() },
            State::Object if self.moved == self.most => Step::AwaitEnd,
            State::Object => Step::Receive { max: self.max() },
            State::Offer => {
                Step::Offer { max: usize::try_from(self.config.chunk.get()).expect("32 bits") }
            }
            State::Peek => Step::Peek,
            State::Commit => Step::Commit,
            State::Shutdown => Step::Shutdown,
            State::Receipt => Step::AwaitEnd,
            State::Done(result) => Step::Done(result.map(|()| self.moved)),
        }
    }

    fn max(&self) -> usize {
        let chunk = u64::from(self.config.chunk.get());
        usize::try_from(chunk.min(self.most - self.moved)).expect("64 bits")
    }

    fn waits_for_peer(&self) -> bool {
        !matches!(
            self.state,
            State::Decide | State::Offer | State::Peek | State::Commit | State::Done(_)
        )
    }

    /// Whether the driver waits for room in the stream.
    fn writes(&self) -> bool {
        match self.state {
            State::Write | State::Shutdown => true,
            State::Object => self.sends,
            _ => false,
        }
    }

    /// When the next retry is, and what follows if it fails; for a wait that began at `since`.
    fn due_of_wait(&self, since: Instant) -> Option<(Instant, Next)> {
        let Timeouts { start, idle, end, .. } = self.config.timeouts;
        let (timeout, timer) = match self.state {
            State::Read => (start, Timer::Start),
            State::Receipt => (end, Timer::End),
            _ => (idle, Timer::Idle),
        };
        if timeout == Duration::MAX {
            return None;
        }
        let retry = (timeout / 8).saturating_mul(self.retries + 1);
        let (after, next) = match (self.writes(), self.retries) {
            (true, ..10) => (retry, Next::Retries),
            (true, _) => (retry, Next::Fails(timer)),
            (false, _) => (timeout, Next::Fails(timer)),
        };
        Some((later(since, after)?, next))
    }

    /// The same, if a wait has begun.
    fn due(&self) -> Option<(Instant, Next)> {
        self.due_of_wait(self.waits_since?)
    }

    fn transfer_due(&self) -> Option<Instant> {
        match self.state {
            State::Done(_) => None,
            _ => later(self.began, self.config.timeouts.transfer),
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let waits = self.waits_for_peer();
        let retry = waits.then(|| self.due_of_wait(self.waits_since.unwrap_or(now))).flatten();
        retry.map(|(due, _)| due).into_iter().chain(self.transfer_due()).min()
    }

    fn feed(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let State::Read = self.state else {
            self.misuse("feed");
            return 0;
        };
        let taken = bytes.len().min(25 - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if let Ok(whole) = self.bytes[..].try_into() {
            let size = i64::from_le_bytes(self.bytes[1..9].try_into().expect("eight bytes"));
            match (self.bytes[0], size) {
                (0 | 1, -1..) => {
                    self.packet = StartPacket::parse(whole).ok();
                    self.enter(State::Decide);
                }
                (0 | 1, size) => self.fail(PeerError::Malformed(Malformed::Size(size))),
                (kind, _) => self.fail(PeerError::Malformed(Malformed::Type(kind))),
            }
        }
        taken
    }

    fn advance(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        let left = self.bytes.len() - self.written;
        match self.state {
            State::Write if n < left => {
                self.written += n;
                self.enter(State::Write);
            }
            State::Write => {
                let max = left + if self.sends { self.max() } else { 0 };
                if n > max {
                    return self.fail(LocalError::Overrun { reported: n, max });
                }
                self.enter(State::Object);
                self.count((n - left) as u64);
            }
            State::Object if n <= self.max() => self.count(n as u64),
            State::Object => match (self.max(), self.declared) {
                (0, Some(declared)) => self.fail(PeerError::LongerThanDeclared { declared }),
                (0, None) => self.fail(PeerError::LongerThanAllowed { limit: self.most }),
                (max, _) => self.fail(LocalError::Overrun { reported: n, max }),
            },
            State::Peek | State::Receipt => self.fail(PeerError::NotSilent),
            _ => self.misuse("advance"),
        }
    }

    /// A sender that has sent what it declared asks whether that was all.
    fn count(&mut self, n: u64) {
        self.moved += n;
        let is_full = self.sends && self.declared == Some(self.moved);
        self.enter(if is_full { State::Offer } else { State::Object });
    }

    fn end_of_stream(&mut self) {
        let moved = self.moved;
        match (self.state, self.declared) {
            (State::Read, _) => {
                self.fail(PeerError::TruncatedStartPacket { received: self.bytes.len() });
            }
            (State::Object, Some(expected)) if !self.sends && moved < expected => {
                self.fail(PeerError::Truncated { received: moved, expected });
            }
            (State::Object, _) if !self.sends => self.enter(State::Commit),
            (State::Write | State::Object | State::Offer | State::Peek, _) => {
                self.fail(PeerError::ClosedEarly { moved });
            }
            (State::Shutdown, _) if self.sends => self.fail(PeerError::ClosedEarly { moved }),
            (State::Receipt, _) => self.enter(State::Done(Ok(()))),
            _ => self.misuse("end_of_stream"),
        }
    }

    fn shut_down(&mut self) {
        match self.state {
            State::Shutdown if self.sends => self.enter(State::Receipt),
            State::Shutdown => self.enter(State::Done(Ok(()))),
            _ => self.misuse("shut_down"),
        }
    }

    fn accept(&mut self, limit: u64) {
        let (State::Decide, Some(packet)) = (self.state, self.packet) else {
            return self.misuse("accept");
        };
        let limit = limit.min(self.config.limit);
        self.take_side(packet, packet.direction() == Direction::Get, limit);
        if let State::Decide = self.state {
            self.enter(State::Object);
            self.count(0);
        }
    }

    fn offer(&mut self, n: usize, last: bool) {
        let sent = self.moved;
        match (self.state, self.declared) {
            (State::Object, Some(declared)) if self.sends && n == 0 && last => {
                self.fail(LocalError::ShorterThanDeclared { sent, declared });
            }
            (State::Object, None) if self.sends && n == 0 && last => self.enter(State::Peek),
            (State::Object, _) if self.sends => {}
            (State::Offer, _) if n == 0 && last => self.enter(State::Peek),
            (State::Offer, _) if n == 0 => {}
            (State::Offer, _) => self.fail(LocalError::LongerThanDeclared { declared: sent }),
            _ => self.misuse("offer"),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.transfer_due().is_some_and(|due| due <= now) {
            self.fail(Timer::Transfer);
        }
    }

    fn would_block(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.waits_for_peer() {
            return;
        }
        let Some(since) = self.waits_since else {
            self.waits_since = Some(now);
            return;
        };
        match self.due_of_wait(since).filter(|(due, _)| *due <= now) {
            Some((_, Next::Fails(timer))) => self.fail(timer),
            Some((_, Next::Retries)) => self.retries += 1,
            None => {}
        }
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = name(&self.step());
        self.fail(LocalError::Misuse { verb, step });
    }

    fn fail(&mut self, error: impl Into<Error>) {
        if !matches!(self.state, State::Done(_)) {
            self.enter(State::Done(Err(error.into())));
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.waits_since = None;
        self.retries = 0;
    }
}

/// `None` at the end of time, which never comes, and beyond.
fn later(from: Instant, timeout: Duration) -> Option<Instant> {
    let due = from.since_epoch().checked_add(timeout)?;
    (due < Duration::MAX).then_some(Instant::new(due))
}

fn timed_out(timer: Timer) -> Step<'static> {
    Step::Done(Err(timer.into()))
}

fn name(step: &Step<'_>) -> &'static str {
    match step {
        Step::Read { .. } => "Read",
        Step::Decide(_) => "Decide",
        Step::Write { .. } => "Write",
        Step::Receive { .. } => "Receive",
        Step::Send { .. } => "Send",
        Step::Offer { .. } => "Offer",
        Step::Peek => "Peek",
        Step::Commit => "Commit",
        Step::Shutdown => "Shutdown",
        Step::AwaitEnd => "AwaitEnd",
        Step::Done(_) => "Done",
    }
}

/// A put or a get, mostly of a few bytes or of unknown size; or any bytes at all.
fn choose_packet(u: &mut Unstructured<'_>) -> Result<[u8; 25]> {
    let mut bytes = [7; 25];
    match u.int_in_range(0..=7)? {
        0 => u.fill_buffer(&mut bytes)?,
        kind => {
            bytes[0] = kind % 2;
            let size = *u.choose(&[-1, 12, 0, 1, 300, i64::MAX, -1, 12])?;
            bytes[1..9].copy_from_slice(&size.to_le_bytes());
        }
    }
    Ok(bytes)
}

fn choose_count(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=3)? {
        0 => *u.choose(&[0, 1, 2, 9, 10, 11, 12, 13, 25, 26, 27, 37])?,
        1 => *u.choose(&[usize::MAX, usize::MAX - 1, u32::MAX as usize, 1 << 32])?,
        _ => u.int_in_range(0..=300)?,
    })
}

fn choose_duration(u: &mut Unstructured<'_>) -> Result<Duration> {
    let nano = Duration::from_nanos(1);
    Ok(match u.int_in_range(0..=7)? {
        0 => Duration::MAX,
        1 => Duration::ZERO,
        2 => Duration::MAX - nano,
        3 => Duration::from_nanos(u.arbitrary()?),
        4 => Duration::from_secs(u.arbitrary()?),
        5 => Duration::from_nanos(u.int_in_range(0..=9)?),
        _ => Duration::from_secs(u.int_in_range(1..=60)?),
    })
}
