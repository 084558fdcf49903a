//! The registered handlers, and how one connection is served from them.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use blocking::{Task, unblock};
use dataserver_common::{
    ActiveClaim, BoxError, ClaimError, Error, Goal, Home, Lent, ObjectTrace, Receipt,
    SharedRegistry, SharedStore, TicketStore, Trace, drop_application_value, drop_panic_payload,
    now,
};
use dataserver_core::{Config, Direction, Entry, StartPacket, Step};
use futures_lite::{FutureExt, future};

use crate::driver::Driver;
use crate::object::{ObjectReader, ObjectWriter, TicketObject};
use crate::recall::Recall;
use crate::transport::Transport;

/// A boxed future that may move between threads, for the function that spawns connections.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed future that stays on one thread, for the function that spawns connections.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

type Outcome = Result<Receipt, BoxError>;

/// Whether handlers and their futures may move between threads: [`Shared`] or [`Local`].
pub trait Kind: sealed::Sealed {}

/// Handlers are `Send + Sync` and their futures `Send`: for every executor.
#[derive(Clone, Copy, Debug)]
pub enum Shared {}

/// Handlers and their futures stay on one thread: for executors such as `LocalExecutor`.
#[derive(Clone, Copy, Debug)]
pub enum Local {}

impl Kind for Shared {}
impl Kind for Local {}

mod sealed {
    use super::{BoxFuture, Future, Local, LocalBoxFuture, Outcome, Shared};

    pub trait Sealed: 'static {
        type Handler<Object>: Clone;
        type Handling: Future<Output = Outcome>;
        fn call<Object>(handler: &Self::Handler<Object>, object: Object) -> Self::Handling;
    }

    impl Sealed for Shared {
        type Handler<Object> = super::SharedHandler<Object>;
        type Handling = BoxFuture<'static, Outcome>;

        fn call<Object>(handler: &Self::Handler<Object>, object: Object) -> Self::Handling {
            (handler.0)(object)
        }
    }

    impl Sealed for Local {
        type Handler<Object> = super::LocalHandler<Object>;
        type Handling = LocalBoxFuture<'static, Outcome>;

        fn call<Object>(handler: &Self::Handler<Object>, object: Object) -> Self::Handling {
            (handler.0)(object)
        }
    }
}

