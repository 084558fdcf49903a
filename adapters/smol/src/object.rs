//! An object that is transferred: what handlers and clients read from and write to.

use std::fmt;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blocking::unblock;
use dataserver_common::object::{
    ENDED_ALREADY, FIRST_BYTES, SEND_GIVEN_UP, SINK_FAILED, SOURCE_FAILED, WORTH_A_PIPE,
    copy_buffer, end_after, left_until, open_regular, regular_len,
};
use dataserver_common::{Error, Goal, Lent, NewFile, READ_AHEAD, Receipt, Request};
use dataserver_core::{Config, Direction, ObjectSize};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::driver::Driver;
use crate::session::{Retry, is_closing};
use crate::transport::Transport;

/// The object of a ticket, for the handler of [`Handlers::on_tickets`](crate::Handlers::on_tickets).
///
/// ```no_run
/// use dataserver_smol::{Error, Receipt, TicketObject};
///
/// async fn handler(object: TicketObject, _data: Vec<u8>) -> Result<Receipt, Error> {
///     match object {
///         TicketObject::Put(object) => object.receive_to("report.csv").await,
///         TicketObject::Get(object) => object.send_path("report.csv").await,
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
/// [`poll_read`](AsyncRead::poll_read) is final: the connection has failed, and the bytes that were read
/// are not the object.
///
/// Dropping the reader before the commit aborts the connection. Dropping the future of a read loses
/// nothing: the next read goes on from there.
///
/// ```no_run
/// use dataserver_smol::{Client, Key};
/// use futures_lite::AsyncReadExt;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut object = Client::new("127.0.0.1:8089")?.get(Key::from_name("report")).await?;
/// let mut report = String::new();
/// object.read_to_string(&mut report).await?;
/// object.commit().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it aborts the connection"]
pub struct ObjectReader {
    pub(crate) driver: Lent<Box<Driver>>,
}

