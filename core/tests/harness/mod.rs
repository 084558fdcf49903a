//! A client and a server, joined in memory by a hostile stream: every choice comes from one
//! [`Unstructured`], so that a test can feed it random bytes, and a fuzzer its own.
//!
//! - `scenario`: what is to be transferred, by whom, and what goes wrong;
//! - `model`: how that should end;
//! - `stream`: fragments, delays, stalls, truncates, overruns, corrupts, loses and resets;
//! - `driver`: does as the step says, with an application that may be slow, short, long or fail;
//! - `laws`: a connection that checks the laws at every report.

mod choices;
mod driver;
mod laws;
mod model;
mod scenario;
mod stream;

use arbitrary::Unstructured;
use dataserver_core::{Direction, Error};

use choices::Choices;
use driver::{Driver, Turn};
use scenario::{Fault, Role, Scenario, Trouble};
use stream::Stream;

/// How one run ended, at the client and at the server.
pub(crate) struct Report {
    pub(crate) direction: Direction,
    pub(crate) results: [Result<u64, Error>; 2],
    /// A writer that was woken up by its deadlines alone found room: at a retry, and at the last one.
    pub(crate) found_room: [bool; 2],
}

/// Runs one pair of machines to its end. Panics where a law is broken, and shows the scenario.
pub(crate) fn run(unstructured: Unstructured<'_>) -> Report {
    let mut choices = Choices(unstructured);
    let scenario = Scenario::choose(&mut choices);
    let shown = ShownOnPanic(&scenario);
    let mut stream = Stream::new(&scenario, choices);
    let mut drivers = Role::BOTH.map(|role| Driver::new(&scenario, role));
    drive(&mut drivers, &mut stream, 1_000 + 30 * (25 + scenario.size)); // byte by byte, each after retries

    let results = drivers.each_ref().map(Driver::result);
    model::check(&scenario, results);
    check_receipt(&scenario, &drivers);
    drop(shown);
    let found_room = drivers[scenario.sender() as usize].found_room();
    Report { direction: scenario.direction, results, found_room }
}

/// Gives both their turns, and lets time pass only when neither can go on: until the first of them
/// is due, and not a moment longer.
fn drive(drivers: &mut [Driver; 2], stream: &mut Stream<'_>, most_turns: u64) {
    for _ in 0..most_turns {
        let first = usize::from(stream.choices.flip());
        let turns = [drivers[first].turn(stream), drivers[1 - first].turn(stream)];
        match turns {
            [Turn::Over, Turn::Over] => return,
            [Turn::Progress, _] | [_, Turn::Progress] => {}
            turns => {
                let due = turns.iter().filter_map(Turn::due).min();
                let due = due.expect("liveness: nobody is due to wake up");
                assert!(due > stream.now, "liveness: a driver that sleeps until {due:?} spins");
                stream.now = due;
            }
        }
    }
    panic!("liveness: no end in sight at {:?}", stream.now);
}

/// Receipt: a sender that succeeded has a receiver whose application committed, and the object is
/// the same, as far as the stream lets both know how the other ended.
fn check_receipt(scenario: &Scenario, drivers: &[Driver; 2]) {
    let sender = &drivers[scenario.sender() as usize];
    let receiver = &drivers[scenario.receiver() as usize];
    if let Ok(bytes) = receiver.result() {
        assert_eq!(receiver.committed(), Some(bytes), "receipt: the receiver's own");
    }
    let Ok(sent) = sender.result() else { return };
    assert!(!sender.had_ended(), "receipt: the peer had closed before the object ended");
    let is_wrong = |trouble: &Trouble| matches!(trouble, Trouble::Source { .. });
    assert!(!scenario.troubles.iter().any(is_wrong), "receipt: of a part, or of too little");
    if scenario.has_fault(scenario.receiver(), |fault| matches!(fault, Fault::Truncated { .. })) {
        return; // a peer that does not arm its socket: what looked like a receipt was none
    }
    let received = receiver.committed().expect("receipt: nothing was committed");
    let forged = |fault: &Fault| matches!(fault, Fault::Truncated { .. } | Fault::Overrun { .. });
    if scenario.declared || !scenario.has_fault(scenario.sender(), forged) {
        assert_eq!(received, sent, "receipt: of another object");
    }
}

/// Shows what was being run, when it panics.
struct ShownOnPanic<'a>(&'a Scenario);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.0);
        }
    }
}

/// The byte of every object at this position, so that one out of place shows.
fn object_byte(position: u64) -> u8 {
    (position ^ position >> 8).wrapping_mul(31).to_le_bytes()[0]
}