#[doc(hidden)]
pub struct SharedHandler<Object>(Arc<dyn Fn(Object) -> BoxFuture<'static, Outcome> + Send + Sync>);

#[doc(hidden)]
pub struct LocalHandler<Object>(Rc<dyn Fn(Object) -> LocalBoxFuture<'static, Outcome>>);

impl<Object> Clone for SharedHandler<Object> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Object> Clone for LocalHandler<Object> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// The handlers for objects that clients put and get. Clones share the same handlers. A handler that
/// registers others holds a [`WeakHandlers`].
///
/// [`Server`](crate::Server) serves TCP connections from it. A program with a listener or transports of
/// its own awaits [`serve`](Self::serve) for each connection.
///
/// ```
/// use std::time::Duration;
/// use dataserver_smol::{Entry, Handlers, Key};
///
/// let handlers = Handlers::new();
/// let upload = Entry::new(Key::from_name("upload"))
///     .max_size(1 << 30)
///     .until_delivered()
///     .expires_after(Duration::from_secs(60));
/// handlers.on_put(upload, |object| object.receive_to("upload"))?;
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
pub struct Handlers<K: Kind = Shared> {
    registry: Arc<SharedRegistry<Handler<K>>>,
}

enum Handler<K: Kind> {
    Put(K::Handler<ObjectReader>),
    Get(K::Handler<ObjectWriter>),
    Ticket(K::Handler<(TicketObject, Vec<u8>)>),
}

impl<K: Kind> Clone for Handlers<K> {
    fn clone(&self) -> Self {
        Self { registry: Arc::clone(&self.registry) }
    }
}

impl<K: Kind> Clone for Handler<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Put(handler) => Self::Put(handler.clone()),
            Self::Get(handler) => Self::Get(handler.clone()),
            Self::Ticket(handler) => Self::Ticket(handler.clone()),
        }
    }
}

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl Handlers {
    /// No handlers yet, for any executor.
    ///
    /// ```
    /// let handlers = dataserver_smol::Handlers::new();
    /// ```
    pub fn new() -> Self {
        Self { registry: Arc::default() }
    }

    /// Registers a handler for objects that clients put. A [`Key`](crate::Key) stands for an entry that
    /// takes objects of any size.
    ///
    /// The handler returns the receipt, which [`receive_to`](ObjectReader::receive_to) and
    /// [`commit`](ObjectReader::commit) give. If it fails or panics, the connection is aborted. An object that
    /// it has moved elsewhere is aborted too, when it is used next. Its future
    /// is dropped if the server is shut down and the grace period is over.
    ///
    /// The future owns what it uses. So clone what the closure has captured:
    /// `move |object| object.receive_to(path.clone())`, or
    /// `move |object| { let path = path.clone(); async move { … } }`.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    /// use futures_lite::AsyncReadExt;
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// handlers.on_put(Key::from_name("message"), |mut object| async move {
    ///     let mut message = String::new();
    ///     object.read_to_string(&mut message).await?;
    ///     println!("{message}");
    ///     Ok::<_, std::io::Error>(object.commit().await?)
    /// })?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_put<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectReader) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Put(shared(handler));
        self.registry.insert(Direction::Put, entry, handler)
    }

    /// Registers a handler for objects that clients get. A [`Key`](crate::Key) stands for an entry that
    /// serves requests with any size.
    ///
    /// The handler returns the receipt, which [`send_path`](ObjectWriter::send_path),
    /// [`finish`](ObjectWriter::finish) and the like give. If it fails or panics, the connection is
    /// aborted.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_get(Key::from_name("report"), |object| object.send_path("report.csv"))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_get<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectWriter) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Get(shared(handler));
        self.registry.insert(Direction::Get, entry, handler)
    }

    /// Serves the tickets of a store that several servers share. The handler gets the object, and the bytes
    /// that were issued with the ticket. The store is called on threads for blocking calls.
    ///
    /// The handlers that are registered here come first: the store is asked for what has none. While it cannot
    /// answer, nothing that it would have to allow is accepted: the client is told
    /// [`AbortReason::Busy`](crate::AbortReason::Busy) in the framed format, and sees a reset in the bare one.
    ///
    /// A ticket may be lost while its object is transferred, if this server or the store stood still for longer
    /// than the lease. So the lease is renewed before the handler reads the end of an object, and before a
    /// commit, and the handler gets an error if that fails. See
    /// [`renew_lease`](ObjectReader::renew_lease).
    ///
    /// There is one store. Another one takes its place, for connections that have not begun.
    ///
    /// ```
    /// use dataserver_smol::{Error, Handlers, TicketObject, TicketStore};
    ///
    /// fn serve<S>(handlers: &Handlers, tickets: S)
    /// where
    ///     S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    /// {
    ///     handlers.on_tickets(tickets, |object, data| async move {
    ///         let name = String::from_utf8(data)?;
    ///         let name = name.strip_prefix("report-").ok_or("expected the name of a report")?;
    ///         let name = name.replace('/', "-"); // it cannot leave the directory
    ///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(match object {
    ///             TicketObject::Put(object) => object.receive_to(name).await?,
    ///             TicketObject::Get(object) => object.send_path(name).await?,
    ///         })
    ///     });
    /// }
    /// ```
    pub fn on_tickets<S, F, E>(
        &self,
        store: S,
        handler: impl Fn(TicketObject, Vec<u8>) -> F + Send + Sync + 'static,
    ) where
        S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
        F: Future<Output = Result<Receipt, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Ticket(shared(move |(object, data)| handler(object, data)));
        self.registry.set_shared(Some((SharedStore::new(store), handler)));
    }
}

