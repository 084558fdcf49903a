//! The device on a line that does as it is told, and the cable to it with broken clients at its end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dataserver_core::{Error as Cause, LocalError, PeerError, StartPacket, Timer};
use dataserver_examples::peers::{self, Offered};

use crate::cable::Cable;
use crate::device::{Heard, Line, Memory, Next, READINGS_KEY, SETTINGS, SETTINGS_KEY, Session};
use crate::run_session;

const READINGS: [u8; 300] = [7; 300];
const PUT: StartPacket = StartPacket::put(SETTINGS_KEY);
const GET: StartPacket = StartPacket::get(READINGS_KEY);

#[derive(Default)]
struct Script {
    heard: VecDeque<Heard>,
    said: Vec<u8>,
    ended: bool,
    hung_up: bool,
    /// How many bytes the transmitter still has room for.
    room: usize,
    millis: Cell<u32>,
}

impl Script {
    /// A line on which these bytes come in, and all go out.
    fn new(bytes: &[u8]) -> Self {
        let heard = bytes.iter().copied().map(Heard::Byte).collect();
        Self { heard, room: usize::MAX, ..Self::default() }
    }

    fn wait(&self, millis: u32) {
        self.millis.set(self.millis.get() + millis);
    }
}

impl Line for Script {
    fn hear(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    fn say(&mut self, byte: u8) -> bool {
        let has_room = self.room > 0;
        if has_room {
            self.room -= 1;
            self.said.push(byte);
        }
        has_room
    }

    fn say_end(&mut self) -> bool {
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

/// What becomes of a call that sends these bytes, and then ends the stream, or says nothing.
fn answer(bytes: &[u8], then: Option<Heard>) -> (Next, Script) {
    let mut line = Script::new(bytes);
    line.heard.extend(then);
    let mut session = Session::answer(&line);
    let next = poll(&mut session, &mut Memory::new(READINGS), &mut line);
    (next, line)
}

fn fails(error: impl Into<Cause>) -> Next {
    Next::Over(Err(error.into()))
}

#[test]
fn a_get_that_declares_fewer_readings_than_there_are_fails() -> Result<(), Box<dyn Error>> {
    let (next, line) = answer(GET.with_size(100)?.as_bytes(), None);
    assert_eq!(next, fails(LocalError::LongerThanDeclared { declared: 100 }));
    assert!(line.hung_up && !line.ended);
    Ok(())
}

#[test]
fn a_get_that_declares_as_many_readings_as_there_are_is_sent() -> Result<(), Box<dyn Error>> {
    let (next, mut line) = answer(GET.with_size(300)?.as_bytes(), None);
    assert!(matches!(next, Next::Sleep(_)), "{next:?}"); // for the receipt
    assert_eq!((&line.said[..], line.ended), (&READINGS[..], true));

    line.heard = GET.with_size(300)?.as_bytes().iter().copied().map(Heard::Byte).collect();
    let mut session = Session::answer(&line);
    let mut memory = Memory::new(READINGS);
    poll(&mut session, &mut memory, &mut line);
    line.heard.push_back(Heard::End);
    assert_eq!(poll(&mut session, &mut memory, &mut line), Next::Over(Ok(300)));
    Ok(())
}

#[test]
fn an_end_before_that_of_the_readings_is_no_receipt() {
    let (next, line) = answer(GET.as_bytes(), Some(Heard::End));
    assert_eq!(next, fails(PeerError::ClosedEarly { moved: 300 }));
    assert!(line.hung_up && !line.ended);
}

#[test]
fn a_byte_behind_a_get_and_a_lost_carrier_are_no_receipt() {
    let (next, _) = answer(GET.as_bytes(), Some(Heard::Byte(0)));
    assert_eq!(next, fails(PeerError::NotSilent));
    let (next, _) = answer(GET.as_bytes(), Some(Heard::Lost));
    assert_eq!(next, fails(PeerError::Reset { moved: 300 }));
}

#[test]
fn a_byte_that_is_there_in_time_is_not_late_however_late_it_is_met() {
    let mut line = Script::new(PUT.as_bytes());
    let (mut session, mut memory) = (Session::answer(&line), Memory::new(READINGS));
    for byte in *b"60" {
        let next = poll(&mut session, &mut memory, &mut line);
        assert_eq!(next, Next::Sleep(Duration::from_millis(500)));
        line.wait(600); // the device has something else to do meanwhile
        line.heard.push_back(Heard::Byte(byte));
    }
    line.heard.push_back(Heard::End);
    assert_eq!(poll(&mut session, &mut memory, &mut line), Next::Over(Ok(2)));
    assert_eq!(memory.settings(), b"60");
}

#[test]
fn silence_is_found_in_the_last_try_after_the_deadline() {
    let mut line = Script::new(PUT.as_bytes());
    let (mut session, mut memory) = (Session::answer(&line), Memory::new(READINGS));
    assert!(matches!(poll(&mut session, &mut memory, &mut line), Next::Sleep(_)));
    line.wait(500);
    assert_eq!(poll(&mut session, &mut memory, &mut line), fails(Timer::Idle));
    assert!(line.hung_up);
}

#[test]
fn a_line_that_takes_a_byte_now_and_then_is_not_idle() {
    let mut line = Script { room: 0, ..Script::new(GET.as_bytes()) };
    let (mut session, mut memory) = (Session::answer(&line), Memory::new(READINGS));
    for _ in 0..READINGS.len() {
        assert!(matches!(poll(&mut session, &mut memory, &mut line), Next::Sleep(_)));
        line.wait(100);
        line.room = 1;
    }
    let next = poll(&mut session, &mut memory, &mut line);
    assert_eq!(next, Next::Sleep(Duration::from_secs(1))); // for the receipt
    assert_eq!(line.said, READINGS);
}

#[test]
fn a_line_that_takes_nothing_is_idle() {
    let mut line = Script { room: 9, ..Script::new(GET.as_bytes()) };
    let (mut session, mut memory) = (Session::answer(&line), Memory::new(READINGS));
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
fn the_device_succeeds_with_no_broken_client() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (say, outcomes) = mpsc::channel();
    thread::spawn(move || {
        let mut memory = Memory::new(READINGS);
        while let Ok((stream, _)) = listener.accept() {
            let Ok((mut cable, computer)) = Cable::to(stream) else { return };
            let outcome = run_session(Session::answer(&cable), &mut memory, &mut cable);
            drop(cable);
            _ = computer.join();
            assert!(memory.settings().is_empty());
            if say.send(outcome).is_err() {
                return;
            }
        }
    });
    let offered = Offered { put: PUT, get: GET, size: 300, limit: SETTINGS as u64 };
    for client in offered.broken_clients()? {
        client.visit(address, || Ok(outcomes.recv_timeout(peers::PATIENCE)?))?;
    }
    Ok(())
}
