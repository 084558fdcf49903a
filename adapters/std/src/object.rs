//! An object that is transferred: what handlers and clients read from and write to.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;

use dataserver_common::object::{
    ENDED_ALREADY, FIRST_BYTES, LEASE_LOST, SEND_GIVEN_UP, SINK_FAILED, SOURCE_FAILED,
    WORTH_A_PIPE, copy_buffer, end_after, left_until, open_regular, regular_len,
};
use dataserver_common::{Error, Goal, Lent, NewFile, READ_AHEAD, Receipt, Request};
use dataserver_core::{Config, Direction, ObjectSize};

use crate::driver::Driver;
use crate::session::{Retry, is_closing};
use crate::transport::Transport;

/// The object of a ticket, for the handler of [`Handlers::on_tickets`](crate::Handlers::on_tickets).
///
/// ```no_run
/// use dataserver_std::{Error, Receipt, TicketObject};
///
/// fn handler(object: TicketObject, _data: Vec<u8>) -> Result<Receipt, Error> {
///     match object {
///         TicketObject::Put(object) => object.receive_to("report.csv"),
///         TicketObject::Get(object) => object.send_path("report.csv"),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it aborts the connection"]
pub enum TicketObject {
    /// The client puts it.
    Put(ObjectReader),
    /// The client gets it.
    Get(ObjectWriter),
}

/// An object that arrives: in the handler of a put, and from [`Client::get`](crate::Client::get).
///
/// [`receive_to`](Self::receive_to) stores it in a file. Otherwise read it to its end, make it durable,
/// and then [`commit`](Self::commit) it: that gives the sender its receipt. An error of
/// [`read`](Read::read) is final: the connection has failed, and the bytes that were read are not the
/// object.
///
/// Dropping the reader before the commit aborts the connection.
///
/// ```no_run
/// use std::io::Read;
/// use dataserver_std::{Client, Key};
///
/// let mut object = Client::new("127.0.0.1:8089")?.get(Key::from_name("report"))?;
/// let mut report = String::new();
/// object.read_to_string(&mut report)?;
/// object.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it aborts the connection"]
pub struct ObjectReader {
    pub(crate) driver: Lent<Box<Driver>>,
}

impl ObjectReader {
    /// Begins a get over a transport that is connected already: sends the start packet.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Handlers, Key, ObjectReader, Socket};
    ///
    /// const REPORT: Key = Key::from_name("report");
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serving = std::thread::spawn(move || {
    ///     let handlers = Handlers::new();
    ///     handlers.on_get(REPORT, |object| object.send(b"hello"))?;
    ///     handlers.serve(Socket::from_unix(server)?, &Config::default())
    /// });
    ///
    /// let mut object = ObjectReader::open(Socket::from_unix(client)?, REPORT, &Config::default())?;
    /// let mut text = String::new();
    /// object.read_to_string(&mut text)?;
    /// object.commit()?;
    /// assert_eq!(text, "hello");
    /// assert_eq!(serving.join().unwrap()?.bytes, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(
        transport: impl Transport + Send + 'static,
        request: impl Into<Request>,
        config: &Config,
    ) -> Result<Self, Error> {
        let driver = Driver::client(transport, Direction::Get, request.into(), config);
        Self::start(Lent::owned(driver))
    }

    pub(crate) fn start(mut driver: Lent<Box<Driver>>) -> Result<Self, Error> {
        driver.run(Goal::Start)?;
        Ok(Self { driver })
    }

    /// [`start`](Self::start), and waits for the first frame.
    pub(crate) fn answered(mut driver: Lent<Box<Driver>>) -> Result<Self, Error> {
        driver.run(Goal::Answer)?;
        Ok(Self { driver })
    }

    /// The size that was declared in the start packet.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_std::ObjectReader) {
    /// println!("declared: {}", object.declared_size());
    /// # }
    /// ```
    pub fn declared_size(&self) -> ObjectSize {
        self.driver.exchange.declared_size()
    }

    /// Whether a part of the object that an earlier transfer has left is used: [`receive_to`](Self::receive_to)
    /// does so for [resumable](Request::resumable) requests, before any of the object is read.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_std::ObjectReader) {
    /// println!("goes on where it broke: {}", object.is_resumable());
    /// # }
    /// ```
    #[cfg(feature = "digest")]
    pub fn is_resumable(&self) -> bool {
        self.driver.exchange.to_resume().is_some()
    }

    /// The address of the sender, if it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_std::ObjectReader) {
    /// println!("from {:?}", object.peer_addr());
    /// # }
    /// ```
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.driver.transport.peer_addr()
    }

