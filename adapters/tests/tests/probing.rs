//! Only the whole start packet finds an entry, and a client with another one cannot tell how similar it
//! is.

use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Direction, Entry, Key, StartPacket};
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Raw, Server, Setup, Wait, get, long_timeouts, object, pairs, put,
    servers, spawn, start, start_for,
};

/// The size of every object.
const SIZE: i64 = 10;
/// A key that differs from [`KEY`](dataserver_tests::KEY) in its last bit.
const SIMILAR_KEY: Key = Key::from_bytes([
    0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc6,
]);

/// What a client with a wrong start packet sees: whether nothing arrived before its last byte, the
/// bytes of the server, and how it closed.
type Observed = (bool, Vec<u8>, End);

const NOTHING: Observed = (true, Vec::new(), End::Reset);

fn observe(server: &Server, packet: &[u8], object_bytes: &[u8]) -> Observed {
    let mut client = Raw::connect(server.address);
    let (first, last) = packet.split_at(24);
    client.send_apart([first]);
    let silent = client.nothing_yet();
    client.send(&[last, object_bytes].concat());
    let (bytes, end) = client.rest();
    (silent, bytes, end)
}

/// Start packets that differ from a registered one in one part, and others that are right but cannot be
/// claimed.
fn wrong_packets_are_indistinguishable(server: DynAdapter) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let held = [Op::Notify(ran), Op::Wait(gate.clone()), Op::ReadToEnd];
    let key = |n: u8| Key::from_bytes([n; 16]);
    let sized = |n| StartPacket::put(key(n)).with_size(SIZE as u64).unwrap();
    let setup = Setup::new()
        .on(put(Some(SIZE as u64)), [Op::ReadToEnd])
        .on_put(Entry::exact(sized(1)).once(), [Op::Discard(100)])
        .on_put(Entry::exact(sized(2)).expires_after(Duration::ZERO), [Op::ReadToEnd])
        .on_put(Entry::exact(sized(3)).until_delivered(), held)
        .on_put(Entry::exact(sized(4)).until_delivered(), [Op::ReadToEnd])
        .on(sized(5), [Op::ReadToEnd])
        .on_put(Entry::new(key(6)).max_size(9), [Op::ReadToEnd]);
    let server = Server::start(server, setup);

    let succeeds = |n| {
        let mut client =
            Raw::client(server.address, &[start_for(0, SIZE, key(n)), object(10)].concat());
        client.half_close();
        assert_eq!(client.end(), End::Graceful);
    };
    succeeds(1);
    succeeds(4);
    assert!(server.remove(Direction::Put, Entry::exact(sized(5))));
    let mut holder =
        Raw::client(server.address, &[start_for(0, SIZE, key(3)), object(10)].concat());
    running.wait();

    for (what, packet) in [
        ("an unknown key", start_for(0, SIZE, key(9))),
        ("a key that is near", start_for(0, SIZE, SIMILAR_KEY)),
        ("one less than the size", start(0, SIZE - 1)),
        ("one more than the size", start(0, SIZE + 1)),
        ("the key without its size", start(0, -1)),
        ("the key in the other direction", start(1, SIZE)),
        ("once, and spent", start_for(0, SIZE, key(1))),
        ("expired", start_for(0, SIZE, key(2))),
        ("in use", start_for(0, SIZE, key(3))),
        ("delivered", start_for(0, SIZE, key(4))),
        ("removed", start_for(0, SIZE, key(5))),
        ("above what the entry takes", start_for(0, SIZE, key(6))),
        ("no type", start(2, SIZE)),
        ("no size", start(0, -2)),
    ] {
        for object_bytes in [&[][..], &object(10)] {
            assert_eq!(observe(&server, &packet, object_bytes), NOTHING, "{what}");
        }
    }
    gate.open();
    holder.half_close();
    assert_eq!(holder.end(), End::Graceful, "the claimed transfer goes on");
    assert_eq!(observe(&server, &start_for(0, SIZE, key(3)), &[]), NOTHING, "it was delivered");
}

