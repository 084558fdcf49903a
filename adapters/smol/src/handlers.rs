//! What is registered, and how one stream is served from it.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use dataserver_adapter::{self as adapter, Claimed, Error, Receipt, Want, drop_application_value};
use dataserver_core::{Config, Direction, Entry, StartPacket, Step};
use futures_lite::FutureExt;

use crate::driver::Driver;
use crate::object::{Receiver, Sender};
use crate::stream::Stream;

/// What a handler returns: `Box::pin(async move { … })`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a handler that stays on its thread returns: `Box::pin(async move { … })`.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Whether handlers and their futures may go from thread to thread: [`Shared`] or [`Local`].
pub trait Kind: 'static {
    #[doc(hidden)]
    type Put: ?Sized;
    #[doc(hidden)]
    type Get: ?Sized;
    #[doc(hidden)]
    type Handling<'a>: Future<Output = io::Result<()>>;
    #[doc(hidden)]
    fn put<'a>(handler: &Self::Put, object: &'a mut Receiver) -> Self::Handling<'a>;
    #[doc(hidden)]
    fn get<'a>(handler: &Self::Get, object: &'a mut Sender) -> Self::Handling<'a>;
}

/// Handlers are `Send + Sync` and their futures `Send`: for every executor.
#[derive(Clone, Copy, Debug)]
pub enum Shared {}

impl Kind for Shared {
    type Put = dyn Fn(&mut Receiver) -> BoxFuture<'_, io::Result<()>> + Send + Sync;
    type Get = dyn Fn(&mut Sender) -> BoxFuture<'_, io::Result<()>> + Send + Sync;
    type Handling<'a> = BoxFuture<'a, io::Result<()>>;

    fn put<'a>(handler: &Self::Put, object: &'a mut Receiver) -> Self::Handling<'a> {
        handler(object)
    }

    fn get<'a>(handler: &Self::Get, object: &'a mut Sender) -> Self::Handling<'a> {
        handler(object)
    }
}

/// Handlers and their futures stay on one thread: for executors such as `LocalExecutor`.
#[derive(Clone, Copy, Debug)]
pub enum Local {}

impl Kind for Local {
    type Put = dyn Fn(&mut Receiver) -> LocalBoxFuture<'_, io::Result<()>>;
    type Get = dyn Fn(&mut Sender) -> LocalBoxFuture<'_, io::Result<()>>;
    type Handling<'a> = LocalBoxFuture<'a, io::Result<()>>;

    fn put<'a>(handler: &Self::Put, object: &'a mut Receiver) -> Self::Handling<'a> {
        handler(object)
    }

    fn get<'a>(handler: &Self::Get, object: &'a mut Sender) -> Self::Handling<'a> {
        handler(object)
    }
}

/// Start packets and the handlers registered for them. Clones share the same table. A handler that
/// registers others holds a [`WeakHandlers`].
///
/// [`Server`](crate::Server) serves TCP connections from it. A program with a listener or streams
/// of its own awaits [`serve`](Self::serve) for each.
///
/// An entry is a [`StartPacket`](crate::StartPacket), which then must match exactly and stands until
/// it is removed; or an [`Entry`], which says how often, until when, and for which sizes.
///
/// ```
/// use std::time::Duration;
/// use dataserver_smol::{Entry, Handlers, Key, StartPacket, after};
/// use futures_lite::io;
///
/// let handlers = Handlers::new();
/// let packet = StartPacket::put(Key::from_name("upload"));
/// let entry = Entry::any_size(packet, 1 << 30).until_delivered().expires(after(Duration::from_secs(60)));
/// handlers.on_put(entry, |object| Box::pin(io::copy(object, io::sink())))?;
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
pub struct Handlers<K: Kind = Shared> {
    table: Arc<adapter::Handlers<Handler<K>>>,
}

/// A reference to [`Handlers`] that does not keep them in memory: for a handler that registers others.
///
/// A handler that held a clone of the table that it is in would keep that table, and all that its
/// handlers captured, for ever.
///
/// ```
/// use dataserver_smol::{Handlers, Key, StartPacket};
///
/// let handlers = Handlers::new();
/// let weak = handlers.downgrade();
/// handlers.on_put(StartPacket::put(Key::from_name("start")), move |object| {
///     if let Some(handlers) = weak.upgrade() {
///         _ = handlers.on_get(StartPacket::get(Key::from_name("next")), |object| Box::pin(object.send(b"hello")));
///     }
///     Box::pin(futures_lite::io::copy(object, futures_lite::io::sink()))
/// })?;
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
pub struct WeakHandlers<K: Kind = Shared> {
    table: Weak<adapter::Handlers<Handler<K>>>,
}