    /// Stores the object in a file of this name, and gives the sender its receipt.
    ///
    /// The object goes to a temporary file beside the target, which is synced and renamed when it is
    /// complete. Several connections can store to one name at the same time: a reader of that name finds one
    /// complete object, and a sender has a receipt only for an object that had the name. A transfer that can be
    /// resumed keeps the temporary file if the connection fails: see the [crate page](crate#digests-and-resume).
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file system. The
    /// target is then as before.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key};
    ///
    /// let client = Client::new("127.0.0.1:8089")?;
    /// let receipt = client.get(Key::from_name("report"))?.receive_to("report.csv")?;
    /// println!("{} bytes", receipt.bytes);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn receive_to(self, path: impl AsRef<Path>) -> Result<Receipt, Error> {
        self.receive_to_shown(path, |_| {})
    }

    /// [`receive_to`](Self::receive_to), for a program that shows the progress: `begin` is called with the file, whose
    /// cursor is behind what an earlier attempt has left, and moves on with what arrives.
    ///
    /// # Errors
    /// As for [`receive_to`](Self::receive_to).
    ///
    /// ```no_run
    /// # use std::io::Seek;
    /// # use dataserver_std::{Error, ObjectReader, Receipt};
    /// # fn handler(object: ObjectReader) -> Result<Receipt, Error> {
    /// object.receive_to_shown("report.csv", |mut file| {
    ///     println!("begins after {:?} bytes", file.stream_position());
    /// })
    /// # }
    /// ```
    #[doc(hidden)]
    pub fn receive_to_shown(
        mut self,
        path: impl AsRef<Path>,
        begin: impl FnOnce(&File),
    ) -> Result<Receipt, Error> {
        let Some((key, size)) = self.driver.exchange.to_resume() else {
            let stored = NewFile::create(path).map_err(|error| self.sink_failed(error))?;
            begin(stored.file());
            self.receive_file(stored.file())?;
            return self.store(stored);
        };
        let stored = NewFile::resume(path, key, size).map_err(|error| self.sink_failed(error))?;
        let offset = stored.offset().map_err(|error| self.sink_failed(error))?;
        self.driver.exchange.resume(stored.file(), offset);
        let had_claim = self.driver.exchange.set_holds_claim(true);
        begin(stored.file());
        let received = self.receive_file(stored.file());
        match &received {
            Err(error) if error.is_mismatch() => stored.discard(), // before the sender knows
            Err(_) => drop(stored),
            Ok(_) => {
                self.driver.exchange.set_holds_claim(had_claim);
                return self.store(stored);
            }
        }
        self.driver.exchange.set_holds_claim(had_claim);
        Err(self.driver.conclude())
    }

    fn store(mut self, stored: NewFile) -> Result<Receipt, Error> {
        stored.file().sync_all().map_err(|error| self.sink_failed(error))?;
        self.renew_lease()?;
        stored.commit().map_err(|error| self.sink_failed(error))?;
        self.driver.finish() // whatever the lease is: the object is visible
    }

    /// Receives what is left of the object into an open file, at its cursor, and returns how many bytes
    /// that was. [`commit`](Self::commit) follows when the file is durable.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectReader, Receipt};
    /// # fn handler(mut object: ObjectReader) -> Result<Receipt, Box<dyn std::error::Error>> {
    /// let file = std::fs::File::create("object")?;
    /// object.receive_file(&file)?;
    /// file.sync_all()?;
    /// Ok(object.commit()?)
    /// # }
    /// ```
    pub fn receive_file(&mut self, file: &File) -> Result<u64, Error> {
        let before = self.driver.exchange.connection.moved();
        if self.declared_size().bytes().is_none_or(|bytes| bytes > WORTH_A_PIPE) {
            while self.receive_some(file)? > 0 {}
        }
        let mut buffer = copy_buffer().map_err(|error| self.sink_failed(error))?;
        loop {
            match self.receive(&mut buffer)? {
                0 => return Ok(self.driver.exchange.connection.moved() - before),
                n => self.write_to(file, &buffer[..n])?,
            }
        }
    }

    /// Receives what was read ahead, or what the system can move to the file. 0 if the rest is to be read
    /// and written.
    fn receive_some(&mut self, file: &File) -> Result<usize, Error> {
        match self.driver.run(Goal::ReceiveFile(file))? {
            0 if self.driver.exchange.has_read_ahead() => {
                let mut ahead = [0; READ_AHEAD];
                let read = self.driver.run(Goal::Receive(&mut ahead))?;
                self.write_to(file, &ahead[..read])?;
                Ok(read)
            }
            received => Ok(received),
        }
    }

    /// Checks that no other server has claimed the ticket of this object, and keeps it for the time of a lease.
    ///
    /// That is done when the end of the object is read, in [`receive_to`](Self::receive_to) before the object
    /// becomes visible, and in [`commit`](Self::commit). A handler that works for long between the end and a
    /// commit of its own calls it directly before the latter. It does nothing if the object has no ticket of a
    /// store ([`Handlers::on_tickets`](crate::Handlers::on_tickets)).
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the lease was lost, or if the store cannot tell. The object must then not
    /// be committed.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectReader, Receipt};
    /// # fn commit_transaction() {}
    /// # fn handler(mut object: ObjectReader) -> Result<Receipt, Error> {
    /// object.renew_lease()?;
    /// commit_transaction();
    /// object.commit()
    /// # }
    /// ```
    pub fn renew_lease(&mut self) -> Result<(), Error> {
        renew_lease(&mut self.driver)
    }

    /// Some of the object; no bytes at its end, if the lease holds.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let received = self.driver.run(Goal::Receive(buffer))?;
        if received == 0 {
            self.renew_lease()?;
        }
        Ok(received)
    }

    fn write_to(&mut self, mut file: &File, bytes: &[u8]) -> Result<(), Error> {
        file.write_all(bytes).map_err(|error| self.sink_failed(error))?;
        self.driver.exchange.handle_stored(file, bytes.len());
        Ok(())
    }

    /// Reports that the object is durable: gives the sender its receipt.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, if the object was not read to its end, or if its
    /// ticket was lost.
    /// If the connection fails here, the sender may not know that the object was stored.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectReader};
    /// # fn handler(object: ObjectReader) -> Result<(), Error> {
    /// let receipt = object.commit()?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(mut self) -> Result<Receipt, Error> {
        self.renew_lease()?;
        self.driver.finish()
    }

    fn sink_failed(&mut self, error: io::Error) -> Error {
        self.driver.abort(SINK_FAILED, Some(error.into()))
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        Ok(self.receive(buffer)?)
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&self.driver, "ObjectReader", f)
    }
}

