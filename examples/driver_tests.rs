//! What every driver must do, in both roles. Each example with a driver includes this file as its module
//! `tests`, and has a function `start` for the server and `transfer` for the client.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_common::tcp::{self, BlockingMode};
use dataserver_core::{StartPacket, Timer};
use dataserver_examples::peers::{self, KEY, Outcome, check, impatient};
use dataserver_std::Client;
use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};

use super::{start, transfer};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// More than the sockets of our sender and of a receiver with a [`BUFFER`] hold after a slow receiver has
/// read its part, but less than the kernel would take at once.
const SIZE: usize = 1 << 20;

/// The socket buffer of a slow receiver.
const BUFFER: usize = 16 * 1024;

/// How many bytes a slow receiver reads in a second. With an idle timeout of 1 s, this is as slow as
/// 20 kB/s with the default of 5 s. A socket that holds 256 KiB unsent counts as writable again after
/// half of them.
const RATE: f64 = 100e3;

/// How long a slow receiver reads at that rate.
const SLOW: Duration = Duration::from_millis(2500);

/// How long a test waits for an event that must happen.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[test]
fn a_server_reports_success_only_with_correct_peers() -> Result {
    let (address, outcomes) = start(impatient())?;
    peers::visit(address, &outcomes)
}

#[test]
fn a_client_reports_success_only_with_correct_peers() -> Result {
    peers::receive(transfer)
}

#[test]
fn a_server_waits_for_a_receiver_that_is_slow_and_steady() -> Result {
    let (mut stream, outcomes) = get_slowly()?;
    let mut received = read_slowly(&mut stream)?;
    stream.read_to_end(&mut received)?;
    stream.shutdown(Shutdown::Write)?;
    check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(SIZE as u64))?;
    assert!(received == peers::object(SIZE));
    Ok(())
}

#[test]
fn a_server_cuts_off_a_receiver_that_stalls() -> Result {
    let (mut stream, outcomes) = get_slowly()?;
    read_slowly(&mut stream)?;
    let stalled = Instant::now();
    check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Err(Timer::Idle.into()))?;
    assert_soon(stalled);
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
    assert_soon(stalled.recv()?);
    Ok(())
}

/// TCP can mark a byte as urgent. epoll(7) has an event for it, which stays set until the byte has been
/// read or skipped.
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
            over.recv_timeout(MAX_WAIT).ok(); // the connection stays open until the client has closed it
            Ok(())
        });
        let before = processor_time();
        let (outcome, _) = transfer(address, packet, &peers::object(4 * SIZE))?;
        let spent = processor_time() - before;
        drop(still_open);
        check("the client", &outcome, &Err(Timer::Idle.into()))?;
        let idle = impatient().timeouts.idle.ok_or("no idle timeout")?;
        assert!(spent < idle / 2, "{packet}: {spent:?} of processor time");
        server.join().expect("the server does not panic")?;
    }
    Ok(())
}

/// The processor time of this thread, in which the client runs.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A get of [`SIZE`] bytes by a client with small buffers.
fn get_slowly() -> Result<(TcpStream, Receiver<Outcome>)> {
    let (address, outcomes) = start(impatient())?;
    Client::new(address)?.put(KEY)?.send(&peers::object(SIZE))?;
    check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(SIZE as u64))?;

    let socket = tcp::socket(&address, BlockingMode::Briefly)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    tcp::connect(&socket, &address, BlockingMode::Briefly)?;
    tcp::disarm(&socket)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(StartPacket::get(KEY).as_bytes())?;
    Ok((stream, outcomes))
}

/// A put of [`SIZE`] bytes to a server with small buffers. It calls `serve`, and then keeps the stream
/// open until the client has ended.
fn put_slowly(
    serve: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    sockopt::set_socket_recv_buffer_size(&listener, BUFFER)?; // accepted sockets inherit it
    let address = listener.local_addr()?;
    let (still_open, over) = mpsc::channel::<()>();
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut [0; StartPacket::LEN])?;
        serve(&mut stream)?;
        over.recv_timeout(MAX_WAIT).ok();
        Ok(())
    });
    let (outcome, _) = transfer(address, StartPacket::put(KEY), &peers::object(SIZE))?;
    drop(still_open);
    server.join().expect("the server does not panic")?;
    Ok(outcome)
}

/// Reads at [`RATE`], in short intervals.
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

/// A driver may take 1.5 times the idle timeout. The rest is for a busy machine.
fn assert_soon(stalled: Instant) {
    let took = stalled.elapsed();
    assert!(impatient().timeouts.idle.is_some_and(|idle| took < 5 * idle), "after {took:?}");
}
