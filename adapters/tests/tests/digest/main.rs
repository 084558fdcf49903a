//! Objects with a digest, and transfers that are resumed.

mod files;
mod interruptions;

use std::fs;

use dataserver_common::{Error, Request};
use dataserver_core::{AbortReason, Cause, Direction, Entry, Frame, PeerError, Refusal};
use dataserver_tests::{
    DirectionPlan, DynAdapter, Fault, FaultKind, FaultPlan, FaultPoint, KEY, OnReset, Op,
    RawListener, Relay, Server, Setup, TempDir, Wait, cause, clients, get, long_timeouts, object,
    pairs, put, spawn, tcp_pairs,
};

use crate::files::{Files, is_mismatch, parts};

/// Sizes around those from which files take other paths.
const SIZES: [usize; 6] = [0, 1, 16 * 1024, 70_000, 300_000, 3_000_000];

fn objects_arrive(server: DynAdapter, client: DynAdapter) {
    let directory = TempDir::new();
    let [source, target] = ["source", "target"].map(|name| directory.path().join(name));
    for size in SIZES {
        let bytes = object(size);
        fs::write(&source, &bytes).unwrap();
        for send in Op::ways_to_send(&bytes, &source) {
            let setup = Setup::new()
                .on_put(Entry::new(KEY), [Op::ReceiveTo(target.clone())])
                .on_get(Entry::new(KEY), send.clone());
            let server = Server::start(server, setup);
            for packet in [put(None).with_digest(), put(None).resumable()] {
                client.client(server.address, packet, long_timeouts(), &send).unwrap();
                assert!(fs::read(&target).unwrap() == bytes, "{size} bytes, {send:?}");
            }
            for packet in [get(None).with_digest(), get(None).resumable()] {
                let script = [Op::ReadToEnd, Op::Commit];
                let outcome = client.client(server.address, packet, long_timeouts(), &script);
                assert!(outcome.unwrap().bytes == bytes, "{size} bytes, {send:?}");
                let script = [Op::ReceiveTo(target.clone())];
                client.client(server.address, packet, long_timeouts(), &script).unwrap();
                assert!(fs::read(&target).unwrap() == bytes, "{size} bytes, {send:?}");
                let file = directory.path().join("written");
                let script = [Op::ReceiveFile(file.clone()), Op::Commit];
                client.client(server.address, packet, long_timeouts(), &script).unwrap();
                assert!(fs::read(file).unwrap() == bytes, "{size} bytes, {send:?}");
            }
            assert_eq!(parts(directory.path()), [0; 0]);
        }
    }
}

/// After how many bytes each attempt is cut: within the start packet, a frame, and the object.
const CUTS: [u64; 6] = [10, 30, 1_000, 200_000, 700_000, 1_500_000];

/// What the sender writes beyond the object, in all attempts: start packets, frames and digests.
const OVERHEAD: u64 = 2_000;

fn no_byte_is_sent_twice(server: DynAdapter, client: DynAdapter) {
    for direction in [Direction::Put, Direction::Get] {
        let files = Files::new(server, client, direction);
        let bytes = object(4_000_000);
        files.write_source(&bytes);
        let mut received = 0;
        for cut in CUTS {
            received += files.interrupted_attempt(cut, FaultKind::End(None));
            let there: u64 = files.parts().iter().sum();
            assert!(there + OVERHEAD > received, "{there} of {received} bytes are there");
            assert_eq!(files.target(), None);
        }
        files.attempt().unwrap();
        assert!(files.target() == Some(bytes));
        assert_eq!(files.parts(), [0; 0]);
    }
}

/// The size is declared where the sender knows it before it sends anything.
fn every_way_to_send_goes_on(server: DynAdapter, client: DynAdapter) {
    let bytes = object(300_000);
    let files = Files::new(server, client, Direction::Put);
    files.write_source(&bytes);
    for cut in [1_000, 50_000, 150_000] {
        for send in Op::ways_to_send(&bytes, &files.path("source")) {
            let put = |address| {
                let request = Request::new(KEY).resumable();
                client.put(address, request, long_timeouts(), &send)
            };
            let relay = files.relay(cut, FaultKind::End(None));
            put(relay.address).unwrap_err();
            relay.relayed();
            files.server.outcomes.recv().unwrap().unwrap_err();
            assert_ne!(files.parts(), [0; 0]);
            let sent = put(files.server.address);
            assert!(sent.is_ok(), "{sent:?}: {send:?}, cut after {cut} bytes");
            files.server.outcomes.recv().unwrap().unwrap();
            assert!(files.target().as_ref() == Some(&bytes), "{send:?}, cut after {cut} bytes");
            fs::remove_file(files.path("target")).unwrap();
            assert_eq!(files.parts(), [0; 0]);
        }
    }
}

