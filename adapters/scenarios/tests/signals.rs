//! *Signals*: an interrupted call is made again, and a peer that is gone is an error, not a signal.

use std::sync::mpsc::channel;

use dataserver_core::Key;
use dataserver_scenarios::process::{client as doing, entry};
use dataserver_scenarios::{
    Any, Do, End, Gate, Process, Raw, Server, Setup, Soon, object, pairs, put, servers, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

fn packet(kind: u8, name: &str) -> Vec<u8> {
    start_for(kind, -1, Key::from_name(name))
}

/// In the start packet, reading, writing, and waiting for the receipt: wherever a thread waits for a socket
/// to be ready. The other calls are made again, by the kernel or by the adapter.
fn interrupted_servers_go_on(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    let mut beginner = Raw::client(address, &packet(1, entry::GET)[..24]);
    let mut putter = Raw::client(address, &[packet(0, entry::PUT), object(10)].concat());
    let mut getter = Raw::client(address, &packet(1, entry::FILE_GET));
    let mut receiver = Raw::client(address, &packet(1, entry::GET));
    process.told("told 5");
    assert_eq!(receiver.rest(), (object(1000), End::Orderly));
    beginner.taken();
    putter.taken();
    getter.full();

    for _ in 0..100 {
        process.interrupt();
    }
    process.say("count");
    assert_eq!(process.told("interrupted "), "true");
    for peer in [&mut beginner, &mut putter] {
        assert!(peer.nothing_yet(), "it was reset");
    }

    beginner.send(&packet(1, entry::GET)[24..]);
    assert_eq!(beginner.rest(), (object(1000), End::Orderly));
    let file = std::fs::read(PROGRAM).unwrap();
    assert!(getter.rest() == (file, End::Orderly));
    putter.send(&object(10));
    for peer in [&mut putter, &mut beginner, &mut getter, &mut receiver] {
        peer.half_close();
    }
    assert_eq!(putter.end(), End::Orderly);
    for _ in 0..4 {
        process.told("served ");
    }
    process.say("stop 0");
    process.say("end");
    process.told("after "); // so `run` has not failed
}

/// A client that waits for its receipt.
fn interrupted_clients_go_on(server: Any, client: Any) {
    let (read, reading) = channel();
    let gate = Gate::new();
    let script = [Do::ReadToEnd, Do::Tell(read), Do::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(Some(10)), script));
    let address = server.address.to_string();
    let process = Process::start(PROGRAM, &["client", client.name(), &address, doing::WHOLE_PUT]);
    reading.soon();
    for _ in 0..100 {
        process.interrupt();
    }
    gate.open();
    process.told("told"); // behind the receipt
    server.outcomes.soon().unwrap();
}

/// A getter ends its half, so that the server has heard of it, and is gone before it has read all: the
/// next write is to a broken pipe. A program that has its reasons to heed that signal is spared it. By
/// sendfile(2) it cannot be: the documentation says so, and whoever survives the signal goes on.
fn peer_that_is_gone_is_no_signal(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    for name in [entry::ENDLESS_GET, entry::FILE_GET] {
        for _ in 0..20 {
            let mut getter = Raw::client(address, &packet(1, name));
            getter.half_close();
            getter.read(1000);
            drop(getter); // with unread bytes, so this is a reset
            let error = process.told("failed ");
            assert!(error.contains("the peer reset the connection"), "{error}");
        }
        process.say("count");
        assert_eq!(process.told("descriptors "), "0 more");
        if name == entry::ENDLESS_GET {
            assert_eq!(process.told("broken pipe "), "false");
        }
    }
}

servers!(interrupted_servers_go_on, peer_that_is_gone_is_no_signal);
pairs!(interrupted_clients_go_on);