impl ObjectReader {
    /// Begins a get over a transport that is connected already: sends the start packet.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_smol::{Config, Handlers, Key, ObjectReader, Socket};
    /// use futures_lite::{AsyncReadExt, future};
    ///
    /// const REPORT: Key = Key::from_name("report");
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let handlers = Handlers::new();
    /// handlers.on_get(REPORT, |object| object.send(b"hello"))?;
    /// let config = Config::default();
    /// let serve = handlers.serve(Socket::from_unix(server)?, &config);
    /// let socket = Socket::from_unix(client)?;
    /// let get = async {
    ///     let mut object = ObjectReader::open(socket, REPORT, &config).await.unwrap();
    ///     let mut text = String::new();
    ///     object.read_to_string(&mut text).await.unwrap();
    ///     assert_eq!(text, "hello");
    ///     object.commit().await
    /// };
    /// let (served, got) = future::block_on(future::try_zip(serve, get))?;
    /// assert_eq!(served.bytes, got.bytes);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn open(
        transport: impl Transport + Send + 'static,
        request: impl Into<Request>,
        config: &Config,
    ) -> Result<Self, Error> {
        let driver = Driver::client(transport, Direction::Get, request.into(), config);
        Self::start(Lent::owned(driver)).await
    }

    pub(crate) async fn start(mut driver: Lent<Box<Driver>>) -> Result<Self, Error> {
        driver.run(Goal::Start).await?;
        Ok(Self { driver })
    }

    /// [`start`](Self::start), and waits for the first frame.
    pub(crate) async fn answered(mut driver: Lent<Box<Driver>>) -> Result<Self, Error> {
        driver.run(Goal::Answer).await?;
        Ok(Self { driver })
    }

    /// The size that was declared in the start packet.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_smol::ObjectReader) {
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
    /// # fn handler(object: &dataserver_smol::ObjectReader) {
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
    /// # fn handler(object: &dataserver_smol::ObjectReader) {
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
    /// complete object, and a sender has a receipt only for an object that had the name. The file is created,
    /// synced on a thread for blocking calls. A transfer that can be resumed keeps the temporary file if the
    /// connection fails: see the [crate page](crate#digests-and-resume).
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted. The target is as before, unless the object
    /// was complete.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file system. The
    /// target is then as before.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let client = Client::new("127.0.0.1:8089")?;
    /// let receipt = client.get(Key::from_name("report")).await?.receive_to("report.csv").await?;
    /// println!("{} bytes", receipt.bytes);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn receive_to(mut self, path: impl AsRef<Path>) -> Result<Receipt, Error> {
        let path = path.as_ref().to_owned();
        let Some((key, size)) = self.driver.exchange.to_resume() else {
            let file = unblock(move || NewFile::create(path)).await;
            let file = self.sink(file).await?;
            self.receive_file(file.file()).await?;
            return self.store(file).await;
        };
        let file = unblock(move || NewFile::resume(path, key, size)).await;
        let file = self.sink(file).await?;
        let offset = self.sink(file.offset()).await?;
        self.driver.exchange.resume(file.file(), offset);
        let had_claim = self.driver.exchange.set_holds_claim(true);
        let received = self.receive_file(file.file()).await;
        match &received {
            Err(error) if error.is_mismatch() => file.discard(), // before the sender knows
            Err(_) => drop(file),
            Ok(_) => {
                self.driver.exchange.set_holds_claim(had_claim);
                return self.store(file).await;
            }
        }
        self.driver.exchange.set_holds_claim(had_claim);
        Err(self.driver.conclude().await)
    }

    async fn store(mut self, file: NewFile) -> Result<Receipt, Error> {
        let data = self.sink(file.file().try_clone()).await?;
        let synced = unblock(move || data.sync_all()).await;
        self.sink(synced).await?;
        self.renew_lease().await?;
        // Here, so that a future that is dropped renames nothing later.
        if let Some(directory) = self.sink(file.rename()).await? {
            _ = unblock(move || directory.sync_all()).await; // see `NewFile::commit`
        }
        self.driver.finish().await // whatever the lease is: the object is visible
    }

    /// Receives what is left of the object into an open file, at its cursor, and returns how many bytes
    /// that was. [`commit`](Self::commit) follows when the file is durable.
    ///
    /// The file is written on this thread, which is usually a copy into the page cache. If that may take
    /// long, read the object and write it through [`blocking`](https://docs.rs/blocking).
    ///
    /// # Cancel safety
    /// If this future is dropped, all bytes that have moved are in the file, and the object goes on from
    /// there.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectReader, Receipt};
    /// # async fn handler(mut object: ObjectReader) -> Result<Receipt, Box<dyn std::error::Error>> {
    /// let file = std::fs::File::create("object")?;
    /// object.receive_file(&file).await?;
    /// file.sync_all()?;
    /// Ok(object.commit().await?)
    /// # }
    /// ```
    pub async fn receive_file(&mut self, file: &File) -> Result<u64, Error> {
        let before = self.driver.exchange.connection.moved();
        if self.declared_size().bytes().is_none_or(|bytes| bytes > WORTH_A_PIPE) {
            while self.receive_some(file).await? > 0 {}
        }
        let mut buffer = self.sink(copy_buffer()).await?;
        loop {
            match poll_fn(|cx| self.poll_receive(cx, &mut buffer)).await? {
                0 => return Ok(self.driver.exchange.connection.moved() - before),
                n => self.write_to(file, &buffer[..n]).await?,
            }
        }
    }

    /// Receives what was read ahead, or what the system can move to the file. 0 if the rest is to be read
    /// and written.
    async fn receive_some(&mut self, file: &File) -> Result<usize, Error> {
        match self.driver.run(Goal::ReceiveFile(file)).await? {
            0 if self.driver.exchange.has_read_ahead() => {
                let mut ahead = vec![0; READ_AHEAD];
                let read = self.driver.run(Goal::Receive(&mut ahead)).await?;
                self.write_to(file, &ahead[..read]).await?;
                Ok(read)
            }
            received => Ok(received),
        }
    }

    /// Checks that no other server has claimed the ticket of this object, and keeps it for the time of a lease.
    ///
    /// That is done when the end of the object is read, in [`receive_to`](Self::receive_to) before the object
    /// becomes visible, and in [`commit`](Self::commit). A handler that works for long between the end and a
    /// commit of its own awaits it directly before the latter. It does nothing if the object has no ticket of a
    /// store ([`Handlers::on_tickets`](crate::Handlers::on_tickets)).
    ///
    /// # Cancel safety
    /// If this future is dropped, nothing is lost.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the lease was lost, or if the store cannot tell. The object must then not
    /// be committed.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectReader, Receipt};
    /// # fn commit_transaction() {}
    /// # async fn handler(mut object: ObjectReader) -> Result<Receipt, Error> {
    /// object.renew_lease().await?;
    /// commit_transaction();
    /// object.commit().await
    /// # }
    /// ```
    pub async fn renew_lease(&mut self) -> Result<(), Error> {
        self.driver.renew_lease().await
    }

    /// Some of the object; no bytes at its end, if the lease holds.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        let received = ready!(self.driver.poll_run(cx, &mut Goal::Receive(buffer)))?;
        if received == 0 {
            ready!(self.driver.poll_renew_lease(cx))?;
        }
        Poll::Ready(Ok(received))
    }

    async fn write_to(&mut self, mut file: &File, bytes: &[u8]) -> Result<(), Error> {
        self.sink(file.write_all(bytes)).await?;
        self.driver.exchange.handle_stored(file, bytes.len());
        Ok(())
    }

    /// Reports that the object is durable: gives the sender its receipt.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted, and the receipt may have left or not.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, if the object was not read to its end, or if its
    /// ticket was lost.
    /// If the connection fails here, the sender may not know that the object was stored.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectReader};
    /// # async fn handler(object: ObjectReader) -> Result<(), Error> {
    /// let receipt = object.commit().await?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(mut self) -> Result<Receipt, Error> {
        self.renew_lease().await?;
        self.driver.finish().await
    }

    /// What the file for the object has given. If it has failed, the connection is aborted.
    async fn sink<T>(&mut self, given: io::Result<T>) -> Result<T, Error> {
        match given {
            Ok(given) => Ok(given),
            Err(error) => Err(self.driver.abort(SINK_FAILED, Some(error.into())).await),
        }
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_receive(cx, buffer).map_err(Into::into)
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
/// Dropping the writer before that aborts the connection. Dropping the future of a write loses nothing:
/// what was written was sent.
///
/// ```no_run
/// use dataserver_smol::{Client, Key};
/// use futures_lite::AsyncWriteExt;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut object = Client::new("127.0.0.1:8089")?.put(Key::from_name("report")).await?;
/// object.write_all(b"hello, ").await?;
/// object.write_all(b"world").await?;
/// assert_eq!(object.finish().await?.bytes, 12);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it aborts the connection"]
pub struct ObjectWriter {
    pub(crate) driver: Lent<Box<Driver>>,
    /// What to do if the server ends the session at this moment.
    pub(crate) retry: Option<Box<Retry>>,
    /// The lease of its ticket has been renewed for the end.
    is_ending: bool,
}

impl ObjectWriter {
    /// Begins a put over a transport that is connected already. The start packet leaves with the first
    /// bytes of the object; [`flush`](futures_lite::AsyncWriteExt::flush) sends it earlier.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_smol::{Config, Error, Handlers, Key, ObjectWriter, Socket};
    /// use futures_lite::future;
    ///
    /// const REPORT: Key = Key::from_name("report");
    ///
    /// # let path = std::env::temp_dir().join(format!("dataserver-open-{}", std::process::id()));
    /// # let target = path.clone();
    /// let (client, server) = UnixStream::pair()?;
    /// let handlers = Handlers::new();
    /// handlers.on_put(REPORT, move |object| object.receive_to(target.clone()))?;
    /// let config = Config::default();
    /// let serve = handlers.serve(Socket::from_unix(server)?, &config);
    /// let object = ObjectWriter::open(Socket::from_unix(client)?, REPORT, &config);
    /// let (served, put) = future::block_on(future::try_zip(serve, object.send(b"hello")))?;
    /// assert_eq!((served.bytes, put.bytes), (5, 5));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
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
        Self { driver, retry: None, is_ending: false }
    }

    /// The size that is declared in the start packet, or will be.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_smol::ObjectWriter) {
    /// println!("declared: {}", object.declared_size());
    /// # }
    /// ```
    pub fn declared_size(&self) -> ObjectSize {
        self.driver.exchange.declared_size()
    }

    /// The address of the receiver, if it has one.
    ///
    /// ```no_run
    /// # fn handler(object: &dataserver_smol::ObjectWriter) {
    /// println!("to {:?}", object.peer_addr());
    /// # }
    /// ```
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.driver.transport.peer_addr()
    }

    /// Sends these bytes, which are all (the rest) of the object, and waits for the receipt. They may be
    /// borrowed or owned.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectWriter, Receipt};
    /// # async fn handler(object: ObjectWriter) -> Result<Receipt, Error> {
    /// object.send(b"hello, world").await
    /// # }
    /// ```
    pub async fn send(mut self, bytes: impl AsRef<[u8]>) -> Result<Receipt, Error> {
        let bytes = bytes.as_ref();
        let is_whole = self.driver.exchange.is_at_beginning();
        let retry = self.retry.take().filter(|_| is_whole);
        match (self.send_once(bytes).await, retry) {
            (Err(error), Some(retry)) if is_closing(&error) => {
                retry.begin().await?.send_once(bytes).await
            }
            (sent, _) => sent,
        }
    }

    async fn send_once(mut self, bytes: &[u8]) -> Result<Receipt, Error> {
        self.driver.exchange.declare_known_size(bytes.len() as u64);
        self.send_last(bytes).await?;
        self.driver.finish().await
    }

    /// Sends a regular file, and waits for the receipt. The file is opened on a thread for blocking calls.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// use dataserver_smol::{Client, Key};
    ///
    /// # async fn example() -> Result<(), dataserver_smol::Error> {
    /// let client = Client::new("127.0.0.1:8089")?;
    /// let receipt = client.put(Key::from_name("report")).await?.send_path("report.csv").await?;
    /// println!("{} bytes were stored by the server", receipt.bytes);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_path(mut self, path: impl AsRef<Path>) -> Result<Receipt, Error> {
        let path = path.as_ref().to_owned();
        let opened = unblock(move || open_regular(&path)).await;
        let file = self.source(opened).await?;
        self.send_file(&file).await
    }

    /// Sends an open file from its cursor to its end, and waits for the receipt. The size of a regular
    /// file is declared. For pipes and devices there is [`send_reader`](Self::send_reader).
    ///
    /// The file is read on this thread, which is usually a copy from the page cache. If that may take
    /// long, use [`send_reader`](Self::send_reader) with [`blocking`](https://docs.rs/blocking).
    ///
    /// The file must not change meanwhile, unless the object has a digest, which then fails: the system may send
    /// its pages as they are when they leave, not as they were when they were counted (sendfile(2)). A file that
    /// shrinks fails against its declared size. Of a file that grows, such as a log, as much is sent as was
    /// declared.
    ///
    /// A peer that is gone raises SIGPIPE in sendfile(2). Rust's runtime ignores it; a program that has
    /// changed that must ignore it itself.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the file.
    ///
    /// ```no_run
    /// # use dataserver_smol::{ObjectWriter, Receipt};
    /// # async fn handler(object: ObjectWriter) -> Result<Receipt, Box<dyn std::error::Error>> {
    /// Ok(object.send_file(&std::fs::File::open("object")?).await?)
    /// # }
    /// ```
    pub async fn send_file(mut self, file: &File) -> Result<Receipt, Error> {
        let len = regular_len(file);
        let mut first = Vec::with_capacity(FIRST_BYTES);
        let read = file.take(FIRST_BYTES as u64).read_to_end(&mut first);
        match (self.source(read).await?, len) {
            (FIRST_BYTES, _) => {}
            // The whole file, whatever its metadata says: files below `/proc` and `/sys` have other sizes.
            (_, Some(_)) => return self.send(&first).await,
            (_, None) => {
                self.send_last(&first).await?;
                return self.driver.finish().await;
            }
        }
        // Less than was read is wrong: the metadata of such a file says nothing.
        let declared = len.filter(|len| {
            *len >= FIRST_BYTES as u64 && self.driver.exchange.declare_known_size(*len)
        });
        let end = end_after(file, declared.map(|len| len - FIRST_BYTES as u64));
        let rest = AbortOnDrop(&mut self);
        rest.0.send_all(&first).await?;
        drop(first); // no buffer is held for what follows
        while rest.0.driver.run(Goal::SendFile { file, end }).await? > 0 {}
        rest.0.driver.catch_up().await;
        let mut file = file.take(left_until(file, end));
        let mut buffer = rest.0.source(copy_buffer()).await?;
        loop {
            match rest.0.read_of(file.read(&mut buffer)).await? {
                Some(0) => break,
                Some(n) => rest.0.send_all(&buffer[..n]).await?,
                None => {}
            }
        }
        mem::forget(rest);
        self.finish().await
    }

    /// Sends all bytes of a reader, and waits for the receipt. The reader may be slow: the start packet
    /// is sent first, and the peer's idle timeout applies between one byte and the next.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails, or with the error of the reader.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectWriter, Receipt};
    /// # async fn handler(object: ObjectWriter) -> Result<Receipt, Error> {
    /// object.send_reader(futures_lite::io::repeat(7)).await // until the peer has enough
    /// # }
    /// ```
    pub async fn send_reader(
        mut self,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<Receipt, Error> {
        let rest = AbortOnDrop(&mut self);
        rest.0.driver.run(Goal::Start).await?;
        let mut buffer = rest.0.source(copy_buffer()).await?;
        loop {
            match rest.0.read_of(reader.read(&mut buffer).await).await? {
                Some(0) => break,
                Some(n) => rest.0.send_all(&buffer[..n]).await?,
                None => {}
            }
        }
        mem::forget(rest);
        self.finish().await
    }

    /// Ends the object, and waits for the receipt.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted, and the receiver may have committed or not.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection fails.
    ///
    /// ```no_run
    /// # use dataserver_smol::{Error, ObjectWriter};
    /// # async fn handler(object: ObjectWriter) -> Result<(), Error> {
    /// let receipt = object.finish().await?;
    /// println!("{receipt}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn finish(mut self) -> Result<Receipt, Error> {
        poll_fn(|cx| self.poll_renew_lease(cx)).await?;
        self.driver.finish().await
    }

    /// Renews the lease, if the end of the object has not begun to leave.
    fn poll_renew_lease(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_ending {
            ready!(self.driver.poll_renew_lease(cx))?;
            self.is_ending = true;
        }
        Poll::Ready(Ok(()))
    }

    async fn send_last(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let rest = AbortOnDrop(self);
        rest.0.driver.renew_lease().await?;
        while !bytes.is_empty() {
            match rest.0.driver.run(Goal::SendLast(bytes)).await? {
                0 => return Err(rest.0.driver.abort(ENDED_ALREADY, None).await),
                n => bytes = &bytes[n..],
            }
        }
        mem::forget(rest);
        Ok(())
    }

    async fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.driver.run(Goal::Send(bytes)).await? {
                0 => return Err(self.driver.abort(ENDED_ALREADY, None).await),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// How many bytes a source has given; `None` if it was interrupted. If it failed, the connection is
    /// aborted.
    async fn read_of(&mut self, read: io::Result<usize>) -> Result<Option<usize>, Error> {
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            read => self.source(read).await.map(Some),
        }
    }

    /// What the source of the object has given. If it has failed, the connection is aborted.
    async fn source<T>(&mut self, given: io::Result<T>) -> Result<T, Error> {
        match given {
            Ok(given) => Ok(given),
            Err(error) => Err(self.driver.abort(SOURCE_FAILED, Some(error.into())).await),
        }
    }
}

