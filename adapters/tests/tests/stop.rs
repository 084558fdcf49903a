//! Shutdown: no new connections, a grace period for current ones, a reset for the rest, and no leaks.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Cause, Key, LocalError, StartPacket};
use dataserver_tests::process::entry;
use dataserver_tests::{
    DynAdapter, End, Gate, Op, Process, Raw, Server, Setup, TIMEOUT, Wait, cause, get, kernel,
    long_timeouts, object, pairs, put, servers, spawn, start, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// Longer than any test.
const LONG: Duration = TIMEOUT.saturating_mul(10);

fn idle_server_ends(server: DynAdapter, client: DynAdapter) {
    let server = Server::start(server, Setup::new().on(put(None), [Op::ReadToEnd]));
    for _ in 0..5 {
        let script = [Op::Send(object(10))];
        client.client(server.address, put(None), long_timeouts(), &script).unwrap();
    }
    let address = server.address;
    server.stop(LONG);
    server.join();
    TcpListener::bind(address).expect("the port is free again");
}

fn new_connections_are_refused_at_once(server: DynAdapter, client: DynAdapter) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    beginning.wait();

    server.stop(LONG);
    assert_eq!(Raw::try_connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let refused = client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    gate.open();
    putting.wait().unwrap();
    server.join();
}

/// Connections in the accept queue are reset.
fn accept_queue_is_reset(server: DynAdapter) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Op::Read(1), Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script).max_connections(1));
    let bytes = [start(0, -1), object(10)].concat();
    let mut first = Raw::client(server.address, &bytes);
    beginning.wait();
    let mut second = Raw::client(server.address, &bytes);
    server.stop(LONG);
    assert_eq!(second.end(), End::Reset);
    assert!(first.nothing_yet());
    gate.open();
    first.half_close();
    assert_eq!(first.end(), End::Graceful);
    server.join();
}

fn running_transfers_may_end(server: DynAdapter, client: DynAdapter) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let (tell, wait) = (Op::Notify(begun), Op::Wait(gate.clone()));
    let setup = Setup::new()
        .on(put(None), [Op::Read(5), tell.clone(), Op::ReadToEnd, wait.clone()])
        .on(get(None), [Op::Write(object(5)), tell, wait, Op::Send(object(5))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let more = Gate::new();
    let script =
        [Op::Write(object(5)), Op::Flush, Op::Wait(more.clone()), Op::Send(object(1 << 20))];
    let putting = spawn(move || client.client(address, put(None), long_timeouts(), &script));
    let script = [Op::ReadToEnd, Op::Commit];
    let getting = spawn(move || client.client(address, get(None), long_timeouts(), &script));
    beginning.wait();
    beginning.wait();

    server.stop(LONG);
    more.open();
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 5 + (1 << 20));
    assert_eq!(getting.wait().unwrap().bytes.len(), 10);
    for _ in 0..2 {
        server.outcomes.wait().unwrap();
    }
    server.join();
}

/// Wherever it may wait for its peer: in the start packet, while reading, while writing, and for the
/// receipt.
fn waiting_connections_are_reset(server: DynAdapter) {
    // At once, after a while, and at once in spite of a long grace period before.
    for stops in
        [vec![Duration::ZERO], vec![Duration::from_millis(100)], vec![LONG, Duration::ZERO]]
    {
        let (begun, beginning) = channel();
        let setup = Setup::new()
            .on(put(None), [Op::Read(5), Op::Notify(begun), Op::ReadToEnd])
            .on(get(None), [Op::WriteForever(object(1 << 16))])
            .on(get(Some(10)), [Op::Send(object(10))]);
        let server = Server::start(server, setup);

        let mut silent = Raw::connect(server.address);
        let mut beginner = Raw::client(server.address, &start(0, -1)[..24]);
        let mut putter = Raw::client(server.address, &[start(0, -1), object(5)].concat());
        let getter = Raw::client(server.address, &start(1, -1));
        let mut receiver = Raw::client(server.address, &start(1, 10));
        beginning.wait();
        beginner.wait_until_read();
        getter.wait_until_full();
        assert_eq!(receiver.rest(), (object(10), End::Graceful));
        for peer in [&mut silent, &mut beginner, &mut putter] {
            assert!(peer.nothing_yet());
        }

        for stop in stops {
            server.stop(stop);
        }
        for peer in [&mut silent, &mut beginner, &mut putter] {
            assert_eq!(peer.end(), End::Reset);
        }
        for peer in [&receiver, &getter] {
            peer.wait_for_reset(); // the first after its FIN, the second while it does not read
        }

        let stopping = LocalError::Aborted { reason: "the server is stopping", code: 0 };
        for _ in 0..5 {
            assert_eq!(cause(&server.outcomes.wait()), Cause::from(stopping));
        }
        server.join();
    }
}

/// The same for a transfer that never has to wait for its peer.
fn busy_put_is_reset(server: DynAdapter) {
    let (begun, beginning) = channel();
    let script = [Op::Read(1), Op::Notify(begun), Op::Discard(1)];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let client = Raw::client(server.address, &start(0, -1));
    let flooding = spawn(move || client.send_forever(&object(1 << 16)));
    beginning.wait();
    server.stop(Duration::ZERO);
    flooding.wait();
    server.join();
}

