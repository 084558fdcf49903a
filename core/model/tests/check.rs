//! Every run of small setups, and that the check can fail. `--nocapture` shows the figures.

use dataserver_core::Direction;
use dataserver_model::{Commits, Crash, Setup, Uses, longest_path};
use stateright::{Checker, Expectation, Model, Property};

const DIRECTIONS: [Direction; 2] = [Direction::Put, Direction::Get];
const USES: [Uses; 2] = [Uses::Once, Uses::UntilDelivered];

/// Two connections, at any time, with the start packet in one piece.
const TWO: Setup = Setup { attempts: 2, parallel: true, cuts: &[25], window: 1, ..Setup::SMALL };

const RECEIPT: &str = "a receipt implies a commit";
const WHOLE: &str = "who succeeds has all of the object";
const HANDLER: &str = "one handler at a time";
const ONCE: &str = "once is handled at most once";
const DELIVERED: &str = "delivered at most once";
const DEADLOCK: &str = "no deadlock: who is not done goes on";

#[test]
fn every_run_of_one_connection() {
    for crash in [Crash::Reset, Crash::Silence] {
        for (direction, declared) in kinds() {
            for (size, chunk) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
                check(&Setup { direction, declared, size, chunk, crash, ..Setup::SMALL });
            }
        }
    }
}

#[test]
fn every_run_of_one_connection_without_timers() {
    for (direction, declared) in kinds() {
        for size in 0..=2 {
            check(&Setup { direction, declared, size, timers: false, ..Setup::SMALL });
        }
    }
}

#[test]
fn every_run_of_two_connections_for_one_registration() {
    for (direction, declared) in kinds() {
        for uses in USES {
            check(&Setup { direction, declared, uses, ..TWO });
        }
    }
}

#[test]
fn every_run_of_a_retry_after_a_failure() {
    for (direction, declared) in kinds() {
        for uses in USES {
            check(&Setup { direction, declared, uses, parallel: false, ..TWO });
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_run_of_two_connections_with_more_bytes() {
    for (direction, declared) in kinds() {
        for uses in USES {
            check(&Setup { direction, declared, uses, size: 2, cuts: &[9, 25], ..TWO });
        }
    }
}

#[test]
fn without_arming_a_crash_looks_like_a_receipt() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, crash: Crash::Fin, ..Setup::SMALL };
        fails(&setup, &[RECEIPT]);
        let undeclared = Setup { declared: false, ..setup };
        fails(&undeclared, &[RECEIPT, WHOLE]);
    }
}

#[test]
fn a_close_before_the_commit_is_a_receipt_of_nothing() {
    for direction in DIRECTIONS {
        fails(&Setup { direction, commits: Commits::AfterClose, ..Setup::SMALL }, &[RECEIPT]);
    }
}

#[test]
fn without_timers_a_silent_peer_is_waited_for_for_ever() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, timers: false, crash: Crash::Silence, ..Setup::SMALL };
        fails(&setup, &[DEADLOCK]);
    }
}

#[test]
fn a_registration_that_stands_is_used_twice() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, stands: true, parallel: false, size: 0, ..TWO };
        fails(&Setup { uses: Uses::Once, ..setup }, &[HANDLER, ONCE, DELIVERED]);
        fails(&Setup { uses: Uses::UntilDelivered, ..setup }, &[HANDLER, DELIVERED]);
    }
}

fn kinds() -> impl Iterator<Item = (Direction, bool)> {
    DIRECTIONS.into_iter().flat_map(|direction| [(direction, true), (direction, false)])
}

/// All properties hold in all states, and every run ends.
fn check(setup: &Setup) {
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let (states, depth) = longest_path(setup).expect("every run ends");
    println!("{states} states, runs of at most {depth} actions: {setup:?}");
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states, "each way of counting sees all of them");
}

/// Just these properties do not hold. Shows the shortest run that gets there.
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
        println!("not: {name}");
        actions.iter().for_each(|action| println!("  {action:?}"));
    }
    let failed: Vec<_> = failures(usize::MAX).into_iter().map(|(name, _)| name).collect();
    assert_eq!(failed, expected);
}
