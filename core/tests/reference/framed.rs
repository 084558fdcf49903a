//! Compares a framed connection with a reference implementation: any reports, legal or not, in any order,
//! and the peer's bytes in any pieces.
//!
//! The reference is a plain program: it stores all bytes in growing lists, and its states are those of the
//! table of the specification. It has no clock. A timer runs out when the test says so.

use core::num::NonZeroU32;
use core::time::Duration;

use arbitrary::{Result, Unstructured};
use dataserver_core::{
    AbortReason, Cause, Config, Connection, Direction, Frame, Instant, Key, LocalError,
    MalformedFrame, ObjectSize, PeerError, Refusal, StartPacket, Step, Timer,
};

/// One report: the state of the reference, the event, and the state that followed.
pub(crate) type Seen = (&'static str, &'static str, &'static str);

/// Makes a connection and reports to it until the input is used up. Panics if it differs from the
/// reference.
pub(crate) fn run(mut unstructured: Unstructured<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut pair = Pair::choose(&mut unstructured).expect("choices cannot fail");
    while !unstructured.is_empty() && seen.len() < 300 {
        seen.push(pair.act(&mut unstructured).expect("choices cannot fail"));
        // A connection that has failed stays as it is. A few more reports show that.
        let has_failed = matches!(pair.connection.step(), Step::Done(Err(_)));
        if has_failed && unstructured.ratio(1, 3).expect("choices cannot fail") {
            pair = Pair::choose(&mut unstructured).expect("choices cannot fail");
        }
    }
    seen
}

const CHUNK: usize = 10;
/// The digest of most objects.
const DIGEST: [u8; 32] = [0xd1; 32];

/// A connection and its reference. Both get the same reports.
struct Pair {
    connection: Connection,
    reference: Reference,
    config: Config,
    /// What the peer has written, and this side has not read.
    incoming: Vec<u8>,
    now: Instant,
}

impl Pair {
    fn choose(u: &mut Unstructured<'_>) -> Result<Self> {
        let limit = *u.choose(&[None, Some(0), Some(12), Some(300)])?;
        let chunk = NonZeroU32::new(CHUNK as u32).expect("not zero");
        let config = Config::default().chunk(chunk).max_object_size(limit);
        let now = Instant::new(Duration::from_secs(1));
        let packet = choose_packet(u)?;
        let (connection, reference, incoming) = if u.arbitrary()? {
            let connection = Connection::client(config, packet, now);
            (connection, Reference::client(packet, limit), Vec::new())
        } else {
            let mut bytes = *packet.as_bytes();
            bytes[0] ^= if u.ratio(1, 16)? { 1 << u.int_in_range(1..=6)? } else { 0 };
            (Connection::server(config, now), Reference::server(limit), bytes.to_vec())
        };
        Ok(Self { connection, reference, config, incoming, now })
    }

    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<Seen> {
        let before = (self.connection.clone(), self.reference.state.name());
        let event = match u.int_in_range(0..=35)? {
            0..=20 => self.follow(u)?,
            21 => self.read(u)?,
            22 => {
                let n = *u.choose(&[1, 2, 11, 12, 13, 25, 37, 300])?;
                self.connection.handle_moved(n);
                self.reference.moved(n);
                "moved"
            }
            23 => {
                self.connection.handle_end_of_stream();
                self.reference.end_of_stream();
                "end of stream"
            }
            24 => {
                self.connection.handle_reset();
                self.reference.lost(PeerError::Reset { moved: self.reference.has_moved() });
                "reset"
            }
            25 => {
                let code = u.int_in_range(0..=2)?;
                self.connection.abort_with_code("canceled", code);
                self.reference.abort(code);
                "abort"
            }
            26 => self.time_out(),
            27 => self.offer(u)?,
            28 => self.answer(u, 2)?,
            29 => {
                self.connection.committed();
                self.reference.committed();
                "committed"
            }
            30 => {
                self.connection.handle_shutdown();
                self.reference.misuse("handle_shutdown");
                "shutdown"
            }
            31 => {
                let size = ObjectSize::new(u.int_in_range(0..=20)?).expect("a small size");
                self.connection.declare(size);
                self.reference.declare(size);
                "declare"
            }
            32 => self.resume(u)?,
            33 => self.digest(u)?,
            34 => {
                let size = u.int_in_range(0..=20)?;
                self.connection.reject_offset(size);
                self.reference.reject_offset(size);
                "reject"
            }
            _ => self.next(u)?,
        };
        self.check();
        if let (Step::Done(_), false) = (before.0.step(), event == "next") {
            assert_eq!(self.connection, before.0, "finality");
        }
        Ok((before.1, event, self.reference.state.name()))
    }

    /// Makes a report that the current step allows.
    fn follow(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        match self.connection.step() {
            Step::Read { .. } => self.read(u),
            Step::Decide(_) => self.answer(u, 1),
            Step::Offer { .. } => self.offer(u),
            Step::Write { bytes, payload } => {
                let all = bytes.len() + payload;
                let n = *u.choose(&[all, all, bytes.len(), 1])?;
                self.connection.handle_moved(n);
                self.reference.moved(n);
                Ok("moved")
            }
            Step::Send { max } | Step::Receive { max } => {
                let n = *u.choose(&[max, max, 1])?;
                self.connection.handle_moved(n);
                self.reference.moved(n);
                Ok("moved")
            }
            Step::AwaitEnd => {
                let n = *u.choose(&[1, 4096, 8 << 20])?;
                self.connection.handle_moved(n);
                self.reference.moved(n);
                Ok("moved")
            }
            Step::Commit => {
                self.connection.committed();
                self.reference.committed();
                Ok("committed")
            }
            Step::Resume => self.resume(u),
            Step::Digest => self.digest(u),
            Step::Done(_) => self.next(u),
            step @ (Step::Peek | Step::Shutdown) => panic!("{step:?} in the framed format"),
        }
    }

    /// The peer writes something, and this side reads some of it.
    fn read(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        if self.incoming.is_empty() {
            self.incoming = match self.reference.state {
                State::ReadPacket => choose_packet(u)?.as_bytes().to_vec(),
                State::ReadDigest(_) if u.ratio(3, 4)? => DIGEST.to_vec(),
                State::ReadDigest(_) => {
                    let mut other = DIGEST;
                    other[u.int_in_range(0..=31)?] ^= 1 << u.int_in_range(0..=7)?;
                    other.to_vec()
                }
                _ => choose_frame(u, &self.reference)?.to_vec(),
            };
        }
        let n = *u.choose(&[self.incoming.len(), self.incoming.len(), 1, 11])?;
        let bytes = &self.incoming[..n.min(self.incoming.len())];
        let taken = self.connection.handle_read(bytes);
        assert_eq!(taken, self.reference.read(bytes), "split: how much was taken");
        self.incoming.drain(..taken);
        Ok("read")
    }

    fn answer(&mut self, u: &mut Unstructured<'_>, refuses: u8) -> Result<&'static str> {
        if u.ratio(refuses, 4)? {
            let refusal =
                *u.choose(&[Refusal::NotRegistered, Refusal::InUse, Refusal::Unsupported])?;
            self.connection.refuse(refusal);
            self.reference.refuse(refusal);
            return Ok("refuse");
        }
        let limit = *u.choose(&[None, None, Some(5)])?;
        self.connection.accept(limit);
        self.reference.accept(limit);
        Ok("accept")
    }

    fn offer(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        let (n, last) = (*u.choose(&[0, 1, 3, 9, 10, 11, 12, 25])?, u.arbitrary()?);
        self.connection.offer(n, last);
        self.reference.offer(n, last);
        Ok("offer")
    }

    fn resume(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        let offset = *u.choose(&[0, 0, 1, 3, 12, 13, 25, 301, i64::MAX as u64 + 1])?;
        self.connection.resume(offset);
        self.reference.resume(offset);
        Ok("resume")
    }

    fn digest(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        let digest = if u.ratio(7, 8)? { DIGEST } else { [0; 32] };
        self.connection.digest(digest);
        self.reference.digest(digest);
        Ok("digest")
    }

    /// Waits without progress until a timer runs out, if one runs.
    fn time_out(&mut self) -> &'static str {
        self.connection.handle_blocked(self.now);
        let mut retries = 0;
        let before = self.connection.step_name();
        while let Some(deadline) = self.connection.deadline(self.now) {
            self.connection.handle_blocked(deadline);
            retries += 1;
            if self.connection.step_name() != before || retries > 20 {
                break;
            }
        }
        self.reference.time_out();
        "timeout"
    }

    fn next(&mut self, u: &mut Unstructured<'_>) -> Result<&'static str> {
        let packet = choose_packet(u)?;
        if u.arbitrary()? {
            self.connection = self.connection.next_server(self.config, self.now);
            self.reference = self.reference.next("next_server", None);
        } else {
            self.connection = self.connection.next_client(self.config, packet, self.now);
            self.reference = self.reference.next("next_client", Some(packet));
        }
        self.incoming.clear();
        Ok("next")
    }

    fn check(&self) {
        let Self { connection, reference, .. } = self;
        assert_eq!(connection.step(), reference.step());
        assert_eq!(connection.moved(), reference.has_moved(), "conservation");
        assert_eq!(connection.position(), reference.position, "conservation");
        assert_eq!(connection.packet(), reference.known_packet());
        let outcome = match (&reference.state, reference.failure) {
            (_, Some(cause)) => Some(Err(cause)),
            (State::Done, None) => Some(Ok(reference.position)),
            _ => None,
        };
        assert_eq!(connection.outcome(), outcome);
    }
}

/// The name of a step, so that a timeout can be told from a retry.
trait StepName {
    fn step_name(&self) -> String;
}

impl StepName for Connection {
    fn step_name(&self) -> String {
        format!("{:?}", self.step())
    }
}

struct Reference {
    is_client: bool,
    is_later: bool,
    /// The start packet, as far as it is known.
    packet: Vec<u8>,
    configured: Option<u64>,
    /// The largest object that is allowed.
    limit: u64,
    /// How many bytes of the object the receiver had before, and how many it has now.
    resumed: u64,
    position: u64,
    state: State,
    failure: Option<Cause>,
    dropped: u64,
}

enum State {
    ReadPacket,
    Decide,
    /// The start packet of a client, which leaves with OPEN.
    Resume {
        start: Vec<u8>,
    },
    /// The start packet, as long as nothing of it was written.
    Offer {
        start: Vec<u8>,
    },
    Write {
        bytes: Vec<u8>,
        then: Then,
    },
    Body {
        left: u64,
        last: bool,
    },
    ReadFrame(Vec<u8>),
    ReadOpen(Vec<u8>),
    Digest,
    /// The digest of this side, as far as that of the peer has not come.
    ReadDigest(Vec<u8>),
    Commit,
    Drain,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Offer,
    Body { left: u64, last: bool },
    ReadFrame,
    ReadOpen,
    Drain,
    Done,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::ReadPacket => "ReadPacket",
            Self::Decide => "Decide",
            Self::Resume { .. } => "Resume",
            Self::ReadOpen(_) => "ReadOpen",
            Self::Digest => "Digest",
            Self::ReadDigest(_) => "ReadDigest",
            Self::Offer { .. } => "Offer",
            Self::Write { then, .. } => match then {
                Then::Offer => "WriteStart",
                Then::Body { .. } => "WriteHeader",
                Then::ReadFrame => "WriteThenRead",
                Then::ReadOpen => "WriteThenReadOpen",
                Then::Drain => "WriteAbort",
                Then::Done => "WriteReceipt",
            },
            Self::Body { .. } => "Body",
            Self::ReadFrame(_) => "ReadFrame",
            Self::Commit => "Commit",
            Self::Drain => "Drain",
            Self::Done => "Done",
        }
    }
}