impl Handlers<Local> {
    /// No handlers yet. They stay on one thread, and need not be `Send`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// let stored = Rc::new(Cell::new(0));
    /// let handlers = Handlers::local();
    /// handlers.on_put(Key::from_name("report"), move |object| {
    ///     let stored = Rc::clone(&stored);
    ///     async move {
    ///         let receipt = object.receive_to("report.csv").await?;
    ///         stored.set(stored.get() + receipt.bytes);
    ///         Ok::<_, dataserver_smol::Error>(receipt)
    ///     }
    /// })?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn local() -> Self {
        Self { registry: Arc::default() }
    }

    /// [`Handlers::on_put`], for a handler that stays on this thread.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// let report = Key::from_name("report");
    /// Handlers::local().on_put(report, |object| object.receive_to("report.csv"))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_put<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectReader) -> F + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Put(local(handler));
        self.registry.insert(Direction::Put, entry, handler)
    }

    /// [`Handlers::on_get`], for a handler that stays on this thread.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// Handlers::local().on_get(Key::from_name("report"), |object| object.send_path("report.csv"))?;
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn on_get<F, E>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectWriter) -> F + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Receipt, E>> + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Get(local(handler));
        self.registry.insert(Direction::Get, entry, handler)
    }

    /// [`Handlers::on_tickets`], for a handler that stays on this thread.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Local, TicketObject, TicketStore};
    ///
    /// fn serve<S>(handlers: &Handlers<Local>, tickets: S)
    /// where
    ///     S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    /// {
    ///     handlers.on_tickets(tickets, |object, _data| async move {
    ///         match object {
    ///             TicketObject::Put(object) => object.receive_to("report.csv").await,
    ///             TicketObject::Get(object) => object.send_path("report.csv").await,
    ///         }
    ///     });
    /// }
    /// ```
    pub fn on_tickets<S, F, E>(
        &self,
        store: S,
        handler: impl Fn(TicketObject, Vec<u8>) -> F + 'static,
    ) where
        S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
        F: Future<Output = Result<Receipt, E>> + 'static,
        E: Into<BoxError>,
    {
        let handler = Handler::Ticket(local(move |(object, data)| handler(object, data)));
        self.registry.set_shared(Some((SharedStore::new(store), handler)));
    }
}

fn shared<Object, F, E>(
    handler: impl Fn(Object) -> F + Send + Sync + 'static,
) -> SharedHandler<Object>
where
    F: Future<Output = Result<Receipt, E>> + Send + 'static,
    E: Into<BoxError>,
{
    SharedHandler(Arc::new(move |object| {
        let handling = handler(object);
        Box::pin(async { handling.await.map_err(Into::into) })
    }))
}

