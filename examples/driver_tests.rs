//! What every driver must do, in both roles. Each example with a driver includes this file as its module
//! `tests`, and has a function `start` for the server and `transfer` for the client.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_common::tcp::{self, BlockingMode};
use dataserver_core::{AbortReason, Frame, Key, PeerError, StartPacket, Timer};
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

#[test]
fn a_server_serves_framed_objects_one_after_the_other() -> Result {
    let (address, outcomes) = start(impatient())?;
    let mut stream = TcpStream::connect(address)?;
    for object in [&b"one"[..], &peers::object(SIZE), b""] {
        let size = object.len() as u64;
        let (begin, end) = object.split_at(object.len() / 2);
        let frames = match begin.len() as u64 {
            0 => vec![Frame::Last { len: size }],
            len => vec![Frame::Data { len }, Frame::Last { len: size - len }],
        };
        stream.write_all(StartPacket::put(KEY).framed().as_bytes())?;
        for (frame, body) in frames.iter().zip([if begin.is_empty() { object } else { begin }, end])
        {
            stream.write_all(&frame.to_bytes())?;
            stream.write_all(body)?;
        }
        assert_eq!(read_frame(&mut stream)?, Frame::Receipt { size });
        check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(size))?;
    }
    stream.write_all(StartPacket::get(KEY).framed().as_bytes())?;
    assert_eq!(read_frame(&mut stream)?, Frame::Last { len: 0 });
    stream.write_all(&Frame::Receipt { size: 0 }.to_bytes())?;
    check("the server", &outcomes.recv_timeout(MAX_WAIT)?, &Ok(0))?;
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0])?, 0); // gracefully
    Ok(())
}

#[test]
fn a_server_tells_a_framed_client_why_it_refuses() -> Result {
    let (address, outcomes) = start(impatient())?;
    let unknown = StartPacket::put(Key::from_name("unknown")).framed();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(unknown.as_bytes())?;
    stream.write_all(&Frame::Last { len: SIZE as u64 }.to_bytes())?;
    stream.write_all(&peers::object(SIZE))?; // the server reads on, so that its reason is not lost
    assert_eq!(read_frame(&mut stream)?, Frame::Abort(AbortReason::Refused));
    drop(stream);
    assert!(outcomes.recv_timeout(MAX_WAIT)?.is_err());
    Ok(())
}

#[test]
fn a_server_cuts_off_a_client_that_goes_on_after_an_abort() -> Result {
    let (address, outcomes) = start(impatient())?;
    for pause in [Duration::ZERO, Duration::from_millis(50)] {
        let unknown = StartPacket::put(Key::from_name("unknown")).framed();
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(unknown.as_bytes())?;
        let began = Instant::now();
        while stream.write(&[7; 4096]).is_ok() {
            thread::sleep(pause); // a slow client does not extend the time, and a fast one has a limit
        }
        assert_soon(began);
        assert!(outcomes.recv_timeout(MAX_WAIT)?.is_err());
    }
    Ok(())
}

#[test]
fn a_client_takes_nothing_but_a_receipt_for_one() -> Result {
    for (answer, expected) in [
        (vec![], PeerError::NoReceipt { sent: 3 }),
        (
            Frame::Receipt { size: 4 }.to_bytes().to_vec(),
            PeerError::WrongReceipt { size: 4, sent: 3 },
        ),
        (
            Frame::Abort(AbortReason::Busy).to_bytes().to_vec(),
            PeerError::Aborted(AbortReason::Busy),
        ),
        (vec![9; 3], PeerError::NoReceipt { sent: 3 }),
    ] {
        let outcome = put_framed(b"one", move |stream| {
            stream.write_all(&answer)?;
            stream.shutdown(Shutdown::Write).or(Ok(())) // the client may have closed the connection
        })?;
        check("the client", &outcome, &Err(expected.into()))?;
    }
    let outcome =
        put_framed(b"one", |stream| stream.write_all(&Frame::Receipt { size: 3 }.to_bytes()))?;
    check("the client", &outcome, &Ok(3))?;
    Ok(())
}

/// A put of an object to a server that reads it and then answers.
fn put_framed(
    object: &[u8],
    answer: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
) -> Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let packet = StartPacket::put(KEY).framed();
    let header = Frame::Last { len: object.len() as u64 }.to_bytes();
    let expected = [packet.as_bytes(), &header[..], object].concat();
    let server = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received)?;
        assert_eq!(received, expected, "the start packet, the header and the object");
        answer(&mut stream)?;
        stream.read_to_end(&mut Vec::new()).ok(); // until the client has closed the connection
        Ok(())
    });
    let (outcome, _) = transfer(address, packet, object)?;
    server.join().expect("the server does not panic")?;
    Ok(outcome)
}

/// A read of one byte takes some hundreds of nanoseconds. One of 4 KiB takes no longer.
#[test]
fn what_a_client_drops_after_an_abort_is_read_in_large_pieces() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<usize> {
        let (mut stream, _) = listener.accept()?;
        sockopt::set_socket_send_buffer_size(&stream, BUFFER)?; // what is sent was read, but for little
        stream.read_exact(&mut [0; StartPacket::LEN])?;
        let mut sent = 0;
        while let Ok(n) = stream.write(&[9; 4096]) {
            sent += n; // the first bytes are no frame
        }
        Ok(sent)
    });
    let before = processor_time();
    let (outcome, _) = transfer(address, StartPacket::get(KEY).framed(), b"")?;
    let spent = processor_time() - before;
    assert!(outcome.is_err(), "{outcome:?}");
    let sent = server.join().expect("the server does not panic")?;
    let most = Duration::from_nanos(20 * sent as u64);
    assert!(spent < most, "{spent:?} of processor time for {sent} bytes");
    Ok(())
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut header = [0; Frame::LEN];
    stream.read_exact(&mut header)?;
    Frame::from_bytes(header).map_err(io::Error::other)
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