/// Guards the rest of an object while it is sent. If that fails, panics or is cancelled in the middle, the
/// connection is aborted: a part must not pass for the whole.
struct AbortOnDrop<'a>(&'a mut ObjectWriter);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.driver.exchange.abort(SEND_GIVEN_UP, None);
    }
}

impl AsyncWrite for ObjectWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.driver.poll_run(cx, &mut Goal::Send(bytes)).map_err(Into::into)
    }

    /// Sends the start packet, if it has not left yet. Nothing else is held back. A `send` that follows can no
    /// longer declare the size of its object: give it to the request.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.driver.poll_run(cx, &mut Goal::Start))?;
        ready!(self.driver.poll_flush(cx));
        // If that has failed, so does this.
        self.driver.poll_run(cx, &mut Goal::Start).map_ok(drop).map_err(Into::into)
    }

    /// Ends the object, and waits for the receipt, which [`finish`](ObjectWriter::finish) then returns.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_renew_lease(cx))?;
        ready!(self.driver.poll_finish(cx))?;
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(&self.driver, "ObjectWriter", f)
    }
}

fn debug(driver: &Driver, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.debug_struct(name)
        .field("peer", &driver.transport.peer_addr())
        .field("packet", &driver.exchange.connection.packet())
        .field("moved", &driver.exchange.connection.moved())
        .finish_non_exhaustive()
}
