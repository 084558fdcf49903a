//! No delay on small objects: by what is set on a socket, and by what leaves in one write, as time
//! itself proves nothing on a busy machine.
//!
//! The writes are counted on a Unix socket that keeps their boundaries: what is read from it at once
//! was written at once.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Direction, StartPacket};
use dataserver_scenarios::{
    Any, Carrier, Do, Gate, PATIENCE, Raw, RawListener, Server, Setup, Soon, Source, TempFile,
    clients, get, object, patient, put, servers, spawn, start,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

fn packets() -> (OwnedFd, UnixStream) {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
    sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    (ours, theirs.into())
}

/// What was written at once; nothing at the end.
fn next_write(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let (n, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).unwrap();
    buffer.truncate(n);
    buffer
}

fn start_packet_and_object_leave_together(client: Any) {
    let small = object(1024);
    let file = TempFile::new(&small);
    for size in [1024, -1] {
        for script in [
            vec![Do::Send(small.clone())],
            vec![Do::Write(small.clone()), Do::Finish],
            vec![Do::SendFile(file.path().into())],
        ] {
            let (server, stream) = packets();
            let shown = format!("{script:?}");
            let packet = packet(Direction::Put, size);
            let putting = spawn(move || {
                client.client_over(Carrier::Unix(stream), packet, patient(), &script)
            });
            assert_eq!(next_write(&server), [&start(0, size), &small[..]].concat(), "{shown}");
            assert_eq!(next_write(&server), [], "{shown}");
            rustix::net::shutdown(&server, rustix::net::Shutdown::Write).unwrap();
            assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 1024);
        }
    }
}

