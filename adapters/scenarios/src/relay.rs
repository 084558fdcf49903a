//! A relay between one client and one server, which does to their connection as it is told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::kernel;
use crate::lane::{Lane, Next, State};
use crate::orders::{Act, Orders};
use crate::patience::{PATIENCE, Soon, eventually, spawn};
use crate::raw::{Raw, RawListener};

/// A relay that takes one client. Where its orders name no fault it is honest: it passes on bytes,
/// ends and resets, and nothing else.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    passed: Receiver<Passed>,
}

/// What a relay has passed on.
#[derive(Debug)]
pub struct Passed {
    /// From the client.
    pub to_server: Stream,
    /// From the server.
    pub to_client: Stream,
}

/// What one side has been given.
#[derive(Debug, Default)]
pub struct Stream {
    /// These bytes.
    pub bytes: Vec<u8>,
    /// And then a FIN.
    pub ended: bool,
}

impl Relay {
    /// Listens at a port of the system's choosing, and connects to this server for its client.
    pub fn start(server: SocketAddr, orders: Orders) -> Self {
        let listener = RawListener::new();
        let address = listener.address();
        let passed = spawn(move || {
            let client = listener.accept().into_stream();
            let server = Raw::connect(server).into_stream();
            Between::new([client, server], orders).carry()
        });
        Self { address, passed }
    }

    /// Waits until both sides have ended.
    ///
    /// # Panics
    /// They do not.
    #[track_caller]
    pub fn passed(&self) -> Passed {
        self.passed.soon()
    }
}

/// A relay at work. Lane 0 leads from side 0, the client, to side 1, the server; lane 1 back.
struct Between {
    sides: [Option<TcpStream>; 2],
    lanes: [Lane; 2],
    tells: bool,
}

impl Between {
    fn new(sides: [TcpStream; 2], orders: Orders) -> Self {
        for side in &sides {
            side.set_nonblocking(true).expect("a socket");
        }
        let Orders { to_server, to_client, tells } = orders;
        Self { sides: sides.map(Some), lanes: [Lane::new(to_server), Lane::new(to_client)], tells }
    }

    fn carry(mut self) -> Passed {
        loop {
            for lane in [0, 1] {
                while self.go_on(lane) {}
            }
            let ended = self.lanes.iter().all(|lane| lane.state == State::Ended);
            if ended || self.sides.iter().all(Option::is_none) {
                let [to_server, to_client] = self.lanes.map(|lane| lane.passed);
                return Passed { to_server, to_client };
            }
            self.wait();
        }
    }

    /// Does the next thing on a lane. Whether there may be more to do before something happens.
    fn go_on(&mut self, lane: usize) -> bool {
        let (from, to) = (lane, 1 - lane);
        match self.lanes[lane].next() {
            Next::Nothing => return false,
            Next::Act(act) => self.act(lane, act),
            Next::End => self.end(lane, State::Ended),
            Next::Read => {
                let mut buffer = [0; 16 * 1024];
                let Some(n) = self.attempt(from, |mut side| side.read(&mut buffer)) else {
                    return false;
                };
                self.lanes[lane].take(&buffer[..n]);
            }
            Next::Write(n) => {
                let bytes: Vec<_> = self.lanes[lane].buffer.iter().copied().take(n).collect();
                let Some(n) = self.attempt(to, |mut side| side.write(&bytes)) else {
                    return false;
                };
                self.lanes[lane].passed(n);
            }
        }
        true
    }

    fn act(&mut self, lane: usize, act: Act) {
        match act {
            Act::End(gate) => {
                let source_has_ended = self.lanes[lane].state == State::Drains;
                self.end(lane, if source_has_ended { State::Ended } else { State::Discards });
                if let Some(gate) = gate {
                    self.arrived(1 - lane);
                    gate.open();
                }
            }
            Act::Garbage(bytes) => self.lanes[lane].buffer.extend(bytes),
            Act::Reset => self.lost(1 - lane),
            Act::Stall => self.lanes[lane].state = State::Stalls,
        }
    }

    fn end(&mut self, lane: usize, state: State) {
        self.lanes[lane].passed.ended = true;
        self.lanes[lane].state = state;
        self.attempt(1 - lane, |side| side.shutdown(Shutdown::Write).map(|()| 0));
    }

    /// Waits until this side's system has all that was sent, an end included.
    fn arrived(&self, side: usize) {
        let Some(stream) = &self.sides[side] else { return };
        let here = stream.local_addr().expect("an address");
        if let Ok(there) = stream.peer_addr() {
            eventually("the end has arrived", || {
                kernel::queues(here, there).is_none_or(|queues| queues.to_send == 0)
            });
        }
    }

    /// Tries something on a side. `None` where it would have to wait, or has lost the side.
    fn attempt(
        &mut self,
        side: usize,
        io: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Option<usize> {
        match io(self.sides[side].as_ref()?) {
            Ok(n) => return Some(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_reset) => self.lost(side),
        }
        None
    }

    /// This side has been reset, or is to be; and the other one too, if it is to know.
    fn lost(&mut self, side: usize) {
        self.reset(side);
        if self.tells {
            self.reset(1 - side);
        }
    }

    fn reset(&mut self, side: usize) {
        if let Some(stream) = self.sides[side].take() {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
        }
        for lane in &mut self.lanes {
            lane.state = State::Stalls;
        }
    }

    /// Waits until a side is ready for what is to be done next, or has ended, or a pause is over.
    fn wait(&mut self) {
        let left = self.lanes.iter().filter_map(Lane::pause_left).min().unwrap_or(PATIENCE);
        let timeout = Timespec::try_from(left).expect("some seconds");
        let here: Vec<_> = (0..2).filter(|side| self.sides[*side].is_some()).collect();
        let streams = here
            .iter()
            .filter_map(|side| Some(PollFd::new(self.sides[*side].as_ref()?, self.awaited(*side))));
        let mut fds: Vec<_> = streams.collect();
        let ready = poll(&mut fds, Some(&timeout)).expect("poll");
        let [to_server, to_client] = &self.lanes;
        assert!(
            ready > 0 || left < PATIENCE,
            "neither side ends, {:?} to the server, {:?} to the client",
            to_server.state,
            to_client.state,
        );
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        for (side, events) in here.into_iter().zip(events) {
            if events.contains(PollFlags::ERR) {
                self.lost(side);
            } else if events.contains(PollFlags::HUP) && !self.lanes[side].reads() {
                self.sides[side] = None; // both ways have ended in order
            }
        }
    }

    fn awaited(&self, side: usize) -> PollFlags {
        let (lane_from, lane_to) = (&self.lanes[side], &self.lanes[1 - side]);
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, lane_from.reads() && lane_from.buffer.is_empty());
        events.set(PollFlags::OUT, !lane_to.buffer.is_empty() && lane_to.writes());
        events
    }
}
