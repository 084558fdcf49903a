//! A put between a client and a server, over blocking sockets.

use dataserver_core::{Cause, Config, Connection, Instant, Key, Refusal, StartPacket, Step};
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

const REPORT: Key = Key::from_name("report");

/// Runs a connection to its end. The object is read from `object`, or stored there.
#[allow(clippy::unit_arg, reason = "each arm is what was done, and a report of it")]
pub fn drive(
    mut connection: Connection,
    mut stream: TcpStream,
    object: &mut Vec<u8>,
    now: impl Fn() -> Instant,
) -> io::Result<Result<u64, Cause>> {
    set_socket_linger(&stream, Some(Duration::ZERO))?; // from here on, dropping it is a reset
    let mut buffer = [0; 4096];
    loop {
        let began = now();
        connection.handle_timeout(began);
        let left = connection.deadline(began).map(|deadline| deadline.saturating_since(began));
        let left = left.map(|left| left.max(Duration::from_micros(1))); // zero is not allowed
        stream.set_read_timeout(left)?;
        stream.set_write_timeout(left)?;

        let unsent = &object[connection.moved() as usize..]; // if this side is the sender
        let done = match connection.step() {
            Step::Read { max } => stream.read(&mut buffer[..max]).map(|n| match n {
                0 => connection.handle_end_of_stream(),
                n => _ = connection.handle_read(&buffer[..n]),
            }),
            Step::Decide(packet) if packet.has_digest() => {
                Ok(connection.refuse(Refusal::Unsupported)) // this driver computes no digest
            }
            Step::Decide(packet) if packet.key() == REPORT => Ok(connection.accept(Some(1 << 20))),
            Step::Decide(_) => Ok(connection.refuse(Refusal::NotRegistered)),
            Step::Write { bytes, .. } => stream.write(bytes).map(|n| connection.handle_moved(n)),
            Step::Receive { max } => {
                let max = max.min(buffer.len());
                stream.read(&mut buffer[..max]).map(|n| match n {
                    0 => connection.handle_end_of_stream(),
                    n => {
                        object.extend_from_slice(&buffer[..n]);
                        connection.handle_moved(n);
                    }
                })
            }
            Step::Send { .. } if unsent.is_empty() => Ok(connection.offer(0, true)),
            Step::Send { max } => {
                stream.write(&unsent[..unsent.len().min(max)]).map(|n| connection.handle_moved(n))
            }
            Step::Offer { .. } => Ok(connection.offer(unsent.len(), true)),
            Step::Peek => {
                stream.set_nonblocking(true)?;
                let peeked = stream.peek(&mut buffer);
                stream.set_nonblocking(false)?;
                match peeked {
                    Ok(0) => Ok(connection.handle_end_of_stream()),
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ => Ok(connection.handle_still_open()),
                }
            }
            Step::Resume | Step::Digest => Ok(connection.abort("no digest was agreed upon")),
            Step::Commit => Ok(connection.committed()), // a file would be synced and renamed first
            Step::Shutdown => {
                stream.shutdown(Shutdown::Write).map(|()| connection.handle_shutdown())
            }
            Step::AwaitEnd => stream.read(&mut buffer).map(|n| match n {
                0 => connection.handle_end_of_stream(),
                n => connection.handle_moved(n), // they are of no use
            }),
            Step::Done(result) => {
                if result.is_ok() {
                    set_socket_linger(&stream, None)?; // dropping it is a graceful close again
                }
                return Ok(result);
            }
        };
        match done.map_err(|error| error.kind()) {
            Ok(()) | Err(ErrorKind::Interrupted) => {}
            Err(ErrorKind::WouldBlock) => connection.handle_blocked(began),
            Err(_) => connection.handle_reset(),
        }
    }
}

fn main() -> io::Result<()> {
    let epoch = std::time::Instant::now();
    let now = move || Instant::new(epoch.elapsed());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;

    let server = std::thread::spawn(move || {
        let mut object = Vec::new();
        let (stream, _) = listener.accept()?;
        let connection = Connection::server(Config::default(), now());
        Ok::<_, io::Error>((drive(connection, stream, &mut object, now)?, object))
    });
    let mut object = b"hello, world".to_vec();
    let put = StartPacket::put(REPORT).framed(); // without this, in the bare format
    let connection = Connection::client(Config::default(), put, now());
    assert_eq!(drive(connection, stream, &mut object, now)?, Ok(12));
    assert_eq!(server.join().unwrap()?, (Ok(12), object));
    Ok(())
}
