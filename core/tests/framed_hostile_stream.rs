//! A client and a server that transfer framed objects over a hostile stream: the laws hold for all problems
//! of the stream and of the applications. See `framed_harness`.

mod framed_harness;

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use dataserver_core::Cause;

const SEEDS: u64 = 20_000;

/// Outcomes that both sides reach.
const OUTCOMES: [&str; 18] = [
    "Ok",
    "Peer(Aborted(Failed",
    "Peer(Aborted(TimedOut",
    "Peer(Aborted(Malformed",
    "Peer(MalformedFrame(MalformedFrame",
    "Peer(UnexpectedFrame(Receipt",
    "Peer(NoReceipt",
    "Peer(WrongReceipt",
    "Peer(Truncated",
    "Peer(Unfinished",
    "Peer(LongerThanDeclared",
    "Peer(ClosedEarly",
    "Peer(Reset",
    "Local(ShorterThanDeclared",
    "Local(LongerThanDeclared",
    "Local(Aborted",
    "TimedOut(Idle",
    "TimedOut(Receipt",
];

const OUTCOMES_OF_A_CLIENT: [&str; 4] =
    ["Peer(Aborted(Refused", "Peer(Aborted(Busy", "Peer(Aborted(TooLarge", "Peer(Aborted(Closing"];

const OUTCOMES_OF_A_SERVER: [&str; 6] = [
    "Refused(NotRegistered",
    "Refused(InUse",
    "Refused(TooLarge",
    "Peer(LongerThanAllowed",
    "Peer(TruncatedStartPacket",
    "TimedOut(Start",
];

#[test]
fn the_laws_hold_for_all_problems_of_the_stream_and_the_applications() {
    let mut reached = BTreeMap::<_, u64>::new();
    for seed in 0..SEEDS {
        let guard = PrintOnPanic(seed);
        let report = framed_harness::run(Unstructured::new(&random_bytes(seed)));
        for (side, results) in ["client", "server"].into_iter().zip(report.results) {
            for result in results {
                *reached.entry(format!("{side}: {}", name_of(result))).or_default() += 1;
            }
        }
        drop(guard);
    }
    let both = OUTCOMES.map(|outcome| ["client", "server"].map(|side| (side, outcome)));
    let client = OUTCOMES_OF_A_CLIENT.map(|outcome| ("client", outcome));
    let server = OUTCOMES_OF_A_SERVER.map(|outcome| ("server", outcome));
    for (side, outcome) in both.into_iter().flatten().chain(client).chain(server) {
        let outcome = format!("{side}: {outcome}");
        assert!(reached.contains_key(&outcome), "{outcome} was not reached: {reached:#?}");
    }
}

#[test]
fn a_run_with_an_empty_input_succeeds() {
    let report = framed_harness::run(Unstructured::new(&[]));
    assert_eq!(report.results, [[Ok(0)], [Ok(0)]]);
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
