//! The table of handlers that connections are served from.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dataserver_core::{Claim, Direction, Entry, Lease, Refusal, Registry, StartPacket};

use crate::clock::now;
use crate::error::Error;

/// A [`Registry`] for many connections at once, on the adapters' clock.
///
/// ```
/// use dataserver_adapter::Handlers;
/// use dataserver_core::{Direction, Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let handlers = Handlers::default();
/// handlers.add(Direction::Put, packet, "handler")?;
/// assert_eq!(handlers.claim(&packet)?.handler, "handler");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Handlers<H> {
    registry: Mutex<Registry<H>>,
}

impl<H> Handlers<H> {
    /// Registers a handler for objects that go in this direction.
    ///
    /// # Errors
    /// [`Error::Direction`] where the entry is for the other one, and
    /// [`Error::AlreadyRegistered`].
    ///
    /// ```
    /// use dataserver_adapter::{Error, Handlers};
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// let error = Handlers::default()
    ///     .add(Direction::Put, StartPacket::get(Key::from_name("start")), "handler")
    ///     .unwrap_err();
    /// assert!(matches!(error, Error::Direction { expected: Direction::Put, .. }));
    /// ```
    pub fn add(
        &self,
        expected: Direction,
        entry: impl Into<Entry>,
        handler: H,
    ) -> Result<(), Error> {
        let entry = Error::check_direction(entry, expected)?;
        Ok(self.lock().add(entry, handler, now())?)
    }

    /// Takes a handler out again. A transfer that it has begun goes on.
    ///
    /// ```
    /// use dataserver_adapter::Handlers;
    /// use dataserver_core::{Key, StartPacket};
    ///
    /// assert_eq!(Handlers::<()>::default().remove(StartPacket::put(Key::new([0; 16]))), None);
    /// ```
    pub fn remove(&self, entry: impl Into<Entry>) -> Option<H> {
        self.lock().remove(entry)
    }

    /// The registry is whole after every call: one that panicked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Registry<H>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Clone> Handlers<H> {
    /// Claims the handler for a start packet.
    ///
    /// # Errors
    /// The [`Refusal`] to give to the connection.
    ///
    /// ```
    /// use dataserver_adapter::Handlers;
    /// use dataserver_core::{Key, Refusal, StartPacket};
    ///
    /// let handlers = Handlers::<()>::default();
    /// let refusal = handlers.claim(&StartPacket::put(Key::new([0; 16]))).unwrap_err();
    /// assert_eq!(refusal, Refusal::NotRegistered);
    /// ```
    pub fn claim(&self, packet: &StartPacket) -> Result<Claimed<'_, H>, Refusal> {
        let Claim { handler, limit, lease } = self.lock().claim(packet, now())?;
        Ok(Claimed { handler, limit, lease: Some(lease), handlers: self })
    }
}

/// A handler in use by one connection, from [`Handlers::claim`].
///
/// Dropped, it may be claimed again, unless it was for once. So drop it before the stream: a peer
/// that sees a reset may come again at once.
///
/// ```
/// use dataserver_adapter::Handlers;
/// use dataserver_core::{Direction, Entry, Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let handlers = Handlers::default();
/// handlers.add(Direction::Put, Entry::exact(packet).until_delivered(), "handler")?;
///
/// drop(handlers.claim(&packet)?); // failed
/// handlers.claim(&packet)?.delivered();
/// assert!(handlers.claim(&packet).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it says that the transfer failed"]
pub struct Claimed<'a, H> {
    /// What was registered.
    pub handler: H,
    /// The most bytes that a put may have.
    pub limit: u64,
    lease: Option<Lease>,
    handlers: &'a Handlers<H>,
}

impl<H> Claimed<'_, H> {
    /// The transfer has succeeded: an entry until delivered ends.
    ///
    /// ```
    /// # use dataserver_adapter::Handlers;
    /// # use dataserver_core::{Direction, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let handlers = Handlers::default();
    /// # handlers.add(Direction::Put, packet, "handler")?;
    /// handlers.claim(&packet)?.delivered();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delivered(mut self) {
        self.release(true);
    }

    fn release(&mut self, delivered: bool) {
        if let Some(lease) = self.lease.take() {
            self.handlers.lock().release(lease, delivered);
        }
    }
}

impl<H> Drop for Claimed<'_, H> {
    fn drop(&mut self) {
        self.release(false);
    }
}

impl<H> Default for Handlers<H> {
    fn default() -> Self {
        Self { registry: Mutex::new(Registry::new()) }
    }
}
