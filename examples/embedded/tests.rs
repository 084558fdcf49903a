//! Tests of the device on a scripted line, and with broken clients at the other end of the cable.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dataserver_core::{Cause, LocalError, PeerError, StartPacket, Timer};
use dataserver_examples::peers::{self, Offered};

use crate::cable::Cable;
use crate::device::{Line, Memory, Next, READINGS_KEY, Received, SETTINGS, SETTINGS_KEY, Session};
use crate::run_session;

const READINGS: [u8; 300] = [7; 300];
const PUT: StartPacket = StartPacket::put(SETTINGS_KEY);
const GET: StartPacket = StartPacket::get(READINGS_KEY);

#[derive(Default)]
struct Script {
    incoming: VecDeque<Received>,
    sent: Vec<u8>,
    ended: bool,
    hung_up: bool,
    /// How many bytes the transmitter still has room for.
    room: usize,
    millis: Cell<u32>,
}

impl Script {
    /// A line that delivers these bytes, and has room for all bytes that are sent.
    fn new(bytes: &[u8]) -> Self {
        let incoming = bytes.iter().copied().map(Received::Byte).collect();
        Self { incoming, room: usize::MAX, ..Self::default() }
    }

    fn wait(&self, millis: u32) {
        self.millis.set(self.millis.get() + millis);
    }
}

impl Line for Script {
    fn receive(&mut self) -> Option<Received> {
        self.incoming.pop_front()
    }

    fn send(&mut self, byte: u8) -> bool {
        let has_room = self.room > 0;
        if has_room {
            self.room -= 1;
            self.sent.push(byte);
        }
        has_room
    }

    fn send_end(&mut self) -> bool {
        self.ended = true;
        true
    }

    fn hang_up(&mut self) {
        self.hung_up = true;
    }

    fn millis(&self) -> u32 {
        self.millis.get()
    }
}

/// Polls until the device would sleep, or has ended.
fn poll(session: &mut Session, memory: &mut Memory, line: &mut Script) -> Next {
    loop {
        match session.poll(memory, line) {
            Next::Poll => {}
            next => return next,
        }
    }
}

/// The result of a connection of a client that sends these bytes, and then this event, if any.
fn serve(bytes: &[u8], then: Option<Received>) -> (Next, Script) {
    let mut line = Script::new(bytes);
    line.incoming.extend(then);
    let mut session = Session::server(&line);
    let next = poll(&mut session, &mut Memory::new(READINGS), &mut line);
    (next, line)
}

fn fails(error: impl Into<Cause>) -> Next {
    Next::Over(Err(error.into()))
}

#[test]
fn a_get_that_declares_fewer_readings_than_there_are_fails() -> Result<(), Box<dyn Error>> {
    let (next, line) = serve(GET.with_size(100)?.as_bytes(), None);
    assert_eq!(next, fails(LocalError::LongerThanDeclared { declared: 100 }));
    assert!(line.hung_up && !line.ended);
    Ok(())
}

#[test]
fn a_get_that_declares_as_many_readings_as_there_are_is_sent() -> Result<(), Box<dyn Error>> {
    let (next, mut line) = serve(GET.with_size(300)?.as_bytes(), None);
    assert!(matches!(next, Next::Sleep(_)), "{next:?}"); // for the receipt
    assert_eq!((&line.sent[..], line.ended), (&READINGS[..], true));

    line.incoming = GET.with_size(300)?.as_bytes().iter().copied().map(Received::Byte).collect();
    let mut session = Session::server(&line);
    let mut memory = Memory::new(READINGS);
    poll(&mut session, &mut memory, &mut line);
    line.incoming.push_back(Received::End);
    assert_eq!(poll(&mut session, &mut memory, &mut line), Next::Over(Ok(300)));
    Ok(())
}

