//! Every run of small setups, and that the check can fail. `--nocapture` shows the figures.

use dataserver_core::Direction;
use dataserver_model::{Commits, Crash, Ends, Setup, Uses, longest_path};
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
const SIZE: &str = "no receipt for a wrong size";
const DEADLOCK: &str = "no deadlock: who is not done goes on";

#[test]
fn every_run_of_one_connection() {
    for crash in [Crash::Reset, Crash::Silence] {
        for (size, chunk) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
            for setup in kinds(size) {
                check(&Setup { chunk, crash, ..setup });
            }
        }
    }
}

#[test]
fn every_run_of_one_connection_without_timers() {
    for size in 0..=2 {
        for setup in kinds(size) {
            check(&Setup { timers: false, ..setup });
        }
    }
}

#[test]
fn every_run_of_one_connection_with_a_wrong_size() {
    for direction in DIRECTIONS {
        for (size, declared) in [(1, 0), (2, 1), (3, 1), (0, 1), (1, 2), (1, 3)] {
            check(&Setup { direction, size, declared: Some(declared), ..Setup::SMALL });
        }
    }
}

#[test]
fn a_sender_that_looks_sees_every_receiver_that_closed_before_the_object_ended() {
    for size in 0..=2 {
        for setup in kinds(size) {
            check(&Setup { crash: Crash::FinBeforeTheEnd, ..setup });
        }
    }
}

#[test]
fn every_run_of_two_connections_for_one_registration() {
    for setup in kinds_of_two(1) {
        check(&setup);
    }
}

#[test]
fn every_run_of_a_retry_after_a_failure() {
    for setup in kinds_of_two(1) {
        check(&Setup { parallel: false, ..setup });
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_run_of_two_connections_with_more_bytes() {
    for setup in kinds_of_two(2) {
        check(&Setup { cuts: &[9, 25], ..setup });
    }
}

#[test]
fn without_arming_a_crash_looks_like_a_receipt() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, crash: Crash::Fin, ..Setup::SMALL };
        fails(&setup, &[RECEIPT]);
        let undeclared = Setup { declared: None, ..setup };
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
fn a_driver_that_does_not_ask_for_more_has_a_receipt_for_a_part() {
    for direction in DIRECTIONS {
        let setup = Setup { direction, ends: Ends::WithoutAsking, ..Setup::SMALL };
        fails(&Setup { size: 2, ..setup }, &[WHOLE, SIZE]);
        check(&setup); // where the size is right, it makes no difference
    }
}

#[test]
fn a_driver_that_does_not_look_has_a_receipt_from_a_receiver_that_had_closed() {
    for size in 0..=1 {
        for setup in kinds(size) {
            let crash = Crash::FinBeforeTheEnd;
            fails(&Setup { crash, ends: Ends::WithoutLooking, ..setup }, &[RECEIPT]);
        }
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
        let two = Setup { size: 0, declared: Some(0), ..TWO };
        let setup = Setup { direction, stands: true, parallel: false, ..two };
        fails(&Setup { uses: Uses::Once, ..setup }, &[HANDLER, ONCE, DELIVERED]);
        fails(&Setup { uses: Uses::UntilDelivered, ..setup }, &[HANDLER, DELIVERED]);
    }
}

/// One connection in each direction, with and without the size.
fn kinds(size: u64) -> impl Iterator<Item = Setup> {
    let setup = move |direction, declared| Setup { direction, size, declared, ..Setup::SMALL };
    let both = move |direction| [Some(size), None].map(|declared| setup(direction, declared));
    DIRECTIONS.into_iter().flat_map(both)
}

/// Two connections for each kind of registration.
fn kinds_of_two(size: u64) -> impl Iterator<Item = Setup> {
    let two = |Setup { direction, size, declared, .. }| Setup { direction, size, declared, ..TWO };
    kinds(size).map(two).flat_map(|setup| USES.map(|uses| Setup { uses, ..setup }))
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
