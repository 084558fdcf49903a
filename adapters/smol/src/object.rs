//! An object on its way: what handlers and clients read from and write to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blocking::unblock;
use dataserver_adapter::object::{
    FIRST_BYTES, SEND_GIVEN_UP, SINK_FAILED, SOURCE_FAILED, WORTH_A_PIPE, copy_buffer,
};
use dataserver_adapter::{NewFile, Receipt, Want};
use dataserver_core::{Config, Direction, StartPacket};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::driver::Driver;
use crate::stream::Stream;

/// An object that arrives: in the handler of a put, and from [`Client::get`](crate::Client::get).
///
/// Read it to its end. An error of [`poll_read`](AsyncRead::poll_read) is final: the connection
/// failed, and what was read is not the object.
///
/// A handler that returns `Ok` has committed the object; a client says so with
/// [`commit`](Self::commit). Dropping it before that resets the connection. Dropping one of its
/// futures loses nothing: the next one goes on from there.
///
/// ```no_run
/// use dataserver_smol::{Client, Key, StartPacket};
/// use futures_lite::AsyncReadExt;
///
/// # async fn example() -> std::io::Result<()> {
/// let packet = StartPacket::get(Key::from_name("start"));
/// let mut object = Client::new("127.0.0.1:8089").get(packet).await?;
/// let mut text = String::new();
/// object.read_to_string(&mut text).await?;
/// object.commit().await?;
/// # Ok(())
/// # }
/// ```
pub struct Receiver {
    pub(crate) packet: StartPacket,
    pub(crate) driver: Box<Driver>,
}

impl Receiver {
    /// Begins a get over a stream that is connected already: sends the start packet.
    ///
    /// The stream is aborted where this future is dropped.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_smol::{Config, Handlers, Key, Receiver, Socket, StartPacket};
    /// use futures_lite::{AsyncReadExt, future};
    ///
    /// const PACKET: StartPacket = StartPacket::get(Key::from_name("start"));
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serve = async {
    ///     let handlers = Handlers::new();
    ///     handlers.on_get(PACKET, |object| Box::pin(object.send(b"hello")))?;
    ///     handlers.serve(Socket::try_from(server)?, &Config::default()).await
    /// };
    /// let get = async {
    ///     let socket = Socket::try_from(client)?;
    ///     let mut object = Receiver::open(socket, PACKET, &Config::default()).await?;
    ///     let mut text = String::new();
    ///     object.read_to_string(&mut text).await?;
    ///     assert_eq!(text, "hello");
    ///     object.commit().await
    /// };
    /// let (served, got) = future::block_on(future::zip(serve, get));
    /// assert_eq!(served?.bytes, got?.bytes);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn open(
        stream: impl Stream + Send + 'static,
        packet: StartPacket,
        config: &Config,
    ) -> io::Result<Self> {
        let mut driver = Driver::client(stream, packet, Direction::Get, config)?;
        driver.run(Want::Start).await?;
        Ok(Self { packet, driver })
    }

    /// The start packet of this connection.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_smol::Receiver) {
    /// println!("declared: {}", object.packet().size());
    /// # }
    /// ```
    pub fn packet(&self) -> StartPacket {
        self.packet
    }

    /// The address of the sender, where it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_smol::Receiver) {
    /// println!("from {:?}", object.peer());
    /// # }
    /// ```
    pub fn peer(&self) -> Option<SocketAddr> {
        self.driver.stream.peer()
    }