fn a_reset_loses_no_more_than_what_was_on_its_way(server: DynAdapter, client: DynAdapter) {
    for direction in [Direction::Put, Direction::Get] {
        let files = Files::new(server, client, direction);
        let bytes = object(4_000_000);
        files.write_source(&bytes);
        let mut there = 0;
        for cut in CUTS {
            files.interrupted_attempt(cut, FaultKind::Reset);
            let parts: u64 = files.parts().iter().sum();
            assert!(parts >= there, "{parts} < {there}");
            there = parts;
        }
        files.attempt().unwrap();
        assert!(files.target() == Some(bytes));
    }
}

fn a_changed_source_fails_once_and_begins_again(server: DynAdapter, client: DynAdapter) {
    for direction in [Direction::Put, Direction::Get] {
        let files = Files::new(server, client, direction);
        let mut bytes = object(2_000_000);
        files.write_source(&bytes);
        files.interrupted_attempt(1_000_000, FaultKind::End(None));
        assert_ne!(files.parts(), [0; 0]);

        bytes[77] ^= 1;
        files.write_source(&bytes);
        let error = files.attempt().unwrap_err();
        assert!(is_mismatch(&error), "{error}");
        assert_eq!(files.target(), None);
        assert_eq!(files.parts(), [0; 0]);
        files.attempt().unwrap();
        assert!(files.target() == Some(bytes));
    }
}

fn a_part_that_is_longer_than_the_source_is_discarded(server: DynAdapter, client: DynAdapter) {
    for size in [0, 10, 100_000] {
        // The size in the start packet of a put would find another part.
        let files = Files::new(server, client, Direction::Get);
        files.write_source(&object(2_000_000));
        files.interrupted_attempt(1_000_000, FaultKind::End(None));
        let there = files.parts()[0];
        assert!(there > 100_000, "{there}");

        let bytes = object(size);
        files.write_source(&bytes);
        let error = files.transfer(files.server.address).unwrap_err();
        assert!(is_mismatch(&error), "{error}");
        let outcome = files.server.outcomes.recv().unwrap();
        let beyond = Cause::Peer(PeerError::OffsetBeyondSize { offset: there, size: size as u64 });
        assert_eq!(cause(&outcome), beyond);
        assert_eq!(files.parts(), [0; 0]);
        files.attempt().unwrap();
        assert!(files.target() == Some(bytes));
    }
}

/// The sender may try again as soon as it has read ABORT, and must not find the part.
fn a_client_discards_its_part_before_the_server_knows(client: DynAdapter) {
    let directory = TempDir::new();
    let script = [Op::ReceiveTo(directory.path().join("target"))];
    let listener = RawListener::new();
    let address = listener.address();
    let getting =
        spawn(move || client.client(address, get(None).resumable(), long_timeouts(), &script));
    let mut server = listener.accept();
    let packet = get(None).resumable();
    let open = Frame::Open { offset: 0 }.to_bytes();
    assert_eq!(server.read(37), [packet.as_bytes().as_slice(), &open].concat());
    let last = Frame::Last { len: 5 }.to_bytes();
    server.send(&[last.as_slice(), b"hello", &[0; 32]].concat());
    assert_eq!(server.read(12), Frame::Abort(AbortReason::Mismatch).to_bytes());
    assert_eq!(parts(directory.path()), [0; 0]);
    drop(server);
    assert!(is_mismatch(&getting.wait().unwrap_err()));
}

fn a_session_carries_objects_that_can_be_resumed(server: DynAdapter, client: DynAdapter) {
    let files = Files::new(server, client, Direction::Get);
    let bytes = object(200_000);
    files.write_source(&bytes);
    let script = vec![Op::ReceiveTo(files.path("target"))];
    let objects = [(files.packet(), script.clone()), (get(None).with_digest(), script)];
    for outcome in client.session(files.server.address, long_timeouts(), &objects) {
        outcome.unwrap();
        assert!(files.target().as_ref() == Some(&bytes));
    }
}