impl<K: Kind> Clone for WeakHandlers<K> {
    fn clone(&self) -> Self {
        Self { table: Weak::clone(&self.table) }
    }
}

impl<K: Kind> WeakHandlers<K> {
    /// The handlers, if something else still holds them, such as the server.
    ///
    /// ```
    /// use dataserver_smol::Handlers;
    ///
    /// let handlers = Handlers::new();
    /// let weak = handlers.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(handlers);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Handlers<K>> {
        self.table.upgrade().map(|table| Handlers { table })
    }
}

enum Handler<K: Kind> {
    Put(Arc<K::Put>),
    Get(Arc<K::Get>),
}

impl<K: Kind> Clone for Handlers<K> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table) }
    }
}

impl<K: Kind> Clone for Handler<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Put(handler) => Self::Put(Arc::clone(handler)),
            Self::Get(handler) => Self::Get(Arc::clone(handler)),
        }
    }
}

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl Handlers {
    /// An empty table, for any executor.
    ///
    /// ```
    /// let handlers = dataserver_smol::Handlers::new();
    /// ```
    pub fn new() -> Self {
        Self { table: Arc::default() }
    }

    /// Registers a handler for objects that clients put.
    ///
    /// The client has its receipt once the handler has returned `Ok` and had read the object to its
    /// end: so return it only when the object is safe. Where the handler fails or panics, the
    /// client's connection is reset.
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`], and [`Error::Direction`] for the start packet of a get.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    /// use futures_lite::AsyncReadExt;
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_put(StartPacket::put(Key::from_name("start")), |object| {
    ///     Box::pin(async move {
    ///         let mut text = String::new();
    ///         object.read_to_string(&mut text).await?;
    ///         println!("{text}");
    ///         Ok(())
    ///     })
    /// })?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_put<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Receiver) -> BoxFuture<'a, io::Result<T>>
        + Send
        + Sync
        + 'static,
    ) -> Result<(), Error>
    where
        T: 'static,
    {
        let handler: Arc<<Shared as Kind>::Put> = Arc::new(move |object| {
            let handled = handler(object);
            Box::pin(async { handled.await.map(drop) })
        });
        self.table.add(Direction::Put, entry, Handler::Put(handler))
    }

    /// Registers a handler for objects that clients get.
    ///
    /// It sends the object, and may wait for the receipt; where it just returns `Ok`, the server
    /// does that. Where it fails or panics, the client's connection is reset.
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`], and [`Error::Direction`] for the start packet of a put.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_get(StartPacket::get(Key::from_name("start")), |object| {
    ///     Box::pin(object.send(b"hello, world"))
    /// })?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_get<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Sender) -> BoxFuture<'a, io::Result<T>> + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        T: 'static,
    {
        let handler: Arc<<Shared as Kind>::Get> = Arc::new(move |object| {
            let handled = handler(object);
            Box::pin(async { handled.await.map(drop) })
        });
        self.table.add(Direction::Get, entry, Handler::Get(handler))
    }
}

impl Handlers<Local> {
    /// An empty table for handlers that stay on one thread, which then need not be `Send`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    /// use futures_lite::io;
    ///
    /// let received = Rc::new(Cell::new(0));
    /// let handlers = Handlers::local();
    /// handlers.on_put(StartPacket::put(Key::from_name("start")), move |object| {
    ///     let received = Rc::clone(&received);
    ///     Box::pin(async move {
    ///         received.set(received.get() + io::copy(object, io::sink()).await?);
    ///         Ok(())
    ///     })
    /// })?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn local() -> Self {
        Self { table: Arc::default() }
    }

    /// [`Handlers::on_put`], for a handler that stays on this thread.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    /// use futures_lite::io;
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// Handlers::local().on_put(packet, |object| Box::pin(io::copy(object, io::sink())))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_put<T: 'static>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Receiver) -> LocalBoxFuture<'a, io::Result<T>> + 'static,
    ) -> Result<(), Error> {
        let handler: Arc<<Local as Kind>::Put> = Arc::new(move |object| {
            let handled = handler(object);
            Box::pin(async { handled.await.map(drop) })
        });
        self.table.add(Direction::Put, entry, Handler::Put(handler))
    }

    /// [`Handlers::on_get`], for a handler that stays on this thread.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// Handlers::local().on_get(packet, |object| Box::pin(object.send(b"hello")))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_get<T: 'static>(
        &self,
        entry: impl Into<Entry>,
        handler: impl for<'a> Fn(&'a mut Sender) -> LocalBoxFuture<'a, io::Result<T>> + 'static,
    ) -> Result<(), Error> {
        let handler: Arc<<Local as Kind>::Get> = Arc::new(move |object| {
            let handled = handler(object);
            Box::pin(async { handled.await.map(drop) })
        });
        self.table.add(Direction::Get, entry, Handler::Get(handler))
    }
}

