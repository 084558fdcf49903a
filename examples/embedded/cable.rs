//! The other end of the serial line, on a computer with `std`: it forwards the line to a TCP connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::device::{Line, Received};

/// The size of the hardware FIFO.
const FIFO: usize = 16;

/// The device's end.
pub(crate) struct Cable {
    powered_on: Instant,
    to_computer: SyncSender<Sent>,
    from_computer: Receiver<Received>,
    /// The cable is cut after this many bytes. Neither side is notified.
    cut_after: Option<usize>,
}

enum Sent {
    Byte(u8),
    End,
    HangUp,
}

impl Cable {
    /// Connects the device to a TCP connection. The thread ends with the connection.
    pub(crate) fn to(stream: TcpStream) -> io::Result<(Self, JoinHandle<io::Result<()>>)> {
        let (to_computer, sent) = mpsc::sync_channel(FIFO);
        let (received, from_computer) = mpsc::sync_channel(FIFO);
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?; // armed to reset
        sockopt::set_tcp_nodelay(&stream, true)?;
        let running = thread::spawn(move || forward(&stream, &sent, &received));
        let powered_on = Instant::now();
        Ok((Self { powered_on, to_computer, from_computer, cut_after: None }, running))
    }

    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { cut_after: Some(bytes), ..self }
    }

    /// The device is done with the line. A framed object needs no end on the line itself.
    pub(crate) fn unplug(self) {
        self.to_computer.send(Sent::End).ok(); // the connection may be gone
    }

    fn transmit(&mut self, event: Sent) -> bool {
        match &mut self.cut_after {
            Some(0) => true, // it is lost
            Some(left) => {
                *left -= 1;
                self.to_computer.try_send(event).is_ok()
            }
            None => self.to_computer.try_send(event).is_ok(),
        }
    }
}

impl Line for Cable {
    fn receive(&mut self) -> Option<Received> {
        self.from_computer.try_recv().ok().filter(|_| self.cut_after != Some(0))
    }

    fn send(&mut self, byte: u8) -> bool {
        self.transmit(Sent::Byte(byte))
    }

    fn send_end(&mut self) -> bool {
        self.transmit(Sent::End)
    }

    fn hang_up(&mut self) {
        self.to_computer.send(Sent::HangUp).ok(); // the connection may be gone
    }

    fn millis(&self) -> u32 {
        // The counter wraps around half a second after the beginning.
        (u32::MAX - 500).wrapping_add(self.powered_on.elapsed().as_millis() as u32)
    }
}

/// Forwards bytes, ends and losses in both directions.
fn forward(
    stream: &TcpStream,
    sent: &Receiver<Sent>,
    received: &SyncSender<Received>,
) -> io::Result<()> {
    let is_graceful = thread::scope(|scope| {
        let incoming = scope.spawn(|| forward_to_device(stream, received));
        let outgoing = forward_to_stream(stream, sent);
        if !outgoing {
            stream.shutdown(Shutdown::Read).ok(); // the device has dropped the line
        }
        incoming.join().unwrap_or(false) && outgoing
    });
    if is_graceful {
        // Both sides have ended gracefully. Otherwise the close is a reset.
        sockopt::set_socket_linger(stream, None)?;
    }
    Ok(())
}

/// Returns whether the peer has ended gracefully.
fn forward_to_device(mut stream: &TcpStream, received: &SyncSender<Received>) -> bool {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return received.send(Received::End).is_ok(),
            Ok(_) => {
                if received.send(Received::Byte(byte[0])).is_err() {
                    return false;
                }
            }
            Err(_) => {
                received.send(Received::Lost).ok();
                return false;
            }
        }
    }
}

/// Returns whether the device has ended gracefully.
fn forward_to_stream(mut stream: &TcpStream, sent: &Receiver<Sent>) -> bool {
    let mut ended = false;
    for event in sent {
        let written = match event {
            Sent::Byte(byte) => stream.write_all(&[byte]),
            Sent::End if ended => Ok(()),
            Sent::End => {
                ended = true;
                stream.shutdown(Shutdown::Write)
            }
            Sent::HangUp => return false,
        };
        if written.is_err() {
            return false;
        }
    }
    ended
}
