//! Compares a connection with a reference implementation: any reports, legal or not, in any order and at
//! any time.
//!
//! The reference implements the documented rules state by state. It stores the start packet in a growing
//! list, and is optimized neither for size nor for speed.

use core::num::NonZeroU32;
use core::ops::RangeInclusive;
use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    Cause, Config, Connection, Direction, Instant, Key, LocalError, Malformed, ObjectSize,
    PeerError, Refusal, Side, StartPacket, Step, Timeouts, Timer,
};

/// One report: the current step, the method that was called, and the step that followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) sends: bool,
    pub(crate) due: &'static str,
    pub(crate) verb: &'static str,
    pub(crate) followed: &'static str,
}

/// Makes a connection and reports to it until the input is used up. Panics if the connection differs
/// from the reference, or if it violates an invariant.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut pair = Pair::choose(&mut unstructured).expect("choices cannot fail");
    while !unstructured.is_empty() && seen.len() < 300 {
        seen.push(pair.act(&mut unstructured).expect("choices cannot fail"));
    }
    seen
}

/// A connection and its reference. Both get the same reports.
struct Pair {
    connection: Connection,
    reference: Reference,
    /// The start packet that the peer sends, and how much of it has been read.
    peer_packet: [u8; 25],
    read: usize,
    /// How many of the next reports are legal.
    steps_to_follow: u8,
    now: Instant,
}

impl Pair {
    fn choose(u: &mut Unstructured<'_>) -> Result<Self> {
        let client = u.arbitrary()?;
        let chunk = NonZeroU32::new(*u.choose(&[10, 1, 2, 26, u32::MAX])?).expect("not zero");
        let config = Config::default()
            .chunk(chunk)
            .max_object_size(choose_limit(*u.choose(&[u64::MAX, 0, 12, 300])?))
            .timeouts(
                Timeouts::default()
                    .start(choose_timeout(u)?)
                    .idle(choose_timeout(u)?)
                    .receipt(choose_timeout(u)?)
                    .total(choose_timeout(u)?),
            );
        let now = Instant::new(choose_duration(u)?);
        let packet = choose_packet(u)?;
        let (connection, reference) = if client {
            let packet = StartPacket::from_bytes(packet)
                .unwrap_or(StartPacket::put(Key::from_bytes([7; 16])));
            (Connection::client(config, packet, now), Reference::client(config, packet, now))
        } else {
            (Connection::server(config, now), Reference::new(config, now))
        };
        let steps_to_follow = u.int_in_range(0..=12)?;
        let pair =
            Self { connection, reference, peer_packet: packet, read: 0, steps_to_follow, now };
        pair.check();
        Ok(pair)
    }

    /// Makes one report to both. The first reports are legal, so that a run reaches the later states.
    /// After that, any report is made.
    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<Seen> {
        let before = self.connection.clone();
        let due = name(&before.step());
        let sends = self.reference.sends;
        // `declare` came last. It has eight of the values that made a legal report before, none of which
        // the corpus used, so that the older inputs keep their meaning.
        let choice = u.int_in_range(0..=u8::MAX)?;
        let verb = match choice % 21 {
            _ if self.steps_to_follow > 0 => {
                self.steps_to_follow -= 1;
                self.follow_step(u)?
            }
            _ if DECLARE.contains(&choice) => self.declare(choose_size(u)?),
            0..=7 => self.follow_step(u)?,
            8 => self.handle_read(u.int_in_range(0..=60)?),
            9 => {
                let n = choose_count(u)?;
                self.handle_moved(n)
            }
            10 => self.handle_end_of_stream(),
            11 => self.handle_shutdown(),
            12 => self.handle_reset(),
            13 => self.accept(choose_limit(u.arbitrary()?)),
            14 => self.refuse(),
            15 => {
                let n = choose_count(u)?;
                self.offer(n, u.arbitrary()?)
            }
            16 => self.committed(),
            17 => self.abort(),
            18 => {
                self.pass_time(u)?;
                self.handle_blocked()
            }
            19 => self.handle_still_open(),
            _ => {
                self.pass_time(u)?;
                self.handle_timeout()
            }
        };
        self.check();
        self.check_finality_and_purity(&before);
        Ok(Seen { sends, due, verb, followed: name(&self.connection.step()) })
    }

