//! The loop that does on a transport what the core asks for.

use std::io::{self, IoSlice};

use std::mem;

use dataserver_common::{
    Action, BoxError, Error, Exchange, Goal, READ_AHEAD, Receipt, Request, now,
};
use dataserver_core::{Config, Direction, Instant, Step};

use crate::transport::Transport;

/// A connection and its transport.
pub(crate) struct Driver<T: Transport + ?Sized = dyn Transport + Send> {
    pub(crate) exchange: Exchange,
    /// Something was written, and may wait in a buffer of the transport.
    unflushed: bool,
    pub(crate) transport: T,
}

impl Driver {
    /// The server's side of a connection that was accepted at this time.
    pub(crate) fn server(
        transport: impl Transport + Send + 'static,
        config: &Config,
        accepted_at: Instant,
    ) -> Box<Self> {
        let exchange = Exchange::server_since(config, accepted_at);
        Box::new(Driver { exchange, unflushed: false, transport })
    }

    /// Begins with the first object of a session, over a transport that is connected already.
    pub(crate) fn first_client(&mut self, direction: Direction, request: Request, config: &Config) {
        self.exchange = Exchange::client(direction, request, config);
    }

    /// Goes on with the next object of a session, if the last one has succeeded and nothing has arrived
    /// behind it, not even the end of the stream.
    pub(crate) fn next_client(
        &mut self,
        direction: Direction,
        request: Request,
        config: &Config,
    ) -> bool {
        let is_idle = self.exchange.has_ended_session() && !self.exchange.has_read_ahead();
        if !is_idle || !self.transport.is_quiet() {
            return false;
        }
        self.exchange.next_client(direction, request, config);
        true
    }

    pub(crate) fn client(
        transport: impl Transport + Send + 'static,
        direction: Direction,
        request: Request,
        config: &Config,
    ) -> Box<Self> {
        let exchange = Exchange::client(direction, request, config);
        Box::new(Driver { exchange, unflushed: false, transport })
    }