fn busy_get_is_reset(server: DynAdapter) {
    let (begun, beginning) = channel();
    let script = [Op::Write(object(1)), Op::Notify(begun), Op::WriteForever(object(1))];
    let server = Server::start(server, Setup::new().on(get(None), script));
    let mut client = Raw::client(server.address, &start(1, -1));
    beginning.wait();
    let reading = spawn(move || client.rest().1);
    server.stop(Duration::ZERO);
    assert_eq!(reading.wait(), End::Reset);
    server.join();
}

/// A handler that waits for something else cannot be interrupted by a blocking adapter. Its connection
/// is reset when it returns.
fn handlers_that_wait_are_reset(adapter: DynAdapter) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(adapter, Setup::new().on(put(None), script));
    let mut client = Raw::client(server.address, &[start(0, -1), object(10)].concat());
    beginning.wait();
    server.stop(Duration::ZERO);
    if adapter.waits_for_handlers() {
        assert!(client.nothing_yet());
        gate.open();
    }
    assert_eq!(client.end(), End::Reset);
    server.join();
}

/// Another holder of the listener shuts it down. There are no new connections then, current ones end,
/// and `run` returns the error.
fn listener_that_fails_ends_the_server(server: DynAdapter, client: DynAdapter) {
    const LARGE: usize = 1 << 24; // takes longer than the server needs to notice
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let also = listener.try_clone().unwrap();
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script).listener(listener));
    let address = server.address;
    let putting = spawn(move || {
        client.client(address, put(None), long_timeouts(), &[Op::Send(vec![7; LARGE])])
    });
    beginning.wait();

    rustix::net::shutdown(&also, rustix::net::Shutdown::Both).unwrap();
    let refused = Raw::try_connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, LARGE as u64);
    server.outcomes.wait().unwrap();
    let error = server.result().unwrap_err().to_string();
    assert_eq!(error, "cannot listen: Invalid argument (os error 22)");
}

/// The listener is shut down while the server does not accept, because all connections are in use. A
/// shutdown of the server then returns no error.
fn shutdown_without_a_listener(server: DynAdapter, client: DynAdapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let also = listener.try_clone().unwrap();
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Op::Notify(begun), Op::Wait(gate.clone()), Op::ReadToEnd];
    let setup = Setup::new().on(put(None), script).listener(listener).max_connections(1);
    let server = Server::start(server, setup);
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), long_timeouts(), &[Op::Send(object(10))]));
    beginning.wait();

    rustix::net::shutdown(&also, rustix::net::Shutdown::Both).unwrap();
    server.stop(TIMEOUT);
    gate.open();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 10);
    server.join();
}

/// In a process of its own: it has as many threads and descriptors as before.
fn nothing_leaks(server: DynAdapter, client: DynAdapter) {
    let mut process = Process::start(PROGRAM, &["serve", server.name()]);
    let before = process.wait_for_line("before ");
    let address = process.wait_for_line("listening ").parse().unwrap();
    let key = |name| Key::from_name(name);
    let packet = |kind, name| start_for(kind, -1, key(name));
    let running: Vec<_> = (0..10)
        .flat_map(|_| {
            [
                Raw::client(address, &packet(0, entry::PUT)),
                Raw::client(address, &packet(1, entry::ENDLESS_GET)),
                Raw::client(address, &packet(1, entry::GET)[..9]),
                Raw::connect(address),
            ]
        })
        .collect();
    for _ in 0..10 {
        let packet = StartPacket::get(key(entry::GET));
        let script = [Op::ReadToEnd, Op::Commit];
        assert_eq!(
            client.client(address, packet, long_timeouts(), &script).unwrap().bytes,
            object(1000)
        );
    }
    process.command("stop 0");
    process.command("end");
    for peer in &running {
        peer.wait_for_reset();
    }
    assert_eq!(process.wait_for_line("after "), before);
}

/// In a process of its own, with connections that wait: no thread wakes up periodically, neither before
/// nor during the shutdown.
fn no_thread_polls(server: DynAdapter) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    let packet = |kind, name| start_for(kind, -1, Key::from_name(name));
    let putter = Raw::client(address, &[packet(0, entry::PUT), object(10)].concat());
    let getter = Raw::client(address, &packet(1, entry::ENDLESS_GET));
    process.wait_for_line("notified");
    putter.wait_until_read();
    getter.wait_until_full();
    for stopping in [false, true] {
        if stopping {
            process.command("stop 600000");
            process.command("count"); // shows that the shutdown has begun
            process.wait_for_line("descriptors");
        }
        // Threads that were idle for half a second may still end. A thread that polls wakes up in every
        // such window.
        let quiet = (0..20).any(|_| {
            let before = kernel::sleeps(process.id());
            thread::sleep(Duration::from_millis(700));
            kernel::sleeps(process.id()) == before
        });
        assert!(quiet, "a thread wakes up periodically");
    }
}

servers!(
    accept_queue_is_reset,
    waiting_connections_are_reset,
    busy_put_is_reset,
    busy_get_is_reset,
    handlers_that_wait_are_reset,
    no_thread_polls,
);
pairs!(
    idle_server_ends,
    new_connections_are_refused_at_once,
    running_transfers_may_end,
    listener_that_fails_ends_the_server,
    shutdown_without_a_listener,
    nothing_leaks,
);
