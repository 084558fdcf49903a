//! A relay between one client and one server, which injects the faults of a plan.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::fault_plan::{FaultKind, FaultPlan, OnReset};
use crate::kernel;
use crate::raw::{Raw, RawListener};
use crate::relay_direction::{Delivered, Next, RelayDirection, State};
use crate::wait::{TIMEOUT, Wait, eventually, spawn};

/// A relay that takes one client. Apart from the faults of its plan, it forwards bytes, ends and resets
/// unchanged.
#[derive(Debug)]
pub struct Relay {
    /// The address that it listens on.
    pub address: SocketAddr,
    relayed: Receiver<Relayed>,
}

/// What a relay has forwarded.
#[derive(Debug, Default)]
pub struct Relayed {
    /// From the client.
    pub to_server: Delivered,
    /// From the server.
    pub to_client: Delivered,
}

impl Relay {
    /// Listens on a free port, and connects to this server for its client. Nothing is relayed if one of them
    /// is not there.
    pub fn start(server: SocketAddr, plan: FaultPlan) -> Self {
        let listener = RawListener::new();
        let address = listener.address();
        let relayed = spawn(move || {
            // Either may have been killed. A client whose server has gone finds the end of the stream.
            let Some(client) = listener.try_accept() else { return Relayed::default() };
            let Ok(server) = Raw::try_connect(server) else { return Relayed::default() };
            RelayedConnection::new([client, server].map(Raw::into_stream), plan).run()
        });
        Self { address, relayed }
    }

    /// Waits until both sides have ended.
    ///
    /// # Panics
    /// Panics if they do not.
    #[track_caller]
    pub fn relayed(&self) -> Relayed {
        self.relayed.wait()
    }
}

/// A connection at work. Direction 0 leads from side 0, the client, to side 1, the server; direction 1
/// leads back.
struct RelayedConnection {
    sides: [Option<TcpStream>; 2],
    directions: [RelayDirection; 2],
    on_reset: OnReset,
    closes_both: bool,
    ends_alone: bool,
}

impl RelayedConnection {
    fn new(sides: [TcpStream; 2], plan: FaultPlan) -> Self {
        for side in &sides {
            side.set_nonblocking(true).expect("a socket");
        }
        let FaultPlan { to_server, to_client, on_reset, closes_both, ends_alone } = plan;
        let directions = [RelayDirection::new(to_server), RelayDirection::new(to_client)];
        Self { sides: sides.map(Some), directions, on_reset, closes_both, ends_alone }
    }

    fn run(mut self) -> Relayed {
        loop {
            for direction in [0, 1] {
                while self.make_progress(direction) {}
            }
            let has_ended = |side: usize| self.directions[side].state == State::Ended;
            let is_alone = |side: usize| self.ends_alone && self.sides[1 - side].is_none();
            let is_over =
                (0..2).any(|side| has_ended(side) && (has_ended(1 - side) || is_alone(side)));
            if is_over || self.sides.iter().all(Option::is_none) {
                let [to_server, to_client] = self.directions.map(|direction| direction.delivered);
                return Relayed { to_server, to_client };
            }
            self.wait_for_event();
        }
    }

    /// Runs the next action of a direction. Returns whether the following one may be possible at once.
    fn make_progress(&mut self, direction: usize) -> bool {
        let (from, to) = (direction, 1 - direction);
        match self.directions[direction].next() {
            Next::Nothing => return false,
            Next::Inject(fault) => self.inject(direction, fault),
            Next::End => {
                self.end(direction, State::Ended);
                if self.closes_both && self.directions[1 - direction].state != State::Ended {
                    self.end(1 - direction, State::Discarding);
                }
            }
            Next::Read => {
                let mut buffer = [0; 16 * 1024];
                let Some(n) = self.attempt(from, |mut side| side.read(&mut buffer)) else {
                    return false;
                };
                self.directions[direction].handle_read(&buffer[..n]);
            }
            Next::Write(n) => {
                let buffer = &self.directions[direction].buffer;
                let bytes: Vec<_> = buffer.iter().copied().take(n).collect();
                let Some(n) = self.attempt(to, |mut side| side.write(&bytes)) else {
                    return false;
                };
                self.directions[direction].handle_written(n);
            }
        }
        true
    }

