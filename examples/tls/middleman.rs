//! A relay between client and server that cannot decrypt their bytes, but can drop the `close_notify` and
//! forge an end of stream in its place.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// The length of the record of a `close_notify`; no other record here is as short. It has two bytes of
/// content, one for its type and 16 of the cipher (RFC 8446, section 5.2).
const CLOSE_NOTIFY: usize = 19;

pub(crate) fn without_close_notify_to_server(server: SocketAddr) -> io::Result<SocketAddr> {
    between(server, forward_records, forward)
}

pub(crate) fn without_close_notify_to_client(server: SocketAddr) -> io::Result<SocketAddr> {
    between(server, forward, forward_records)
}

type Forward = fn(&TcpStream, &TcpStream) -> io::Result<()>;

/// Accepts one connection, connects to the server, and forwards in both directions.
fn between(server: SocketAddr, to_server: Forward, to_client: Forward) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        let (client, _) = listener.accept()?;
        let server = TcpStream::connect(server)?;
        thread::scope(|scope| {
            scope.spawn(|| to_server(&client, &server));
            scope.spawn(|| to_client(&server, &client));
        });
        Ok(())
    });
    Ok(address)
}

/// Forwards all bytes and the end of the stream.
fn forward(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Write)?;
    copied.map(drop)
}

/// Forwards all records except the `close_notify`, and forges the end of the stream.
fn forward_records(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut record = vec![0; 5 + (1 << 16)];
    loop {
        from.read_exact(&mut record[..5])?;
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        from.read_exact(&mut record[5..5 + length])?;
        if length == CLOSE_NOTIFY {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&record[..5 + length])?;
    }
}
