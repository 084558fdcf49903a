//! Checks all runs of framed objects, and that the check finds each rule that the drivers break.

use dataserver_core::Direction;
use dataserver_model_check::framed::{
    CLOSING, DEADLOCK, Deviation, Features, Framed, Kind, LOST, Object, REASON, RECEIPT, SUCCESS,
    WHOLE,
};
use dataserver_model_check::longest_run;
use stateright::{Checker, Expectation, Model};

const fn object(direction: Direction, size: u8, declared: Option<u64>) -> Object {
    let (features, changes) = (Features::None, false);
    Object { direction, size, declared, registered: true, features, changes }
}

const PUT: Object = object(Direction::Put, 3, None);
const GET: Object = object(Direction::Get, 3, None);
const SINGLE: [&[Object]; 6] = [
    &[PUT],
    &[GET],
    &[object(Direction::Put, 0, Some(0))],
    &[object(Direction::Get, 2, Some(2))],
    &[Object { registered: false, ..PUT }],
    &[Object { registered: false, ..GET }],
];
const SESSIONS: [&[Object]; 4] = [
    &[object(Direction::Put, 1, None), object(Direction::Put, 1, None)],
    &[object(Direction::Put, 1, None), object(Direction::Get, 1, None)],
    &[object(Direction::Get, 1, None), object(Direction::Put, 1, None)],
    &[object(Direction::Get, 1, None), object(Direction::Get, 1, None)],
];

const ANY: Framed = Framed {
    objects: &[PUT],
    stream: Kind::Any,
    bare: false,
    timers: false,
    aborts: true,
    deviation: None,
};

#[test]
fn one_object_over_any_stream() {
    for objects in SINGLE {
        check(&Framed { objects, ..ANY });
        check(&Framed { objects, timers: true, aborts: false, ..ANY });
    }
}

#[test]
fn one_object_over_a_stream_that_delivers_everything() {
    for objects in SINGLE {
        check(&Framed { objects, stream: Kind::Tcp, ..ANY });
    }
}

fn one(object: Object) -> &'static [Object] {
    Box::leak(Box::new([object]))
}

/// The receiver has nothing, a part, the whole object, another object, or more than the object.
const PARTS: [&[u8]; 5] =
    [&[], &[0xa0], &[0xa0, 0xa1, 0xa2], &[0xa0, 0xff], &[0xa0, 0xa1, 0xa2, 0xa3]];

#[test]
fn a_resumed_object_is_whole_or_it_fails() {
    for direction in [Direction::Put, Direction::Get] {
        for part in PARTS {
            let features = Features::Resume(part);
            let objects = one(Object { features, ..object(direction, 3, None) });
            check(&Framed { objects, ..ANY });
            check(&Framed { objects, timers: true, aborts: false, ..ANY });
            check(&Framed { objects, stream: Kind::Tcp, ..ANY });
        }
    }
}

#[test]
fn a_part_beyond_the_declared_size_is_an_error() {
    for direction in [Direction::Put, Direction::Get] {
        let features = Features::Resume(PARTS[4]);
        let objects = one(Object { features, ..object(direction, 3, Some(3)) });
        check(&Framed { objects, ..ANY });
    }
}

#[test]
fn a_changed_source_never_becomes_a_receipt_with_a_digest() {
    for direction in [Direction::Put, Direction::Get] {
        for features in [Features::Digest, Features::Resume(&[0xa0])] {
            for changes in [false, true] {
                let objects = one(Object { features, changes, ..object(direction, 2, Some(2)) });
                check(&Framed { objects, ..ANY });
                check(&Framed { objects, stream: Kind::Tcp, ..ANY });
            }
        }
        let objects = one(Object { changes: true, ..object(direction, 2, None) });
        fails(&Framed { objects, stream: Kind::Tcp, ..ANY }, &[RECEIPT, WHOLE, SUCCESS]);
    }
}

#[test]
fn a_digest_that_does_not_cover_the_part_commits_a_mixture() {
    let features = Features::Resume(&[0xff]);
    let objects = one(Object { features, ..object(Direction::Put, 2, None) });
    let setup = Framed { objects, stream: Kind::Tcp, ..ANY };
    check(&setup);
    let deviation = Some(Deviation::DigestWithoutPart);
    fails(&Framed { deviation, ..setup }, &[RECEIPT, WHOLE, SUCCESS]);
}

