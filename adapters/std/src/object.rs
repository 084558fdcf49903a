//! An object on its way: what handlers and clients read from and write to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;

use dataserver_adapter::object::{
    FIRST_BYTES, SEND_GIVEN_UP, SINK_FAILED, SOURCE_FAILED, WORTH_A_PIPE, copy_buffer,
};
use dataserver_adapter::{NewFile, Receipt, Want};
use dataserver_core::{Config, Direction, StartPacket};

use crate::driver::Driver;
use crate::stream::Stream;

/// An object that arrives: in the handler of a put, and from [`Client::get`](crate::Client::get).
///
/// Read it to its end. An error of [`read`](Read::read) is final: the connection failed, and what
/// was read is not the object.
///
/// A handler that returns `Ok` has committed the object; a client says so with
/// [`commit`](Self::commit). Dropping it before that resets the connection.
///
/// ```no_run
/// use std::fs::File;
/// use dataserver_std::{Client, Key, StartPacket};
///
/// let mut object = Client::new("127.0.0.1:8089").get(StartPacket::get(Key::from_name("start")))?;
/// let file = File::create("object")?;
/// object.receive_file(&file)?;
/// file.sync_all()?;
/// object.commit()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Receiver {
    pub(crate) packet: StartPacket,
    pub(crate) driver: Box<Driver>,
}

impl Receiver {
    /// Begins a get over a stream that is connected already: sends the start packet.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Handlers, Key, Receiver, Socket, StartPacket};
    ///
    /// const PACKET: StartPacket = StartPacket::get(Key::from_name("start"));
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serving = std::thread::spawn(move || {
    ///     let handlers = Handlers::default();
    ///     handlers.on_get(PACKET, |object| object.send(b"hello"))?;
    ///     handlers.serve(Socket::try_from(server)?, &Config::default())
    /// });
    ///
    /// let mut object = Receiver::open(Socket::try_from(client)?, PACKET, &Config::default())?;
    /// let mut text = String::new();
    /// object.read_to_string(&mut text)?;
    /// object.commit()?;
    /// assert_eq!(text, "hello");
    /// assert_eq!(serving.join().unwrap()?.bytes, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(
        stream: impl Stream + Send + 'static,
        packet: StartPacket,
        config: &Config,
    ) -> io::Result<Self> {
        let mut driver = Driver::client(stream, packet, Direction::Get, config)?;
        driver.run(Want::Start)?;
        Ok(Self { packet, driver })
    }

    /// The start packet of this connection.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Receiver) {
    /// println!("declared: {}", object.packet().size());
    /// # }
    /// ```
    pub fn packet(&self) -> StartPacket {
        self.packet
    }

    /// The address of the sender, where it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Receiver) {
    /// println!("from {:?}", object.peer());
    /// # }
    /// ```
    pub fn peer(&self) -> Option<SocketAddr> {
        self.driver.stream.peer()
    }

    /// Receives what is left of the object into a file, at its cursor. How many bytes that was.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer), with what the file said where that failed.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Receiver) -> std::io::Result<()> {
    /// let file = std::fs::File::create("object")?;
    /// let bytes = object.receive_file(&file)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn receive_file(&mut self, mut file: &File) -> io::Result<u64> {
        let before = self.driver.connection.moved();
        if self.packet.size().bytes().is_none_or(|bytes| bytes > WORTH_A_PIPE) {
            while self.driver.run(Want::ReceiveFile(file))? > 0 {}
        }
        let mut buffer = match copy_buffer() {
            Ok(buffer) => buffer,
            Err(error) => return Err(self.driver.abort(SINK_FAILED, Some(error))),
        };
        loop {
            let n = self.read(&mut buffer)?;
            if n == 0 {
                return Ok(self.driver.connection.moved() - before);
            }
            if let Err(error) = file.write_all(&buffer[..n]) {
                return Err(self.driver.abort(SINK_FAILED, Some(error)));
            }
        }
    }

    /// Stores the object in a file of this name, and gives the sender its receipt.
    ///
    /// The object goes to a temporary file beside the target, which is synced and renamed when it is
    /// complete. So many connections can store to one name at once: a reader of the name finds one whole
    /// object, and each sender has a receipt only for an object that had the name.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`](crate::Error::Transfer), with the error of the file system if
    /// that is what failed. The target is then as before.
    ///
    /// ```no_run
    /// use dataserver_std::{Client, Key, StartPacket};
    ///
    /// let report = StartPacket::get(Key::from_name("report"));
    /// let receipt = Client::new("127.0.0.1:8089").get(report)?.receive_to("report")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn receive_to(&mut self, path: impl AsRef<Path>) -> io::Result<Receipt> {
        let stored =
            NewFile::create(path).map_err(|error| self.driver.abort(SINK_FAILED, Some(error)))?;
        self.receive_file(stored.file())?;
        stored.commit().map_err(|error| self.driver.abort(SINK_FAILED, Some(error)))?;
        self.commit()
    }

    /// Says that the object is stored, for good: gives the sender its receipt.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer): also where the object was not read to its
    /// end. If it is the connection that failed here, the sender may not know that the object was
    /// stored.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Receiver) -> std::io::Result<()> {
    /// let receipt = object.commit()?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(&mut self) -> io::Result<Receipt> {
        self.driver.finish(self.packet)
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.driver.run(Want::Receive(buffer))
    }
}