    /// Goes on until the application has what it wants. Returns how many bytes of the object moved.
    pub(crate) fn run(&mut self, mut goal: Goal<'_>) -> Result<usize, Error> {
        loop {
            let before = self.exchange.connection.moved();
            match self.exchange.next(&mut goal) {
                Action::ReadProtocol { max } => {
                    let mut buffer = [0; READ_AHEAD];
                    if let Some(n) = self.read(&mut buffer[..max]) {
                        self.exchange.handle_read(&buffer[..n]);
                    }
                }
                Action::Write { protocol, object, last } => {
                    let slices = [IoSlice::new(protocol.as_slice()), IoSlice::new(object)];
                    let written = self.write(&slices, last);
                    self.exchange.handle_written(&protocol, object, written);
                }
                Action::Read(buffer) => {
                    if let Some(n) = self.read(buffer) {
                        self.exchange.handle_received(&buffer[..n]);
                    }
                }
                Action::ReceiveFile { file, max } => {
                    match self.attempt_read(|transport| transport.receive_file(file, max)) {
                        Some(0) => return Ok(0),
                        received => self.exchange.handle_file(file, received.unwrap_or(0)),
                    }
                }
                Action::SendFile { file, max } => {
                    match self.attempt(|transport| transport.send_file(file, max)) {
                        Some(0) => return Ok(0),
                        sent => self.exchange.handle_file(file, sent.unwrap_or(0)),
                    }
                }
                Action::ReadEnd => {
                    if let Some(n) = self.read(&mut [0; 4096]) {
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
                Action::Skipped(n) => return Ok(n),
                Action::Digest => {
                    let digest = self.exchange.take_digest().finish();
                    self.exchange.handle_digest(digest);
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

    /// Ends the object. In the bare format this leaves the transport to be closed gracefully. In the framed
    /// format another object may follow.
    pub(crate) fn finish(&mut self) -> Result<Receipt, Error> {
        self.run(Goal::End)?;
        self.flush_receipt()?;
        if !self.exchange.is_framed() {
            if let Err(error) = self.transport.disarm() {
                let reason = "the transport cannot be closed gracefully";
                return Err(self.abort(reason, Some(error.into())));
            }
        }
        self.exchange.receipt(self.transport.peer_addr())
    }

    /// The application failed. If the connection had failed before, its first error stays. The peer is
    /// told, if the format and the moment allow it.
    pub(crate) fn abort(&mut self, reason: &'static str, source: Option<BoxError>) -> Error {
        self.exchange.abort(reason, source);
        self.conclude()
    }

    /// Ends a connection that has failed: the peer is told why, or its reason is read.
    pub(crate) fn conclude(&mut self) -> Error {
        match self.run(Goal::End) {
            Ok(_) => self.error(),
            Err(error) => error,
        }
    }

    /// Goes on with the next object of the client.
    pub(crate) fn next_object(&mut self, config: &Config) {
        self.exchange.next_server(config);
        self.transport.begin_wait();
    }

    /// Ends a session before its next object.
    pub(crate) fn end_session(&mut self) {
        self.exchange.abort("the session has ended", None);
        _ = self.run(Goal::End).and_then(|_| self.flush_receipt()); // the peer need not know
    }

    /// After the end, no timer of the core runs: the deadline of the last write holds.
    fn flush_receipt(&mut self) -> Result<(), Error> {
        while mem::take(&mut self.unflushed) {
            match self.transport.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.unflushed = true,
                Err(error) => {
                    let (peer, packet) =
                        (self.transport.peer_addr(), self.exchange.connection.packet());
                    let reason = "the receipt cannot be sent";
                    return Err(Error::aborted(peer, packet, reason, Some(error.into())));
                }
            }
        }
        Ok(())
    }

    fn error(&self) -> Error {
        self.exchange.error(self.transport.peer_addr())
    }

    /// Reads some bytes. `None` if something else was reported to the core.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match self.exchange.take_ahead(buffer) {
            0 => {}
            taken => return Some(taken),
        }
        let read = self.attempt_read(|transport| transport.read(buffer))?;
        if read == 0 {
            self.exchange.connection.handle_end_of_stream();
            return None;
        }
        Some(read)
    }

    /// [`attempt`](Self::attempt), when the peer has all that was written: it may be waiting for that.
    fn attempt_read(
        &mut self,
        io: impl FnOnce(&mut (dyn Transport + Send)) -> io::Result<usize>,
    ) -> Option<usize> {
        self.flush()?;
        self.attempt(io)
    }

    /// Has the transport write what waits in a buffer of it. `None` if the connection has failed.
    pub(crate) fn flush(&mut self) -> Option<()> {
        while self.unflushed {
            let began = now();
            match self.transport.flush() {
                Ok(()) => self.unflushed = false,
                Err(error) => self.handle_error(error, began),
            }
            if let Step::Done(Err(_)) = self.exchange.connection.step() {
                return None;
            }
        }
        Some(())
    }

    /// Returns how many bytes were written.
    fn write(&mut self, slices: &[IoSlice<'_>], last: bool) -> usize {
        self.unflushed = true;
        let written = self.attempt(|transport| match last {
            true => transport.write_last(slices),
            false => transport.write_vectored(slices),
        });
        match written {
            Some(0) => self.exchange.transport_failed(io::ErrorKind::WriteZero.into()),
            written => return written.unwrap_or(0),
        }
        0
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
            Err(error) => self.handle_error(error, began),
        }
        None
    }

    /// An attempt on the transport that began then has failed.
    fn handle_error(&mut self, error: io::Error, began: Instant) {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.exchange.connection.handle_blocked(began),
            io::ErrorKind::Interrupted => {}
            _ => self.exchange.transport_failed(error),
        }
    }
}

/// A stream whose last object has succeeded is closed gracefully.
impl<T: Transport + ?Sized> Drop for Driver<T> {
    fn drop(&mut self) {
        if self.exchange.has_ended_session() {
            _ = self.transport.disarm(); // then it is closed as it is
        }
    }
}
