//! *Stop*: nobody new, those who run may end, then they are reset, and then nothing is left.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Error as Cause, Key, LocalError, StartPacket};
use dataserver_scenarios::process::entry;
use dataserver_scenarios::{
    Any, Do, End, Gate, PATIENCE, Process, Raw, Server, Setup, Soon, cause, get, kernel, object,
    pairs, patient, put, servers, spawn, start, start_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// More than any scenario takes.
const LONG: Duration = PATIENCE.saturating_mul(10);

fn idle_server_ends(server: Any, client: Any) {
    let server = Server::start(server, Setup::new().on(put(None), [Do::ReadToEnd]));
    for _ in 0..5 {
        let script = [Do::Send(object(10))];
        client.client(server.address, put(None), patient(), &script).unwrap();
    }
    let address = server.address;
    server.stop(LONG);
    server.ends();
    TcpListener::bind(address).expect("the port is free again");
}

fn refuses_at_once(server: Any, client: Any) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    beginning.soon();

    server.stop(LONG);
    assert_eq!(Raw::try_connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let refused = client.client(address, put(None), patient(), &[Do::Send(object(10))]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    gate.open();
    putting.soon().unwrap();
    server.ends();
}

/// Whoever was connected by the kernel, but waits to be taken, is turned away.
fn those_who_wait_are_reset(server: Any) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Do::Read(1), Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script).max_connections(1));
    let bytes = [start(0, -1), object(10)].concat();
    let mut first = Raw::client(server.address, &bytes);
    beginning.soon();
    let mut second = Raw::client(server.address, &bytes);
    server.stop(LONG);
    assert_eq!(second.end(), End::Reset);
    assert!(first.nothing_yet());
    gate.open();
    first.half_close();
    assert_eq!(first.end(), End::Orderly);
    server.ends();
}

fn running_transfers_may_end(server: Any, client: Any) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let (tell, wait) = (Do::Tell(begun), Do::Wait(gate.clone()));
    let setup = Setup::new()
        .on(put(None), [Do::Read(5), tell.clone(), Do::ReadToEnd, wait.clone()])
        .on(get(None), [Do::Write(object(5)), tell, wait, Do::Send(object(5))]);
    let server = Server::start(server, setup);
    let address = server.address;
    let more = Gate::new();
    let script =
        [Do::Write(object(5)), Do::Flush, Do::Wait(more.clone()), Do::Send(object(1 << 20))];
    let putting = spawn(move || client.client(address, put(None), patient(), &script));
    let script = [Do::ReadToEnd, Do::Commit];
    let getting = spawn(move || client.client(address, get(None), patient(), &script));
    beginning.soon();
    beginning.soon();

    server.stop(LONG);
    more.open();
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 5 + (1 << 20));
    assert_eq!(getting.soon().unwrap().bytes.len(), 10);
    for _ in 0..2 {
        server.outcomes.soon().unwrap();
    }
    server.ends();
}

/// Wherever it may wait for its peer: in the start packet, reading, writing, or for the receipt.
fn then_resets(server: Any) {
    // At once, after a while, and at once although a long time was given first.
    for stops in
        [vec![Duration::ZERO], vec![Duration::from_millis(100)], vec![LONG, Duration::ZERO]]
    {
        let (begun, beginning) = channel();
        let setup = Setup::new()
            .on(put(None), [Do::Read(5), Do::Tell(begun), Do::ReadToEnd])
            .on(get(None), [Do::WriteForever(object(1 << 16))])
            .on(get(Some(10)), [Do::Send(object(10))]);
        let server = Server::start(server, setup);

        let mut silent = Raw::connect(server.address);
        let mut beginner = Raw::client(server.address, &start(0, -1)[..24]);
        let mut putter = Raw::client(server.address, &[start(0, -1), object(5)].concat());
        let getter = Raw::client(server.address, &start(1, -1));
        let mut receiver = Raw::client(server.address, &start(1, 10));
        beginning.soon();
        beginner.taken();
        getter.full();
        assert_eq!(receiver.rest(), (object(10), End::Orderly));
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
            peer.wait_for_reset(); // the one behind its end, the other while it does not read
        }

        let stopping = LocalError::Aborted { reason: "the server is stopping" };
        for _ in 0..5 {
            assert_eq!(cause(&server.outcomes.soon()), Cause::from(stopping));
        }
        server.ends();
    }
}

/// Also one whose peer is so busy that it never has to wait.
fn resets_a_busy_put(server: Any) {
    let (begun, beginning) = channel();
    let script = [Do::Read(1), Do::Tell(begun), Do::Discard(1)];
    let server = Server::start(server, Setup::new().on(put(None), script));
    let client = Raw::client(server.address, &start(0, -1));
    let flooding = spawn(move || client.send_forever(&object(1 << 16)));
    beginning.soon();
    server.stop(Duration::ZERO);
    flooding.soon();
    server.ends();
}