/// An object that leaves: in the handler of a get, and from [`Client::put`](crate::Client::put).
///
/// Send the whole object with [`send`](Self::send), [`send_path`](Self::send_path),
/// [`send_file`](Self::send_file) or [`send_reader`](Self::send_reader), which wait for the receipt. Or
/// write it piece by piece, and then ask for the receipt with [`finish`](Self::finish). An object that is
/// written piece by piece has an unknown size, unless the [`Request`] declares one.
///
/// Dropping the writer before that aborts the connection.
///
/// ```no_run
/// use std::io::Write;
/// use dataserver_std::{Client, Key};
///
/// let mut object = Client::new("127.0.0.1:8089")?.put(Key::from_name("report"))?;
/// object.write_all(b"hello, ")?;
/// object.write_all(b"world")?;
/// assert_eq!(object.finish()?.bytes, 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it aborts the connection"]
pub struct ObjectWriter {
    pub(crate) driver: Lent<Box<Driver>>,
    /// What to do if the server ends the session at this moment.
    pub(crate) retry: Option<Box<Retry>>,
}

impl ObjectWriter {
    /// Begins a put over a transport that is connected already. The start packet leaves with the first
    /// bytes of the object; [`flush`](Write::flush) sends it earlier.
    ///
    /// ```
    /// use std::io;
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Handlers, Key, ObjectWriter, Socket};
    ///
    /// const REPORT: Key = Key::from_name("report");
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serving = std::thread::spawn(move || {
    ///     let handlers = Handlers::new();
    ///     handlers.on_put(REPORT, |mut object| {
    ///         io::copy(&mut object, &mut io::sink())?;
    ///         Ok::<_, io::Error>(object.commit()?)
    ///     })?;
    ///     handlers.serve(Socket::from_unix(server)?, &Config::default())
    /// });
    ///
    /// let object = ObjectWriter::open(Socket::from_unix(client)?, REPORT, &Config::default());
    /// assert_eq!(object.send(b"hello")?.bytes, 5);
    /// assert_eq!(serving.join().unwrap()?.bytes, 5);
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn open(
        transport: impl Transport + Send + 'static,
        request: impl Into<Request>,
        config: &Config,
    ) -> Self {
        let driver = Driver::client(transport, Direction::Put, request.into(), config);
        Self::of(Lent::owned(driver))
    }

    pub(crate) fn of(driver: Lent<Box<Driver>>) -> Self {
        Self { driver, retry: None }
    }

    /// The size that is declared in the start packet, or will be.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_std::ObjectWriter) {
    /// println!("declared: {}", object.declared_size());
    /// # }
    /// ```
    pub fn declared_size(&self) -> ObjectSize {
        self.driver.exchange.declared_size()
    }

    /// The address of the receiver, if it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_std::ObjectWriter) {
    /// println!("to {:?}", object.peer_addr());
    /// # }
    /// ```
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.driver.transport.peer_addr()
    }

    /// Sends these bytes, which are all (the rest) of the object, and waits for the receipt.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectWriter, Receipt};
    /// # fn handler(object: ObjectWriter) -> Result<Receipt, Error> {
    /// object.send(b"hello, world")
    /// # }
    /// ```
    pub fn send(mut self, bytes: &[u8]) -> Result<Receipt, Error> {
        let is_whole = self.driver.exchange.is_at_beginning();
        let retry = self.retry.take().filter(|_| is_whole);
        match (self.send_once(bytes), retry) {
            (Err(error), Some(retry)) if is_closing(&error) => retry.begin()?.send_once(bytes),
            (sent, _) => sent,
        }
    }

    fn send_once(mut self, bytes: &[u8]) -> Result<Receipt, Error> {
        self.driver.exchange.declare_known_size(bytes.len() as u64);
        self.send_last(bytes)?;
        self.driver.finish()
    }

    /// Sends a regular file, and waits for the receipt.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key};
    ///
    /// let client = Client::new("127.0.0.1:8089")?;
    /// let receipt = client.put(Key::from_name("report"))?.send_path("report.csv")?;
    /// println!("{} bytes were stored by the server", receipt.bytes);
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn send_path(mut self, path: impl AsRef<Path>) -> Result<Receipt, Error> {
        match open_regular(path.as_ref()) {
            Ok(file) => self.send_file(&file),
            Err(error) => Err(self.source_failed(error)),
        }
    }

    /// Sends an open file from its cursor to its end, and waits for the receipt. The size of a regular
    /// file is declared. For pipes and devices there is [`send_reader`](Self::send_reader).
    ///
    /// The file must not change meanwhile, unless the object has a digest, which then fails: the system may send
    /// its pages as they are when they leave, not as they were when they were counted (sendfile(2)). A file that
    /// shrinks fails against its declared size. Of a file that grows, such as a log, as much is sent as was
    /// declared.
    ///
    /// A peer that is gone raises SIGPIPE in sendfile(2). Rust's runtime ignores it; a program that has
    /// changed that must ignore it itself.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// # use dataserver_std::{ObjectWriter, Receipt};
    /// # fn handler(object: ObjectWriter) -> Result<Receipt, Box<dyn std::error::Error>> {
    /// Ok(object.send_file(&std::fs::File::open("object")?)?)
    /// # }
    /// ```
    pub fn send_file(mut self, file: &File) -> Result<Receipt, Error> {
        let len = regular_len(file);
        let mut first = Vec::with_capacity(FIRST_BYTES);
        match file.take(FIRST_BYTES as u64).read_to_end(&mut first) {
            Ok(FIRST_BYTES) => {}
            // The whole file, whatever its metadata says: files below `/proc` and `/sys` have other sizes.
            Ok(_) if len.is_some() => return self.send(&first),
            Ok(_) => {
                self.send_last(&first)?;
                return self.driver.finish();
            }
            Err(error) => return Err(self.source_failed(error)),
        }
        // Less than was read is wrong: the metadata of such a file says nothing.
        let declared = len.filter(|len| {
            *len >= FIRST_BYTES as u64 && self.driver.exchange.declare_known_size(*len)
        });
        let end = end_after(file, declared.map(|len| len - FIRST_BYTES as u64));
        self.send_rest(|object| {
            object.send_all(&first)?;
            drop(first); // no buffer is held for what follows
            while object.driver.run(Goal::SendFile { file, end })? > 0 {}
            object.copy(&mut file.take(left_until(file, end)))
        })?;
        self.finish()
    }

    /// Sends all bytes of a reader, and waits for the receipt. The reader may be slow: the start packet
    /// is sent first, and the peer's idle timeout applies between one byte and the next.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the reader.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectWriter, Receipt};
    /// # fn handler(object: ObjectWriter) -> Result<Receipt, Error> {
    /// object.send_reader(std::io::stdin())
    /// # }
    /// ```
    pub fn send_reader(mut self, mut reader: impl Read) -> Result<Receipt, Error> {
        self.send_rest(|object| {
            object.driver.run(Goal::Start)?;
            object.copy(&mut reader)
        })?;
        self.finish()
    }

    /// Ends the object, and waits for the receipt.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```no_run
    /// # use dataserver_std::{Error, ObjectWriter};
    /// # fn handler(object: ObjectWriter) -> Result<(), Error> {
    /// let receipt = object.finish()?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(mut self) -> Result<Receipt, Error> {
        renew_lease(&mut self.driver)?;
        self.driver.finish()
    }

    fn send_last(&mut self, bytes: &[u8]) -> Result<(), Error> {
        renew_lease(&mut self.driver)?;
        self.send_rest(|object| {
            let mut left = bytes;
            while !left.is_empty() {
                match object.driver.run(Goal::SendLast(left))? {
                    0 => return Err(object.driver.abort(ENDED_ALREADY, None)),
                    n => left = &left[n..],
                }
            }
            Ok(())
        })
    }

    fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.driver.run(Goal::Send(bytes))? {
                0 => return Err(self.driver.abort(ENDED_ALREADY, None)),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    fn copy(&mut self, reader: &mut impl Read) -> Result<(), Error> {
        let mut buffer = copy_buffer().map_err(|error| self.source_failed(error))?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => self.send_all(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.source_failed(error)),
            }
        }
    }

    /// Sends the rest of the object. If that fails or panics in the middle, the connection is aborted: a
    /// part must not pass for the whole.
    fn send_rest(
        &mut self,
        send: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let guard = AbortOnDrop(self);
        send(&mut *guard.0)?;
        mem::forget(guard);
        Ok(())
    }

    fn source_failed(&mut self, error: io::Error) -> Error {
        self.driver.abort(SOURCE_FAILED, Some(error.into()))
    }
}

