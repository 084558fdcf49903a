//! What every driver of ours must do, in both roles. Each of their examples has this as its module
//! `tests`, beside a `start` of a server and a `transfer` of a client.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_adapter::tcp::{self, Waits};
use dataserver_core::{StartPacket, Timer};
use dataserver_examples::peers::{self, KEY, Outcome, check, impatient};
use dataserver_std::Client;
use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};

use super::{start, transfer};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// More than a sender of ours and a receiver with a [`BUFFER`] hold in their sockets after what a slow
/// one has read, but less than the kernel would take at once.
const SIZE: usize = 1 << 20;

/// What a slow receiver asks the kernel to hold for it.
const BUFFER: usize = 16 * 1024;

/// What a slow receiver reads in a second. With an idle timeout of a second, this is as slow as 20 kB/s
/// with the usual 5 s. A socket that holds 256 KiB unsent counts as writable again after half of them.
const RATE: f64 = 100e3;

/// For how long a slow receiver is slow.
const SLOW: Duration = Duration::from_millis(2500);

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_server_succeeds_with_good_peers_only() -> Result {
    let (address, outcomes) = start(impatient())?;
    peers::visit(address, &outcomes)
}

#[test]
fn a_client_succeeds_with_good_peers_only() -> Result {
    peers::receive(transfer)
}

#[test]
fn a_server_waits_for_a_receiver_that_is_slow_and_steady() -> Result {
    let (mut stream, outcomes) = get_slowly()?;
    let mut received = read_slowly(&mut stream)?;
    stream.read_to_end(&mut received)?;
    stream.shutdown(Shutdown::Write)?;
    check("the server", &outcomes.recv_timeout(PATIENCE)?, &Ok(SIZE as u64))?;
    assert!(received == peers::object(SIZE));
    Ok(())
}

#[test]
fn a_server_cuts_off_a_receiver_that_stalls() -> Result {
    let (mut stream, outcomes) = get_slowly()?;
    read_slowly(&mut stream)?;
    let stalled = Instant::now();
    check("the server", &outcomes.recv_timeout(PATIENCE)?, &Err(Timer::Idle.into()))?;
    is_soon(stalled);
    Ok(())
}

#[test]
fn a_client_waits_for_a_receiver_that_is_slow_and_steady() -> Result {
    let outcome = put_slowly(|stream| {
        let mut received = read_slowly(stream)?;
        stream.read_to_end(&mut received)?;
        assert!(received == peers::object(SIZE));
        stream.shutdown(Shutdown::Write)
    })?;
    check("the client", &outcome, &Ok(SIZE as u64))?;
    Ok(())
}

#[test]
fn a_client_cuts_off_a_receiver_that_stalls() -> Result {
    let (say, stalled) = mpsc::channel();
    let outcome = put_slowly(move |stream| {
        read_slowly(stream)?;
        say.send(Instant::now()).map_err(io::Error::other)
    })?;
    check("the client", &outcome, &Err(Timer::Idle.into()))?;
    is_soon(stalled.recv()?);
    Ok(())
}

/// TCP marks a byte as urgent, and epoll(7) has an event of its own for it, which stays until the byte
/// was read, or passed over.
#[test]
fn an_urgent_byte_costs_no_processor_time() -> Result {
    for packet in [StartPacket::get(KEY), StartPacket::put(KEY)] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (still_open, over) = mpsc::channel::<()>();
        let server = thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; StartPacket::LEN])?;
            rustix::net::send(&stream, b"!", rustix::net::SendFlags::OOB)?;
            over.recv_timeout(PATIENCE).ok(); // the connection stays open until the client has ended it
            Ok(())
        });
        let before = processor_time();
        let (outcome, _) = transfer(address, packet, &peers::object(4 * SIZE))?;
        let spent = processor_time() - before;
        drop(still_open);
        check("the client", &outcome, &Err(Timer::Idle.into()))?;
        assert!(spent < impatient().timeouts.idle / 2, "{packet}: {spent:?} of processor time");
        server.join().expect("it does not panic")?;
    }
    Ok(())
}

/// Of this thread, in which the client runs.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A get of [`SIZE`] bytes by a client with small buffers.
fn get_slowly() -> Result<(TcpStream, Receiver<Outcome>)> {
    let (address, outcomes) = start(impatient())?;
    Client::new(address).put(StartPacket::put(KEY))?.send(&peers::object(SIZE))?;
    check("the server", &outcomes.recv_timeout(PATIENCE)?, &Ok(SIZE as u64))?;

    let socket = tcp::socket(&address, Waits::Briefly)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    tcp::connect(&socket, &address, Waits::Briefly)?;
    tcp::disarm(&socket)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(StartPacket::get(KEY).as_bytes())?;
    Ok((stream, outcomes))
}

/// A put of [`SIZE`] bytes to a server with small buffers, which does this, and then keeps the stream
/// until the client has ended.
fn put_slowly(
    serve: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    sockopt::set_socket_recv_buffer_size(&listener, BUFFER)?; // those that it accepts inherit it
    let address = listener.local_addr()?;
    let (still_open, over) = mpsc::channel::<()>();
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut [0; StartPacket::LEN])?;
        serve(&mut stream)?;
        over.recv_timeout(PATIENCE).ok();
        Ok(())
    });
    let (outcome, _) = transfer(address, StartPacket::put(KEY), &peers::object(SIZE))?;
    drop(still_open);
    server.join().expect("it does not panic")?;
    Ok(outcome)
}

/// Reads at the rate, and never pauses for longer than a moment.
fn read_slowly(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let began = Instant::now();
    let mut received = Vec::new();
    let mut buffer = [0; BUFFER];
    while began.elapsed() < SLOW {
        let due = (began.elapsed().as_secs_f64() * RATE) as usize - received.len();
        let n = stream.read(&mut buffer[..due.clamp(1, BUFFER)])?;
        received.extend_from_slice(&buffer[..n]);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(received)
}

/// Half more than the idle timeout is allowed, and much more for a machine that is busy.
fn is_soon(stalled: Instant) {
    let took = stalled.elapsed();
    assert!(took < 5 * impatient().timeouts.idle, "after {took:?}");
}