impl Reference {
    fn server(configured: Option<u64>) -> Self {
        Self {
            is_client: false,
            is_later: false,
            packet: Vec::new(),
            configured,
            limit: configured.unwrap_or(u64::MAX),
            resumed: 0,
            position: 0,
            state: State::ReadPacket,
            failure: None,
            dropped: 0,
        }
    }

    fn client(packet: StartPacket, configured: Option<u64>) -> Self {
        let start = packet.as_bytes().to_vec();
        let mut client =
            Self { is_client: true, packet: start.clone(), ..Self::server(configured) };
        client.state = match packet.direction() {
            Direction::Put if packet.is_resumable() => {
                State::Write { bytes: start, then: Then::ReadOpen }
            }
            Direction::Get if packet.is_resumable() => State::Resume { start },
            Direction::Put => State::Offer { start },
            Direction::Get => State::Write { bytes: start, then: Then::ReadFrame },
        };
        match (client.sends(), packet.size().bytes()) {
            (false, Some(declared)) if declared > client.limit => {
                client.end(Refusal::TooLarge { declared, limit: client.limit }.into());
            }
            _ => {}
        }
        client
    }

    fn next(&self, verb: &'static str, packet: Option<StartPacket>) -> Self {
        let succeeded = matches!(self.state, State::Done) && self.failure.is_none();
        let can_go_on = succeeded && self.known_packet().is_some_and(|packet| packet.is_framed());
        let mut next = match packet {
            Some(packet) if can_go_on => Self::client(packet, self.configured),
            _ => Self { is_later: can_go_on, ..Self::server(self.configured) },
        };
        if !can_go_on {
            next.failure = Some(LocalError::Misuse { verb, step: name(&self.step()) }.into());
            next.state = State::Done;
        }
        next
    }

