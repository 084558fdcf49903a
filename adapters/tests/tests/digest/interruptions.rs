//! Objects that arrive in thousands of attempts, and bits that are flipped on the way.

use dataserver_core::Direction;
use dataserver_tests::{DynAdapter, FaultKind, Smol, Std, object};
use fastrand::Rng;

use crate::files::{Files, is_mismatch};

/// The most that a sender writes beside the object in an attempt that is interrupted: a start packet, the
/// headers of frames, and the digest.
const OVERHEAD: u64 = 200;

/// The header of a frame.
const HEADER: u64 = 12;

/// The first bytes of the sender: the start packet of a put, and a header.
const BEGIN: u64 = 25 + HEADER;

/// The first frame of a file has at most these many bytes.
const FIRST_BYTES: u64 = dataserver_common::object::FIRST_BYTES as u64;

/// Interrupts the transfer of an object this often, at places that are derived from the seed, until it is there.
///
/// The relay counts what it has forwarded to the receiver. The bound for each attempt: after a graceful end all of
/// it is there, except for the protocol's bytes. After a reset the kernel may have dropped what was on its way,
/// which is at most what was forwarded in that attempt. What was there before is never lost or sent again.
fn interrupt(files: &Files, size: u64, interruptions: u64, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let bytes = object(size as usize);
    files.write_source(&bytes);
    let (mut there, mut forwarded, mut explained) = (0, 0, 0);
    for left in (1..=interruptions).rev() {
        // First small steps, and then larger ones: what is there is hashed in each attempt.
        let step = rng.u64(1..=1 + 2 * (size - there) / (3 * left)).min(size - there);
        let kind = if rng.u8(..4) == 0 { FaultKind::Reset } else { FaultKind::End(None) };
        let is_reset = matches!(kind, FaultKind::Reset);
        let sent = files.interrupted_attempt(BEGIN + step, kind);
        let parts: u64 = files.parts().iter().sum();
        let lost = (there + sent).saturating_sub(parts);
        let bound = if is_reset { sent } else { OVERHEAD };
        assert!(
            parts >= there && lost <= bound,
            "seed {seed}, {left} left: {there} bytes were there, {sent} were sent, and {parts} are there"
        );
        (there, forwarded, explained) = (parts, forwarded + sent, explained + bound);
    }
    assert_eq!(files.target(), None);
    forwarded += files.last_attempt();
    assert!(files.target() == Some(bytes), "seed {seed}");
    assert_eq!(files.parts(), [0; 0]);
    assert!(forwarded <= size + explained + OVERHEAD, "seed {seed}: {forwarded} bytes were sent");
    println!(
        "{:?}: {interruptions} interruptions, {forwarded} bytes sent for {size}, {explained} explained",
        files.direction
    );
}

/// Flips one bit of the object on its way, and transfers it again. The header of the second frame is left alone: with
/// another length, both sides would wait for a timer.
fn flip(server: DynAdapter, client: DynAdapter, direction: Direction, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let files = Files::new(server, client, direction);
    let bytes = object(rng.usize(2_000..60_000));
    files.write_source(&bytes);
    let second = match direction {
        Direction::Put => BEGIN + FIRST_BYTES,
        Direction::Get => HEADER + FIRST_BYTES,
    };
    let mut at = rng.u64(BEGIN..bytes.len() as u64);
    if (second..second + HEADER).contains(&at) {
        at += HEADER;
    }
    let relay = files.relay(at, FaultKind::Flip(1 << rng.u8(..8)));
    let error = files.transfer(relay.address).unwrap_err();
    assert!(is_mismatch(&error), "seed {seed}: {error}");
    relay.relayed();
    files.server.outcomes.recv().unwrap().unwrap_err();
    assert_eq!(files.target(), None, "seed {seed}: a bit was flipped after {at} bytes");
    assert_eq!(files.parts(), [0; 0], "seed {seed}: a bit was flipped after {at} bytes");
    files.attempt().unwrap();
    assert!(files.target() == Some(bytes), "seed {seed}");
}

/// Each adapter in each role.
const ROLES: [(DynAdapter, DynAdapter, Direction); 4] = [
    (&Std::TCP, &Smol::TCP, Direction::Put),
    (&Smol::TCP, &Std::TCP, Direction::Put),
    (&Std::TCP, &Smol::TCP, Direction::Get),
    (&Smol::TCP, &Std::TCP, Direction::Get),
];

fn interrupt_each(size: u64, interruptions: u64) {
    std::thread::scope(|scope| {
        for (seed, (server, client, direction)) in (0..).zip(ROLES) {
            scope.spawn(move || {
                let files = Files::new(server, client, direction);
                interrupt(&files, size, interruptions, seed);
            });
        }
    });
}

fn flip_each(count: u64) {
    for seed in 0..count {
        let (server, client, direction) = ROLES[(seed % 4) as usize];
        flip(server, client, direction, seed);
    }
}

#[test]
fn no_byte_is_sent_more_often_than_interruptions_explain() {
    interrupt_each(1 << 20, 50);
}

#[test]
#[ignore = "long: 10,000 interruptions of 64 MiB for each adapter in each role"]
fn no_byte_is_sent_more_often_than_interruptions_explain_long() {
    interrupt_each(64 << 20, 10_000);
}

#[test]
fn a_flipped_bit_is_found() {
    flip_each(40);
}

#[test]
#[ignore = "long: 10,000 flipped bits"]
fn a_flipped_bit_is_found_long() {
    flip_each(10_000);
}
