//! The registered handlers, and how one connection is served from them.

use std::fmt;
use std::sync::{Arc, Weak};
#[cfg(feature = "rustls")]
use std::time::Duration;

use dataserver_common::{
    ActiveClaim, BoxError, ClaimError, Error, Goal, Lent, ObjectTrace, Receipt, SharedRegistry,
    SharedStore, TicketStore, Trace, catch_application_panic, drop_application_value, now,
};
use dataserver_core::{Config, Direction, Entry, Instant, StartPacket, Step};

use crate::driver::Driver;
use crate::object::{ObjectReader, ObjectWriter, TicketObject};
use crate::transport::Transport;
#[cfg(feature = "rustls")]
use crate::{socket::Socket, tls::TlsStream};

/// The handlers for objects that clients put and get. Clones share the same handlers. A handler that
/// registers others holds a [`WeakHandlers`].
///
/// [`Server`](crate::Server) serves TCP connections from it. A program with a listener or transports of
/// its own calls [`serve`](Self::serve) for each connection.
///
/// ```
/// use std::time::Duration;
/// use dataserver_std::{Entry, Handlers, Key};
///
/// let handlers = Handlers::new();
/// let upload = Entry::new(Key::from_name("upload"))
///     .max_size(1 << 30)
///     .until_delivered()
///     .expires_after(Duration::from_secs(60));
/// handlers.on_put(upload, |object| object.receive_to("upload"))?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Handlers {
    registry: Arc<SharedRegistry<Handler>>,
}

type PutHandler = dyn Fn(ObjectReader) -> Result<Receipt, BoxError> + Send + Sync;
type GetHandler = dyn Fn(ObjectWriter) -> Result<Receipt, BoxError> + Send + Sync;
type TicketHandler = dyn Fn(TicketObject, Vec<u8>) -> Result<Receipt, BoxError> + Send + Sync;

#[derive(Clone)]
enum Handler {
    Put(Arc<PutHandler>),
    Get(Arc<GetHandler>),
    Ticket(Arc<TicketHandler>),
}