    fn known_packet(&self) -> Option<StartPacket> {
        StartPacket::from_bytes(self.packet.as_slice().try_into().ok()?).ok()
    }

    fn sends(&self) -> bool {
        let puts = self.packet.first().is_some_and(|kind| kind % 2 == 0);
        self.known_packet().is_some() && puts == self.is_client
    }

    fn has_moved(&self) -> u64 {
        self.position - self.resumed
    }

    fn has_digest(&self) -> bool {
        self.known_packet().is_some_and(|packet| packet.has_digest())
    }

    fn is_resumable(&self) -> bool {
        self.known_packet().is_some_and(|packet| packet.is_resumable())
    }

    /// The declared size. The limit of a receiver does not apply to it.
    fn declared(&self) -> Option<u64> {
        self.known_packet()?.size().bytes()
    }

    fn most(&self) -> u64 {
        self.declared().unwrap_or(if self.sends() { u64::MAX } else { self.limit })
    }

    /// No byte of a later object has been read, and none will be if this side ends the session.
    fn waits(&self) -> bool {
        self.is_later && self.packet.is_empty() && !matches!(self.state, State::Done)
    }

    fn step(&self) -> Step<'_> {
        match &self.state {
            State::ReadPacket => Step::Read { max: 25 - self.packet.len() },
            State::Decide => Step::Decide(self.known_packet().expect("a packet")),
            State::Resume { .. } => Step::Resume,
            State::Digest => Step::Digest,
            State::ReadDigest(left) => Step::Read { max: left.len() },
            State::Offer { .. } => Step::Offer { max: CHUNK },
            State::Write { bytes, then } => {
                let payload = match then {
                    Then::Body { left, .. } => (*left).min(CHUNK as u64) as usize,
                    _ => 0,
                };
                Step::Write { bytes, payload }
            }
            State::Body { left, .. } => {
                let max = (*left).min(CHUNK as u64) as usize;
                if self.sends() { Step::Send { max } } else { Step::Receive { max } }
            }
            State::ReadFrame(read) | State::ReadOpen(read) => Step::Read { max: 12 - read.len() },
            State::Commit => Step::Commit,
            State::Drain => Step::AwaitEnd,
            State::Done => Step::Done(self.failure.map_or(Ok(self.position), Err)),
        }
    }

    /// Done, with this error if there was none.
    fn end(&mut self, cause: Cause) {
        if !matches!(self.state, State::Done) {
            self.failure = self.failure.or(Some(cause));
            self.state = State::Done;
        }
    }

    /// ABORT where it may be written, for this reason.
    fn give_up(&mut self, cause: Cause, reason: AbortReason) {
        let is_due = match &self.state {
            State::Decide | State::Commit | State::ReadDigest(_) => true,
            State::ReadOpen(read) => read.is_empty() || read.len() == 12,
            State::Offer { start } | State::Resume { start } => start.is_empty(),
            State::Write { bytes, then: Then::Body { .. } } => bytes.len() == 12,
            // OPEN, and not a part of a start packet or of a digest.
            State::Write { bytes, then: Then::ReadFrame } => {
                !self.sends() && self.is_resumable() && bytes.len() == 12
            }
            State::ReadFrame(_) | State::Body { .. } | State::Digest => !self.sends(),
            _ => false,
        };
        match is_due && self.failure.is_none() {
            true => self.write_abort(cause, reason),
            false => self.end(cause),
        }
    }

    fn write_abort(&mut self, cause: Cause, reason: AbortReason) {
        let then = if self.sends() { Then::ReadFrame } else { Then::Drain };
        self.failure = Some(cause);
        self.state = State::Write { bytes: Frame::Abort(reason).to_bytes().to_vec(), then };
    }

    fn misuse(&mut self, verb: &'static str) {
        let step = name(&self.step());
        self.end(LocalError::Misuse { verb, step }.into());
    }

    fn read(&mut self, bytes: &[u8]) -> usize {
        let length = match &self.state {
            State::ReadPacket => 25 - self.packet.len(),
            State::ReadFrame(read) | State::ReadOpen(read) => 12 - read.len(),
            State::ReadDigest(left) => left.len(),
            _ => {
                self.misuse("handle_read");
                return 0;
            }
        };
        let taken = bytes.len().min(length);
        if let State::ReadDigest(left) = &mut self.state {
            let own: Vec<u8> = left.drain(..taken).collect();
            let is_whole = left.is_empty();
            if own != bytes[..taken] {
                self.give_up(PeerError::DigestMismatch.into(), AbortReason::Mismatch);
            } else if is_whole {
                self.state = State::Commit;
            }
            return taken;
        }
        if let State::ReadFrame(read) | State::ReadOpen(read) = &mut self.state {
            read.extend(&bytes[..taken]);
            if let Ok(header) = <[u8; 12]>::try_from(read.as_slice()) {
                self.frame(header);
            }
            return taken;
        }
        self.packet.extend(&bytes[..taken]);
        if let Ok(whole) = <[u8; 25]>::try_from(self.packet.as_slice()) {
            match StartPacket::from_bytes(whole) {
                Ok(packet) if packet.is_framed() => self.state = State::Decide,
                Ok(_) if self.is_later => {
                    self.write_abort(PeerError::BareInSession.into(), AbortReason::Malformed);
                }
                Ok(_) => panic!("this test has framed packets only"),
                Err(malformed) if whole[0] & 128 != 0 => {
                    self.write_abort(
                        PeerError::Malformed(malformed).into(),
                        AbortReason::Malformed,
                    );
                }
                Err(malformed) => self.end(PeerError::Malformed(malformed).into()),
            }
        }
        taken
    }

    fn frame(&mut self, header: [u8; 12]) {
        let kind = u16::from_le_bytes([header[0], header[1]]);
        let code = u16::from_le_bytes([header[2], header[3]]);
        let value = u64::from_le_bytes(header[4..].try_into().expect("eight bytes"));
        let opens = matches!(self.state, State::ReadOpen(_));
        let lost = self.failure.is_some_and(|failure| {
            matches!(failure, Cause::Peer(PeerError::Reset { .. } | PeerError::ClosedEarly { .. }))
        });
        if kind == 5 {
            let reason = PeerError::Aborted(AbortReason::new(code, value));
            self.failure = self.failure.filter(|_| !lost).or(Some(reason.into()));
            self.state = State::Done;
            return;
        }
        let is_frame = match kind {
            2 => value > 0,
            1 | 3 | 4 => true,
            _ => false,
        };
        if !is_frame || code != 0 || value > i64::MAX as u64 {
            let error = PeerError::MalformedFrame(MalformedFrame { kind, code, value });
            return self.give_up(error.into(), AbortReason::Malformed);
        }
        if lost {
            self.state = State::Done;
        } else if self.failure.is_some() {
            self.state = State::ReadFrame(Vec::new());
            self.drop_bytes(12);
        } else if opens && kind == 1 {
            match self.declared().filter(|size| value > *size) {
                Some(size) => {
                    let error = PeerError::OffsetBeyondSize { offset: value, size };
                    self.give_up(error.into(), AbortReason::Mismatch);
                }
                None => {
                    (self.resumed, self.position) = (value, value);
                    self.state = State::Offer { start: Vec::new() };
                }
            }
        } else if opens || kind == 1 {
            let frame = Frame::from_bytes(header).expect("a frame");
            self.give_up(PeerError::UnexpectedFrame(frame).into(), AbortReason::Malformed);
        } else if kind == 4 && self.sends() {
            self.state = State::Done;
            if value != self.position {
                let error = PeerError::WrongReceipt { size: value, sent: self.position };
                self.failure = Some(error.into());
            }
        } else if kind == 4 || self.sends() {
            let frame = Frame::from_bytes(header).expect("a frame");
            self.give_up(PeerError::UnexpectedFrame(frame).into(), AbortReason::Malformed);
        } else {
            self.begin_body(value, kind == 3);
        }
    }

    fn begin_body(&mut self, length: u64, last: bool) {
        let end = self.position.saturating_add(length);
        if end > self.most() {
            match self.declared() {
                Some(declared) => {
                    let error = PeerError::LongerThanDeclared { declared };
                    self.give_up(error.into(), AbortReason::Malformed);
                }
                None => {
                    let limit = self.limit;
                    let error = PeerError::LongerThanAllowed { limit };
                    self.give_up(error.into(), AbortReason::TooLarge { limit });
                }
            }
        } else if let Some(expected) = self.declared().filter(|size| last && *size != end) {
            let error = PeerError::Truncated { received: end, expected };
            self.give_up(error.into(), AbortReason::Malformed);
        } else {
            self.body(length, last);
        }
    }

    fn body(&mut self, left: u64, last: bool) {
        self.state = match (left, self.sends(), last) {
            (1.., ..) => State::Body { left, last },
            (0, _, true) if self.has_digest() => State::Digest,
            (0, true, false) => State::Offer { start: Vec::new() },
            (0, false, true) => State::Commit,
            (0, ..) => State::ReadFrame(Vec::new()),
        };
    }

    fn moved(&mut self, n: usize) {
        match &mut self.state {
            State::Write { bytes, .. } if n < bytes.len() => drop(bytes.drain(..n)),
            State::Write { bytes, then } => {
                let (left, then) = (bytes.len(), *then);
                let payload = match then {
                    Then::Body { left, .. } => left.min(CHUNK as u64) as usize,
                    _ => 0,
                };
                if n > left + payload {
                    let error = LocalError::Overrun { reported: n, max: left + payload };
                    return self.end(error.into());
                }
                match then {
                    Then::Offer => self.state = State::Offer { start: Vec::new() },
                    Then::ReadFrame => self.state = State::ReadFrame(Vec::new()),
                    Then::ReadOpen => self.state = State::ReadOpen(Vec::new()),
                    Then::Drain => self.state = State::Drain,
                    Then::Done => self.state = State::Done,
                    Then::Body { left: body, last } => {
                        let sent = (n - left) as u64;
                        self.position += sent;
                        self.body(body - sent, last);
                    }
                }
            }
            State::Body { left, last } => {
                let (left, last) = (*left, *last);
                let max = left.min(CHUNK as u64) as usize;
                if n > max {
                    return self.end(LocalError::Overrun { reported: n, max }.into());
                }
                self.position += n as u64;
                self.body(left - n as u64, last);
            }
            State::Drain => self.drop_bytes(n as u64),
            _ => self.misuse("handle_moved"),
        }
    }

    fn drop_bytes(&mut self, n: u64) {
        self.dropped += n;
        if self.dropped >= 16 << 20 {
            self.state = State::Done;
        }
    }

    fn end_of_stream(&mut self) {
        let moved = self.has_moved();
        match self.state {
            _ if self.failure.is_some() => self.state = State::Done,
            State::ReadPacket if self.waits() => self.state = State::Done,
            State::ReadPacket => {
                let received = self.packet.len();
                self.end(PeerError::TruncatedStartPacket { received }.into());
            }
            State::ReadFrame(_) if self.sends() => {
                self.end(PeerError::NoReceipt { sent: self.position }.into());
            }
            State::ReadFrame(_) | State::Body { .. } | State::ReadDigest(_) if !self.sends() => {
                let received = self.position;
                self.end(match self.declared().filter(|size| *size != received) {
                    Some(expected) => PeerError::Truncated { received, expected }.into(),
                    None => PeerError::Unfinished { received }.into(),
                });
            }
            State::Digest if self.sends() => self.lost(PeerError::ClosedEarly { moved }),
            State::Write { then: Then::Done, .. } => self.misuse("handle_end_of_stream"),
            State::Write { .. } | State::Body { .. } | State::Offer { .. } | State::ReadOpen(_) => {
                self.lost(PeerError::ClosedEarly { moved });
            }
            _ => self.misuse("handle_end_of_stream"),
        }
    }

    /// The stream has failed. After a failed write there may be a reason to read.
    fn lost(&mut self, error: PeerError) {
        let writes = match self.state {
            State::Write { then, .. } => then != Then::Done,
            State::Body { .. } => self.sends(),
            _ => false,
        };
        if self.waits() {
            self.state = State::Done;
        } else if writes && self.failure.is_none() {
            self.failure = Some(error.into());
            self.state = State::ReadFrame(Vec::new());
        } else {
            self.end(error.into());
        }
    }

    fn abort(&mut self, code: u64) {
        match self.waits() {
            true => self.end_session(),
            false => {
                let aborted = LocalError::Aborted { reason: "canceled", code };
                self.give_up(aborted.into(), AbortReason::Failed { code });
            }
        }
    }

    fn end_session(&mut self) {
        let closing = Frame::Abort(AbortReason::Closing).to_bytes().to_vec();
        self.state = match self.state {
            State::ReadPacket => State::Write { bytes: closing, then: Then::Done },
            _ => State::Done,
        };
    }

    fn time_out(&mut self) {
        let is_get = self.packet.first().is_some_and(|kind| kind % 2 == 1);
        let timer = match self.state {
            State::ReadPacket => Timer::Start,
            State::ReadFrame(_) if self.sends() => Timer::Receipt,
            State::ReadFrame(_) if (is_get || self.is_resumable()) && self.has_moved() == 0 => {
                Timer::Receipt
            }
            State::ReadOpen(_) | State::ReadDigest(_) => Timer::Receipt,
            State::Resume { .. } | State::Digest => return,
            State::Decide | State::Offer { .. } | State::Commit | State::Done => return,
            _ => Timer::Idle,
        };
        match self.state {
            _ if self.waits() => self.end_session(),
            State::Write { .. } => self.end(timer.into()),
            _ => self.give_up(timer.into(), AbortReason::TimedOut),
        }
    }

    fn accept(&mut self, limit: Option<u64>) {
        if !matches!(self.state, State::Decide) {
            return self.misuse("accept");
        }
        self.limit = limit.into_iter().chain(self.configured).min().unwrap_or(u64::MAX);
        match self.declared().filter(|declared| !self.sends() && *declared > self.limit) {
            Some(declared) => {
                let limit = self.limit;
                let refusal = Refusal::TooLarge { declared, limit };
                self.give_up(refusal.into(), AbortReason::TooLarge { limit });
            }
            None if self.is_resumable() && self.sends() => {
                self.state = State::ReadOpen(Vec::new());
            }
            None if self.is_resumable() => self.state = State::Resume { start: Vec::new() },
            None if self.sends() => self.state = State::Offer { start: Vec::new() },
            None => self.state = State::ReadFrame(Vec::new()),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        match (&self.state, refusal) {
            (State::Decide, Refusal::InUse) => self.give_up(refusal.into(), AbortReason::Busy),
            (State::Decide, Refusal::Unsupported) => {
                self.give_up(refusal.into(), AbortReason::Malformed);
            }
            (State::Decide, _) => self.give_up(refusal.into(), AbortReason::Refused),
            _ => self.misuse("refuse"),
        }
    }

    fn offer(&mut self, n: usize, last: bool) {
        let State::Offer { start } = &self.state else { return self.misuse("offer") };
        let mut bytes = start.clone();
        if n == 0 && !last {
            if !bytes.is_empty() {
                self.state = State::Write { bytes, then: Then::Offer };
            }
            return;
        }
        let end = self.position + n as u64;
        let failed = AbortReason::Failed { code: 0 };
        match self.declared() {
            Some(declared) if end > declared => {
                self.give_up(LocalError::LongerThanDeclared { declared }.into(), failed);
            }
            Some(declared) if last && end < declared => {
                let error = LocalError::ShorterThanDeclared { sent: end, declared };
                self.give_up(error.into(), failed);
            }
            _ => {
                let (len, last) = (n.min(CHUNK) as u64, last && n <= CHUNK);
                let frame = if last { Frame::Last { len } } else { Frame::Data { len } };
                bytes.extend(frame.to_bytes());
                self.state = State::Write { bytes, then: Then::Body { left: len, last } };
            }
        }
    }

    fn committed(&mut self) {
        if !matches!(self.state, State::Commit) {
            return self.misuse("committed");
        }
        let bytes = Frame::Receipt { size: self.position }.to_bytes().to_vec();
        self.state = State::Write { bytes, then: Then::Done };
    }

    fn resume(&mut self, offset: u64) {
        let State::Resume { start } = &self.state else { return self.misuse("resume") };
        let size = self.most().min(i64::MAX as u64);
        if offset > size {
            let error = LocalError::OffsetBeyondSize { offset, size };
            return self.give_up(error.into(), AbortReason::Failed { code: 0 });
        }
        let bytes = [&start[..], &Frame::Open { offset }.to_bytes()].concat();
        (self.resumed, self.position) = (offset, offset);
        self.state = State::Write { bytes, then: Then::ReadFrame };
    }

    fn digest(&mut self, digest: [u8; 32]) {
        self.state = match self.state {
            State::Digest if self.sends() => {
                State::Write { bytes: digest.to_vec(), then: Then::ReadFrame }
            }
            State::Digest => State::ReadDigest(digest.to_vec()),
            _ => return self.misuse("digest"),
        };
    }

    fn reject_offset(&mut self, size: u64) {
        let offset = self.resumed;
        match self.state {
            State::Offer { .. } if self.position == offset && size < offset => {
                let error = PeerError::OffsetBeyondSize { offset, size };
                self.give_up(error.into(), AbortReason::Mismatch);
            }
            _ => self.misuse("reject_offset"),
        }
    }

    fn declare(&mut self, size: ObjectSize) {
        match &mut self.state {
            State::Offer { start } if start.len() == 25 => {
                start[1..9].copy_from_slice(&size.bytes().map_or(-1, |n| n as i64).to_le_bytes());
                self.packet = start.clone();
            }
            // The start packet alone was to be written, and nothing of it has left.
            State::Write { bytes, then: Then::Offer | Then::ReadOpen } if bytes.len() == 25 => {
                bytes[1..9].copy_from_slice(&size.bytes().map_or(-1, |n| n as i64).to_le_bytes());
                self.packet = bytes.clone();
            }
            _ => self.misuse("declare"),
        }
    }
}