    fn inject(&mut self, direction: usize, fault: FaultKind) {
        match fault {
            FaultKind::End(gate) => {
                let source_has_ended = self.directions[direction].state == State::Draining;
                let state = if source_has_ended { State::Ended } else { State::Discarding };
                self.end(direction, state);
                if let Some(gate) = gate {
                    self.wait_until_acknowledged(1 - direction);
                    gate.open();
                }
            }
            FaultKind::Garbage(bytes) => {
                let buffer = &mut self.directions[direction].buffer;
                bytes.into_iter().rev().for_each(|byte| buffer.push_front(byte));
            }
            FaultKind::Flip(bits) => self.directions[direction].flip(bits),
            FaultKind::Reset => self.handle_reset(1 - direction),
            FaultKind::Stall => self.directions[direction].state = State::Stalled,
        }
    }

    fn end(&mut self, direction: usize, state: State) {
        self.directions[direction].delivered.ended = true;
        self.directions[direction].state = state;
        self.attempt(1 - direction, |side| side.shutdown(Shutdown::Write).map(|()| 0));
    }

    /// Waits until the kernel of this side has everything that was sent, a FIN included.
    fn wait_until_acknowledged(&self, side: usize) {
        let Some(stream) = &self.sides[side] else { return };
        let local = stream.local_addr().expect("an address");
        if let Ok(remote) = stream.peer_addr() {
            eventually("the FIN is acknowledged", || {
                kernel::queues(local, remote).is_none_or(|queues| queues.unacknowledged == 0)
            });
        }
    }

    /// Attempts I/O on a side. `None` if it would block, or if the side was reset.
    fn attempt(
        &mut self,
        side: usize,
        io: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Option<usize> {
        match io(self.sides[side].as_ref()?) {
            Ok(n) => return Some(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_reset) => self.handle_reset(side),
        }
        None
    }

    /// This side was reset, or is to be reset. The plan says what happens to the other one.
    fn handle_reset(&mut self, side: usize) {
        let had_ended = [0, 1].map(|direction| self.directions[direction].state == State::Ended);
        self.reset(side);
        match self.on_reset {
            OnReset::Reset => self.reset(1 - side),
            OnReset::Silence => {}
            OnReset::End => {
                // What this side would have read is dropped.
                let (from, to) = (side, 1 - side);
                self.directions[to].state =
                    if had_ended[to] { State::Ended } else { State::Discarding };
                self.directions[from].state = State::Ended;
                if !had_ended[from] {
                    self.end(from, State::Ended);
                }
            }
        }
    }

    fn reset(&mut self, side: usize) {
        if let Some(stream) = self.sides[side].take() {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
        }
        for direction in &mut self.directions {
            direction.state = State::Stalled;
        }
    }

    /// Waits until a side is ready for the next action or has ended, or until a pause is over.
    fn wait_for_event(&mut self) {
        let left = self.directions.iter().filter_map(RelayDirection::pause_left).min();
        let left = left.unwrap_or(TIMEOUT);
        let timeout = Timespec::try_from(left).expect("some seconds");
        let open: Vec<_> = (0..2).filter(|side| self.sides[*side].is_some()).collect();
        let streams = open.iter().filter_map(|side| {
            Some(PollFd::new(self.sides[*side].as_ref()?, self.awaited_events(*side)))
        });
        let mut fds: Vec<_> = streams.collect();
        let ready = poll(&mut fds, Some(&timeout)).expect("poll");
        let [to_server, to_client] = &self.directions;
        assert!(
            ready > 0 || left < TIMEOUT,
            "neither side ends, {:?} to the server, {:?} to the client",
            to_server.state,
            to_client.state,
        );
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        for (side, events) in open.into_iter().zip(events) {
            if events.contains(PollFlags::ERR) {
                self.handle_reset(side);
            } else if events.contains(PollFlags::HUP) && !self.directions[side].reads() {
                self.sides[side] = None; // both directions have ended gracefully
            } else if events.contains(PollFlags::RDHUP) {
                self.sides[side] = None; // it was alone, and has ended gracefully
            }
        }
    }

    fn awaited_events(&self, side: usize) -> PollFlags {
        let (from, to) = (&self.directions[side], &self.directions[1 - side]);
        let mut events = PollFlags::empty();
        let has_room = from.buffer.is_empty() || from.state == State::Discarding;
        events.set(PollFlags::IN, from.reads() && has_room);
        let is_alone = self.ends_alone && self.sides[1 - side].is_none();
        events.set(PollFlags::RDHUP, is_alone && from.state == State::Stalled);
        events.set(PollFlags::OUT, !to.buffer.is_empty() && to.writes());
        events
    }
}