    /// Receives what is left of the object into a file, at its cursor. How many bytes that was.
    ///
    /// The file is written on this thread: mostly that is a copy into the page cache. Where it may
    /// take long, read the object and write it through [`blocking`](https://docs.rs/blocking).
    ///
    /// Where this future is dropped, what has moved is in the file, and the object goes on from
    /// there.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer), with what the file said where that failed.
    ///
    /// ```no_run
    /// # async fn handler(object: &mut dataserver_smol::Receiver) -> std::io::Result<()> {
    /// let file = std::fs::File::create("object")?;
    /// let bytes = object.receive_file(&file).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn receive_file(&mut self, mut file: &File) -> io::Result<u64> {
        let before = self.driver.connection.moved();
        if self.packet.size().bytes().is_none_or(|bytes| bytes > WORTH_A_PIPE) {
            while self.driver.run(Want::ReceiveFile(file)).await? > 0 {}
        }
        let mut buffer = match copy_buffer() {
            Ok(buffer) => buffer,
            Err(error) => return Err(self.driver.abort(SINK_FAILED, Some(error))),
        };
        loop {
            let n = self.read(&mut buffer).await?;
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
    /// The file system is used through [`blocking`](https://docs.rs/blocking), but for the writes
    /// themselves. Where this future is dropped, the connection can only fail, and the target is as
    /// before, unless the object was complete.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`](crate::Error::Transfer), with the error of the file system if
    /// that is what failed. The target is then as before.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key, StartPacket};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let report = StartPacket::get(Key::from_name("report"));
    /// let receipt = Client::new("127.0.0.1:8089").get(report).await?.receive_to("report").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn receive_to(&mut self, path: impl AsRef<Path>) -> io::Result<Receipt> {
        let path = path.as_ref().to_owned();
        let file = unblock(move || NewFile::create(path)).await;
        let file = file.map_err(|error| self.driver.abort(SINK_FAILED, Some(error)))?;
        self.receive_file(file.file()).await?;
        let stored = unblock(move || file.commit()).await;
        stored.map_err(|error| self.driver.abort(SINK_FAILED, Some(error)))?;
        self.commit().await
    }

    /// Says that the object is stored, for good: gives the sender its receipt.
    ///
    /// Where this future is dropped, the receipt may have left or not.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer): also where the object was not read to its
    /// end. If it is the connection that failed here, the sender may not know that the object was
    /// stored.
    ///
    /// ```no_run
    /// # async fn handler(object: &mut dataserver_smol::Receiver) -> std::io::Result<()> {
    /// let receipt = object.commit().await?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(&mut self) -> io::Result<Receipt> {
        self.driver.finish(self.packet).await
    }
}

impl AsyncRead for Receiver {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.driver.poll_run(cx, &mut Want::Receive(buffer))
    }
}

/// An object that leaves: in the handler of a get, and from [`Client::put`](crate::Client::put).
///
/// Send all of it at once with [`send`](Self::send), [`send_file`](Self::send_file) or
/// [`send_reader`](Self::send_reader), which wait for the receipt. Or write it piece by piece, and
/// then ask for the receipt with [`finish`](Self::finish). A handler may leave that to the server.
/// Dropping it before that resets the connection, and so does dropping a future of
/// [`send`](Self::send), [`send_file`](Self::send_file) or [`send_reader`](Self::send_reader) before all
/// has been sent: a part never passes for the whole object.
///
/// ```no_run
/// use dataserver_smol::{Client, Key, StartPacket};
/// use futures_lite::AsyncWriteExt;
///
/// # async fn example() -> std::io::Result<()> {
/// let packet = StartPacket::put(Key::from_name("start"));
/// let mut object = Client::new("127.0.0.1:8089").put(packet).await?;
/// object.write_all(b"hello, ").await?;
/// object.write_all(b"world").await?;
/// assert_eq!(object.finish().await?.bytes, 12);
/// # Ok(())
/// # }
/// ```
pub struct Sender {
    pub(crate) packet: StartPacket,
    pub(crate) driver: Box<Driver>,
}

impl Sender {
    /// Begins a put over a stream that is connected already. The start packet leaves with the first
    /// bytes of the object; [`flush`](AsyncWriteExt::flush) sends it ahead of a first write that
    /// takes long.
    ///
    /// # Errors
    /// An [`Error::Direction`](crate::Error::Direction).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_smol::{Config, Handlers, Key, Sender, Socket, StartPacket};
    /// use futures_lite::{future, io};
    ///
    /// const PACKET: StartPacket = StartPacket::put(Key::from_name("start"));
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serve = async {
    ///     let handlers = Handlers::new();
    ///     handlers.on_put(PACKET, |object| Box::pin(io::copy(object, io::sink())))?;
    ///     handlers.serve(Socket::try_from(server)?, &Config::default()).await
    /// };
    /// let put = async {
    ///     let mut object = Sender::open(Socket::try_from(client)?, PACKET, &Config::default())?;
    ///     object.send(b"hello").await
    /// };
    /// let (served, put) = future::block_on(future::zip(serve, put));
    /// assert_eq!((served?.bytes, put?.bytes), (5, 5));
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
    /// # fn handler(object: &mut dataserver_smol::Sender) {
    /// println!("declared: {}", object.packet().size());
    /// # }
    /// ```
    pub fn packet(&self) -> StartPacket {
        self.packet
    }

    /// The address of the receiver, where it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &mut dataserver_smol::Sender) {
    /// println!("to {:?}", object.peer());
    /// # }
    /// ```
    pub fn peer(&self) -> Option<SocketAddr> {
        self.driver.stream.peer()
    }

    /// Sends these bytes, which are all (the rest) of the object, and waits for the receipt.
    ///
    /// If this future is dropped before all have been sent, the connection is aborted.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```no_run
    /// # async fn handler(object: &mut dataserver_smol::Sender) -> std::io::Result<()> {
    /// object.send(b"hello, world").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<Receipt> {
        let rest = Rest(self);
        while !bytes.is_empty() {
            match rest.0.driver.run(Want::SendLast(bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()), // it is over already
                n => bytes = &bytes[n..],
            }
        }
        rest.mark_sent();
        self.finish().await
    }

