//! A driver that follows the steps of its connection, and its application.

use core::time::Duration;
use std::collections::VecDeque;

use dataserver_core::{Cause, Instant, Refusal, Step};

use super::invariants::CheckedConnection;
use super::object_byte;
use super::scenario::{DriverOptions, PeekMode, Point, Problem, Role, STALL, Scenario};
use super::stream::{Read, Shutdown, Stream, Write};

pub(super) struct Driver {
    pub(super) role: Role,
    sends: bool,
    options: DriverOptions,
    connection: CheckedConnection,
    application: Application,
    /// Bytes of the object that were read together with the start packet.
    buffer: VecDeque<u8>,
    /// The driver sleeps until then, because readiness does not show that it can write.
    sleeps_until: Option<Instant>,
    /// Whether the peer had closed at the time of the peek, and the driver was able to see it.
    peer_had_closed: bool,
    finished: bool,
}

struct Application {
    /// The number of bytes of the object to send.
    length: u64,
    /// The number of bytes of the object that have been sent or received.
    position: u64,
    committed: Option<u64>,
    decision: Result<Option<u64>, Refusal>,
    stalls: Vec<(Point, Duration)>,
    busy_until: Instant,
    aborts_at: Option<u64>,
    commit_fails: bool,
    receive_delay: Option<Duration>,
}

/// The outcome of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Progress,
    /// Sleeps until this time, or until the peer makes progress.
    Sleep(Option<Instant>),
    Finished,
}

/// What the driver waits for.
enum Wait {
    Read,
    Write,
    Application,
}

impl Driver {
    pub(super) fn new(scenario: &Scenario, role: Role) -> Self {
        Self {
            role,
            sends: role == scenario.sender(),
            options: scenario.parties[role as usize].options,
            connection: CheckedConnection::new(scenario, role),
            application: Application::new(scenario, role),
            buffer: VecDeque::new(),
            sleeps_until: None,
            peer_had_closed: false,
            finished: false,
        }
    }

    /// Performs one step, unless it has to wait.
    pub(super) fn turn(&mut self, stream: &mut Stream<'_>) -> Turn {
        let now = stream.now;
        if self.finished {
            return Turn::Finished;
        }
        let due = self.sleeps_until.into_iter().chain(stream.next_reset(self.role)).min();
        if self.sleeps_until.is_some() && due > Some(now) {
            return Turn::Sleep(due);
        }
        self.sleeps_until = None;
        self.connection.set_time(now);
        if self.options.checks_time_first {
            self.connection.handle_timeout();
        }
        let wake = match self.act(stream) {
            Ok(()) => {
                if !self.finished {
                    self.connection.handle_timeout();
                }
                return Turn::Progress;
            }
            Err(Wait::Application) if self.options.application_blocks => {
                self.connection.application_blocks_until(self.application.busy_until);
                return Turn::Sleep(Some(self.application.busy_until));
            }
            Err(Wait::Application) => {
                self.connection.application_blocks_until(self.application.busy_until);
                self.connection.handle_timeout();
                Some(self.application.busy_until)
            }
            Err(Wait::Read) => {
                self.connection.handle_blocked(stream.last_read(self.role));
                stream.next_event(self.role)
            }
            Err(Wait::Write) => {
                self.connection.handle_blocked(stream.last_room(self.role));
                if stream.signals_writability() {
                    stream.next_event(self.role)
                } else {
                    self.sleeps_until = self.connection.deadline();
                    stream.next_reset(self.role)
                }
            }
        };
        if let Step::Done(_) = self.connection.step() {
            return Turn::Progress;
        }
        Turn::Sleep(wake.into_iter().chain(self.connection.deadline()).min())
    }

    /// Performs one step. If it has to wait, nothing has been reported.
    fn act(&mut self, stream: &mut Stream<'_>) -> Result<(), Wait> {
        match self.connection.step() {
            Step::Read { max } => self.read_start_packet(max, stream),
            Step::Decide(_) => self.decide(stream.now),
            Step::Write { bytes, payload } => {
                let bytes = bytes.to_vec();
                self.write_start_packet(bytes, payload, stream)
            }
            Step::Send { max } => self.send(max, stream),
            Step::Receive { max } => self.receive(max, stream),
            Step::Offer { max } => self.offer(max, stream),
            Step::Peek => {
                self.peek(stream);
                Ok(())
            }
            Step::Commit => self.commit(stream.now),
            step @ (Step::Resume | Step::Digest) => panic!("{step:?} in the bare format"),
            Step::Shutdown => self.shut_down(stream),
            Step::AwaitEnd => self.await_end(stream),
            Step::Done(result) => {
                if result.is_err() {
                    stream.reset(self.role);
                }
                self.connection.check_finality();
                self.finished = true;
                Ok(())
            }
        }
    }

    fn read_start_packet(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if let Some(bytes) = self.read(max.max(self.options.buffer), stream)? {
            let taken = self.connection.handle_read(&bytes);
            self.buffer.extend(&bytes[taken..]);
        }
        Ok(())
    }