fn local<Object, F, E>(handler: impl Fn(Object) -> F + 'static) -> LocalHandler<Object>
where
    F: Future<Output = Result<Receipt, E>> + 'static,
    E: Into<BoxError>,
{
    LocalHandler(Rc::new(move |object| {
        let handling = handler(object);
        Box::pin(async { handling.await.map_err(Into::into) })
    }))
}

impl<K: Kind> Handlers<K> {
    /// Removes the handler of a put, and returns whether there was one. Transfers that it has begun go
    /// on.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// let report = Key::from_name("report");
    /// let handlers = Handlers::new();
    /// handlers.on_put(report, |object| object.receive_to("report.csv"))?;
    /// assert!(handlers.remove_put(report));
    /// assert!(!handlers.remove_put(report));
    /// # Ok::<(), dataserver_smol::Error>(())
    /// ```
    pub fn remove_put(&self, entry: impl Into<Entry>) -> bool {
        self.registry.remove(Direction::Put, entry).is_some()
    }

    /// Removes the handler of a get, and returns whether there was one. Transfers that it has begun go
    /// on.
    ///
    /// ```
    /// use dataserver_smol::{Handlers, Key};
    ///
    /// assert!(!Handlers::new().remove_get(Key::from_name("report")));
    /// ```
    pub fn remove_get(&self, entry: impl Into<Entry>) -> bool {
        self.registry.remove(Direction::Get, entry).is_some()
    }

    /// A reference that does not keep the handlers in memory.
    ///
    /// ```
    /// let weak = dataserver_smol::Handlers::new().downgrade();
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakHandlers<K> {
        WeakHandlers { registry: Arc::downgrade(&self.registry) }
    }

    /// Serves the first object of a connection that was accepted, from the start packet to the end, and
    /// closes it. [`serve_session`](Self::serve_session) goes on with further objects.
    ///
    /// # Cancel safety
    /// If this future is dropped, the connection is aborted, and its entry may be claimed again, unless it
    /// was for one claim.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection or its handler fails. The transport was aborted
    /// then.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use dataserver_smol::{Client, Config, Handlers, Key, Socket};
    /// use futures_lite::future;
    ///
    /// let report = Key::from_name("report");
    /// let handlers = Handlers::new();
    /// handlers.on_get(report, |object| object.send(b"hello"))?;
    ///
    /// # let path = std::env::temp_dir().join(format!("dataserver-served-{}", std::process::id()));
    /// let listener = async_io::Async::<TcpListener>::bind(([127, 0, 0, 1], 0))?;
    /// let client = Client::new(listener.get_ref().local_addr()?)?;
    /// let serve = async {
    ///     let (stream, _) = listener.accept().await.unwrap();
    ///     let socket = Socket::from_std(stream.into_inner().unwrap()).unwrap();
    ///     handlers.serve(socket, &Config::default()).await
    /// };
    /// let get = async { client.get(report).await?.receive_to(&path).await };
    /// let (served, got) = future::block_on(future::try_zip(serve, get))?;
    /// assert_eq!((served.bytes, got.bytes), (5, 5));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn serve(
        &self,
        transport: impl Transport + Send + 'static,
        config: &Config,
    ) -> Result<Receipt, Error> {
        let trace = Trace::accepted(transport.peer_addr());
        let mut driver = Driver::server(transport, config, now());
        let object = trace.object();
        let begun = driver.run(Goal::Start).await;
        let serve = self.serve_object(driver, begun, config.max_object_size, object);
        let (driver, outcome) = Box::pin(trace.instrument(serve)).await;
        let goes_on = outcome.is_ok();
        if let Some(mut driver) = driver.filter(|driver| goes_on && driver.exchange.is_framed()) {
            driver.next_object(config);
            driver.end_session().await;
        }
        outcome
    }

    /// Serves a connection that was accepted until it ends. In the bare format it carries one object, in the
    /// framed format any number. `report` is called for each object.
    ///
    /// # Cancel safety
    /// As for [`serve`](Self::serve).
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_smol::{Config, Error, Handlers, Key, Session, Socket};
    /// use futures_lite::future;
    ///
    /// const NOTE: Key = Key::from_name("note");
    ///
    /// # let path = std::env::temp_dir().join(format!("dataserver-note-{}", std::process::id()));
    /// # let target = path.clone();
    /// let (client, server) = UnixStream::pair()?;
    /// let handlers = Handlers::new();
    /// handlers.on_put(NOTE, move |object| object.receive_to(target.clone()))?;
    /// let config = Config::default();
    /// let mut served = 0;
    /// let serve = handlers.serve_session(Socket::from_unix(server)?, &config, |outcome| {
    ///     served += u32::from(outcome.is_ok());
    /// });
    /// let mut session = Session::over(Socket::from_unix(client)?, &config);
    /// let put = async move {
    ///     for note in ["one", "two"] {
    ///         session.put(NOTE).await?.send(note).await?;
    ///     }
    ///     Ok::<_, Error>(())
    /// };
    /// let (_, put) = future::block_on(future::zip(serve, put));
    /// put?;
    /// assert_eq!(served, 2);
    /// # assert_eq!(std::fs::read_to_string(&path)?, "two");
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub async fn serve_session(
        &self,
        transport: impl Transport + Send + 'static,
        config: &Config,
        report: impl FnMut(Result<Receipt, Error>),
    ) {
        let trace = Trace::accepted(transport.peer_addr());
        let mut driver = Driver::server(transport, config, now());
        let object = trace.object();
        let begun = driver.run(Goal::Start).await;
        let serve = self.serve_begun(driver, begun, (&trace, object), config, None, |_| {}, report);
        Box::pin(trace.instrument(serve)).await;
    }

    /// Serves a connection whose first start packet was read, until it ends. `progress` is told the start
    /// packet of each object, and `None` between two of them.
    #[allow(clippy::too_many_arguments, reason = "they have no common meaning")]
    pub(crate) async fn serve_begun<'a>(
        &self,
        mut driver: Box<Driver>,
        mut begun: Result<usize, Error>,
        (trace, mut object): (&'a Trace, ObjectTrace<'a>),
        config: &Config,
        recall: Option<&Recall>,
        progress: impl Fn(Option<StartPacket>),
        mut report: impl FnMut(Result<Receipt, Error>),
    ) {
        for objects in 1.. {
            if begun.is_ok() && driver.exchange.has_ended_session() {
                return;
            }
            progress(driver.exchange.connection.packet());
            let (served, outcome) =
                self.serve_object(driver, begun, config.max_object_size, object).await;
            let goes_on = outcome.is_ok();
            let served = served.filter(|driver| goes_on && driver.exchange.is_framed());
            report(outcome);
            let Some(served) = served else { return };
            progress(None);
            driver = served;
            driver.next_object(config);
            object = trace.object();
            begun = next_start_packet(&mut driver, recall, objects).await;
        }
    }

    /// Serves an object whose start packet has been read, or could not be read. Returns the connection, unless
    /// the handler has kept it.
    async fn serve_object(
        &self,
        driver: Box<Driver>,
        begun: Result<usize, Error>,
        max_object_size: Option<u64>,
        mut object: ObjectTrace<'_>,
    ) -> (Option<Box<Driver>>, Result<Receipt, Error>) {
        let (driver, outcome) = match begun {
            Ok(_) => self.handle(driver, max_object_size, &mut object).await,
            Err(error) => (Some(driver), Err(error)),
        };
        let moved = driver.as_ref().map(|driver| driver.exchange.connection.moved());
        object.done(&outcome, moved);
        (driver, outcome)
    }

    /// Claims an entry of this program, or else a ticket of the store.
    async fn claim(
        &self,
        packet: StartPacket,
        limit: Option<u64>,
    ) -> Result<ActiveClaim<'_, Handler<K>>, ClaimError> {
        let refusal = match self.registry.hold(&packet, limit) {
            Ok(entry) => return Ok(ActiveClaim::Entry(entry)),
            Err(refusal) => refusal,
        };
        let (store, handler) = self.registry.shared(refusal).ok_or(refusal)?;
        let ticket = unblock(move || store.claim(&packet, limit)).await?;
        Ok(ActiveClaim::Ticket(ticket, handler))
    }

    /// Serves an object whose start packet has been read.
    async fn handle(
        &self,
        mut driver: Box<Driver>,
        max_object_size: Option<u64>,
        object: &mut ObjectTrace<'_>,
    ) -> (Option<Box<Driver>>, Result<Receipt, Error>) {
        let Step::Decide(packet) = driver.exchange.connection.step() else {
            let error = driver.abort("there was no start packet", None).await;
            return (Some(driver), Err(error));
        };
        let mut claim = match self.claim(packet, max_object_size).await {
            Ok(claim) => claim,
            Err(error) => {
                if let Some(delivered) = self.registry.delivered(&packet, &error) {
                    object.claimed(packet);
                    driver.exchange.recognize(&delivered);
                    let outcome = driver.finish().await;
                    return (Some(driver), outcome);
                }
                object.refused(packet, &error);
                driver.exchange.refuse(error);
                let error = driver.conclude().await;
                return (Some(driver), Err(error));
            }
        };
        object.claimed(packet);
        driver.exchange.connection.accept(claim.limit());
        driver.exchange.set_holds_claim(true);
        let data = claim.ticket().map(|ticket| {
            driver.exchange.set_lease(ticket.lease());
            ticket.take_data()
        });

        // An object that the handler has moved elsewhere is of no use when it has ended.
        let _revoker = driver.exchange.revoker();
        let peer = driver.transport.peer_addr();
        let (lent, home) = Lent::new(driver);
        let mut lease = Lease { claim: Some(claim), home };
        let handled = {
            let handler = lease.claim.as_ref().map(|claim| claim.handler().clone());
            let handling = async {
                match &handler {
                    Some(Handler::Put(handler)) => {
                        K::call(handler, ObjectReader { driver: lent }).await
                    }
                    Some(Handler::Get(handler)) => K::call(handler, ObjectWriter::of(lent)).await,
                    Some(Handler::Ticket(handler)) => {
                        let object = match packet.direction() {
                            Direction::Put => TicketObject::Put(ObjectReader { driver: lent }),
                            Direction::Get => TicketObject::Get(ObjectWriter::of(lent)),
                        };
                        K::call(handler, (object, data.unwrap_or_default())).await
                    }
                    None => Err("the claim is held".into()),
                }
            };
            AssertUnwindSafe(handling).catch_unwind().await
        };
        let (driver, release) = lease.end();
        if let Some(release) = release {
            release.await;
        }
        let succeeded = driver.as_ref().is_some_and(|driver| driver.exchange.has_succeeded());
        let failure = match handled {
            Ok(Ok(_)) if succeeded => None,
            Ok(Ok(_)) => Some(("the handler returned the receipt of another object", None)),
            Ok(Err(error)) => Some(("the handler failed", Some(error))),
            Err(payload) => {
                drop_panic_payload(payload);
                Some(("the handler panicked", None))
            }
        };
        let Some(mut driver) = driver else {
            let (reason, source) = failure.unwrap_or(("the handler kept its object", None));
            return (None, Err(Error::aborted(peer, Some(packet), reason, source)));
        };
        driver.exchange.set_holds_claim(false);
        let outcome = match failure {
            None => driver.exchange.receipt(peer),
            Some((reason, source)) => Err(driver.abort(reason, source).await),
        };
        (Some(driver), outcome)
    }
}