fn an_entry_may_demand_a_digest(server: DynAdapter, client: DynAdapter) {
    let setup = Setup::new().on_get(Entry::new(KEY).digest_only(), [Op::Send(object(10))]);
    let server = Server::start(server, setup);
    let script = [Op::ReadToEnd, Op::Commit];
    for packet in [get(None), get(None).framed()] {
        client.client(server.address, packet, long_timeouts(), &script).unwrap_err();
        let refused = Cause::Refused(Refusal::WithoutDigest);
        assert_eq!(cause(&server.outcomes.wait()), refused);
    }
    for packet in [get(None).with_digest(), get(None).resumable()] {
        client.client(server.address, packet, long_timeouts(), &script).unwrap();
        server.outcomes.wait().unwrap();
    }
}

/// What the sender of an object that the server has sends: a start packet, LAST, and the digest.
const RECOGNIZED: usize = 25 + 12 + 32;

/// Puts through a relay that cuts the connection within the receipt, behind OPEN. The server has committed.
fn lose_receipt(files: &Files, kind: FaultKind) {
    let cut = Fault { at: FaultPoint::Byte(12 + 6), kind };
    let to_client = DirectionPlan { fault: Some(cut), ..DirectionPlan::default() };
    let (on_reset, to_server) = (OnReset::Reset, DirectionPlan::default());
    let plan = FaultPlan { to_server, to_client, on_reset, closes_both: true, ends_alone: false };
    let relay = Relay::start(files.server.address, plan);
    files.transfer(relay.address).unwrap_err();
    relay.relayed();
    files.server.outcomes.wait().unwrap();
}

fn a_put_whose_receipt_was_lost_is_recognized(server: DynAdapter, client: DynAdapter) {
    for kind in [FaultKind::End(None), FaultKind::Reset] {
        for size in SIZES {
            let files = Files::until_delivered(server, client);
            let bytes = object(size);
            files.write_source(&bytes);
            lose_receipt(&files, kind.clone());
            assert!(files.target() == Some(bytes));
            // A handler that ran again would make it again.
            fs::remove_file(files.path("target")).unwrap();
            for _ in 0..2 {
                let relay = files.relay(u64::MAX, FaultKind::Reset);
                files.transfer(relay.address).unwrap();
                assert_eq!(relay.relayed().to_server.bytes.len(), RECOGNIZED);
                assert_eq!(files.server.outcomes.wait().unwrap().bytes, size as u64);
                assert_eq!(files.target(), None);
            }
        }
    }
}

fn another_object_is_not_taken_for_the_one_that_was_delivered(
    server: DynAdapter,
    client: DynAdapter,
) {
    let files = Files::until_delivered(server, client);
    let mut bytes = object(70_000);
    files.write_source(&bytes);
    lose_receipt(&files, FaultKind::Reset);
    let delivered = bytes.clone();

    bytes[77] ^= 1;
    files.write_source(&bytes);
    let error = files.attempt().unwrap_err();
    assert!(is_mismatch(&error), "{error}");
    for other in [&[], &delivered[..69_999], &object(70_001)] {
        files.write_source(other);
        files.attempt().unwrap_err();
        assert!(files.target().as_ref() == Some(&delivered));
    }
    files.write_source(&delivered);
    files.attempt().unwrap();
    // What the application removes is not known any more.
    assert!(!files.server.remove(Direction::Put, KEY));
    let error = files.attempt().unwrap_err();
    let reason = Error::of(&error).and_then(Error::abort_reason);
    assert_eq!(reason, Some(AbortReason::Refused));
}

clients! {
    a_client_discards_its_part_before_the_server_knows,
}

// The positions of the cuts are those of the bytes on the wire.
tcp_pairs! {
    a_put_whose_receipt_was_lost_is_recognized,
    another_object_is_not_taken_for_the_one_that_was_delivered,
    no_byte_is_sent_twice,
    every_way_to_send_goes_on,
}

pairs! {
    objects_arrive,
    a_reset_loses_no_more_than_what_was_on_its_way,
    a_changed_source_fails_once_and_begins_again,
    a_part_that_is_longer_than_the_source_is_discarded,
    a_session_carries_objects_that_can_be_resumed,
    an_entry_may_demand_a_digest,
}