/// The errors of a client do not differ either.
fn refusals_have_one_error_text(server: DynAdapter, client: DynAdapter) {
    let key = |n: u8| Key::from_bytes([n; 16]);
    let spent = Entry::exact(StartPacket::get(key(1))).once();
    let expired = Entry::exact(StartPacket::get(key(2))).expires_after(Duration::ZERO);
    let leased = Entry::exact(StartPacket::get(key(3))).until_delivered();
    let (ran, running) = channel();
    let held = [Op::Notify(ran), Op::Wait(Gate::new())];
    let setup = Setup::new()
        .on(get(Some(10)), [Op::Send(object(10))])
        .on_get(spent, [Op::Send(object(10))])
        .on_get(expired, [Op::Send(object(10))])
        .on_get(leased, held)
        .on(StartPacket::put(key(4)), [Op::ReadToEnd]);
    let server = Server::start(server, setup);
    let address = server.address;
    let fetch = move |packet| {
        client.client(address, packet, long_timeouts(), &[Op::ReadToEnd, Op::Commit]).map(|_| ())
    };
    fetch(StartPacket::get(key(1))).unwrap();
    let _in_use = spawn(move || fetch(StartPacket::get(key(3))));
    running.wait();

    let wrong = [StartPacket::get(SIMILAR_KEY), get(None), get(Some(11))];
    let late = [1, 2, 3, 4].map(|n| StartPacket::get(key(n)));
    let texts = wrong.into_iter().chain(late).map(|packet| {
        let text = fetch(packet).unwrap_err().to_string();
        text.replace(&packet.to_string(), "PACKET")
    });
    let mut texts: Vec<_> = texts.collect();
    assert!(texts[0].contains("the peer reset the connection"), "{texts:?}");
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

/// Every start packet that differs from a registered one in one bit.
fn packets_that_differ_in_one_bit_are_refused(server: DynAdapter) {
    let bits = (0..200).filter(|bit| *bit != FRAMED_BIT);
    assert_all_refused(server, |packet| bits.clone().map(|bit| flipped(packet, bit)).collect());
}

/// Every start packet that differs from a registered one in two bits.
fn packets_that_differ_in_two_bits_are_refused(server: DynAdapter) {
    assert_all_refused(server, |packet| {
        let pairs = (0..200).flat_map(|first| (0..first).map(move |second| (first, second)));
        let pairs = pairs.filter(|(first, second)| ![*first, *second].contains(&FRAMED_BIT));
        pairs.map(|(first, second)| flipped(&flipped(packet, first), second)).collect()
    });
}

/// The same registration serves the framed format.
const FRAMED_BIT: usize = 7;

fn flipped(packet: &[u8], bit: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[bit / 8] ^= 1 << (bit % 8);
    packet
}

/// None of these packets is accepted, for any kind of entry. The registered packet still is.
fn assert_all_refused(server: DynAdapter, wrong_packets: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let (ran, running) = channel();
    let tell = Op::Notify(ran);
    for (kind, size) in [(0, SIZE), (0, -1), (1, SIZE), (1, -1)] {
        let declared = u64::try_from(size).ok();
        let setup = match kind {
            0 => Setup::new().on(put(declared), [tell.clone(), Op::ReadToEnd]),
            _ => Setup::new().on(get(declared), [tell.clone(), Op::Send(object(10))]),
        };
        let server = Server::start(server, setup);
        let wrong = wrong_packets(&start(kind, size));
        for packet in &wrong {
            assert_eq!(observe(&server, packet, &[]), NOTHING, "{packet:02x?}");
            server.outcomes.wait().unwrap_err();
        }
        println!(
            "{} packets that differ from {:02x?} were refused",
            wrong.len(),
            start(kind, size)
        );
        assert!(running.try_recv().is_err(), "a handler ran");

        let mut client = Raw::client(server.address, &start(kind, size));
        running.wait();
        client.half_close();
    }
}

servers!(
    wrong_packets_are_indistinguishable,
    packets_that_differ_in_one_bit_are_refused,
    #[ignore = "long: 78,804 connections"]
    packets_that_differ_in_two_bits_are_refused,
);
pairs!(refusals_have_one_error_text);