impl<K: Kind> Handlers<K> {
    /// A reference that does not keep the table in memory.
    ///
    /// ```
    /// let weak = dataserver_smol::Handlers::new().downgrade();
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakHandlers<K> {
        WeakHandlers { table: Arc::downgrade(&self.table) }
    }

    /// Takes an entry out. What it has begun goes on. Whether there was one.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let handlers = Handlers::new();
    /// handlers.on_get(packet, |object| Box::pin(object.send(b"hello")))?;
    /// assert!(handlers.remove(packet));
    /// assert!(!handlers.remove(packet));
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn remove(&self, entry: impl Into<Entry>) -> bool {
        self.table.remove(entry).is_some()
    }

    /// Serves one stream that was accepted, from the start packet to the end.
    ///
    /// Where this future is dropped, the stream is aborted, and what was claimed for it is given
    /// back.
    ///
    /// # Errors
    /// An [`Error::Transfer`]: the stream was aborted. Handlers that fail or panic are among them.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use async_io::Async;
    /// use dataserver_smol::{Client, Config, Handlers, Key, Socket, StartPacket};
    /// use futures_lite::{future, io};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let handlers = Handlers::new();
    /// handlers.on_put(packet, |object| Box::pin(io::copy(object, io::sink())))?;
    ///
    /// let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0))?;
    /// let address = listener.get_ref().local_addr()?;
    /// let serve = async {
    ///     let (stream, _) = listener.accept().await?;
    ///     handlers.serve(Socket::try_from(stream)?, &Config::default()).await
    /// };
    /// let put = async { Client::new(address).put(packet).await?.send(b"hello").await };
    /// let (served, put) = future::block_on(future::zip(serve, put));
    /// assert_eq!((served?.bytes, put?.bytes), (5, 5));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn serve(
        &self,
        stream: impl Stream + Send + 'static,
        config: &Config,
    ) -> io::Result<Receipt> {
        let mut driver = Driver::server(stream, config);
        driver.run(Want::Start).await?;
        // On the heap, so that a connection that still waits for its start packet holds no more.
        Box::pin(self.handle(driver, config.limit)).await
    }

    /// Serves a connection whose start packet has come.
    async fn handle(&self, mut driver: Box<Driver>, limit: u64) -> io::Result<Receipt> {
        let Step::Decide(packet) = driver.connection.step() else {
            return Err(driver.abort("a server begins with a decision", None));
        };
        let claim = match self.table.claim(&packet, limit) {
            Ok(claim) => claim,
            Err(refusal) => {
                driver.connection.refuse(refusal);
                return driver.finish(packet).await;
            }
        };
        driver.connection.accept(claim.limit);
        if let Step::Done(_) = driver.connection.step() {
            drop(claim);
            return driver.finish(packet).await; // larger than this server takes of anyone
        }

        // The claim holds the handler too, and is dropped where panics end.
        match claim.handler.clone() {
            Handler::Put(handler) => {
                let mut held = Held { claim, object: Receiver { packet, driver } };
                let handled = call(async { K::put(&handler, &mut held.object).await }).await;
                drop(handler);
                conclude(held.object.driver, held.claim, packet, handled).await
            }
            Handler::Get(handler) => {
                let mut held = Held { claim, object: Sender { packet, driver } };
                let handled = call(async { K::get(&handler, &mut held.object).await }).await;
                drop(handler);
                conclude(held.object.driver, held.claim, packet, handled).await
            }
        }
    }
}

/// Drops the claim before the stream, also where the future is dropped half-way: a peer that sees
/// the reset may come again at once.
struct Held<C, O> {
    claim: C,
    object: O,
}

/// Why a handler failed, if it did.
type Handled = Result<(), (&'static str, Option<io::Error>)>;

async fn call(handler: impl Future<Output = io::Result<()>>) -> Handled {
    match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(("the handler failed", Some(error))),
        Err(_panic) => Err(("the handler panicked", None)),
    }
}

/// Ends what a handler has left. Arguments are dropped from the last to the first: the claim goes
/// before the stream.
async fn conclude<H>(
    mut driver: Box<Driver>,
    mut claim: Claimed<'_, H>,
    packet: StartPacket,
    handled: Handled,
) -> io::Result<Receipt> {
    let outcome = match handled {
        Ok(()) => driver.finish(packet).await,
        Err((reason, source)) => Err(driver.abort(reason, source)),
    };
    if let Step::Done(Ok(_)) = driver.connection.step() {
        claim.delivered();
    }
    drop_application_value(claim);
    outcome
}