/// Waits for the next start packet of a session, unless the server needs its place.
async fn next_start_packet(
    driver: &mut Driver,
    recall: Option<&Recall>,
    objects: u32,
) -> Result<usize, Error> {
    let Some(recall) = recall else { return driver.run(Goal::Start).await };
    let asked = async {
        recall.asked(objects).await;
        None
    };
    let begun = future::or(asked, async { Some(driver.run(Goal::Start).await) }).await;
    match begun {
        Some(begun) => begun,
        None if driver.exchange.awaits_start_packet() => {
            driver.end_session().await;
            Ok(0)
        }
        None => driver.run(Goal::Start).await, // it has begun already
    }
}

/// A claim, and where the driver comes back to. Dropped with the future of a handler that is cancelled, it
/// releases the claim by the outcome of the transfer. That of an entry is released before the transport
/// closes: a peer that sees a reset may try again at once. That of a ticket takes a moment longer.
struct Lease<'a, K: Kind> {
    claim: Option<ActiveClaim<'a, Handler<K>>>,
    home: Home<Box<Driver>>,
}

impl<K: Kind> Lease<'_, K> {
    /// The driver, and the release of a ticket, which may take its time.
    fn end(&mut self) -> (Option<Box<Driver>>, Option<Release>) {
        let driver = self.home.take();
        let succeeded = driver.as_ref().is_some_and(|driver| driver.exchange.has_succeeded());
        let release = match self.claim.take() {
            Some(ActiveClaim::Ticket(ticket, handler)) => {
                drop_application_value(handler);
                let release = move || {
                    if succeeded {
                        ticket.succeeded();
                    }
                    drop(ticket);
                };
                Some(Release(Some(unblock(release))))
            }
            Some(mut entry) if succeeded => {
                entry.succeeded(driver.as_ref().and_then(|driver| driver.exchange.delivered()));
                None
            }
            _ => None,
        };
        (driver, release)
    }
}

