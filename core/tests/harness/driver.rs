//! A driver that does as the step says, and its application.

use core::time::Duration;
use std::collections::VecDeque;

use dataserver_core::{Error, Instant, Refusal, Step};

use super::laws::Lawful;
use super::object_byte;
use super::scenario::{Habits, Peeks, Point, Role, STALL, Scenario, Trouble};
use super::stream::{Read, ShutDown, Stream, Write};

pub(super) struct Driver {
    pub(super) role: Role,
    sends: bool,
    habits: Habits,
    connection: Lawful,
    application: Application,
    /// What was read together with the start packet, and is still to be used.
    buffer: VecDeque<u8>,
    /// It waits for room that readiness does not show, at most until then.
    sleeps_until: Option<Instant>,
    /// What a look at the stream would have shown when the step was to peek.
    had_ended: bool,
    over: bool,
}

struct Application {
    /// How many bytes of the object there are to be sent.
    length: u64,
    /// How many bytes of it have been sent or received.
    position: u64,
    committed: Option<u64>,
    decision: Result<u64, Refusal>,
    stalls: Vec<(Point, Duration)>,
    busy_until: Instant,
    aborts_at: Option<u64>,
    commit_fails: bool,
    drips: Option<Duration>,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Progress,
    /// Sleeps until then; for ever, if only the peer can wake it up.
    Sleep(Option<Instant>),
    Over,
}

/// What the driver waits for.
enum Wait {
    ToRead,
    ToWrite,
    Application,
}

impl Driver {
    pub(super) fn new(scenario: &Scenario, role: Role) -> Self {
        Self {
            role,
            sends: role == scenario.sender(),
            habits: scenario.parties[role as usize].habits,
            connection: Lawful::new(scenario, role),
            application: Application::new(scenario, role),
            buffer: VecDeque::new(),
            sleeps_until: None,
            had_ended: false,
            over: false,
        }
    }