#[test]
fn a_wrong_declared_size_over_any_stream() {
    const WRONG: [&[Object]; 4] = [
        &[object(Direction::Put, 1, Some(2))],
        &[object(Direction::Put, 3, Some(2))],
        &[object(Direction::Get, 1, Some(2))],
        &[object(Direction::Get, 3, Some(2))],
    ];
    for objects in WRONG {
        check(&Framed { objects, aborts: false, ..ANY });
    }
}

#[test]
fn two_objects_over_one_stream() {
    for objects in SESSIONS {
        check(&Framed { objects, aborts: false, ..ANY });
        check(&Framed { objects, stream: Kind::Tcp, ..ANY });
    }
}

#[test]
fn the_bare_format_does_not_hold_over_any_stream() {
    for objects in [SINGLE[0], SINGLE[1], SINGLE[3]] {
        let violated = violations(&Framed { objects, bare: true, ..ANY });
        assert!(violated.contains(&RECEIPT), "{violated:?}");
        let is_declared = objects[0].declared.is_some();
        assert_eq!(violated.contains(&WHOLE), !is_declared, "{violated:?}");
    }
}

#[test]
fn a_last_frame_without_the_word_of_the_application_passes_a_part_off_as_the_whole() {
    const LONGER: &[Object] = &[object(Direction::Put, 3, Some(2))];
    let setup = Framed { objects: LONGER, stream: Kind::Tcp, aborts: false, ..ANY };
    check(&setup);
    let deviation = Some(Deviation::LastAtDeclaredSize);
    fails(&Framed { deviation, ..setup }, &[RECEIPT, WHOLE, SUCCESS]);
}

#[test]
fn an_end_that_is_taken_for_a_receipt_is_a_false_one() {
    fails(&Framed { deviation: Some(Deviation::EndIsReceipt), ..ANY }, &[RECEIPT]);
}

#[test]
fn a_byte_after_the_last_frame_breaks_the_next_object() {
    let setup = Framed { objects: SESSIONS[0], stream: Kind::Tcp, aborts: false, ..ANY };
    fails(&Framed { deviation: Some(Deviation::ByteAfterLast), ..setup }, &[SUCCESS]);
}

#[test]
fn an_abort_inside_a_body_completes_the_body() {
    const LONG: &[Object] = &[object(Direction::Put, 2, None)];
    let setup = Framed { objects: LONG, stream: Kind::Tcp, ..ANY };
    check(&setup);
    fails(&Framed { deviation: Some(Deviation::AbortInsideBody), ..setup }, &[WHOLE]);
}

#[test]
fn a_side_that_closes_after_its_abort_loses_the_reason() {
    let setup = Framed { stream: Kind::Tcp, ..ANY };
    fails(&Framed { deviation: Some(Deviation::ClosesAfterAbort), ..setup }, &[LOST]);
}

#[test]
fn a_sender_that_only_drops_after_its_abort_waits_forever() {
    let setup = Framed { stream: Kind::Tcp, ..ANY };
    fails(&Framed { deviation: Some(Deviation::DropsAfterAbort), ..setup }, &[DEADLOCK]);
}

/// All properties, so that a name that is not used here is noticed.
const ALL: [&str; 7] = [RECEIPT, WHOLE, REASON, LOST, SUCCESS, CLOSING, DEADLOCK];

/// Checks that all properties hold in all states, and that every run ends.
fn check(setup: &Framed) {
    assert_eq!(setup.properties().iter().map(|property| property.name).collect::<Vec<_>>(), ALL);
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let (states, depth) = longest_run(setup).expect("every run ends");
    println!("{states} states, runs of at most {depth} actions: {setup:?}");
    for name in ALL {
        if let Some(path) = checker.discovery(name) {
            panic!("{name}: {setup:?}: {:#?}", path.into_actions());
        }
    }
    assert_eq!(checker.unique_state_count(), states, "both searches find all states");
}

/// Checks that exactly these properties do not hold. Prints the shortest run that violates one.
fn fails(setup: &Framed, expected: &[&str]) {
    assert_eq!(violations(setup), expected);
}

fn violations(setup: &Framed) -> Vec<&'static str> {
    let checker = setup.checker().threads(2).spawn_bfs().join();
    let mut failed = Vec::new();
    for property in setup.properties() {
        assert_eq!(property.expectation, Expectation::Always);
        if let Some(path) = checker.discovery(property.name) {
            println!("violated: {}: {:?}", property.name, path.into_actions());
            failed.push(property.name);
        }
    }
    failed
}