impl<K: Kind> Drop for Lease<'_, K> {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// The release of a ticket, on a thread for blocking calls. It goes on if it is not awaited.
struct Release(Option<Task<()>>);

impl Future for Release {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |task| task.poll(cx))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<K: Kind> fmt::Debug for Handlers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").finish_non_exhaustive()
    }
}

/// A reference to [`Handlers`] that does not keep them in memory: for a handler that registers others.
///
/// A handler that holds a clone of its own handlers is a reference cycle: none of them, and nothing that
/// they captured, would ever be dropped.
///
/// ```
/// use dataserver_smol::{Handlers, Key};
///
/// let handlers = Handlers::new();
/// let weak = handlers.downgrade();
/// handlers.on_put(Key::from_name("start"), move |object| {
///     let weak = weak.clone();
///     async move {
///         if let Some(handlers) = weak.upgrade() {
///             handlers.on_get(Key::from_name("next"), |object| object.send(b"hello"))?;
///         }
///         object.receive_to("start").await
///     }
/// })?;
/// # Ok::<(), dataserver_smol::Error>(())
/// ```
pub struct WeakHandlers<K: Kind = Shared> {
    registry: Weak<SharedRegistry<Handler<K>>>,
}

impl<K: Kind> Clone for WeakHandlers<K> {
    fn clone(&self) -> Self {
        Self { registry: Weak::clone(&self.registry) }
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
        self.registry.upgrade().map(|registry| Handlers { registry })
    }
}

impl<K: Kind> fmt::Debug for WeakHandlers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHandlers").finish_non_exhaustive()
    }
}
