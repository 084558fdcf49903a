//! *Guessing*: only the whole start packet finds what is registered, and whoever has another one
//! cannot tell how close it was.

use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_adapter::after;
use dataserver_core::{Entry, Key, StartPacket};
use dataserver_scenarios::{
    Any, Do, End, Gate, Raw, Server, Setup, Soon, get, object, pairs, patient, put, servers, spawn,
    start, start_for,
};

/// The size of everything that is registered here.
const SIZE: i64 = 10;
/// A key that is like that of `put` and `get` but for its last bit.
const NEAR: Key = Key::new([
    0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc7, 0xc6,
]);

/// All that a guesser sees: nothing before its last byte, and then what the server sent, and how it
/// ended.
type Seen = (bool, Vec<u8>, End);

const NOTHING: Seen = (true, Vec::new(), End::Reset);

fn seen(server: &Server, packet: &[u8], behind: &[u8]) -> Seen {
    let mut client = Raw::connect(server.address);
    let (first, last) = packet.split_at(24);
    client.send_apart([first]);
    let silent = client.nothing_yet();
    client.send(&[last, behind].concat());
    let (bytes, end) = client.rest();
    (silent, bytes, end)
}

/// As many ways to be wrong as there are, from not at all like what is registered to all of it, but
/// too late or too early.
fn near_is_as_far(server: Any) {
    let (ran, running) = channel();
    let gate = Gate::new();
    let held = [Do::Tell(ran), Do::Wait(gate.clone()), Do::ReadToEnd];
    let key = |n: u8| Key::new([n; 16]);
    let sized = |n| StartPacket::put(key(n)).with_size(SIZE as u64).unwrap();
    let setup = Setup::new()
        .on(put(Some(SIZE as u64)), [Do::ReadToEnd])
        .on(Entry::exact(sized(1)).once(), [Do::Discard(100)])
        .on(Entry::exact(sized(2)).expires(after(Duration::ZERO)), [Do::ReadToEnd])
        .on(Entry::exact(sized(3)).until_delivered(), held)
        .on(Entry::exact(sized(4)).until_delivered(), [Do::ReadToEnd])
        .on(sized(5), [Do::ReadToEnd])
        .on(Entry::any_size(StartPacket::put(key(6)), 9), [Do::ReadToEnd]);
    let server = Server::start(server, setup);

    let succeeds = |n| {
        let mut client =
            Raw::client(server.address, &[start_for(0, SIZE, key(n)), object(10)].concat());
        client.half_close();
        assert_eq!(client.end(), End::Orderly);
    };
    succeeds(1);
    succeeds(4);
    assert!(server.remove(sized(5)));
    let mut holder =
        Raw::client(server.address, &[start_for(0, SIZE, key(3)), object(10)].concat());
    running.soon();

    for (what, packet) in [
        ("an unknown key", start_for(0, SIZE, key(9))),
        ("a key that is near", start_for(0, SIZE, NEAR)),
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
        for behind in [&[][..], &object(10)] {
            assert_eq!(seen(&server, &packet, behind), NOTHING, "{what}");
        }
    }
    gate.open();
    holder.half_close();
    assert_eq!(holder.end(), End::Orderly, "whoever was in is not disturbed");
    assert_eq!(seen(&server, &start_for(0, SIZE, key(3)), &[]), NOTHING, "now it is spent too");
}

/// Nor does an adapter's client: its error tells what it asked for, and that it was reset.
fn refusals_read_alike(server: Any, client: Any) {
    let key = |n: u8| Key::new([n; 16]);
    let spent = Entry::exact(StartPacket::get(key(1))).once();
    let expired = Entry::exact(StartPacket::get(key(2))).expires(after(Duration::ZERO));
    let leased = Entry::exact(StartPacket::get(key(3))).until_delivered();
    let (ran, running) = channel();
    let held = [Do::Tell(ran), Do::Wait(Gate::new())];
    let setup = Setup::new()
        .on(get(Some(10)), [Do::Send(object(10))])
        .on(spent, [Do::Send(object(10))])
        .on(expired, [Do::Send(object(10))])
        .on(leased, held)
        .on(StartPacket::put(key(4)), [Do::ReadToEnd]);
    let server = Server::start(server, setup);
    let address = server.address;
    let fetch = move |packet| {
        client.client(address, packet, patient(), &[Do::ReadToEnd, Do::Commit]).map(|_| ())
    };
    fetch(StartPacket::get(key(1))).unwrap();
    let _for_good = spawn(move || fetch(StartPacket::get(key(3))));
    running.soon();

    let wrong = [StartPacket::get(NEAR), get(None), get(Some(11))];
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

/// Every packet that is one bit beside one that is registered, while that one stays what it was.
fn no_bit_may_differ(server: Any) {
    none_is_found(server, |packet| (0..200).map(|bit| flipped(packet, bit)).collect());
}

/// And every one that is two bits beside it.
fn no_two_bits_may_differ(server: Any) {
    none_is_found(server, |packet| {
        let pairs = (0..200).flat_map(|first| (0..first).map(move |second| (first, second)));
        pairs.map(|(first, second)| flipped(&flipped(packet, first), second)).collect()
    });
}

fn flipped(packet: &[u8], bit: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[bit / 8] ^= 1 << (bit % 8);
    packet
}

/// None of these guesses at each kind of packet is let in, and the last one, which is right, is.
fn none_is_found(server: Any, guesses: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    let (ran, running) = channel();
    let tell = Do::Tell(ran);
    for (kind, size) in [(0, SIZE), (0, -1), (1, SIZE), (1, -1)] {
        let declared = u64::try_from(size).ok();
        let setup = match kind {
            0 => Setup::new().on(put(declared), [tell.clone(), Do::ReadToEnd]),
            _ => Setup::new().on(get(declared), [tell.clone(), Do::Send(object(10))]),
        };
        let server = Server::start(server, setup);
        let guesses = guesses(&start(kind, size));
        for guess in &guesses {
            assert_eq!(seen(&server, guess, &[]), NOTHING, "{guess:02x?}");
            server.outcomes.soon().unwrap_err();
        }
        println!("{} guesses at {:02x?}, and none is found", guesses.len(), start(kind, size));
        assert!(running.try_recv().is_err(), "a handler ran");

        let mut client = Raw::client(server.address, &start(kind, size));
        running.soon();
        client.half_close();
    }
}

servers!(
    near_is_as_far,
    no_bit_may_differ,
    #[ignore = "long: 79,600 connections"]
    no_two_bits_may_differ,
);
pairs!(refusals_read_alike);
