//! The loop that does on a transport what the core asks for.

use std::io::{self, IoSlice};

use dataserver_common::{Action, BoxError, Error, Exchange, Goal, Receipt, Request, now};
use dataserver_core::{Config, Direction, StartPacket, Step};

use crate::transport::Transport;

/// A connection and its transport.
pub(crate) struct Driver<T: ?Sized = dyn Transport + Send> {
    pub(crate) exchange: Exchange,
    pub(crate) transport: T,
}

impl Driver {
    pub(crate) fn server(transport: impl Transport + Send + 'static, config: &Config) -> Box<Self> {
        Box::new(Driver { exchange: Exchange::server(config), transport })
    }

    pub(crate) fn client(
        transport: impl Transport + Send + 'static,
        direction: Direction,
        request: Request,
        config: &Config,
    ) -> Box<Self> {
        Box::new(Driver { exchange: Exchange::client(direction, request, config), transport })
    }

    /// Goes on until the application has what it wants. Returns how many bytes of the object moved.
    pub(crate) fn run(&mut self, mut goal: Goal<'_>) -> Result<usize, Error> {
        loop {
            let before = self.exchange.connection.moved();
            match self.exchange.next(&mut goal) {
                Action::ReadPacket { max } => {
                    let mut packet = [0; StartPacket::LEN];
                    if let Some(n) = self.read(&mut packet[..max]) {
                        self.exchange.connection.handle_read(&packet[..n]);
                    }
                }
                Action::Write { packet, object, last } => {
                    let slices = [IoSlice::new(packet.as_slice()), IoSlice::new(object)];
                    self.write(&slices, last);
                }
                Action::Read(buffer) => {
                    if let Some(n) = self.read(buffer) {
                        self.exchange.connection.handle_moved(n);
                    }
                }
                Action::ReceiveFile { file, max } => {
                    match self.attempt(|transport| transport.receive_file(file, max)) {
                        Some(0) => return Ok(0),
                        received => self.exchange.connection.handle_moved(received.unwrap_or(0)),
                    }
                }
                Action::SendFile { file, max } => {
                    match self.attempt(|transport| transport.send_file(file, max)) {
                        Some(0) => return Ok(0),
                        sent => self.exchange.connection.handle_moved(sent.unwrap_or(0)),
                    }
                }
                Action::ReadEnd => {
                    if let Some(n) = self.read(&mut [0]) {
                        self.exchange.handle_unexpected(n);
                    }
                }
                Action::Peek => match self.transport.has_ended() {
                    Ok(true) => self.exchange.connection.handle_end_of_stream(),
                    Ok(false) => self.exchange.connection.handle_still_open(),
                    Err(error) => self.exchange.transport_failed(error),
                },
                Action::Shutdown => {
                    if self.attempt(|transport| transport.shut_down().map(|()| 0)).is_some() {
                        self.exchange.connection.handle_shutdown();
                    }
                }
                Action::Return => return Ok(0),
                Action::Fail => return Err(self.error()),
            }
            match self.exchange.connection.moved() - before {
                0 => {}
                moved => return Ok(moved as usize),
            }
        }
    }

    /// Ends the object, and leaves the transport to be closed gracefully.
    pub(crate) fn finish(&mut self) -> Result<Receipt, Error> {
        self.run(Goal::End)?;
        if let Err(error) = self.transport.disarm() {
            return Err(self.abort("the transport cannot be closed gracefully", Some(error.into())));
        }
        self.exchange.receipt(self.transport.peer_addr())
    }

    /// The application failed. If the connection had failed before, its first error stays.
    pub(crate) fn abort(&mut self, reason: &'static str, source: Option<BoxError>) -> Error {
        self.exchange.abort(reason, source);
        self.error()
    }

    fn error(&self) -> Error {
        self.exchange.error(self.transport.peer_addr())
    }

    /// Reads some bytes. `None` if something else was reported to the core.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let read = self.attempt(|transport| transport.read(buffer))?;
        if read == 0 {
            self.exchange.connection.handle_end_of_stream();
            return None;
        }
        Some(read)
    }

    fn write(&mut self, slices: &[IoSlice<'_>], last: bool) {
        let written = self.attempt(|transport| match last {
            true => transport.write_last(slices),
            false => transport.write_vectored(slices),
        });
        match written {
            Some(0) => self.exchange.transport_failed(io::ErrorKind::WriteZero.into()),
            written => self.exchange.connection.handle_moved(written.unwrap_or(0)),
        }
    }

    /// Does something on the transport that may wait for the peer, until the core's deadline. `None` if
    /// something else was reported to the core.
    fn attempt(
        &mut self,
        io: impl FnOnce(&mut (dyn Transport + Send)) -> io::Result<usize>,
    ) -> Option<usize> {
        let began = now();
        let connection = &mut self.exchange.connection;
        connection.handle_timeout(began);
        if let Step::Done(_) = connection.step() {
            return None;
        }
        self.transport.set_deadline(connection.deadline(began));
        match io(&mut self.transport) {
            Ok(moved) => return Some(moved),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => connection.handle_blocked(began),
                io::ErrorKind::Interrupted => {}
                _ => self.exchange.transport_failed(error),
            },
        }
        None
    }
}
