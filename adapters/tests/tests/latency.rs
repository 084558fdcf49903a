//! Small objects are not delayed. That is tested by socket options and by the number of writes, since
//! time proves nothing on a busy machine.
//!
//! The writes are counted on a Unix socket that keeps their boundaries: each read returns the bytes of
//! one write.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use dataserver_core::{Direction, StartPacket};
use dataserver_tests::{
    ConnectedStream, DynAdapter, Gate, Op, Raw, RawListener, Server, Setup, Source, TIMEOUT,
    TempFile, Wait, clients, get, long_timeouts, object, put, servers, spawn, start,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

fn packets() -> (OwnedFd, UnixStream) {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
    sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(TIMEOUT)).unwrap();
    (ours, theirs.into())
}

/// The bytes of the next write. Empty at the end.
fn next_write(socket: &OwnedFd) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let (n, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).unwrap();
    buffer.truncate(n);
    buffer
}

fn start_packet_and_object_leave_together(client: DynAdapter) {
    let small = object(1024);
    let file = TempFile::new(&small);
    for size in [1024, -1] {
        for script in [
            vec![Op::Send(small.clone())],
            vec![Op::Write(small.clone()), Op::Finish],
            vec![Op::SendFile(file.path().into())],
        ] {
            let (server, stream) = packets();
            let shown = format!("{script:?}");
            let packet = packet(Direction::Put, size);
            let putting = spawn(move || {
                client.client_over(ConnectedStream::Unix(stream), packet, long_timeouts(), &script)
            });
            assert_eq!(next_write(&server), [&start(0, size), &small[..]].concat(), "{shown}");
            assert_eq!(next_write(&server), [], "{shown}");
            rustix::net::shutdown(&server, rustix::net::Shutdown::Write).unwrap();
            assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 1024);
        }
    }
}

fn large_files_leave_with_the_start_packet_too(client: DynAdapter) {
    let large = object(1 << 20);
    let file = TempFile::new(&large);
    let (server, stream) = packets();
    let script = [Op::SendFile(file.path().into())];
    let putting = spawn(move || {
        client.client_over(ConnectedStream::Unix(stream), put(None), long_timeouts(), &script)
    });
    let mut all = next_write(&server);
    assert!(all.len() > 25, "the start packet was sent alone");
    loop {
        let more = next_write(&server);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert!(all == [start(0, -1), large].concat());
    rustix::net::shutdown(&server, rustix::net::Shutdown::Write).unwrap();
    assert_eq!(putting.wait().unwrap().receipt.unwrap().bytes, 1 << 20);
}

/// A server of the original protocol accepts a start packet only in one piece.
fn start_packet_leaves_in_one_write(client: DynAdapter) {
    for (packet, kind, script) in [
        (get(None), 1, vec![Op::ReadToEnd]),
        (put(None), 0, vec![Op::Flush]),
        (put(None), 0, vec![Op::Send(vec![])]),
        (put(None), 0, vec![Op::SendReader(Source::new(object(10)))]), // before the first read of a slow reader
    ] {
        let (server, stream) = packets();
        let _unfinished = spawn(move || {
            client.client_over(ConnectedStream::Unix(stream), packet, long_timeouts(), &script)
        });
        assert_eq!(next_write(&server), start(kind, -1));
    }
}

/// During the transfer, the socket has `TCP_NODELAY` and a linger time of zero. After it, closing is
/// graceful.
fn client_sockets_are_armed_and_not_delayed(client: DynAdapter) {
    let (begun, beginning) = channel();
    for packet in [put(None), get(None)] {
        let gate = Gate::new();
        let pause = [Op::Notify(begun.clone()), Op::Wait(gate.clone())];
        let (ours, theirs) = tcp();
        let kept = theirs.try_clone().unwrap();
        let mut server = Raw::over(ours);
        let script = match packet.direction() {
            Direction::Put => [&[Op::Write(object(10))], &pause[..], &[Op::Finish]].concat(),
            Direction::Get => [&[Op::ReadToEnd], &pause[..], &[Op::Commit]].concat(),
        };
        let running = spawn(move || {
            client.client_over(ConnectedStream::Tcp(theirs), packet, long_timeouts(), &script)
        });
        if packet.direction() == Direction::Get {
            server.half_close(); // an empty object
        }
        beginning.wait();
        armed(&kept);
        gate.open();
        server.rest();
        server.half_close();
        running.wait().unwrap().receipt.unwrap();
        assert_eq!(sockopt::socket_linger(&kept).unwrap(), None);
    }
}

fn server_sockets_are_armed_and_not_delayed(server: DynAdapter) {
    let (begun, beginning) = channel();
    for kind in [0, 1] {
        let gate = Gate::new();
        let pause = [Op::Notify(begun.clone()), Op::Wait(gate.clone())];
        let setup = Setup::new()
            .on(put(None), [&[Op::ReadToEnd], &pause[..]].concat())
            .on(get(None), [&pause[..], &[Op::Send(object(10))]].concat());
        let (ours, theirs) = tcp();
        let kept = theirs.try_clone().unwrap();
        let serving = spawn(move || server.serve_stream(ConnectedStream::Tcp(theirs), setup));
        let mut client = Raw::over(ours);
        client.send(&start(kind, -1));
        if kind == 0 {
            client.half_close();
        }
        beginning.wait();
        armed(&kept);
        gate.open();
        if kind == 1 {
            assert_eq!(client.rest().0, object(10));
            client.half_close();
        }
        serving.wait().unwrap();
        assert_eq!(sockopt::socket_linger(&kept).unwrap(), None);
    }
}

/// The number of attempts. A peer that is slow to read also sees bytes and FIN together if they were
/// sent apart, and one that reads while they arrive may see only the bytes.
const LOOKS: usize = 100;

fn all_of_a_small_object_arrives_at_once(client: DynAdapter) {
    let listener = RawListener::new();
    let address = listener.address();
    let file = TempFile::new(&object(1024));
    for script in [[Op::Send(object(1024))], [Op::SendFile(file.path().into())]] {
        let at_once = (0..LOOKS).filter(|_| {
            let script = script.clone();
            let putting =
                spawn(move || client.client(address, put(None), long_timeouts(), &script));
            let mut server = listener.accept();
            let at_once = server.arrives_with_its_end();
            assert_eq!(server.rest().0, [start(0, -1), object(1024)].concat());
            server.half_close();
            putting.wait().unwrap().receipt.unwrap();
            at_once
        });
        let at_once = at_once.count();
        assert!(at_once > LOOKS * 3 / 4, "only {at_once} of {LOOKS}");
    }
}

fn all_of_a_small_answer_arrives_at_once(server: DynAdapter) {
    let file = TempFile::new(&object(1024));
    for script in [[Op::Send(object(1024))], [Op::SendFile(file.path().into())]] {
        let server = Server::start(server, Setup::new().on(get(None), script));
        let at_once = (0..LOOKS).filter(|_| {
            let mut client = Raw::client(server.address, &start(1, -1));
            let at_once = client.arrives_with_its_end();
            assert_eq!(client.rest().0, object(1024));
            client.half_close();
            server.outcomes.wait().unwrap();
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