    fn decide(&mut self, now: Instant) -> Result<(), Wait> {
        self.application.is_ready(Point::Decide, now)?;
        match self.application.decision {
            Ok(limit) => self.connection.accept(limit),
            Err(reason) => self.connection.refuse(reason),
        }
        Ok(())
    }

    fn write_start_packet(
        &mut self,
        mut bytes: Vec<u8>,
        payload: usize,
        stream: &mut Stream<'_>,
    ) -> Result<(), Wait> {
        let packet = bytes.len();
        if self.options.combines_writes && self.application.can_continue() {
            bytes.extend(self.application.peek(payload));
        }
        let n = self.write(&bytes, stream)?;
        self.application.position += n.saturating_sub(packet) as u64;
        Ok(())
    }

    fn send(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_continues(stream.now)? {
            return Ok(());
        }
        if self.application.is_at_end_of_object() {
            self.connection.offer(0, true);
            return Ok(());
        }
        if stream.choices.one_in(8) {
            let (n, last) = self.application.offer(max);
            self.connection.offer(n, last); // optional, and changes nothing
        }
        let bytes = self.application.peek(stream.choices.up_to(max));
        self.application.position += self.write(&bytes, stream)? as u64;
        Ok(())
    }

    fn receive(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_continues(stream.now)? {
            return Ok(());
        }
        let max = stream.choices.up_to(max);
        let was_buffered = !self.buffer.is_empty();
        if let Some(bytes) = self.read_on(max, stream)? {
            self.application.take(&bytes);
            if !was_buffered {
                self.application.pause(stream.now);
            }
            self.connection.handle_moved(bytes.len());
        }
        Ok(())
    }

    fn commit(&mut self, now: Instant) -> Result<(), Wait> {
        self.application.is_ready(Point::Commit, now)?;
        if !self.application_continues(now)? {
            return Ok(());
        }
        match self.application.commit() {
            true => self.connection.committed(),
            false => self.connection.abort("cannot commit"),
        }
        Ok(())
    }

    /// In some cases the application does not know yet whether it has more.
    fn offer(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_continues(stream.now)? {
            return Ok(());
        }
        let (n, last) = match stream.choices.one_in(4) {
            true => (0, false),
            false => self.application.offer(max),
        };
        self.connection.offer(n, last);
        Ok(())
    }

    /// Checks for the end of the stream, if the driver and the stream support it.
    fn peek(&mut self, stream: &mut Stream<'_>) {
        let can_tell = self.options.peek_mode != PeekMode::Unsupported;
        self.peer_had_closed = can_tell && self.buffer.is_empty() && stream.is_at_end(self.role);
        match self.options.peek_mode {
            PeekMode::Unsupported => self.connection.handle_still_open(),
            PeekMode::Peek if stream.is_at_end(self.role) && self.buffer.is_empty() => {
                self.connection.handle_end_of_stream();
            }
            PeekMode::Peek if stream.is_reset(self.role) => self.connection.handle_reset(),
            PeekMode::Peek => self.connection.handle_still_open(),
            PeekMode::Read => match self.read_on(64, stream) {
                Ok(Some(bytes)) => self.connection.handle_moved(bytes.len()),
                Ok(None) => {}
                Err(_) => self.connection.handle_still_open(),
            },
        }
    }

    fn shut_down(&mut self, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if self.sends && !self.application_continues(stream.now)? {
            return Ok(());
        }
        if self.finds_end(stream) {
            self.connection.handle_end_of_stream();
            return Ok(());
        }
        match stream.shut_down(self.role) {
            Shutdown::Done => self.connection.handle_shutdown(),
            Shutdown::Reset => self.connection.handle_reset(),
            Shutdown::NotReady => return Err(Wait::Write),
        }
        Ok(())
    }

    fn await_end(&mut self, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.sends && !self.application_continues(stream.now)? {
            return Ok(());
        }
        if let Some(bytes) = self.read_on(64, stream)? {
            self.connection.handle_moved(bytes.len());
        }
        Ok(())
    }

