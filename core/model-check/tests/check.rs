//! Checks all runs of small setups, and that the check finds deliberate errors. `--nocapture` shows the
//! number of states.

use dataserver_core::Direction;
use dataserver_model_check::{CommitTime, Crash, EndChecks, Setup, Uses, longest_run};
use stateright::{Checker, Expectation, Model, Property};

const DIRECTIONS: [Direction; 2] = [Direction::Put, Direction::Get];
const USES: [Uses; 2] = [Uses::Once, Uses::UntilDelivered];

/// Two connections at any time. The start packet is not divided.
const TWO: Setup =
    Setup { attempts: 2, parallel: true, boundaries: &[25], window: 1, ..Setup::SMALL };

const RECEIPT: &str = "a receipt implies a commit";
const WHOLE: &str = "success means the whole object";
const HANDLER: &str = "one handler at a time";
const ONCE: &str = "an entry for one connection is used at most once";
const DELIVERED: &str = "delivered at most once";
const SIZE: &str = "no receipt for a wrong size";
const DEADLOCK: &str = "no deadlock: an end that is not done can continue";

#[test]
fn one_connection() {
    for crash in [Crash::Reset, Crash::Silence] {
        for (size, chunk) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
            for setup in kinds(size) {
                check(&Setup { chunk, crash, ..setup });
            }
        }
    }
}

#[test]
fn one_connection_without_timers() {
    for size in 0..=2 {
        for setup in kinds(size) {
            check(&Setup { timers: false, ..setup });
        }
    }
}

#[test]
fn one_connection_with_a_wrong_declared_size() {
    for direction in DIRECTIONS {
        for (size, declared) in [(1, 0), (2, 1), (3, 1), (0, 1), (1, 2), (1, 3)] {
            check(&Setup { direction, size, declared: Some(declared), ..Setup::SMALL });
        }
    }
}

#[test]
fn a_sender_that_peeks_detects_every_receiver_that_closed_before_the_object_ended() {
    for size in 0..=2 {
        for setup in kinds(size) {
            check(&Setup { crash: Crash::FinBeforeEnd, ..setup });
        }
    }
}

#[test]
fn two_connections_for_one_entry() {
    for setup in kinds_of_two(1) {
        check(&setup);
    }
}

#[test]
fn a_retry_after_a_failure() {
    for setup in kinds_of_two(1) {
        check(&Setup { parallel: false, ..setup });
    }
}

#[test]
#[ignore = "takes minutes"]
fn two_connections_with_more_bytes() {
    for setup in kinds_of_two(2) {
        check(&Setup { boundaries: &[9, 25], ..setup });
    }
}

#[test]
fn a_crash_with_an_unarmed_socket_looks_like_a_receipt() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, crash: Crash::Fin, ..Setup::SMALL };
        fails(&setup, &[RECEIPT]);
        let undeclared = Setup { declared: None, ..setup };
        fails(&undeclared, &[RECEIPT, WHOLE]);
    }
}

#[test]
fn a_close_before_the_commit_is_a_false_receipt() {
    for direction in DIRECTIONS {
        fails(
            &Setup { direction, commit_time: CommitTime::AfterClose, ..Setup::SMALL },
            &[RECEIPT],
        );
    }
}

#[test]
fn a_driver_that_skips_the_offer_gets_a_receipt_for_a_part() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, end_checks: EndChecks::PeekOnly, ..Setup::SMALL };
        fails(&Setup { size: 2, ..setup }, &[WHOLE, SIZE]);
        check(&setup); // with the right size, the offer makes no difference
    }
}

#[test]
fn a_driver_that_skips_the_peek_gets_a_receipt_from_a_receiver_that_had_closed() {
    for size in 0..=1 {
        for setup in kinds(size) {
            let crash = Crash::FinBeforeEnd;
            fails(&Setup { crash, end_checks: EndChecks::OfferOnly, ..setup }, &[RECEIPT]);
        }
    }
}

#[test]
fn without_timers_a_silent_peer_is_a_deadlock() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, timers: false, crash: Crash::Silence, ..Setup::SMALL };
        fails(&setup, &[DEADLOCK]);
    }
}

#[test]
fn an_unlimited_entry_is_used_twice() {
    for direction in DIRECTIONS {
        let two = Setup { size: 0, declared: Some(0), ..TWO };
        let setup = Setup { direction, ignores_uses: true, parallel: false, ..two };
        fails(&Setup { uses: Uses::Once, ..setup }, &[HANDLER, ONCE, DELIVERED]);
        fails(&Setup { uses: Uses::UntilDelivered, ..setup }, &[HANDLER, DELIVERED]);
    }
}

/// One connection in each direction, with and without a declared size.
fn kinds(size: u64) -> impl Iterator<Item = Setup> {
    let setup = move |direction, declared| Setup { direction, size, declared, ..Setup::SMALL };
    let both = move |direction| [Some(size), None].map(|declared| setup(direction, declared));
    DIRECTIONS.into_iter().flat_map(both)
}

/// Two connections for each kind of entry.
fn kinds_of_two(size: u64) -> impl Iterator<Item = Setup> {
    let two = |Setup { direction, size, declared, .. }| Setup { direction, size, declared, ..TWO };
    kinds(size).map(two).flat_map(|setup| USES.map(|uses| Setup { uses, ..setup }))
}

/// Checks that all properties hold in all states, and that every run ends.
fn check(setup: &Setup) {
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let (states, depth) = longest_run(setup).expect("every run ends");
    println!("{states} states, runs of at most {depth} actions: {setup:?}");
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states, "both searches find all states");
}

/// Checks that exactly these properties do not hold. Prints the shortest run that violates one.
fn fails(setup: &Setup, expected: &[&str]) {
    let failures = |depth: usize| {
        let checker = setup.checker().target_max_depth(depth).spawn_bfs().join();
        let failed = setup.properties().into_iter().filter_map(move |property| {
            let discovery = checker.discovery(property.name)?;
            let Property { name, expectation, .. } = property;
            (expectation == Expectation::Always).then(|| (name, discovery.into_actions()))
        });
        failed.collect::<Vec<_>>()
    };
    let shortest = (1..).map(failures).find(|failures| !failures.is_empty());
    for (name, actions) in shortest.into_iter().flatten() {
        println!("violated: {name}");
        actions.iter().for_each(|action| println!("  {action:?}"));
    }
    let failed: Vec<_> = failures(usize::MAX).into_iter().map(|(name, _)| name).collect();
    assert_eq!(failed, expected);
}
