//! Interrupted system calls are repeated, and a peer that is gone is an error, not a signal.

use std::sync::mpsc::channel;

use dataserver_core::Key;
use dataserver_tests::process::{client as doing, entry};
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Process, Raw, Server, Setup, Wait, object, pairs, put, servers,
    start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

fn packet(kind: u8, name: &str) -> Vec<u8> {
    start_for(kind, -1, Key::from_name(name))
}

/// During the start packet, while reading, while writing, and while waiting for the receipt: wherever a
/// thread waits for a socket. Other calls are repeated by the kernel or by the adapter.
fn interrupted_servers_go_on(server: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    let mut beginner = Raw::client(address, &packet(1, entry::GET)[..24]);
    let mut putter = Raw::client(address, &[packet(0, entry::PUT), object(10)].concat());
    let mut getter = Raw::client(address, &packet(1, entry::FILE_GET));
    let mut receiver = Raw::client(address, &packet(1, entry::GET));
    process.wait_for_line("notified 5");
    assert_eq!(receiver.rest(), (object(1000), End::Graceful));
    beginner.wait_until_read();
    putter.wait_until_read();
    getter.wait_until_full();

    for _ in 0..100 {
        process.interrupt();
    }
    process.command("count");
    assert_eq!(process.wait_for_line("interrupted "), "true");
    for peer in [&mut beginner, &mut putter] {
        assert!(peer.nothing_yet(), "it was reset");
    }

    beginner.send(&packet(1, entry::GET)[24..]);
    assert_eq!(beginner.rest(), (object(1000), End::Graceful));
    let file = std::fs::read(PROGRAM).unwrap();
    assert!(getter.rest() == (file, End::Graceful));
    putter.send(&object(10));
    for peer in [&mut putter, &mut beginner, &mut getter, &mut receiver] {
        peer.half_close();
    }
    assert_eq!(putter.end(), End::Graceful);
    for _ in 0..4 {
        process.wait_for_line("served ");
    }
    process.command("stop 0");
    process.command("end");
    process.wait_for_line("after "); // so `run` has not failed
}

/// The client waits for its receipt.
fn interrupted_clients_go_on(server: DynAdapter, client: DynAdapter) {
    let (read, reading) = channel();
    let gate = Gate::new();
    let script = [Op::ReadToEnd, Op::Notify(read), Op::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(put(Some(10)), script));
    let address = server.address.to_string();
    let process = Process::start(PROGRAM, &["client", client.name(), &address, doing::WHOLE_PUT]);
    reading.wait();
    for _ in 0..100 {
        process.interrupt();
    }
    gate.open();
    process.wait_for_line("notified"); // after the receipt
    server.outcomes.wait().unwrap();
}

/// The client shuts down its write half, so that the server knows of it, and then closes before it has
/// read everything: the next write fails with EPIPE. An adapter writes without raising SIGPIPE. With
/// sendfile(2) that is not possible, as the documentation says, and a program that handles the signal
/// goes on.
fn writing_to_a_closed_peer_raises_no_sigpipe(server: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    for name in [entry::ENDLESS_GET, entry::FILE_GET] {
        for _ in 0..20 {
            let mut getter = Raw::client(address, &packet(1, name));
            getter.half_close();
            getter.read(1000);
            drop(getter); // a reset, since bytes are unread
            let error = process.wait_for_line("failed ");
            assert!(error.contains("the peer reset the connection"), "{error}");
        }
        process.command("count");
        assert_eq!(process.wait_for_line("descriptors "), "0 more");
        if name == entry::ENDLESS_GET {
            assert_eq!(process.wait_for_line("broken pipe "), "false");
        }
    }
}

servers!(interrupted_servers_go_on, writing_to_a_closed_peer_raises_no_sigpipe);
pairs!(interrupted_clients_go_on);
