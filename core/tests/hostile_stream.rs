//! A client and a server that are connected by a hostile stream: the invariants hold for all problems of
//! the stream and of the applications. See `harness`.

mod harness;

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use dataserver_core::Cause;

const SEEDS: u64 = 6_000;

/// Every outcome that a correct driver can reach, and the retries at which a write of the sender can
/// succeed.
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
    "TimedOut(Receipt",
    "TimedOut(Total",
    "Refused(NotRegistered",
    "Refused(InUse",
    "Refused(TooLarge",
    "write at a retry",
    "write at the last retry",
];

#[test]
fn the_invariants_hold_for_all_problems_of_the_stream_and_the_applications() {
    let mut reached = BTreeMap::<_, u64>::new();
    for seed in 0..SEEDS {
        let guard = PrintOnPanic(seed);
        let report = harness::run(Unstructured::new(&random_bytes(seed)));
        for (succeeded, retry) in report.retries_succeeded.into_iter().zip(["a", "the last"]) {
            let outcome = format!("{:?}: write at {retry} retry", report.direction);
            *reached.entry(outcome).or_default() += u64::from(succeeded);
        }
        for result in report.results {
            let outcome = format!("{:?}: {}", report.direction, name_of(result));
            *reached.entry(outcome).or_default() += 1;
        }
        drop(guard);
    }
    for direction in ["Put", "Get"] {
        for outcome in OUTCOMES {
            let outcome = format!("{direction}: {outcome}");
            assert!(reached.get(&outcome) > Some(&0), "{outcome} was not reached: {reached:#?}");
        }
    }
}

#[test]
fn a_run_with_an_empty_input_succeeds() {
    let report = harness::run(Unstructured::new(&[]));
    assert_eq!(report.results, [Ok(0), Ok(0)]);
}

fn random_bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; random.usize(16..2_048)];
    random.fill(&mut bytes);
    bytes
}

/// Returns the name of an outcome without its numbers, as in [`OUTCOMES`].
fn name_of(result: Result<u64, Cause>) -> String {
    let Err(error) = result else { return "Ok".into() };
    let error = format!("{error:?}");
    let numbers = |at: char| !at.is_alphabetic() && at != '(';
    error.split(numbers).next().unwrap_or_default().trim_end_matches('(').into()
}

/// Prints the seed if the test panics.
struct PrintOnPanic(u64);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
