//! A client and a server that are connected by a hostile stream in memory. Every choice comes from one
//! [`Unstructured`], so that tests can pass random bytes, and a fuzzer its input.
//!
//! - `scenario`: what is transferred, by which driver, and which problems occur
//! - `expected`: the outcomes that a scenario allows
//! - `stream`: fragments, delays, stalls, truncations, extra bytes, corruption, loss, and resets
//! - `driver`: follows the steps, for an application that may stall, fail, or have a wrong object
//! - `invariants`: a connection that checks its invariants after every report

mod choices;
mod driver;
mod expected;
mod invariants;
mod scenario;
mod stream;

use arbitrary::Unstructured;
use dataserver_core::{Cause, Direction};

use choices::Choices;
use driver::{Driver, Turn};
use scenario::{Fault, Problem, Role, Scenario};
use stream::Stream;

/// How one run ended, at the client and at the server.
pub(crate) struct Report {
    pub(crate) direction: Direction,
    pub(crate) results: [Result<u64, Cause>; 2],
    /// Whether a retry of a write succeeded, and whether the last possible one did.
    pub(crate) retries_succeeded: [bool; 2],
}

/// Runs a client and a server to their end. Panics if an invariant is violated, after it has printed the
/// scenario.
pub(crate) fn run(unstructured: Unstructured<'_>) -> Report {
    let mut choices = Choices(unstructured);
    let scenario = Scenario::choose(&mut choices);
    let guard = PrintOnPanic(&scenario);
    let mut stream = Stream::new(&scenario, choices);
    let mut drivers = Role::BOTH.map(|role| Driver::new(&scenario, role));
    let most_turns = 1_000 + 30 * (25 + scenario.size); // several retries for each byte
    drive(&mut drivers, &mut stream, most_turns);

    let results = drivers.each_ref().map(Driver::result);
    expected::check(&scenario, results);
    check_receipt(&scenario, &drivers);
    drop(guard);
    let retries_succeeded = drivers[scenario.sender() as usize].retries_succeeded();
    Report { direction: scenario.direction, results, retries_succeeded }
}

/// Gives turns to both drivers. Time passes only if neither can make progress: up to the first time at
/// which one of them is due.
fn drive(drivers: &mut [Driver; 2], stream: &mut Stream<'_>, most_turns: u64) {
    for _ in 0..most_turns {
        let first = usize::from(stream.choices.flip());
        let turns = [drivers[first].turn(stream), drivers[1 - first].turn(stream)];
        match turns {
            [Turn::Finished, Turn::Finished] => return,
            [Turn::Progress, _] | [_, Turn::Progress] => {}
            turns => {
                let due = turns.iter().filter_map(Turn::due).min();
                let due = due.expect("liveness: neither driver is due to wake up");
                assert!(due > stream.now, "liveness: a driver spins, due at {due:?}");
                stream.now = due;
            }
        }
    }
    panic!("liveness: the run has not ended at {:?}", stream.now);
}

/// Receipt: if the sender succeeded, the application of the receiver has committed the same object. This
/// does not hold for some stream faults.
fn check_receipt(scenario: &Scenario, drivers: &[Driver; 2]) {
    let sender = &drivers[scenario.sender() as usize];
    let receiver = &drivers[scenario.receiver() as usize];
    if let Ok(bytes) = receiver.result() {
        assert_eq!(receiver.committed(), Some(bytes), "receipt: the receiver has not committed");
    }
    let Ok(sent) = sender.result() else { return };
    assert!(!sender.peer_had_closed(), "receipt: the peer had closed before the object ended");
    let is_wrong = |problem: &Problem| matches!(problem, Problem::WrongLength { .. });
    assert!(!scenario.problems.iter().any(is_wrong), "receipt: the object has the wrong size");
    if scenario.has_fault(scenario.receiver(), |fault| matches!(fault, Fault::Truncated { .. })) {
        return; // a killed peer with an unarmed socket closes gracefully, which looks like a receipt
    }
    let received = receiver.committed().expect("receipt: nothing was committed");
    let forged = |fault: &Fault| matches!(fault, Fault::Truncated { .. } | Fault::Overrun { .. });
    if scenario.declared || !scenario.has_fault(scenario.sender(), forged) {
        assert_eq!(received, sent, "receipt: another object was committed");
    }
}

/// Prints the scenario if the run panics.
struct PrintOnPanic<'a>(&'a Scenario);

impl Drop for PrintOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.0);
        }
    }
}

/// The byte at this position of every object. Misplaced bytes differ.
fn object_byte(position: u64) -> u8 {
    (position ^ position >> 8).wrapping_mul(31).to_le_bytes()[0]
}
