//! The loop that does what the core asks, over any stream.

use std::io::{self, IoSlice};

use dataserver_adapter::{Error, Failure, Receipt, Want, now};
use dataserver_core::{Config, Connection, Direction, StartPacket, Step};

use crate::stream::Stream;

/// A connection, and the stream that carries it, whichever that is.
pub(crate) struct Driver<S: ?Sized = dyn Stream + Send> {
    pub(crate) connection: Connection,
    failure: Failure,
    pub(crate) stream: S,
}

impl Driver {
    pub(crate) fn server(stream: impl Stream + Send + 'static, config: &Config) -> Box<Self> {
        Self::new(Connection::server(*config, now()), stream)
    }

    pub(crate) fn client(
        stream: impl Stream + Send + 'static,
        packet: StartPacket,
        expected: Direction,
        config: &Config,
    ) -> Result<Box<Self>, Error> {
        Error::check_direction(packet, expected)?;
        Ok(Self::new(Connection::client(*config, packet, now()), stream))
    }

    fn new(connection: Connection, stream: impl Stream + Send + 'static) -> Box<Self> {
        Box::new(Driver { connection, failure: Failure::default(), stream })
    }

    /// Goes on until the application has what it wants. How many bytes of the object moved.
    pub(crate) fn run(&mut self, mut want: Want<'_>) -> io::Result<usize> {
        loop {
            let before = self.connection.moved();
            match (self.connection.step(), &mut want) {
                (Step::Read { max }, _) => {
                    let mut packet = [0; StartPacket::LEN];
                    let n = self.read(&mut packet[..max]);
                    self.connection.feed(&packet[..n]);
                }
                (Step::Write { bytes, payload }, want) => {
                    let mut packet = [0; StartPacket::LEN];
                    let packet = &mut packet[..bytes.len()];
                    packet.copy_from_slice(bytes);
                    let (object, last) = want.bytes(payload);
                    let n = self.write(&[IoSlice::new(packet), IoSlice::new(object)], last);
                    self.connection.advance(n);
                }
                (Step::Receive { max }, Want::Receive(buffer)) => {
                    let max = max.min(buffer.len());
                    let n = self.read(&mut buffer[..max]);
                    self.connection.advance(n);
                }
                (Step::Receive { max }, Want::ReceiveFile(file)) => {
                    match self.attempt(|stream| stream.receive_file(file, max)) {
                        Some(0) => return Ok(0),
                        received => self.connection.advance(received.unwrap_or(0)),
                    }
                }
                (Step::Receive { .. }, Want::End) => {
                    if self.read(&mut [0]) > 0 {
                        self.connection.abort("the object was not read to its end");
                    }
                }
                (Step::Send { max }, Want::Send(_) | Want::SendLast(_)) => {
                    let (object, last) = want.bytes(max);
                    let n = self.write(&[IoSlice::new(object)], last);
                    self.connection.advance(n);
                }
                (Step::Send { max }, Want::SendFile(file)) => {
                    match self.attempt(|stream| stream.send_file(file, max)) {
                        Some(0) => return Ok(0),
                        sent => self.connection.advance(sent.unwrap_or(0)),
                    }
                }
                (Step::Send { .. } | Step::Offer { .. }, Want::End) => {
                    self.connection.offer(0, true);
                }
                (Step::Offer { .. }, Want::Send(more) | Want::SendLast(more)) => {
                    self.connection.offer(more.len(), false);
                }
                (Step::Peek, Want::End) => match self.stream.has_ended() {
                    Ok(true) => self.connection.end_of_stream(),
                    Ok(false) => self.connection.still_open(),
                    Err(error) => self.fail(error),
                },
                (Step::Shutdown, Want::End) => {
                    if self.attempt(|stream| stream.shut_down().map(|()| 0)).is_some() {
                        self.connection.shut_down();
                    }
                }
                (Step::AwaitEnd, Want::Receive(_) | Want::End) => {
                    let n = self.read(&mut [0]);
                    self.connection.advance(n);
                }
                (Step::Commit, Want::End) => self.connection.commit(),
                (Step::Done(Err(_)), _) => return Err(self.error().into()),
                (
                    Step::Decide(_)
                    | Step::Receive { .. }
                    | Step::Send { .. }
                    | Step::Offer { .. }
                    | Step::Peek
                    | Step::Commit
                    | Step::Shutdown
                    | Step::AwaitEnd
                    | Step::Done(Ok(_)),
                    _,
                ) => return Ok(0),
            }
            match self.connection.moved() - before {
                0 => {}
                moved => return Ok(moved as usize),
            }
        }
    }

    /// Ends the object, and leaves the stream to be closed in order.
    pub(crate) fn finish(&mut self, packet: StartPacket) -> io::Result<Receipt> {
        self.run(Want::End)?;
        self.stream.disarm()?;
        Ok(Receipt { peer: self.stream.peer(), packet, bytes: self.connection.moved() })
    }

    /// The application failed, unless the connection had before.
    pub(crate) fn abort(&mut self, reason: &'static str, source: Option<io::Error>) -> io::Error {
        self.failure.of_application(&mut self.connection, reason, source);
        self.error().into()
    }

    /// Aborts, unless the connection had ended before.
    pub(crate) fn give_up(&mut self, reason: &'static str) {
        self.failure.of_application(&mut self.connection, reason, None);
    }

    fn error(&self) -> Error {
        self.failure.error(&self.connection, self.stream.peer())
    }

    /// Reads some bytes. None where the stream ended or failed, as the core now knows.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let read = self.attempt(|stream| stream.read(buffer));
        if read == Some(0) {
            self.connection.end_of_stream();
        }
        read.unwrap_or(0)
    }

    /// Writes some bytes. None where the stream failed, as the core now knows.
    fn write(&mut self, slices: &[IoSlice<'_>], last: bool) -> usize {
        let written = self.attempt(|stream| match last {
            true => stream.write_last(slices),
            false => stream.write_vectored(slices),
        });
        if written == Some(0) {
            self.fail(io::ErrorKind::WriteZero.into());
        }
        written.unwrap_or(0)
    }

    /// Does something on the stream that may wait for the peer, until the core's deadline.
    fn attempt(
        &mut self,
        io: impl FnOnce(&mut (dyn Stream + Send)) -> io::Result<usize>,
    ) -> Option<usize> {
        let began = now();
        self.connection.handle_timeout(began);
        if let Step::Done(_) = self.connection.step() {
            return None;
        }
        self.stream.set_deadline(self.connection.deadline(began));
        match io(&mut self.stream) {
            Ok(moved) => return Some(moved),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => self.connection.would_block(began),
                io::ErrorKind::Interrupted => {}
                _ => self.fail(error),
            },
        }
        None
    }

    fn fail(&mut self, error: io::Error) {
        self.failure.of_stream(&mut self.connection, error);
    }
}