fn name(step: &Step<'_>) -> &'static str {
    match step {
        Step::Read { .. } => "Read",
        Step::Decide(_) => "Decide",
        Step::Resume => "Resume",
        Step::Digest => "Digest",
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

/// A framed put or get of a few bytes or of unknown size, with or without a digest, and with or without resume.
fn choose_packet(u: &mut Unstructured<'_>) -> Result<StartPacket> {
    let key = Key::from_bytes([7; 16]);
    let packet = if u.arbitrary()? { StartPacket::put(key) } else { StartPacket::get(key) };
    let size = *u.choose(&[-1, -1, 0, 3, 12, 25])?;
    let size = u64::try_from(size).ok().and_then(|size| ObjectSize::new(size).ok());
    let packet = packet.with_object_size(size.unwrap_or(ObjectSize::UNKNOWN));
    Ok(match u.int_in_range(0..=3)? {
        0 => packet.with_digest(),
        1 => packet.resumable(),
        _ => packet.framed(),
    })
}

/// A frame that fits in most cases: a body within the object, or the right receipt.
fn choose_frame(u: &mut Unstructured<'_>, reference: &Reference) -> Result<[u8; 12]> {
    let left = reference.most().saturating_sub(reference.position).min(12);
    let opens = matches!(reference.state, State::ReadOpen(_));
    let fits = match u.int_in_range(0..=11)? {
        0..=2 if opens => Frame::Open { offset: *u.choose(&[0, 0, 1, 3, 12, 13])? },
        0..=2 => Frame::Data { len: u.int_in_range(1..=3)? },
        3..=5 if reference.sends() => Frame::Receipt { size: reference.position },
        3..=5 => Frame::Last { len: left },
        6 => Frame::Last { len: u.int_in_range(0..=14)? },
        7 => Frame::Receipt { size: u.int_in_range(0..=14)? },
        8 | 9 => Frame::Abort(AbortReason::new(u.int_in_range(0..=9)?, u.int_in_range(0..=3)?)),
        _ => {
            let mut bytes = [0; 12];
            bytes[0] = u.int_in_range(0..=6)?;
            bytes[*u.choose(&[1, 2, 4, 11])?] = u.arbitrary()?;
            return Ok(bytes);
        }
    };
    Ok(fits.to_bytes())
}