impl Handlers {
    /// No handlers yet.
    ///
    /// ```
    /// let handlers = dataserver_std::Handlers::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler for objects that clients put. A [`Key`](crate::Key) stands for an entry that
    /// takes objects of any size.
    ///
    /// The handler returns the receipt, which [`receive_to`](ObjectReader::receive_to) and
    /// [`commit`](ObjectReader::commit) give. If it fails or panics, the connection is aborted. An object that
    /// it has moved elsewhere is aborted too, when it is used next.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have a handler.
    ///
    /// ```
    /// use std::io::Read;
    /// use dataserver_std::{Handlers, Key};
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_put(Key::from_name("report"), |object| object.receive_to("report.csv"))?;
    /// handlers.on_put(Key::from_name("message"), |mut object| {
    ///     let mut message = String::new();
    ///     object.read_to_string(&mut message)?;
    ///     println!("{message}");
    ///     Ok::<_, std::io::Error>(object.commit()?)
    /// })?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_put<E: Into<BoxError>>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectReader) -> Result<Receipt, E> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let handler = Handler::Put(Arc::new(move |object| handler(object).map_err(Into::into)));
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
    /// use dataserver_std::{Handlers, Key};
    ///
    /// let handlers = Handlers::new();
    /// handlers.on_get(Key::from_name("report"), |object| object.send_path("report.csv"))?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_get<E: Into<BoxError>>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(ObjectWriter) -> Result<Receipt, E> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let handler = Handler::Get(Arc::new(move |object| handler(object).map_err(Into::into)));
        self.registry.insert(Direction::Get, entry, handler)
    }

    /// Serves the tickets of a store that several servers share. The handler gets the object, and the bytes
    /// that were issued with the ticket.
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
    /// use dataserver_std::{Error, Handlers, TicketObject, TicketStore};
    ///
    /// fn serve<S>(handlers: &Handlers, tickets: S)
    /// where
    ///     S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    /// {
    ///     handlers.on_tickets(tickets, |object, data| {
    ///         let name = String::from_utf8(data)?;
    ///         let name = name.strip_prefix("report-").ok_or("expected the name of a report")?;
    ///         let name = name.replace('/', "-"); // it cannot leave the directory
    ///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(match object {
    ///             TicketObject::Put(object) => object.receive_to(name)?,
    ///             TicketObject::Get(object) => object.send_path(name)?,
    ///         })
    ///     });
    /// }
    /// ```
    pub fn on_tickets<S, E: Into<BoxError>>(
        &self,
        store: S,
        handler: impl Fn(TicketObject, Vec<u8>) -> Result<Receipt, E> + Send + Sync + 'static,
    ) where
        S: TicketStore<Ticket = Vec<u8>, Lease: Send> + Send + Sync + 'static,
    {
        let handler = move |object, data| handler(object, data).map_err(Into::into);
        let shared = (SharedStore::new(store), Handler::Ticket(Arc::new(handler)));
        self.registry.set_shared(Some(shared));
    }

    /// Removes the handler of a put, and returns whether there was one. Transfers that it has begun go
    /// on.
    ///
    /// ```
    /// use dataserver_std::{Handlers, Key};
    ///
    /// let report = Key::from_name("report");
    /// let handlers = Handlers::new();
    /// handlers.on_put(report, |object| object.receive_to("report.csv"))?;
    /// assert!(handlers.remove_put(report));
    /// assert!(!handlers.remove_put(report));
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn remove_put(&self, entry: impl Into<Entry>) -> bool {
        self.registry.remove(Direction::Put, entry).is_some()
    }

    /// Removes the handler of a get, and returns whether there was one. Transfers that it has begun go
    /// on.
    ///
    /// ```
    /// use dataserver_std::{Handlers, Key};
    ///
    /// assert!(!Handlers::new().remove_get(Key::from_name("report")));
    /// ```
    pub fn remove_get(&self, entry: impl Into<Entry>) -> bool {
        self.registry.remove(Direction::Get, entry).is_some()
    }

    /// A reference that does not keep the handlers in memory.
    ///
    /// ```
    /// let weak = dataserver_std::Handlers::new().downgrade();
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakHandlers {
        WeakHandlers { registry: Arc::downgrade(&self.registry) }
    }

    /// Serves the first object of a connection that was accepted, from the start packet to the end, and
    /// closes it. [`serve_session`](Self::serve_session) goes on with further objects.
    ///
    /// # Errors
    /// Returns an [`Error::Transfer`] if the connection or its handler fails. The transport was aborted
    /// then.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use dataserver_std::{Client, Config, Handlers, Key, Socket};
    ///
    /// let report = Key::from_name("report");
    /// let handlers = Handlers::new();
    /// handlers.on_get(report, |object| object.send(b"hello"))?;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let client = std::thread::spawn(move || {
    ///     Client::new(address)?.get(report)?.receive_to(std::env::temp_dir().join("dataserver-serve"))
    /// });
    /// let (stream, _) = listener.accept()?;
    /// let receipt = handlers.serve(Socket::from_std(stream)?, &Config::default())?;
    /// assert_eq!(receipt.bytes, 5);
    /// assert_eq!(client.join().unwrap()?.bytes, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn serve(
        &self,
        transport: impl Transport + Send + 'static,
        config: &Config,
    ) -> Result<Receipt, Error> {
        let trace = Trace::accepted(transport.peer_addr());
        let mut driver = Driver::server(transport, config, now());
        let object = trace.object();
        let begun = driver.run(Goal::Start);
        let (driver, outcome) = trace.within(|| self.serve_object(driver, begun, config, object));
        let goes_on = outcome.is_ok();
        if let Some(mut driver) = driver.filter(|driver| goes_on && driver.exchange.is_framed()) {
            driver.next_object(config);
            driver.end_session();
        }
        outcome
    }

    /// Serves a connection that was accepted until it ends. In the bare format it carries one object, in the
    /// framed format any number. `report` is called for each object.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use dataserver_std::{Config, Handlers, Key, Session, Socket};
    ///
    /// const GREETING: Key = Key::from_name("greeting");
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let serving = std::thread::spawn(move || {
    ///     let handlers = Handlers::new();
    ///     handlers.on_get(GREETING, |object| object.send(b"hello"))?;
    ///     let mut served = 0;
    ///     handlers.serve_session(Socket::from_unix(server)?, &Config::default(), |outcome| {
    ///         served += u32::from(outcome.is_ok());
    ///     });
    ///     Ok::<_, dataserver_std::Error>(served)
    /// });
    ///
    /// let mut session = Session::over(Socket::from_unix(client)?, &Config::default());
    /// for _ in 0..3 {
    ///     let mut text = String::new();
    ///     let mut object = session.get(GREETING)?;
    ///     std::io::Read::read_to_string(&mut object, &mut text)?;
    ///     object.commit()?;
    ///     assert_eq!(text, "hello");
    /// }
    /// drop(session);
    /// assert_eq!(serving.join().unwrap()?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn serve_session(
        &self,
        transport: impl Transport + Send + 'static,
        config: &Config,
        report: impl FnMut(Result<Receipt, Error>),
    ) {
        self.serve_since(now(), transport, config, report);
    }

    /// [`serve_session`](Self::serve_session) for a connection that was accepted at this time.
    fn serve_since(
        &self,
        accepted_at: Instant,
        transport: impl Transport + Send + 'static,
        config: &Config,
        mut report: impl FnMut(Result<Receipt, Error>),
    ) {
        let trace = Trace::accepted(transport.peer_addr());
        let mut driver = Driver::server(transport, config, accepted_at);
        loop {
            let object = trace.object();
            let begun = driver.run(Goal::Start);
            if begun.is_ok() && driver.exchange.has_ended_session() {
                return;
            }
            let (served, outcome) =
                trace.within(|| self.serve_object(driver, begun, config, object));
            let goes_on = outcome.is_ok();
            let served = served.filter(|driver| goes_on && driver.exchange.is_framed());
            report(outcome);
            let Some(served) = served else { return };
            driver = served;
            driver.next_object(config);
        }
    }

    /// Completes the TLS handshake, and serves the connection.
    #[cfg(feature = "rustls")]
    pub(crate) fn serve_tls(
        &self,
        socket: Socket,
        tls: Arc<rustls::ServerConfig>,
        config: &Config,
        mut report: impl FnMut(Result<Receipt, Error>),
    ) {
        let (accepted_at, peer) = (now(), socket.peer_addr());
        let timeout = config.timeouts.start.unwrap_or(Duration::MAX);
        match TlsStream::server(socket, tls, timeout) {
            Ok(stream) => self.serve_since(accepted_at, stream, config, report),
            Err(error) => {
                let outcome = Err(Error::Handshake { peer, source: Arc::new(error) });
                Trace::accepted(peer).object().done(&outcome, None);
                report(outcome);
            }
        }
    }

    /// Serves an object whose start packet has been read, or could not be read. Returns the connection, unless
    /// the handler has kept it.
    fn serve_object(
        &self,
        driver: Box<Driver>,
        begun: Result<usize, Error>,
        config: &Config,
        mut object: ObjectTrace<'_>,
    ) -> (Option<Box<Driver>>, Result<Receipt, Error>) {
        let (driver, outcome) = match begun {
            Ok(_) => self.handle(driver, config, &mut object),
            Err(error) => (Some(driver), Err(error)),
        };
        let moved = driver.as_ref().map(|driver| driver.exchange.connection.moved());
        object.done(&outcome, moved);
        (driver, outcome)
    }

    /// Claims an entry of this program, or else a ticket of the store.
    fn claim(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<ActiveClaim<'_, Handler>, ClaimError> {
        let refusal = match self.registry.hold(packet, limit) {
            Ok(entry) => return Ok(ActiveClaim::Entry(entry)),
            Err(refusal) => refusal,
        };
        let (store, handler) = self.registry.shared(refusal).ok_or(refusal)?;
        store.claim(packet, limit).map(|ticket| ActiveClaim::Ticket(ticket, handler))
    }

    /// Serves an object whose start packet has been read.
    fn handle(
        &self,
        mut driver: Box<Driver>,
        config: &Config,
        object: &mut ObjectTrace<'_>,
    ) -> (Option<Box<Driver>>, Result<Receipt, Error>) {
        let Step::Decide(packet) = driver.exchange.connection.step() else {
            let error = driver.abort("there was no start packet", None);
            return (Some(driver), Err(error));
        };
        let mut claim = match self.claim(&packet, config.max_object_size) {
            Ok(claim) => claim,
            Err(error) => {
                if let Some(delivered) = self.registry.delivered(&packet, &error) {
                    object.claimed(packet);
                    driver.exchange.recognize(&delivered);
                    let outcome = driver.finish();
                    return (Some(driver), outcome);
                }
                object.refused(packet, &error);
                driver.exchange.refuse(error);
                let error = driver.conclude();
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
        let (driver, home) = Lent::new(driver);
        let handled = catch_application_panic(|| match claim.handler() {
            Handler::Put(handler) => handler(ObjectReader { driver }),
            Handler::Get(handler) => handler(ObjectWriter::of(driver)),
            Handler::Ticket(handler) => {
                let object = match packet.direction() {
                    Direction::Put => TicketObject::Put(ObjectReader { driver }),
                    Direction::Get => TicketObject::Get(ObjectWriter::of(driver)),
                };
                handler(object, data.unwrap_or_default())
            }
        });
        let driver = home.take();
        let succeeded = driver.as_ref().is_some_and(|driver| driver.exchange.has_succeeded());
        if succeeded {
            claim.succeeded(driver.as_ref().and_then(|driver| driver.exchange.delivered()));
        }
        drop_application_value(claim); // before the peer knows of a failure: it may try again
        let failure = match handled {
            Some(Ok(_)) if succeeded => None,
            Some(Ok(_)) => Some(("the handler returned the receipt of another object", None)),
            Some(Err(error)) => Some(("the handler failed", Some(error))),
            None => Some(("the handler panicked", None)),
        };
        let Some(mut driver) = driver else {
            let (reason, source) = failure.unwrap_or(("the handler kept its object", None));
            return (None, Err(Error::aborted(peer, Some(packet), reason, source)));
        };
        driver.exchange.set_holds_claim(false);
        let outcome = match failure {
            None => driver.exchange.receipt(peer),
            Some((reason, source)) => Err(driver.abort(reason, source)),
        };
        (Some(driver), outcome)
    }
}

impl fmt::Debug for Handlers {
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
/// use dataserver_std::{Handlers, Key};
///
/// let handlers = Handlers::new();
/// let weak = handlers.downgrade();
/// handlers.on_put(Key::from_name("start"), move |object| {
///     if let Some(handlers) = weak.upgrade() {
///         handlers.on_get(Key::from_name("next"), |object| object.send(b"hello"))?;
///     }
///     object.receive_to("start")
/// })?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
#[derive(Clone)]
pub struct WeakHandlers {
    registry: Weak<SharedRegistry<Handler>>,
}

impl WeakHandlers {
    /// The handlers, if something else still holds them, such as the server.
    ///
    /// ```
    /// use dataserver_std::Handlers;
    ///
    /// let handlers = Handlers::new();
    /// let weak = handlers.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(handlers);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Handlers> {
        self.registry.upgrade().map(|registry| Handlers { registry })
    }
}

impl fmt::Debug for WeakHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHandlers").finish_non_exhaustive()
    }
}