#[test]
fn an_end_of_stream_before_that_of_the_readings_is_no_receipt() {
    let (next, line) = serve(GET.as_bytes(), Some(Received::End));
    assert_eq!(next, fails(PeerError::ClosedEarly { moved: 300 }));
    assert!(line.hung_up && !line.ended);
}

#[test]
fn a_byte_after_a_get_and_a_lost_carrier_are_no_receipt() {
    let (next, _) = serve(GET.as_bytes(), Some(Received::Byte(0)));
    assert_eq!(next, fails(PeerError::NotSilent));
    let (next, _) = serve(GET.as_bytes(), Some(Received::Lost));
    assert_eq!(next, fails(PeerError::Reset { moved: 300 }));
}

#[test]
fn a_byte_that_arrived_in_time_is_not_late_if_it_is_read_late() {
    let mut line = Script::new(PUT.as_bytes());
    let (mut session, mut memory) = (Session::server(&line), Memory::new(READINGS));
    for byte in *b"60" {
        let next = poll(&mut session, &mut memory, &mut line);
        assert_eq!(next, Next::Sleep(Duration::from_millis(500)));
        line.wait(600); // the device is busy
        line.incoming.push_back(Received::Byte(byte));
    }
    line.incoming.push_back(Received::End);
    assert_eq!(poll(&mut session, &mut memory, &mut line), Next::Over(Ok(2)));
    assert_eq!(memory.settings(), b"60");
}

#[test]
fn the_idle_timeout_runs_out_in_the_attempt_after_the_deadline() {
    let mut line = Script::new(PUT.as_bytes());
    let (mut session, mut memory) = (Session::server(&line), Memory::new(READINGS));
    assert!(matches!(poll(&mut session, &mut memory, &mut line), Next::Sleep(_)));
    line.wait(500);
    assert_eq!(poll(&mut session, &mut memory, &mut line), fails(Timer::Idle));
    assert!(line.hung_up);
}

#[test]
fn a_line_with_room_for_a_byte_each_100_ms_is_not_idle() {
    let mut line = Script { room: 0, ..Script::new(GET.as_bytes()) };
    let (mut session, mut memory) = (Session::server(&line), Memory::new(READINGS));
    for _ in 0..READINGS.len() {
        assert!(matches!(poll(&mut session, &mut memory, &mut line), Next::Sleep(_)));
        line.wait(100);
        line.room = 1;
    }
    let next = poll(&mut session, &mut memory, &mut line);
    assert_eq!(next, Next::Sleep(Duration::from_secs(1))); // for the receipt
    assert_eq!(line.sent, READINGS);
}

#[test]
fn a_line_without_room_is_idle() {
    let mut line = Script { room: 9, ..Script::new(GET.as_bytes()) };
    let (mut session, mut memory) = (Session::server(&line), Memory::new(READINGS));
    let next = loop {
        match poll(&mut session, &mut memory, &mut line) {
            Next::Sleep(left) => line.wait(left.as_micros().div_ceil(1000) as u32),
            next => break next,
        }
    };
    assert_eq!(next, fails(Timer::Idle));
    assert!((500..=750).contains(&line.millis()), "after {} ms", line.millis());
}

#[test]
fn the_device_reports_no_success_for_a_broken_client() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, outcomes) = mpsc::channel();
    thread::spawn(move || {
        let mut memory = Memory::new(READINGS);
        while let Ok((stream, _)) = listener.accept() {
            let Ok((mut cable, computer)) = Cable::to(stream) else { return };
            let outcome = run_session(&mut Session::server(&cable), &mut memory, &mut cable);
            drop(cable);
            _ = computer.join();
            assert!(memory.settings().is_empty());
            if sender.send(outcome).is_err() {
                return;
            }
        }
    });
    let offered = Offered { put: PUT, get: GET, size: 300, limit: SETTINGS as u64 };
    for client in offered.broken_clients()? {
        client.visit(address, || Ok(outcomes.recv_timeout(peers::MAX_WAIT)?))?;
    }
    Ok(())
}
