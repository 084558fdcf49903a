//! The table of handlers that connections are served from.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataserver_core::{Claim, Direction, Entry, Lease, Refusal, Registry, StartPacket};

use crate::clock::registry_now;
use crate::error::Error;
use crate::panic::drop_application_value;

/// A [`Registry`] for many connections at once, on the adapters' clock.
///
/// A handler is the application's, and so is what dropping it does. None is dropped while the table is
/// locked, and a panic of a handler's `Drop` ends there.
///
/// ```
/// use dataserver_adapter::Handlers;
/// use dataserver_core::{Direction, Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let handlers = Handlers::default();
/// handlers.add(Direction::Put, packet, "handler")?;
/// assert_eq!(handlers.claim(&packet, u64::MAX)?.handler, "handler");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Handlers<H> {
    registry: Mutex<Registry<H>>,
}

impl<H: Clone> Handlers<H> {
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
        let now = registry_now();
        let mut registry = self.lock();
        // More than are added: so they do not pile up, and no call has many to remove.
        let expired = [registry.take_expired(now), registry.take_expired(now)];
        let added = registry.add(entry, handler.clone(), now);
        drop(registry);
        expired.into_iter().for_each(drop_application_value);
        drop_application_value(handler);
        added.map(drop_application_value).map_err(Error::from)
    }
}

impl<H> Handlers<H> {
    /// Takes all handlers out. Transfers that they have begun go on.
    ///
    /// ```
    /// use dataserver_adapter::Handlers;
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let handlers = Handlers::default();
    /// handlers.add(Direction::Put, packet, "handler")?;
    /// handlers.clear();
    /// assert_eq!(handlers.remove(packet), None);
    /// # Ok::<(), dataserver_adapter::Error>(())
    /// ```
    pub fn clear(&self) {
        let take_one = || self.lock().pop();
        // One by one: a second panic while the first unwinds would end the process.
        iter::from_fn(take_one).for_each(drop_application_value);
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
        let entry = entry.into(); // the application's code, too
        self.lock().remove(entry)
    }

    /// The registry is whole after every call: one that panicked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Registry<H>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Clone> Handlers<H> {
    /// Claims the handler for a start packet, on a server that receives at most `limit` bytes.
    ///
    /// # Errors
    /// Returns the [`Refusal`] to give to the connection.
    ///
    /// ```
    /// use dataserver_adapter::Handlers;
    /// use dataserver_core::{Key, Refusal, StartPacket};
    ///
    /// let handlers = Handlers::<()>::default();
    /// let refusal = handlers.claim(&StartPacket::put(Key::new([0; 16])), 9).unwrap_err();
    /// assert_eq!(refusal, Refusal::NotRegistered);
    /// ```
    pub fn claim(&self, packet: &StartPacket, limit: u64) -> Result<Claimed<'_, H>, Refusal> {
        let now = registry_now();
        let mut registry = self.lock();
        let expired = registry.take_expired(now);
        let claimed = registry.claim(packet, limit, now);
        drop(registry);
        drop_application_value(expired);
        let Claim { handler, limit, lease } = claimed?;
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
/// drop(handlers.claim(&packet, u64::MAX)?); // failed
/// handlers.claim(&packet, u64::MAX)?.delivered();
/// assert!(handlers.claim(&packet, u64::MAX).is_err());
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
    /// handlers.claim(&packet, u64::MAX)?.delivered();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delivered(&mut self) {
        self.release(true);
    }

    fn release(&mut self, delivered: bool) {
        if let Some(lease) = self.lease.take() {
            let ended = self.handlers.lock().release(lease, delivered);
            drop_application_value(ended);
        }
    }
}

impl<H> Drop for Claimed<'_, H> {
    fn drop(&mut self) {
        self.release(false);
    }
}

impl<H> Drop for Handlers<H> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<H> Default for Handlers<H> {
    fn default() -> Self {
        Self { registry: Mutex::new(Registry::new()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use dataserver_core::{Key, StartPacket};

    use super::*;
    use crate::clock::after;

    /// What an application may do when its handler is dropped: it uses the table.
    #[derive(Debug)]
    struct Guard {
        table: Weak<Handlers<Arc<Guard>>>,
        dropped: Arc<AtomicUsize>,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if let Some(table) = self.table.upgrade() {
                table.remove(packet(99));
            }
        }
    }

    fn packet(number: u8) -> StartPacket {
        StartPacket::put(Key::new([number; 16]))
    }

    #[test]
    fn a_handler_may_use_the_table_when_it_is_dropped() {
        let table = Arc::new(Handlers::default());
        let dropped = Arc::new(AtomicUsize::new(0));
        let add = |number, entry: fn(StartPacket) -> Entry| {
            let guard = Guard { table: Arc::downgrade(&table), dropped: Arc::clone(&dropped) };
            table.add(Direction::Put, entry(packet(number)), Arc::new(guard))
        };
        let expired = |packet| Entry::exact(packet).expires(after(Duration::ZERO));

        add(1, expired).unwrap();
        add(1, Entry::exact).unwrap(); // takes the place of the expired one
        add(1, Entry::exact).unwrap_err();
        add(2, expired).unwrap();
        table.claim(&packet(2), u64::MAX).unwrap_err();
        add(3, |packet| Entry::exact(packet).once()).unwrap();
        drop(table.claim(&packet(3), u64::MAX).unwrap());
        add(4, |packet| Entry::exact(packet).until_delivered()).unwrap();
        table.claim(&packet(4), u64::MAX).unwrap().delivered();
        assert!(table.remove(packet(1)).is_some());
        add(5, Entry::exact).unwrap();
        table.clear();
        assert_eq!(dropped.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_expiry_of_many_is_spread_over_the_calls_that_follow() {
        let table = Handlers::default();
        for number in 0..100 {
            let entry = Entry::exact(packet(number)).expires(after(Duration::ZERO));
            table.add(Direction::Put, entry, ()).unwrap();
        }
        assert!(table.lock().len() <= 2, "what has expired does not pile up");
    }
}