fn resets_a_busy_get(server: Any) {
    let (begun, beginning) = channel();
    let script = [Do::Write(object(1)), Do::Tell(begun), Do::WriteForever(object(1))];
    let server = Server::start(server, Setup::new().on(get(None), script));
    let mut client = Raw::client(server.address, &start(1, -1));
    beginning.soon();
    let reading = spawn(move || client.rest().1);
    server.stop(Duration::ZERO);
    assert_eq!(reading.soon(), End::Reset);
    server.ends();
}

/// A handler that waits for something else is waited for where it cannot be dropped, and then its
/// connection is reset.
fn handlers_that_wait_are_reset(adapter: Any) {
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(adapter, Setup::new().on(put(None), script));
    let mut client = Raw::client(server.address, &[start(0, -1), object(10)].concat());
    beginning.soon();
    server.stop(Duration::ZERO);
    if adapter.waits_for_handlers() {
        assert!(client.nothing_yet());
        gate.open();
    }
    assert_eq!(client.end(), End::Reset);
    server.ends();
}

/// Whoever else holds the listener can shut it down. Nobody new then, but who runs may end; and `run`
/// says why it has returned.
fn listener_that_fails_ends_the_server(server: Any, client: Any) {
    const LARGE: usize = 1 << 24; // it goes on for longer than the server takes to notice
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let also = listener.try_clone().unwrap();
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd];
    let server = Server::start(server, Setup::new().on(put(None), script).listener(listener));
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(vec![7; LARGE])]));
    beginning.soon();

    rustix::net::shutdown(&also, rustix::net::Shutdown::Both).unwrap();
    let refused = Raw::try_connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, LARGE as u64);
    server.outcomes.soon().unwrap();
    let error = server.end().unwrap_err().to_string();
    assert_eq!(error, "the listener failed: Invalid argument (os error 22)");
}

/// The listener is shut down while nobody looks at it, since there is no place left: a stop that is said
/// then ends the server as ever.
fn stops_without_a_listener(server: Any, client: Any) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let also = listener.try_clone().unwrap();
    let (begun, beginning) = channel();
    let gate = Gate::new();
    let script = [Do::Tell(begun), Do::Wait(gate.clone()), Do::ReadToEnd];
    let setup = Setup::new().on(put(None), script).listener(listener).max_connections(1);
    let server = Server::start(server, setup);
    let address = server.address;
    let putting =
        spawn(move || client.client(address, put(None), patient(), &[Do::Send(object(10))]));
    beginning.soon();

    rustix::net::shutdown(&also, rustix::net::Shutdown::Both).unwrap();
    server.stop(PATIENCE);
    gate.open();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 10);
    server.ends();
}

/// In a process of its own: as many threads and descriptors as before it began.
fn leaves_nothing(server: Any, client: Any) {
    let mut process = Process::start(PROGRAM, &["serve", server.name()]);
    let before = process.told("before ");
    let address = process.told("listening ").parse().unwrap();
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
        let script = [Do::ReadToEnd, Do::Commit];
        assert_eq!(client.client(address, packet, patient(), &script).unwrap().bytes, object(1000));
    }
    process.say("stop 0");
    process.say("end");
    for peer in &running {
        peer.wait_for_reset();
    }
    assert_eq!(process.told("after "), before);
}

/// In a process of its own, with connections that wait: no thread ever wakes up, before stop and
/// after.
fn nothing_polls(server: Any) {
    let (mut process, address) = Process::server(PROGRAM, server, &[]);
    let packet = |kind, name| start_for(kind, -1, Key::from_name(name));
    let putter = Raw::client(address, &[packet(0, entry::PUT), object(10)].concat());
    let getter = Raw::client(address, &packet(1, entry::ENDLESS_GET));
    process.told("told");
    putter.taken();
    getter.full();
    for stopping in [false, true] {
        if stopping {
            process.say("stop 600000");
            process.say("count"); // which shows that it has heard of the stop
            process.told("descriptors");
        }
        // It may take a while to settle: threads that are idle for half a second end. Then a thread
        // that polls would be seen in every such window.
        let quiet = (0..20).any(|_| {
            let before = kernel::sleeps(process.id());
            thread::sleep(Duration::from_millis(700));
            kernel::sleeps(process.id()) == before
        });
        assert!(quiet, "a thread wakes up again and again");
    }
}

servers!(
    those_who_wait_are_reset,
    then_resets,
    resets_a_busy_put,
    resets_a_busy_get,
    handlers_that_wait_are_reset,
    nothing_polls,
);
pairs!(
    idle_server_ends,
    refuses_at_once,
    running_transfers_may_end,
    listener_that_fails_ends_the_server,
    stops_without_a_listener,
    leaves_nothing,
);