    /// Does one step, as far as that goes without waiting.
    pub(super) fn turn(&mut self, stream: &mut Stream<'_>) -> Turn {
        let now = stream.now;
        if self.over {
            return Turn::Over;
        }
        let due = self.sleeps_until.into_iter().chain(stream.next_reset(self.role)).min();
        if self.sleeps_until.is_some() && due > Some(now) {
            return Turn::Sleep(due);
        }
        self.sleeps_until = None;
        self.connection.it_is(now);
        if self.habits.asks_time_first {
            self.connection.handle_timeout();
        }
        let wake = match self.act(stream) {
            Ok(()) => {
                if !self.over {
                    self.connection.handle_timeout();
                }
                return Turn::Progress;
            }
            Err(Wait::Application) if self.habits.blocks => {
                self.connection.application_waits(self.application.busy_until);
                return Turn::Sleep(Some(self.application.busy_until));
            }
            Err(Wait::Application) => {
                self.connection.application_waits(self.application.busy_until);
                self.connection.handle_timeout();
                Some(self.application.busy_until)
            }
            Err(Wait::ToRead) => {
                self.connection.would_block(stream.has_read(self.role));
                stream.next_event(self.role)
            }
            Err(Wait::ToWrite) => {
                self.connection.would_block(stream.has_room(self.role));
                if stream.shows_room() {
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

    /// One step. What has to wait has reported nothing.
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
            Step::Shutdown => self.shut_down(stream),
            Step::AwaitEnd => self.await_end(stream),
            Step::Done(result) => {
                if result.is_err() {
                    stream.reset(self.role);
                }
                self.connection.check_finality();
                self.over = true;
                Ok(())
            }
        }
    }

    fn read_start_packet(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if let Some(bytes) = self.read(max.max(self.habits.buffer), stream)? {
            let taken = self.connection.feed(&bytes);
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
        if self.habits.shares && self.application.is_willing() {
            bytes.extend(self.application.peek(payload));
        }
        let n = self.write(&bytes, stream)?;
        self.application.position += n.saturating_sub(packet) as u64;
        Ok(())
    }

    fn send(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_goes_on(stream.now)? {
            return Ok(());
        }
        if self.application.is_dry() {
            self.connection.offer(0, true);
            return Ok(());
        }
        if stream.choices.one_in(8) {
            let (n, last) = self.application.offer(max);
            self.connection.offer(n, last); // need not be, and changes nothing
        }
        let bytes = self.application.peek(stream.choices.up_to(max));
        self.application.position += self.write(&bytes, stream)? as u64;
        Ok(())
    }

    fn receive(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_goes_on(stream.now)? {
            return Ok(());
        }
        let max = stream.choices.up_to(max);
        let was_read_before = !self.buffer.is_empty();
        if let Some(bytes) = self.read_on(max, stream)? {
            self.application.take(&bytes);
            if !was_read_before {
                self.application.pause(stream.now);
            }
            self.connection.advance(bytes.len());
        }
        Ok(())
    }

    fn commit(&mut self, now: Instant) -> Result<(), Wait> {
        self.application.is_ready(Point::Commit, now)?;
        if !self.application_goes_on(now)? {
            return Ok(());
        }
        match self.application.commit() {
            true => self.connection.commit(),
            false => self.connection.abort("can not commit"),
        }
        Ok(())
    }

    /// The application may also not know yet whether it has more.
    fn offer(&mut self, max: usize, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.application_goes_on(stream.now)? {
            return Ok(());
        }
        let (n, last) = match stream.choices.one_in(4) {
            true => (0, false),
            false => self.application.offer(max),
        };
        self.connection.offer(n, last);
        Ok(())
    }

    /// Looks for the end of the stream, as far as this driver and its stream can tell.
    fn peek(&mut self, stream: &mut Stream<'_>) {
        let can_tell = self.habits.peeks != Peeks::Never;
        self.had_ended = can_tell && self.buffer.is_empty() && stream.is_at_end(self.role);
        match self.habits.peeks {
            Peeks::Never => self.connection.still_open(),
            Peeks::Looks if stream.is_at_end(self.role) && self.buffer.is_empty() => {
                self.connection.end_of_stream();
            }
            Peeks::Looks if stream.is_reset(self.role) => self.connection.reset(),
            Peeks::Looks => self.connection.still_open(),
            Peeks::Reads => match self.read_on(64, stream) {
                Ok(Some(bytes)) => self.connection.advance(bytes.len()),
                Ok(None) => {}
                Err(_) => self.connection.still_open(),
            },
        }
    }

    fn shut_down(&mut self, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if self.sends && !self.application_goes_on(stream.now)? {
            return Ok(());
        }
        if self.sees_end(stream) {
            self.connection.end_of_stream();
            return Ok(());
        }
        match stream.shut_down(self.role) {
            ShutDown::Done => self.connection.shut_down(),
            ShutDown::Reset => self.connection.reset(),
            ShutDown::NotReady => return Err(Wait::ToWrite),
        }
        Ok(())
    }

    fn await_end(&mut self, stream: &mut Stream<'_>) -> Result<(), Wait> {
        if !self.sends && !self.application_goes_on(stream.now)? {
            return Ok(());
        }
        if let Some(bytes) = self.read_on(64, stream)? {
            self.connection.advance(bytes.len());
        }
        Ok(())
    }

    /// Reads what was read before, or else from the stream. `None` where something else was
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
            Read::End => self.connection.end_of_stream(),
            Read::Reset => self.connection.reset(),
            Read::NotReady => return Err(Wait::ToRead),
        }
        Ok(None)
    }

    /// Writes and advances; 0 where something else was reported.
    fn write(&mut self, bytes: &[u8], stream: &mut Stream<'_>) -> Result<usize, Wait> {
        if self.sees_end(stream) {
            self.connection.end_of_stream();
            return Ok(0);
        }
        match stream.write(self.role, bytes) {
            Write::Bytes(n) => {
                self.connection.advance(n);
                return Ok(n);
            }
            Write::Reset => self.connection.reset(),
            Write::NotReady => return Err(Wait::ToWrite),
        }
        Ok(0)
    }

    /// Whether this side, which sends, looks out for the end of the stream and sees it.
    fn sees_end(&self, stream: &Stream<'_>) -> bool {
        let looks = self.sends && self.habits.watches && self.buffer.is_empty();
        looks && stream.is_at_end(self.role)
    }

    /// Whether the application goes on; if it does not, then that was reported.
    fn application_goes_on(&mut self, now: Instant) -> Result<bool, Wait> {
        self.application.is_ready(Point::Moved(self.application.position), now)?;
        if self.application.aborts() {
            self.connection.abort("gives up");
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn result(&self) -> Result<u64, Error> {
        self.connection.result()
    }

    /// Whether there was room at a retry, and at the last one.
    pub(super) fn found_room(&self) -> [bool; 2] {
        self.connection.found_room()
    }

    /// Whether the peer had ended the stream before the object ended, and this driver could tell.
    pub(super) fn had_ended(&self) -> bool {
        self.had_ended
    }

    /// How many bytes the application has made last.
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
            drips: scenario.parties[role as usize].habits.drips,
        };
        if scenario.parties[role as usize].habits.hesitates {
            application.stalls.push((Point::Moved(scenario.size / 2), Duration::from_millis(50)));
        }
        for trouble in &scenario.troubles {
            match *trouble {
                Trouble::Source { length } if !receives => application.length = length,
                Trouble::Aborts { role: whose, at } if whose == role => {
                    application.aborts_at = Some(at);
                }
                Trouble::CommitFails => application.commit_fails = true,
                Trouble::Refused(reason) => application.decision = Err(reason),
                Trouble::Slow { role: whose, at } if whose == role => {
                    application.stalls.push((at, STALL));
                }
                _ => {}
            }
        }
        application
    }

    /// Stalls once at each point that it should.
    fn is_ready(&mut self, point: Point, now: Instant) -> Result<(), Wait> {
        if let Some(found) = self.stalls.iter().position(|(at, _)| at.is_at(point)) {
            let (_, duration) = self.stalls.swap_remove(found);
            self.busy_until = now.saturating_add(duration);
        }
        if now < self.busy_until { Err(Wait::Application) } else { Ok(()) }
    }

    /// Whether it would go on at once.
    fn is_willing(&self) -> bool {
        let here = Point::Moved(self.position);
        !self.aborts() && !self.stalls.iter().any(|(at, _)| at.is_at(here))
    }

    fn aborts(&self) -> bool {
        self.aborts_at.is_some_and(|at| self.position >= at)
    }

    fn is_dry(&self) -> bool {
        self.position == self.length
    }

    /// At most `max` of the bytes that are left to send.
    fn peek(&self, max: usize) -> Vec<u8> {
        let left = self.length - self.position;
        (self.position..).take(max.min(left as usize)).map(object_byte).collect()
    }

    /// How many bytes are left to send, at most `max`, and whether these are all.
    fn offer(&self, max: usize) -> (usize, bool) {
        let left = self.length - self.position;
        (max.min(left as usize), left <= max as u64)
    }

    /// What it has received takes it some time.
    fn pause(&mut self, now: Instant) {
        if let Some(pause) = self.drips {
            self.busy_until = now.saturating_add(pause);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(
                *byte,
                object_byte(self.position),
                "conservation: of byte {}",
                self.position
            );
            self.position += 1;
        }
    }

    /// Whether the object was made last.
    fn commit(&mut self) -> bool {
        assert_eq!(self.committed, None, "a second commit");
        if !self.commit_fails {
            self.committed = Some(self.position);
        }
        !self.commit_fails
    }
}

impl Point {
    /// Whether a stop there is a stop here.
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
            Self::Progress | Self::Over => None,
        }
    }
}