    /// Reads from the buffer first, then from the stream. Returns `None` if something else was
    /// reported.
    fn read_on(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<Option<Vec<u8>>, Wait> {
        if self.buffer.is_empty() {
            return self.read(max, stream);
        }
        Ok(Some(self.buffer.drain(..max.min(self.buffer.len())).collect()))
    }

    fn read(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<Option<Vec<u8>>, Wait> {
        match stream.read(self.role, max) {
            Read::Bytes(bytes) => return Ok(Some(bytes)),
            Read::End => self.connection.handle_end_of_stream(),
            Read::Reset => self.connection.handle_reset(),
            Read::NotReady => return Err(Wait::Read),
        }
        Ok(None)
    }

    /// Writes and reports the bytes. Returns 0 if something else was reported.
    fn write(&mut self, bytes: &[u8], stream: &mut Stream<'_>) -> Result<usize, Wait> {
        if self.finds_end(stream) {
            self.connection.handle_end_of_stream();
            return Ok(0);
        }
        match stream.write(self.role, bytes) {
            Write::Bytes(n) => {
                self.connection.handle_moved(n);
                return Ok(n);
            }
            Write::Reset => self.connection.handle_reset(),
            Write::NotReady => return Err(Wait::Write),
        }
        Ok(0)
    }

    /// Whether this side sends, checks for the end of the stream, and finds it.
    fn finds_end(&self, stream: &Stream<'_>) -> bool {
        let looks = self.sends && self.options.checks_end_before_write && self.buffer.is_empty();
        looks && stream.is_at_end(self.role)
    }

    /// Whether the application continues. If it does not, that has been reported.
    fn application_continues(&mut self, now: Instant) -> Result<bool, Wait> {
        self.application.is_ready(Point::Moved(self.application.position), now)?;
        if self.application.aborts() {
            self.connection.abort("canceled");
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn result(&self) -> Result<u64, Cause> {
        self.connection.result()
    }

    /// Whether a retry of a write succeeded, and whether the last possible one did.
    pub(super) fn retries_succeeded(&self) -> [bool; 2] {
        self.connection.retries_succeeded()
    }

    /// Whether the peer had closed before the object ended, and the driver was able to see it.
    pub(super) fn peer_had_closed(&self) -> bool {
        self.peer_had_closed
    }

    /// The number of bytes that the application has committed.
    pub(super) fn committed(&self) -> Option<u64> {
        self.application.committed
    }
}

impl Application {
    fn new(scenario: &Scenario, role: Role) -> Self {
        let receives = role == scenario.receiver();
        let mut application = Self {
            length: if receives { 0 } else { scenario.size },
            position: 0,
            committed: None,
            decision: Ok(scenario.accepts),
            stalls: Vec::new(),
            busy_until: Instant::default(),
            aborts_at: None,
            commit_fails: false,
            receive_delay: scenario.parties[role as usize].options.receive_delay,
        };
        if scenario.parties[role as usize].options.application_pauses {
            application.stalls.push((Point::Moved(scenario.size / 2), Duration::from_millis(50)));
        }
        for problem in &scenario.problems {
            match *problem {
                Problem::WrongLength { actual: length } if !receives => application.length = length,
                Problem::Abort { role: affected, at } if affected == role => {
                    application.aborts_at = Some(at);
                }
                Problem::CommitFailure => application.commit_fails = true,
                Problem::Refused(reason) => application.decision = Err(reason),
                Problem::Stall { role: affected, at } if affected == role => {
                    application.stalls.push((at, STALL));
                }
                _ => {}
            }
        }
        application
    }

    /// Stalls once at each of the chosen points.
    fn is_ready(&mut self, point: Point, now: Instant) -> Result<(), Wait> {
        if let Some(found) = self.stalls.iter().position(|(at, _)| at.is_at(point)) {
            let (_, duration) = self.stalls.swap_remove(found);
            self.busy_until = now.saturating_add(duration);
        }
        if now < self.busy_until { Err(Wait::Application) } else { Ok(()) }
    }

    /// Whether the application would continue without a delay.
    fn can_continue(&self) -> bool {
        let here = Point::Moved(self.position);
        !self.aborts() && !self.stalls.iter().any(|(at, _)| at.is_at(here))
    }

    fn aborts(&self) -> bool {
        self.aborts_at.is_some_and(|at| self.position >= at)
    }

    fn is_at_end_of_object(&self) -> bool {
        self.position == self.length
    }

    /// Returns at most `max` of the bytes that are left to send.
    fn peek(&self, max: usize) -> Vec<u8> {
        let left = self.length - self.position;
        (self.position..).take(max.min(left as usize)).map(object_byte).collect()
    }

    /// Returns how many bytes are left to send, at most `max`, and whether these are all.
    fn offer(&self, max: usize) -> (usize, bool) {
        let left = self.length - self.position;
        (max.min(left as usize), left <= max as u64)
    }

    /// Delays the application after it has received bytes.
    fn pause(&mut self, now: Instant) {
        if let Some(pause) = self.receive_delay {
            self.busy_until = now.saturating_add(pause);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(*byte, object_byte(self.position), "conservation: byte {}", self.position);
            self.position += 1;
        }
    }

    /// Returns whether the object was committed.
    fn commit(&mut self) -> bool {
        assert_eq!(self.committed, None, "a second commit");
        if !self.commit_fails {
            self.committed = Some(self.position);
        }
        !self.commit_fails
    }
}

impl Point {
    /// Whether a stall at this point applies here.
    fn is_at(self, here: Self) -> bool {
        match (self, here) {
            (Self::Moved(there), Self::Moved(position)) => there <= position,
            (there, here) => there == here,
        }
    }
}

impl Turn {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Sleep(due) => *due,
            Self::Progress | Self::Finished => None,
        }
    }
}