    /// Sends a file from its cursor to its end, and waits for the receipt. A regular file: reading
    /// one does not wait. For anything else there is [`send_reader`](Self::send_reader).
    ///
    /// The file is read on this thread: mostly that is from the page cache. Where it may take long,
    /// use [`send_reader`](Self::send_reader) with [`blocking`](https://docs.rs/blocking).
    ///
    /// If this future is dropped before all has been sent, the connection is aborted.
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
    /// # async fn handler(object: &mut dataserver_smol::Sender) -> std::io::Result<()> {
    /// object.send_file(&std::fs::File::open("object")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_file(&mut self, mut file: &File) -> io::Result<Receipt> {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        match file.take(FIRST_BYTES as u64).read_to_end(&mut first) {
            Ok(FIRST_BYTES) => {}
            Ok(_) => return self.send(&first).await,
            Err(error) => return Err(self.driver.abort(SOURCE_FAILED, Some(error))),
        }
        let mut rest = Rest(self);
        rest.0.write_all(&first).await?;
        drop(first); // nobody holds a buffer for what follows
        while rest.0.driver.run(Want::SendFile(file)).await? > 0 {}
        let mut buffer = copy_buffer().map_err(|error| rest.source_failed(error))?;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => rest.0.write_all(&buffer[..n]).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(rest.source_failed(error)),
            }
        }
        rest.mark_sent();
        self.finish().await
    }

    /// Sends all that a reader has, and waits for the receipt. It may be slow: the start packet goes
    /// ahead, and only the peer has to be in time.
    ///
    /// If this future is dropped before all has been sent, the connection is aborted.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer), with what the reader said where that failed.
    ///
    /// ```no_run
    /// # async fn handler(object: &mut dataserver_smol::Sender) -> std::io::Result<()> {
    /// object.send_reader(futures_lite::io::repeat(7)).await?; // until the peer has enough
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_reader(&mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<Receipt> {
        let mut rest = Rest(self);
        rest.0.flush().await?;
        let mut buffer = copy_buffer().map_err(|error| rest.source_failed(error))?;
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break,
                Ok(n) => rest.0.write_all(&buffer[..n]).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(rest.source_failed(error)),
            }
        }
        rest.mark_sent();
        self.finish().await
    }

    /// Ends the object, and waits for the receipt.
    ///
    /// Where this future is dropped, it can be asked for again.
    ///
    /// # Errors
    /// An [`Error::Transfer`](crate::Error::Transfer).
    ///
    /// ```no_run
    /// # async fn handler(object: &mut dataserver_smol::Sender) -> std::io::Result<()> {
    /// let receipt = object.finish().await?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn finish(&mut self) -> io::Result<Receipt> {
        self.driver.finish(self.packet).await
    }
}

/// The rest of an object, while it is sent. If that fails, panics or is cancelled in the middle, the
/// connection is aborted: the part that was sent must not pass for the whole.
struct Rest<'a>(&'a mut Sender);

impl Rest<'_> {
    fn mark_sent(self) {
        mem::forget(self);
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

impl AsyncWrite for Sender {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.driver.poll_run(cx, &mut Want::Send(bytes))
    }

    /// Sends the start packet, if it has not left with anything yet. Nothing else is held back.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.driver.poll_run(cx, &mut Want::Start).map_ok(drop)
    }

    /// Ends the object, and waits for the receipt, which [`finish`](Sender::finish) then has.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.driver.poll_run(cx, &mut Want::End))?;
        Poll::Ready(self.driver.stream.disarm())
    }
}
