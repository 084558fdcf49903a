//! A client and a server against each other over a hostile stream: the laws, under everything that
//! can go wrong. See `harness`.

mod harness;

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use dataserver_core::Error;

const SEEDS: u64 = 6_000;

/// Every way to end that a driver which does as told can come to, at either side; and what a sender
/// can meet on the way.
const OUTCOMES: [&str; 22] = [
    "Ok",
    "Peer(Malformed(Type",
    "Peer(Malformed(Size",
    "Peer(TruncatedStartPacket",
    "Peer(Truncated",
    "Peer(LongerThanDeclared",
    "Peer(LongerThanAllowed",
    "Peer(NotSilent",
    "Peer(ClosedEarly",
    "Peer(Reset",
    "Local(ShorterThanDeclared",
    "Local(LongerThanDeclared",
    "Local(Aborted",
    "TimedOut(Start",
    "TimedOut(Idle",
    "TimedOut(End",
    "TimedOut(Transfer",
    "Refused(NotRegistered",
    "Refused(InUse",
    "Refused(TooLarge",
    "room at a retry",
    "room at the last retry",
];

#[test]
fn the_laws_hold_whatever_happens_to_the_stream_and_to_the_applications() {
    let mut reached = BTreeMap::<_, u64>::new();
    for seed in 0..SEEDS {
        let shown = ShownOnPanic(seed);
        let report = harness::run(Unstructured::new(&random_bytes(seed)));
        for (found, retry) in report.found_room.into_iter().zip(["a", "the last"]) {
            let outcome = format!("{:?}: room at {retry} retry", report.direction);
            *reached.entry(outcome).or_default() += u64::from(found);
        }
        for result in report.results {
            let outcome = format!("{:?}: {}", report.direction, name_of(result));
            *reached.entry(outcome).or_default() += 1;
        }
        drop(shown);
    }
    for direction in ["Put", "Get"] {
        for outcome in OUTCOMES {
            let outcome = format!("{direction}: {outcome}");
            assert!(reached.get(&outcome) > Some(&0), "{outcome} was not reached: {reached:#?}");
        }
    }
}

#[test]
fn a_run_without_any_bytes_to_choose_by_ends_well() {
    let report = harness::run(Unstructured::new(&[]));
    assert_eq!(report.results, [Ok(0), Ok(0)]);
}

fn random_bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; random.usize(16..2_048)];
    random.fill(&mut bytes);
    bytes
}

/// The name of an outcome without its numbers, as in [`OUTCOMES`].
fn name_of(result: Result<u64, Error>) -> String {
    let Err(error) = result else { return "Ok".into() };
    let error = format!("{error:?}");
    let numbers = |at: char| !at.is_alphabetic() && at != '(';
    error.split(numbers).next().unwrap_or_default().trim_end_matches('(').into()
}

/// Shows the seed that fails, to be run again alone.
struct ShownOnPanic(u64);

impl Drop for ShownOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
