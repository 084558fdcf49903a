//! A client and a server that transfer framed objects, one after the other, over a hostile stream in memory.
//! Every choice comes from one [`Unstructured`], so that tests can pass random bytes, and a fuzzer its input.
//!
//! - `scenario`: which objects are transferred, and which problems occur
//! - `stream`: delivers a prefix of what was written, and then ends or fails, as it likes
//! - `driver`: follows the steps, for an application that may stall or give up
//! - `wire`: what a side may write, by the rules of the specification

#[path = "../harness/choices.rs"]
mod choices;
mod driver;
mod scenario;
mod stream;
mod wire;

use arbitrary::Unstructured;
use dataserver_core::{AbortReason, Cause, PeerError};

use choices::Choices;
use driver::{Driver, Turn};
use scenario::{Fault, Role, Scenario};
use stream::Stream;

/// How one run ended: the results of the client and of the server.
pub(crate) struct Report {
    pub(crate) results: [Vec<Result<u64, Cause>>; 2],
}

/// Runs a client and a server to their end. Panics if a law is violated, after it has printed the scenario.
pub(crate) fn run(unstructured: Unstructured<'_>) -> Report {
    let mut choices = Choices(unstructured);
    let scenario = Scenario::choose(&mut choices);
    let guard = PrintOnPanic(&scenario);
    let mut stream = Stream::new(&scenario, choices);
    let mut drivers = Role::BOTH.map(|role| Driver::new(&scenario, role));
    drive(&mut drivers, &mut stream);
    check_receipts(&scenario, &drivers);
    check_reasons(&scenario, &drivers);
    check_objects(&scenario, &drivers);
    check_retries(&scenario, &drivers);
    drop(guard);
    Report { results: drivers.map(|driver| driver.results) }
}

/// Gives turns to both drivers. Time passes only if neither can make progress: up to the first time at
/// which one of them is due.
fn drive(drivers: &mut [Driver<'_>; 2], stream: &mut Stream<'_>) {
    for _ in 0..50_000 {
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

/// Receipt: a sender that succeeded has a receiver that has committed this very object.
fn check_receipts(scenario: &Scenario, drivers: &[Driver<'_>; 2]) {
    if scenario.has_fault(|fault| matches!(fault, Fault::Garbage { .. })) {
        return; // a receipt can be forged
    }
    for (index, object) in scenario.objects.iter().enumerate() {
        let sender = &drivers[object.sender() as usize];
        let receiver = &drivers[object.sender().peer() as usize];
        if let Some(Ok(sent)) = sender.results.get(index) {
            assert_eq!(*sent, object.length, "receipt: the sender counts another size");
            let committed = receiver.committed.get(&index);
            assert_eq!(committed, Some(&object.bytes(index)), "receipt: of object {index}");
        }
        if let Some(Ok(_)) = receiver.results.get(index) {
            assert!(receiver.committed.contains_key(&index), "object {index} is not committed");
        }
    }
}

/// Reason: without a fault of the stream and without timers, a side that has given up and has told why is
/// heard, unless its peer has failed by itself.
fn check_reasons(scenario: &Scenario, drivers: &[Driver<'_>; 2]) {
    if is_disturbed(scenario, drivers) {
        return;
    }
    for (teller, other) in [(&drivers[0], &drivers[1]), (&drivers[1], &drivers[0])] {
        let told = teller.wire.abort;
        let (Some(reason), Some(Err(_))) = (told, teller.results.last()) else { continue };
        match other.results.last() {
            Some(Err(Cause::Peer(PeerError::Aborted(heard)))) => assert_eq!(*heard, reason),
            Some(Err(Cause::Peer(error))) => {
                let own = matches!(
                    error,
                    PeerError::LongerThanDeclared { .. }
                        | PeerError::LongerThanAllowed { .. }
                        | PeerError::UnexpectedFrame(_)
                );
                assert!(own, "reason: {reason:?} was lost: {error:?}");
            }
            Some(Err(_)) => {}
            other => panic!("reason: {reason:?} was lost: {other:?}"),
        }
    }
}

/// Independence: without problems, each object succeeds that can, whatever was before it on the stream.
fn check_objects(scenario: &Scenario, drivers: &[Driver<'_>; 2]) {
    if is_disturbed(scenario, drivers) || scenario.gives_up() {
        return;
    }
    let fit = scenario.objects.iter().take_while(|object| object.succeeds()).count();
    for driver in drivers {
        let succeeded = driver.results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(succeeded, fit, "independence: {:?} {:?}", driver.role, driver.results);
    }
}

/// Whether something may have failed that is neither an object nor an application.
fn is_disturbed(scenario: &Scenario, drivers: &[Driver<'_>; 2]) -> bool {
    let is_cut_off = |driver: &Driver<'_>| driver.has_closed_session || driver.has_canceled;
    scenario.is_disturbed() || drivers.iter().any(is_cut_off)
}

/// Retry: a client that reads ABORT(closing) or ABORT(busy) knows that nothing was claimed.
fn check_retries(scenario: &Scenario, drivers: &[Driver<'_>; 2]) {
    if scenario.has_fault(|fault| matches!(fault, Fault::Garbage { .. })) {
        return; // an ABORT can be forged
    }
    let [client, server] = drivers;
    if let Some(Err(Cause::Peer(PeerError::Aborted(reason)))) = client.results.last() {
        let is_unclaimed = matches!(reason, AbortReason::Closing | AbortReason::Busy);
        let object = client.results.len() - 1;
        let claimed = server.accepted.contains(&object);
        assert!(!(is_unclaimed && claimed), "retry: object {object} was claimed");
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