/// An object that leaves: in the handler of a get, and from [`Client::put`](crate::Client::put).
///
/// Send all of it at once with [`send`](Self::send), [`send_file`](Self::send_file) or
/// [`send_reader`](Self::send_reader), which wait for the receipt. Or write it piece by piece, and
/// then ask for the receipt with [`finish`](Self::finish). A handler may leave that to the server.
/// Dropping it before that resets the connection.
///
/// ```no_run
/// use std::io::Write;
/// use dataserver_std::{Client, Key, StartPacket};
///
/// let mut object = Client::new("127.0.0.1:8089").put(StartPacket::put(Key::from_name("start")))?;
/// object.write_all(b"hello, ")?;
/// object.write_all(b"world")?;
/// assert_eq!(object.finish()?.bytes, 12);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Sender {
    pub(crate) packet: StartPacket,
    pub(crate) driver: Box<Driver>,
}

impl Sender {
    /// Begins a put over a stream that is connected already. The start packet leaves with the first
    /// bytes of the object; [`flush`](Write::flush) sends it ahead of a first write that takes long.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```
    /// use std::io;
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Handlers, Key, Sender, Socket, StartPacket};
    ///
    /// const PACKET: StartPacket = StartPacket::put(Key::from_name("start"));
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serving = std::thread::spawn(move || {
    ///     let handlers = Handlers::default();
    ///     handlers.on_put(PACKET, |object| io::copy(object, &mut io::sink()))?;
    ///     handlers.serve(Socket::try_from(server)?, &Config::default())
    /// });
    ///
    /// let mut object = Sender::open(Socket::try_from(client)?, PACKET, &Config::default())?;
    /// assert_eq!(object.send(b"hello")?.bytes, 5);
    /// assert_eq!(serving.join().unwrap()?.bytes, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open(
        stream: impl Stream + Send + 'static,
        packet: StartPacket,
        config: &Config,
    ) -> io::Result<Self> {
        Ok(Self { packet, driver: Driver::client(stream, packet, Direction::Put, config)? })
    }

    /// The start packet of this connection.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) {
    /// println!("declared: {}", object.packet().size());
    /// # }
    /// ```
    pub fn packet(&self) -> StartPacket {
        self.packet
    }

    /// The address of the receiver, where it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) {
    /// println!("to {:?}", object.peer());
    /// # }
    /// ```
    pub fn peer(&self) -> Option<SocketAddr> {
        self.driver.stream.peer()
    }

    /// Sends these bytes, which are all (the rest) of the object, and waits for the receipt.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) -> std::io::Result<()> {
    /// object.send(b"hello, world")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send(&mut self, mut bytes: &[u8]) -> io::Result<Receipt> {
        let rest = Rest(self);
        while !bytes.is_empty() {
            match rest.0.driver.run(Want::SendLast(bytes))? {
                0 => return Err(io::ErrorKind::WriteZero.into()), // it is over already
                n => bytes = &bytes[n..],
            }
        }
        rest.mark_sent();
        self.finish()
    }

    /// Sends a file from its cursor to its end, and waits for the receipt. A regular file: reading
    /// one does not wait. For anything else there is [`send_reader`](Self::send_reader).
    ///
    /// It must not change meanwhile: the system may send pages of it as they are when they leave, and
    /// not as they were when they were counted (sendfile(2)). One that has shrunk or grown fails
    /// against a declared size.
    ///
    /// A peer that is gone raises SIGPIPE here: sendfile(2) knows no other way. Rust's runtime has a
    /// program ignore it; one that has changed that, or has no such runtime, must see to it.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer), with what the file said where that failed.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) -> std::io::Result<()> {
    /// object.send_file(&std::fs::File::open("object")?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_file(&mut self, mut file: &File) -> io::Result<Receipt> {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        match file.take(FIRST_BYTES as u64).read_to_end(&mut first) {
            Ok(FIRST_BYTES) => {}
            Ok(_) => return self.send(&first),
            Err(error) => return Err(self.driver.abort(SOURCE_FAILED, Some(error))),
        }
        let mut rest = Rest(self);
        rest.0.write_all(&first)?;
        drop(first); // nobody holds a buffer for what follows
        while rest.0.driver.run(Want::SendFile(file))? > 0 {}
        rest.copy(&mut file)?;
        rest.mark_sent();
        self.finish()
    }

    /// Sends all that a reader has, and waits for the receipt. It may be slow: the start packet goes
    /// ahead, and only the peer has to be in time.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer), with what the reader said where that failed.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) -> std::io::Result<()> {
    /// object.send_reader(std::io::stdin())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_reader(&mut self, mut reader: impl Read) -> io::Result<Receipt> {
        let mut rest = Rest(self);
        rest.0.flush()?;
        rest.copy(&mut reader)?;
        rest.mark_sent();
        self.finish()
    }

    /// Ends the object, and waits for the receipt.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_std::Sender) -> std::io::Result<()> {
    /// let receipt = object.finish()?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(&mut self) -> io::Result<Receipt> {
        self.driver.finish(self.packet)
    }
}

/// The rest of an object, while it is sent. If that fails, panics or is given up in the middle, the
/// connection is aborted: the part that was sent must not pass for the whole.
struct Rest<'a>(&'a mut Sender);

impl Rest<'_> {
    fn mark_sent(self) {
        mem::forget(self);
    }

    /// Sends what a reader has.
    fn copy(&mut self, reader: &mut impl Read) -> io::Result<()> {
        let mut buffer = copy_buffer().map_err(|error| self.source_failed(error))?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => self.0.write_all(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.source_failed(error)),
            }
        }
    }

    fn source_failed(&mut self, error: io::Error) -> io::Error {
        self.0.driver.abort(SOURCE_FAILED, Some(error))
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.driver.give_up(SEND_GIVEN_UP);
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.driver.run(Want::Send(bytes))
    }

    /// Sends the start packet, if it has not left with anything yet. Nothing else is held back.
    fn flush(&mut self) -> io::Result<()> {
        self.driver.run(Want::Start).map(drop)
    }
}
