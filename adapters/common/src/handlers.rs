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
        let entry = entry.into();
        if entry.direction() != expected {
            return Err(Error::Direction { entry, expected });
        }
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

    /// Gives back what [`claim`](Self::claim) gave, with how the transfer went. Before the peer can
    /// see that it failed: it may come again at once.
    ///
    /// ```
    /// # use dataserver_adapter::Handlers;
    /// # use dataserver_core::{Direction, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let handlers = Handlers::default();
    /// # handlers.add(Direction::Put, packet, "handler")?;
    /// let claim = handlers.claim(&packet)?;
    /// handlers.release(claim.lease, true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&self, lease: Lease, delivered: bool) {
        self.lock().release(lease, delivered);
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
    /// let refusal = Handlers::<()>::default().claim(&StartPacket::put(Key::new([0; 16])));
    /// assert_eq!(refusal.unwrap_err(), Refusal::NotRegistered);
    /// ```
    pub fn claim(&self, packet: &StartPacket) -> Result<Claim<H>, Refusal> {
        self.lock().claim(packet, now())
    }
}

impl<H> Default for Handlers<H> {
    fn default() -> Self {
        Self { registry: Mutex::new(Registry::new()) }
    }
}