struct AbortOnDrop<'a>(&'a mut ObjectWriter);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.driver.exchange.abort(SEND_GIVEN_UP, None);
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut sent = self.driver.run(Goal::Send(bytes))?;
        while self.driver.exchange.owes_bytes() {
            sent += self.driver.run(Goal::Send(&bytes[sent..]))?;
        }
        Ok(sent)
    }

    /// Sends the start packet, if it has not left yet. Nothing else is held back. A `send` that follows can no
    /// longer declare the size of its object: give it to the request.
    fn flush(&mut self) -> io::Result<()> {
        self.driver.run(Goal::Start)?;
        match self.driver.flush() {
            Some(()) => Ok(()),
            None => Err(self.driver.conclude().into()),
        }
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&self.driver, "ObjectWriter", f)
    }
}

/// The receiver of an object commits it when it has read its end, so a lease is renewed before that.
fn renew_lease(driver: &mut Driver) -> Result<(), Error> {
    match driver.exchange.lease().map_or(Ok(()), |lease| lease.renew()) {
        Ok(()) => Ok(()),
        Err(error) => Err(driver.abort(LEASE_LOST, Some(error.into()))),
    }
}

fn debug(driver: &Driver, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("peer", &driver.transport.peer_addr())
        .field("packet", &driver.exchange.connection.packet())
        .field("moved", &driver.exchange.connection.moved())
        .finish_non_exhaustive()
}