fn large_files_leave_with_the_start_packet_too(client: Any) {
    let large = object(1 << 20);
    let file = TempFile::new(&large);
    let (server, stream) = packets();
    let script = [Do::SendFile(file.path().into())];
    let putting =
        spawn(move || client.client_over(Carrier::Unix(stream), put(None), patient(), &script));
    let mut all = next_write(&server);
    assert!(all.len() > 25, "the start packet left alone");
    loop {
        let more = next_write(&server);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert!(all == [start(0, -1), large].concat());
    rustix::net::shutdown(&server, rustix::net::Shutdown::Write).unwrap();
    assert_eq!(putting.soon().unwrap().receipt.unwrap().bytes, 1 << 20);
}

/// The original's server takes it only in one piece.
fn start_packet_leaves_in_one_write(client: Any) {
    for (packet, kind, script) in [
        (get(None), 1, vec![Do::ReadToEnd]),
        (put(None), 0, vec![Do::Flush]),
        (put(None), 0, vec![Do::Send(vec![])]),
        (put(None), 0, vec![Do::SendReader(Source::new(object(10)))]), // ahead of a slow reader
    ] {
        let (server, stream) = packets();
        let _unfinished =
            spawn(move || client.client_over(Carrier::Unix(stream), packet, patient(), &script));
        assert_eq!(next_write(&server), start(kind, -1));
    }
}

/// While the transfer runs, the socket neither waits to send nor ends in order; after it, it does.
fn client_sockets_are_armed_and_not_delayed(client: Any) {
    let (begun, beginning) = channel();
    for packet in [put(None), get(None)] {
        let gate = Gate::new();
        let pause = [Do::Tell(begun.clone()), Do::Wait(gate.clone())];
        let (ours, theirs) = tcp();
        let kept = theirs.try_clone().unwrap();
        let mut server = Raw::over(ours);
        let script = match packet.direction() {
            Direction::Put => [&[Do::Write(object(10))], &pause[..], &[Do::Finish]].concat(),
            Direction::Get => [&[Do::ReadToEnd], &pause[..], &[Do::Commit]].concat(),
        };
        let running =
            spawn(move || client.client_over(Carrier::Tcp(theirs), packet, patient(), &script));
        if packet.direction() == Direction::Get {
            server.half_close(); // an object of nothing
        }
        beginning.soon();
        armed(&kept);
        gate.open();
        server.rest();
        server.half_close();
        running.soon().unwrap().receipt.unwrap();
        assert_eq!(sockopt::socket_linger(&kept).unwrap(), None);
    }
}

fn server_sockets_are_armed_and_not_delayed(server: Any) {
    let (begun, beginning) = channel();
    for kind in [0, 1] {
        let gate = Gate::new();
        let pause = [Do::Tell(begun.clone()), Do::Wait(gate.clone())];
        let setup = Setup::new()
            .on(put(None), [&[Do::ReadToEnd], &pause[..]].concat())
            .on(get(None), [&pause[..], &[Do::Send(object(10))]].concat());
        let (ours, theirs) = tcp();
        let kept = theirs.try_clone().unwrap();
        let serving = spawn(move || server.serve_stream(Carrier::Tcp(theirs), setup));
        let mut client = Raw::over(ours);
        client.send(&start(kind, -1));
        if kind == 0 {
            client.half_close();
        }
        beginning.soon();
        armed(&kept);
        gate.open();
        if kind == 1 {
            assert_eq!(client.rest().0, object(10));
            client.half_close();
        }
        serving.soon().unwrap();
        assert_eq!(sockopt::socket_linger(&kept).unwrap(), None);
    }
}

/// How often a peer looks. One that is slow to look sees both where they came one by one, and one
/// that looks while they are taken in may see the first only.
const LOOKS: usize = 100;

fn all_of_a_small_object_arrives_at_once(client: Any) {
    let listener = RawListener::new();
    let address = listener.address();
    let file = TempFile::new(&object(1024));
    for script in [[Do::Send(object(1024))], [Do::SendFile(file.path().into())]] {
        let at_once = (0..LOOKS).filter(|_| {
            let script = script.clone();
            let putting = spawn(move || client.client(address, put(None), patient(), &script));
            let mut server = listener.accept();
            let at_once = server.comes_with_its_end();
            assert_eq!(server.rest().0, [start(0, -1), object(1024)].concat());
            server.half_close();
            putting.soon().unwrap().receipt.unwrap();
            at_once
        });
        let at_once = at_once.count();
        assert!(at_once > LOOKS * 3 / 4, "only {at_once} of {LOOKS}");
    }
}

fn all_of_a_small_answer_arrives_at_once(server: Any) {
    let file = TempFile::new(&object(1024));
    for script in [[Do::Send(object(1024))], [Do::SendFile(file.path().into())]] {
        let server = Server::start(server, Setup::new().on(get(None), script));
        let at_once = (0..LOOKS).filter(|_| {
            let mut client = Raw::client(server.address, &start(1, -1));
            let at_once = client.comes_with_its_end();
            assert_eq!(client.rest().0, object(1024));
            client.half_close();
            server.outcomes.soon().unwrap();
            at_once
        });
        let at_once = at_once.count();
        assert!(at_once > LOOKS * 3 / 4, "only {at_once} of {LOOKS}");
    }
}

#[track_caller]
fn armed(socket: &TcpStream) {
    assert!(socket.nodelay().unwrap());
    assert_eq!(sockopt::socket_linger(socket).unwrap(), Some(Duration::ZERO));
}

/// Both ends of a connection.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, theirs)
}

fn packet(direction: Direction, size: i64) -> StartPacket {
    let size = u64::try_from(size).ok();
    match direction {
        Direction::Put => put(size),
        Direction::Get => get(size),
    }
}

clients!(
    start_packet_and_object_leave_together,
    large_files_leave_with_the_start_packet_too,
    start_packet_leaves_in_one_write,
    client_sockets_are_armed_and_not_delayed,
    all_of_a_small_object_arrives_at_once,
);
servers!(server_sockets_are_armed_and_not_delayed, all_of_a_small_answer_arrives_at_once);