    /// Makes a report that the current step allows.
    fn follow_step(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
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
                self.handle_read(n)
            }
            Step::Decide(_) => self.accept(None),
            Step::Write { bytes, payload } => {
                let n = share(u, bytes.len() + payload)?;
                self.handle_moved(n)
            }
            Step::Receive { max } | Step::Send { max } => match u.ratio(1, 4)? {
                true if self.reference.sends => self.offer(0, true),
                true => self.handle_end_of_stream(),
                false => {
                    let n = share(u, max)?;
                    self.handle_moved(n)
                }
            },
            Step::Offer { .. } => self.offer(0, true),
            Step::Peek => self.handle_still_open(),
            Step::Commit => self.committed(),
            Step::Shutdown => self.handle_shutdown(),
            Step::AwaitEnd => self.handle_end_of_stream(),
            Step::Done(_) => self.handle_timeout(),
            step @ (Step::Resume | Step::Digest) => panic!("{step:?} in the bare format"),
        })
    }

    /// Reads the next `n` bytes from the peer: the rest of its start packet, then ones.
    fn handle_read(&mut self, n: usize) -> &'static str {
        let bytes = self.peer_packet.iter().copied().chain([1; 100]);
        let bytes: Vec<u8> = bytes.skip(self.read).take(n).collect();
        let taken = self.connection.handle_read(&bytes);
        assert_eq!(
            taken,
            self.reference.handle_read(&bytes),
            "fragmentation: takes the start packet only"
        );
        self.read += taken;
        "handle_read"
    }

    fn handle_moved(&mut self, n: usize) -> &'static str {
        self.connection.handle_moved(n);
        self.reference.handle_moved(n);
        "handle_moved"
    }

    fn handle_end_of_stream(&mut self) -> &'static str {
        self.connection.handle_end_of_stream();
        self.reference.handle_end_of_stream();
        "handle_end_of_stream"
    }

    fn handle_shutdown(&mut self) -> &'static str {
        self.connection.handle_shutdown();
        self.reference.handle_shutdown();
        "handle_shutdown"
    }

    fn handle_reset(&mut self) -> &'static str {
        self.connection.handle_reset();
        self.reference.fail(PeerError::Reset { moved: self.reference.moved });
        "reset"
    }

    fn accept(&mut self, limit: Option<u64>) -> &'static str {
        self.connection.accept(limit);
        self.reference.accept(limit);
        "accept"
    }

    fn refuse(&mut self) -> &'static str {
        self.connection.refuse(Refusal::InUse);
        match self.reference.state {
            State::Decide => self.reference.fail(Refusal::InUse),
            _ => self.reference.misuse("refuse"),
        }
        "refuse"
    }

    fn offer(&mut self, n: usize, last: bool) -> &'static str {
        self.connection.offer(n, last);
        self.reference.offer(n, last);
        "offer"
    }

    fn declare(&mut self, size: ObjectSize) -> &'static str {
        self.connection.declare(size);
        self.reference.declare(size);
        "declare"
    }

    fn handle_still_open(&mut self) -> &'static str {
        self.connection.handle_still_open();
        match self.reference.state {
            State::Peek => self.reference.enter(State::Shutdown),
            _ => self.reference.misuse("handle_still_open"),
        }
        "handle_still_open"
    }

    fn committed(&mut self) -> &'static str {
        self.connection.committed();
        match self.reference.state {
            State::Commit => self.reference.enter(State::Shutdown),
            _ => self.reference.misuse("committed"),
        }
        "committed"
    }

    fn abort(&mut self) -> &'static str {
        self.connection.abort("canceled");
        self.reference.fail(LocalError::Aborted { reason: "canceled", code: 0 });
        "abort"
    }

    fn handle_blocked(&mut self) -> &'static str {
        self.connection.handle_blocked(self.now);
        self.reference.handle_blocked(self.now);
        "handle_blocked"
    }

    fn handle_timeout(&mut self) -> &'static str {
        self.connection.handle_timeout(self.now);
        self.reference.handle_timeout(self.now);
        "handle_timeout"
    }

    /// Moves the time: to any time, even an earlier one, to the deadline, or to just before the deadline.
    /// Time that runs backwards is an error of the caller. It must not corrupt the connection.
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
        let Self { connection, reference, .. } = self;
        let before = connection.clone();
        assert_eq!(connection.step(), reference.step());
        assert_eq!(connection.moved(), reference.moved, "conservation");
        assert_eq!(connection.packet(), reference.packet);
        let side = reference.packet.map(|packet| {
            let puts = packet.direction() == Direction::Put;
            if puts == reference.is_client { Side::Sender } else { Side::Receiver }
        });
        assert_eq!(connection.side(), side);
        if let Step::Receive { max } | Step::Send { max } = connection.step() {
            assert!(max >= 1 && max <= reference.config.chunk.get() as usize, "chunk: {max}");
        }
        for now in [self.now, Instant::default(), END_OF_TIME] {
            assert_eq!(
                connection.deadline(now),
                reference.deadline(now),
                "time: deadline at {now:?}"
            );
        }
        assert_eq!(*connection, before, "purity: queries change nothing");
        self.check_timers();
    }

    /// Checks each call that takes the time, at each due time and just before it.
    fn check_timers(&self) {
        let Self { connection, reference, .. } = self;
        let dues = [reference.due().map(|(due, _)| due), reference.total_due(), Some(END_OF_TIME)];
        for due in dues.into_iter().flatten() {
            let early = due.since_epoch().checked_sub(Duration::from_nanos(1)).map(Instant::new);
            for now in early.into_iter().chain([due]) {
                let total_expired = reference.total_due().is_some_and(|due| due <= now);
                let wait_expired = reference.due().filter(|(due, _)| *due <= now);
                let mut told = connection.clone();
                told.handle_timeout(now);
                match total_expired {
                    true => assert_eq!(told.step(), timed_out(Timer::Total), "time: due"),
                    false => assert_eq!(told, *connection, "time: not due yet"),
                }
                let mut tried = connection.clone();
                tried.handle_blocked(now);
                match (total_expired, wait_expired) {
                    (true, _) => assert_eq!(tried.step(), timed_out(Timer::Total)),
                    (_, Some((_, Next::Fail(timer)))) => {
                        assert_eq!(tried.step(), timed_out(timer), "time: due");
                    }
                    (_, Some((_, Next::Retry))) => {
                        assert_eq!(tried.step(), connection.step(), "time: one more retry");
                        assert_ne!(tried, *connection, "time: the retry is counted");
                    }
                    (false, None)
                        if reference.waiting_since.is_some()
                            || !reference.is_waiting_for_peer() =>
                    {
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

/// The reference implementation of a connection.
struct Reference {
    config: Config,
    began: Instant,
    /// The bytes of the start packet: those received, or those to write.
    bytes: Vec<u8>,
    written: usize,
    packet: Option<StartPacket>,
    is_client: bool,
    sends: bool,
    declared: Option<u64>,
    /// The most bytes that may move.
    most: u64,
    moved: u64,
    /// The first failed attempt since the last progress. A server waits from the start.
    waiting_since: Option<Instant>,
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
    Done(core::result::Result<(), Cause>),
}

/// What happens if the next retry fails.
enum Next {
    /// Another retry follows.
    Retry,
    Fail(Timer),
}

const END_OF_TIME: Instant = Instant::new(Duration::MAX);

impl Reference {
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
            most: config.max_object_size.unwrap_or(u64::MAX),
            moved: 0,
            waiting_since: Some(now),
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
        client.take_side(packet, packet.direction() == Direction::Put, client.most);
        client
    }

    /// A sender sends as many bytes as it declared, or any number. A receiver refuses a declared size
    /// above its limit.
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
            State::Decide => Step::Decide(self.packet.expect("a packet to decide on")),
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

    fn is_waiting_for_peer(&self) -> bool {
        !matches!(
            self.state,
            State::Decide | State::Offer | State::Peek | State::Commit | State::Done(_)
        )
    }

    /// Whether the driver waits until it can write.
    fn is_writing(&self) -> bool {
        match self.state {
            State::Write | State::Shutdown => true,
            State::Object => self.sends,
            _ => false,
        }
    }

    /// Returns the time of the next retry, and what happens if it fails, for a wait that began at `since`.
    fn due_of_wait(&self, since: Instant) -> Option<(Instant, Next)> {
        let Timeouts { start, idle, receipt, .. } = self.config.timeouts;
        let (timeout, timer) = match self.state {
            State::Read => (start, Timer::Start),
            State::Receipt => (receipt, Timer::Receipt),
            _ => (idle, Timer::Idle),
        };
        let timeout = timeout.filter(|timeout| *timeout < Duration::MAX)?;
        let retry = (timeout / 8).saturating_mul(self.retries + 1);
        let (after, next) = match (self.is_writing(), self.retries) {
            (true, ..10) => (retry, Next::Retry),
            (true, _) => (retry, Next::Fail(timer)),
            (false, _) => (timeout, Next::Fail(timer)),
        };
        Some((later(since, after)?, next))
    }

    /// The same for the current wait. `None` if no wait has begun.
    fn due(&self) -> Option<(Instant, Next)> {
        self.due_of_wait(self.waiting_since?)
    }

    fn total_due(&self) -> Option<Instant> {
        match self.state {
            State::Done(_) => None,
            _ => later(self.began, self.config.timeouts.total?),
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let waits = self.is_waiting_for_peer();
        let retry = waits.then(|| self.due_of_wait(self.waiting_since.unwrap_or(now))).flatten();
        retry.map(|(due, _)| due).into_iter().chain(self.total_due()).min()
    }

    fn handle_read(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let State::Read = self.state else {
            self.misuse("handle_read");
            return 0;
        };
        let taken = bytes.len().min(25 - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if let Ok(whole) = self.bytes[..].try_into() {
            let size = i64::from_le_bytes(self.bytes[1..9].try_into().expect("eight bytes"));
            match (self.bytes[0], size) {
                (0 | 1, -1..) => {
                    self.packet = StartPacket::from_bytes(whole).ok();
                    self.enter(State::Decide);
                }
                (0 | 1, size) => self.fail(PeerError::Malformed(Malformed::Size(size))),
                (kind, _) => self.fail(PeerError::Malformed(Malformed::Type(kind))),
            }
        }
        taken
    }

    fn handle_moved(&mut self, n: usize) {
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
            _ => self.misuse("handle_moved"),
        }
    }

    /// A sender that has sent the declared size asks whether the object ends there.
    fn count(&mut self, n: u64) {
        self.moved += n;
        let is_full = self.sends && self.declared == Some(self.moved);
        self.enter(if is_full { State::Offer } else { State::Object });
    }

    fn handle_end_of_stream(&mut self) {
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
            _ => self.misuse("handle_end_of_stream"),
        }
    }

    fn handle_shutdown(&mut self) {
        match self.state {
            State::Shutdown if self.sends => self.enter(State::Receipt),
            State::Shutdown => self.enter(State::Done(Ok(()))),
            _ => self.misuse("handle_shutdown"),
        }
    }

    fn accept(&mut self, limit: Option<u64>) {
        let (State::Decide, Some(packet)) = (self.state, self.packet) else {
            return self.misuse("accept");
        };
        let limit = limit.into_iter().chain(self.config.max_object_size).min();
        let limit = limit.unwrap_or(u64::MAX);
        self.take_side(packet, packet.direction() == Direction::Get, limit);
        if let State::Decide = self.state {
            self.enter(State::Object);
            self.count(0);
        }
    }

    /// Only before the first byte of a put.
    fn declare(&mut self, size: ObjectSize) {
        let (State::Write, 0, true, Some(packet)) =
            (self.state, self.written, self.sends, self.packet)
        else {
            return self.misuse("declare");
        };
        let packet = match size.bytes() {
            Some(bytes) => packet.with_size(bytes).expect("a valid size"),
            None => StartPacket::put(packet.key()),
        };
        self.bytes = packet.as_bytes().to_vec();
        self.packet = Some(packet);
        self.take_side(packet, true, u64::MAX);
        self.enter(State::Write);
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
        if self.total_due().is_some_and(|due| due <= now) {
            self.fail(Timer::Total);
        }
    }

    fn handle_blocked(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.is_waiting_for_peer() {
            return;
        }
        let Some(since) = self.waiting_since else {
            self.waiting_since = Some(now);
            return;
        };
        match self.due_of_wait(since).filter(|(due, _)| *due <= now) {
            Some((_, Next::Fail(timer))) => self.fail(timer),
            Some((_, Next::Retry)) => self.retries += 1,
            None => {}
        }
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = name(&self.step());
        self.fail(LocalError::Misuse { verb, step });
    }

    fn fail(&mut self, error: impl Into<Cause>) {
        if !matches!(self.state, State::Done(_)) {
            self.enter(State::Done(Err(error.into())));
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.waiting_since = None;
        self.retries = 0;
    }
}

/// Returns `None` at the end of the range of time, and beyond it.
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
        Step::Resume => "Resume",
        Step::Digest => "Digest",
        Step::Commit => "Commit",
        Step::Shutdown => "Shutdown",
        Step::AwaitEnd => "AwaitEnd",
        Step::Done(_) => "Done",
    }
}

/// Chooses a put or a get, in most cases of a few bytes or of unknown size, or 25 arbitrary bytes.
fn choose_packet(u: &mut Unstructured<'_>) -> Result<[u8; 25]> {
    let mut bytes = [7; 25];
    match u.int_in_range(0..=7)? {
        0 => {
            u.fill_buffer(&mut bytes)?;
            bytes[0] &= !128; // the framed format has a reference of its own
        }
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

/// The values of the choice of a report that stand for `declare`.
const DECLARE: RangeInclusive<u8> = 21..=28;

fn choose_size(u: &mut Unstructured<'_>) -> Result<ObjectSize> {
    let sizes = [u64::MAX, 12, 0, 1, 300, i64::MAX as u64];
    Ok(ObjectSize::new(*u.choose(&sizes)?).unwrap_or(ObjectSize::UNKNOWN))
}

/// The largest value means no limit.
fn choose_limit(bytes: u64) -> Option<u64> {
    (bytes < u64::MAX).then_some(bytes)
}

/// The longest duration means no timeout.
fn choose_timeout(u: &mut Unstructured<'_>) -> Result<Option<Duration>> {
    Ok(Some(choose_duration(u)?).filter(|timeout| *timeout < Duration::MAX))
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
