//! The other end of the serial line, on a computer: it makes a TCP connection of it. Here is `std`
//! again, and nothing that the device needs to know.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::device::{Heard, Line};

/// How many bytes are on their way at once: what the hardware has for them.
const FIFO: usize = 16;

/// The device's end.
pub(crate) struct Cable {
    powered_on: Instant,
    to_computer: SyncSender<Said>,
    from_computer: Receiver<Heard>,
    /// After so many bytes, somebody cuts the cable, and no one is told.
    cut_after: Option<usize>,
}

enum Said {
    Byte(u8),
    End,
    HangUp,
}

impl Cable {
    /// Lays a cable from the device to a TCP connection. The thread ends with the connection.
    pub(crate) fn to(stream: TcpStream) -> io::Result<(Self, JoinHandle<io::Result<()>>)> {
        let (to_computer, said) = mpsc::sync_channel(FIFO);
        let (heard, from_computer) = mpsc::sync_channel(FIFO);
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?; // armed to reset
        sockopt::set_tcp_nodelay(&stream, true)?;
        let running = thread::spawn(move || pump(&stream, &said, &heard));
        let powered_on = Instant::now();
        Ok((Self { powered_on, to_computer, from_computer, cut_after: None }, running))
    }

    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { cut_after: Some(bytes), ..self }
    }

    fn send(&mut self, said: Said) -> bool {
        match &mut self.cut_after {
            Some(0) => true, // it goes nowhere
            Some(left) => {
                *left -= 1;
                self.to_computer.try_send(said).is_ok()
            }
            None => self.to_computer.try_send(said).is_ok(),
        }
    }
}

impl Line for Cable {
    fn hear(&mut self) -> Option<Heard> {
        self.from_computer.try_recv().ok().filter(|_| self.cut_after != Some(0))
    }

    fn say(&mut self, byte: u8) -> bool {
        self.send(Said::Byte(byte))
    }

    fn say_end(&mut self) -> bool {
        self.send(Said::End)
    }

    fn hang_up(&mut self) {
        self.to_computer.send(Said::HangUp).ok(); // the connection may be gone
    }

    fn millis(&self) -> u32 {
        // A device that has been on for 49 days all but half a second.
        (u32::MAX - 500).wrapping_add(self.powered_on.elapsed().as_millis() as u32)
    }
}

/// Passes bytes, ends and losses from one side to the other.
fn pump(stream: &TcpStream, said: &Receiver<Said>, heard: &SyncSender<Heard>) -> io::Result<()> {
    let whole = thread::scope(|scope| {
        let incoming = scope.spawn(|| pass_on(stream, heard));
        let outgoing = take(stream, said);
        if !outgoing {
            stream.shutdown(Shutdown::Read).ok(); // nobody listens any more
        }
        incoming.join().unwrap_or(false) && outgoing
    });
    if whole {
        // Both sides have ended in order: only then this is no reset.
        sockopt::set_socket_linger(stream, None)?;
    }
    Ok(())
}

/// Whether the computer has ended in order.
fn pass_on(mut stream: &TcpStream, heard: &SyncSender<Heard>) -> bool {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return heard.send(Heard::End).is_ok(),
            Ok(_) => {
                if heard.send(Heard::Byte(byte[0])).is_err() {
                    return false;
                }
            }
            Err(_) => {
                heard.send(Heard::Lost).ok();
                return false;
            }
        }
    }
}

/// Whether the device has ended in order.
fn take(mut stream: &TcpStream, said: &Receiver<Said>) -> bool {
    let mut ended = false;
    for said in said {
        let taken = match said {
            Said::Byte(byte) => stream.write_all(&[byte]),
            Said::End => {
                ended = true;
                stream.shutdown(Shutdown::Write)
            }
            Said::HangUp => return false,
        };
        if taken.is_err() {
            return false;
        }
    }
    ended
}
