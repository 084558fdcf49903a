//! What is registered, and how one stream is served from it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use dataserver_adapter::{self as adapter, Error, Receipt, Want, drop_application_value};
use dataserver_core::{Config, Direction, Entry, Step};

use crate::driver::Driver;
use crate::object::{Receiver, Sender};
use crate::stream::Stream;

/// Start packets and the handlers registered for them. Clones share the same table. A handler that
/// registers others holds a [`WeakHandlers`].
///
/// [`Server`](crate::Server) serves TCP connections from it. A program with a listener or streams
/// of its own calls [`serve`](Self::serve) for each.
///
/// An entry is a [`StartPacket`](crate::StartPacket), which then must match exactly and stands until
/// it is removed; or an [`Entry`], which says how often, until when, and for which sizes.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use dataserver_std::{Entry, Handlers, Key, StartPacket, after};
///
/// let handlers = Handlers::default();
/// let packet = StartPacket::put(Key::from_name("upload"));
/// let entry = Entry::any_size(packet, 1 << 30).until_delivered().expires(after(Duration::from_secs(60)));
/// handlers.on_put(entry, |object| io::copy(object, &mut io::sink()))?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Handlers {
    table: Arc<adapter::Handlers<Handler>>,
}

/// A reference to [`Handlers`] that does not keep them in memory: for a handler that registers others.
///
/// A handler that held a clone of the table that it is in would keep that table, and all that its
/// handlers captured, for ever.
///
/// ```
/// use dataserver_std::{Handlers, Key, StartPacket};
///
/// let handlers = Handlers::default();
/// let weak = handlers.downgrade();
/// handlers.on_put(StartPacket::put(Key::from_name("start")), move |object| {
///     if let Some(handlers) = weak.upgrade() {
///         handlers.on_get(StartPacket::get(Key::from_name("next")), |object| object.send(b"hello"))?;
///     }
///     std::io::copy(object, &mut std::io::sink())
/// })?;
/// # Ok::<(), dataserver_std::Error>(())
/// ```
#[derive(Clone)]
pub struct WeakHandlers {
    table: Weak<adapter::Handlers<Handler>>,
}

impl WeakHandlers {
    /// The handlers, if something else still holds them, such as the server.
    ///
    /// ```
    /// use dataserver_std::Handlers;
    ///
    /// let handlers = Handlers::default();
    /// let weak = handlers.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(handlers);
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn upgrade(&self) -> Option<Handlers> {
        self.table.upgrade().map(|table| Handlers { table })
    }
}

type PutHandler = dyn Fn(&mut Receiver) -> io::Result<()> + Send + Sync;
type GetHandler = dyn Fn(&mut Sender) -> io::Result<()> + Send + Sync;

#[derive(Clone)]
enum Handler {
    Put(Arc<PutHandler>),
    Get(Arc<GetHandler>),
}

impl Handlers {
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
    /// use std::fs::File;
    /// use dataserver_std::{Handlers, Key, StartPacket};
    ///
    /// let handlers = Handlers::default();
    /// handlers.on_put(StartPacket::put(Key::from_name("start")), |object| {
    ///     let file = File::create("object")?;
    ///     object.receive_file(&file)?;
    ///     file.sync_all()
    /// })?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_put<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(&mut Receiver) -> io::Result<T> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let handler = Handler::Put(Arc::new(move |object| handler(object).map(drop)));
        self.table.add(Direction::Put, entry, handler)
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
    /// use std::fs::File;
    /// use dataserver_std::{Handlers, Key, StartPacket};
    ///
    /// let handlers = Handlers::default();
    /// handlers.on_get(StartPacket::get(Key::from_name("start")), |object| {
    ///     object.send_file(&File::open("object")?)
    /// })?;
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn on_get<T>(
        &self,
        entry: impl Into<Entry>,
        handler: impl Fn(&mut Sender) -> io::Result<T> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let handler = Handler::Get(Arc::new(move |object| handler(object).map(drop)));
        self.table.add(Direction::Get, entry, handler)
    }

    /// A reference that does not keep the table in memory.
    ///
    /// ```
    /// let weak = dataserver_std::Handlers::default().downgrade();
    /// assert!(weak.upgrade().is_none());
    /// ```
    pub fn downgrade(&self) -> WeakHandlers {
        WeakHandlers { table: Arc::downgrade(&self.table) }
    }

    /// Takes an entry out. What it has begun goes on. Whether there was one.
    ///
    /// ```
    /// use dataserver_std::{Handlers, Key, StartPacket};
    ///
    /// let packet = StartPacket::get(Key::from_name("start"));
    /// let handlers = Handlers::default();
    /// handlers.on_get(packet, |object| object.send(b"hello"))?;
    /// assert!(handlers.remove(packet));
    /// assert!(!handlers.remove(packet));
    /// # Ok::<(), dataserver_std::Error>(())
    /// ```
    pub fn remove(&self, entry: impl Into<Entry>) -> bool {
        self.table.remove(entry).is_some()
    }

    /// Serves one stream that was accepted, from the start packet to the end.
    ///
    /// # Errors
    /// An [`Error::Transfer`]: the stream was aborted. Handlers that fail or panic are among them.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use dataserver_std::{Client, Config, Handlers, Key, Receiver, Socket, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let handlers = Handlers::default();
    /// handlers.on_put(packet, |object| std::io::copy(object, &mut std::io::sink()))?;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let client = std::thread::spawn(move || Client::new(address).put(packet)?.send(b"hello"));
    /// let (stream, _) = listener.accept()?;
    /// let receipt = handlers.serve(Socket::try_from(stream)?, &Config::default())?;
    /// assert_eq!(receipt.bytes, 5);
    /// assert_eq!(client.join().unwrap()?.bytes, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn serve(
        &self,
        stream: impl Stream + Send + 'static,
        config: &Config,
    ) -> io::Result<Receipt> {
        let mut driver = Driver::server(stream, config);
        driver.run(Want::Start)?;
        let Step::Decide(packet) = driver.connection.step() else {
            return Err(driver.abort("a server begins with a decision", None));
        };
        let mut claim = match self.table.claim(&packet, config.limit) {
            Ok(claim) => claim,
            Err(refusal) => {
                driver.connection.refuse(refusal);
                return driver.finish(packet);
            }
        };
        driver.connection.accept(claim.limit);
        if let Step::Done(_) = driver.connection.step() {
            drop(claim);
            return driver.finish(packet); // larger than this server takes of anyone
        }

        let (mut driver, handled) = match &claim.handler {
            Handler::Put(handler) => {
                let mut object = Receiver { packet, driver };
                let handled = call(|| handler(&mut object));
                (object.driver, handled)
            }
            Handler::Get(handler) => {
                let mut object = Sender { packet, driver };
                let handled = call(|| handler(&mut object));
                (object.driver, handled)
            }
        };
        let outcome = match handled {
            Ok(()) => driver.finish(packet),
            Err((reason, source)) => Err(driver.abort(reason, source)),
        };
        if let Step::Done(Ok(_)) = driver.connection.step() {
            claim.delivered();
        }
        drop_application_value(claim);
        drop(driver); // only now can the peer see that it failed, and come again
        outcome
    }
}

/// Calls a handler. Why it failed, if it did.
fn call(handler: impl FnOnce() -> io::Result<()>) -> Result<(), (&'static str, Option<io::Error>)> {
    match catch_unwind(AssertUnwindSafe(handler)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(("the handler failed", Some(error))),
        Err(_panic) => Err(("the handler panicked", None)),
    }
}
