//! Somebody between client and server who cannot read what they say, but can cut it short: where
//! it hurts most, which is just before the `close_notify`. Nothing in here needs to be copied.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What a `close_notify` looks like from outside: the only record of ours that is so short. It is
/// two bytes, one for its type and sixteen of the cipher's (RFC 8446, section 5.2).
const CLOSE_NOTIFY: usize = 19;

pub(crate) fn without_close_notify_to_server(server: SocketAddr) -> io::Result<SocketAddr> {
    between(server, pass_records, pass)
}

pub(crate) fn without_close_notify_to_client(server: SocketAddr) -> io::Result<SocketAddr> {
    between(server, pass, pass_records)
}

type Pass = fn(&TcpStream, &TcpStream) -> io::Result<()>;

/// Takes one connection, makes one to the server, and passes on what comes.
fn between(server: SocketAddr, to_server: Pass, to_client: Pass) -> io::Result<SocketAddr> {
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

/// Passes everything on, and at the end a FIN.
fn pass(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Write)?;
    copied.map(drop)
}

/// Passes every whole record on but the `close_notify`, and then a FIN as if all were well.
fn pass_records(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
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
