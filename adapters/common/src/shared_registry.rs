//! The registered handlers, for many connections at once.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataserver_core::{Claim, Delivery, Direction, Entry, Lease, Refusal, Registry, StartPacket};

use crate::clock::registry_now;
use crate::error::Error;
use crate::panic::drop_application_value;

/// A [`Registry`] behind a lock, on the adapters' clock.
///
/// A handler belongs to the application, and so does the code that runs when it is dropped. No handler is
/// dropped while the registry is locked, and a panic of its `Drop` ends there.
///
/// ```
/// use dataserver_common::SharedRegistry;
/// use dataserver_core::{Direction, Key, StartPacket};
///
/// let key = Key::from_name("start");
/// let registry = SharedRegistry::default();
/// registry.insert(Direction::Put, key, "handler")?;
/// assert_eq!(registry.claim(&StartPacket::put(key), None)?.handler(), &"handler");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedRegistry<H> {
    registry: Mutex<Registry<H>>,
}

impl<H: Clone> SharedRegistry<H> {
    /// Registers a handler for objects that go in this direction.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyRegistered`] if the same start packets have an entry.
    ///
    /// ```
    /// use dataserver_common::{Error, SharedRegistry};
    /// use dataserver_core::{Direction, Key};
    ///
    /// let key = Key::from_name("start");
    /// let registry = SharedRegistry::default();
    /// registry.insert(Direction::Put, key, "first")?;
    /// let error = registry.insert(Direction::Put, key, "second").unwrap_err();
    /// assert!(matches!(error, Error::AlreadyRegistered(_)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn insert(
        &self,
        direction: Direction,
        entry: impl Into<Entry>,
        handler: H,
    ) -> Result<(), Error> {
        let entry = entry.into();
        let now = registry_now();
        let mut registry = self.lock();
        // More than are inserted: so they do not pile up, and no call has many to remove.
        let expired = [registry.take_expired(now), registry.take_expired(now)];
        let inserted = registry.insert(direction, entry, handler.clone(), now);
        drop(registry);
        expired.into_iter().for_each(drop_application_value);
        drop_application_value(handler);
        inserted.map(drop_application_value).map_err(Error::from)
    }

    /// Claims the handler for a start packet, on a server that receives at most `limit` bytes.
    ///
    /// # Errors
    /// Returns the [`Refusal`] to give to the connection.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::{Key, Refusal, StartPacket};
    ///
    /// let registry = SharedRegistry::<()>::default();
    /// let packet = StartPacket::put(Key::from_bytes([0; 16]));
    /// assert_eq!(registry.claim(&packet, None).unwrap_err(), Refusal::NotRegistered);
    /// ```
    pub fn claim(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<ClaimGuard<'_, H>, Refusal> {
        if packet.has_digest() && !cfg!(feature = "digest") {
            return Err(Refusal::Unsupported);
        }
        let now = registry_now();
        let Claim { handler, limit, lease, .. } = self.lock().claim(packet, limit, now)?;
        Ok(ClaimGuard { handler: Some(handler), limit, lease: Some(lease), registry: self })
    }
}

impl<H> SharedRegistry<H> {
    /// Takes all handlers out. Transfers that they have begun go on.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let key = Key::from_name("start");
    /// let registry = SharedRegistry::default();
    /// registry.insert(Direction::Put, key, "handler")?;
    /// registry.clear();
    /// assert_eq!(registry.remove(Direction::Put, key), None);
    /// # Ok::<(), dataserver_common::Error>(())
    /// ```
    pub fn clear(&self) {
        let take_one = || self.lock().pop();
        // One by one: a second panic while the first unwinds would end the process.
        iter::from_fn(take_one).for_each(drop_application_value);
    }

    /// Takes a handler out. A transfer that it has begun goes on.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::{Direction, Key};
    ///
    /// let key = Key::from_bytes([0; 16]);
    /// assert_eq!(SharedRegistry::<()>::default().remove(Direction::Put, key), None);
    /// ```
    pub fn remove(&self, direction: Direction, entry: impl Into<Entry>) -> Option<H> {
        let entry = entry.into();
        self.lock().remove(direction, entry)
    }

    /// A registry is consistent after every call: a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Registry<H>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Default for SharedRegistry<H> {
    fn default() -> Self {
        Self { registry: Mutex::new(Registry::new()) }
    }
}

impl<H> Drop for SharedRegistry<H> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The use of an entry by one connection, from [`SharedRegistry::claim`].
///
/// When it is dropped, the entry may be claimed again, unless it was for one claim. Drop it before the
/// transport: a peer that sees the reset may try again at once.
///
/// ```
/// use dataserver_common::SharedRegistry;
/// use dataserver_core::{Direction, Entry, Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let registry = SharedRegistry::default();
/// registry.insert(Direction::Put, Entry::new(packet.key()).until_delivered(), "handler")?;
///
/// drop(registry.claim(&packet, None)?); // failed
/// registry.claim(&packet, None)?.succeeded();
/// assert!(registry.claim(&packet, None).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it reports that the transfer failed"]
pub struct ClaimGuard<'a, H> {
    /// `None` only while it is dropped.
    handler: Option<H>,
    limit: Option<u64>,
    lease: Option<Lease>,
    registry: &'a SharedRegistry<H>,
}

impl<H> ClaimGuard<'_, H> {
    /// What was registered.
    ///
    /// ```
    /// # use dataserver_common::SharedRegistry;
    /// # use dataserver_core::{Direction, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let registry = SharedRegistry::default();
    /// # registry.insert(Direction::Put, packet.key(), "handler")?;
    /// assert_eq!(registry.claim(&packet, None)?.handler(), &"handler");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn handler(&self) -> &H {
        self.handler.as_ref().expect("it is here until it is dropped")
    }

    /// The most bytes that a put may have.
    ///
    /// ```
    /// # use dataserver_common::SharedRegistry;
    /// # use dataserver_core::{Direction, Entry, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let registry = SharedRegistry::default();
    /// registry.insert(Direction::Put, Entry::new(packet.key()).max_size(9), "handler")?;
    /// assert_eq!(registry.claim(&packet, None)?.limit(), Some(9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Reports that the transfer has succeeded: an entry until delivered ends.
    ///
    /// ```
    /// # use dataserver_common::SharedRegistry;
    /// # use dataserver_core::{Direction, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let registry = SharedRegistry::default();
    /// # registry.insert(Direction::Put, packet.key(), "handler")?;
    /// registry.claim(&packet, None)?.succeeded();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn succeeded(&mut self) {
        self.release(Delivery::Succeeded);
    }

    fn release(&mut self, delivery: Delivery) {
        if let Some(lease) = self.lease.take() {
            let ended = self.registry.lock().release(lease, delivery);
            drop_application_value(ended);
        }
    }
}

impl<H> Drop for ClaimGuard<'_, H> {
    fn drop(&mut self) {
        self.release(Delivery::Failed);
        drop_application_value(self.handler.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use dataserver_core::Key;

    use super::*;

    /// What an application may do when its handler is dropped: it uses the table.
    #[derive(Debug)]
    struct Guard {
        table: Weak<SharedRegistry<Arc<Guard>>>,
        dropped: Arc<AtomicUsize>,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if let Some(table) = self.table.upgrade() {
                table.remove(Direction::Put, key(99));
            }
        }
    }

    fn key(number: u8) -> Key {
        Key::from_bytes([number; 16])
    }

    fn packet(number: u8) -> StartPacket {
        StartPacket::put(key(number))
    }

    #[test]
    fn a_handler_may_use_the_table_when_it_is_dropped() {
        let table = Arc::new(SharedRegistry::default());
        let dropped = Arc::new(AtomicUsize::new(0));
        let add = |number, entry: fn(Entry) -> Entry| {
            let guard = Guard { table: Arc::downgrade(&table), dropped: Arc::clone(&dropped) };
            table.insert(Direction::Put, entry(Entry::new(key(number))), Arc::new(guard))
        };
        let expired = |entry: Entry| entry.expires_after(Duration::ZERO);

        add(1, expired).unwrap();
        add(1, |entry| entry).unwrap(); // takes the place of the expired one
        add(1, |entry| entry).unwrap_err();
        add(2, expired).unwrap();
        table.claim(&packet(2), None).unwrap_err();
        add(3, Entry::once).unwrap();
        drop(table.claim(&packet(3), None).unwrap());
        add(4, Entry::until_delivered).unwrap();
        table.claim(&packet(4), None).unwrap().succeeded();
        assert!(table.remove(Direction::Put, key(1)).is_some());
        add(5, |entry| entry).unwrap();
        table.clear();
        assert_eq!(dropped.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_expiry_of_many_is_spread_over_the_calls_that_follow() {
        let table = SharedRegistry::default();
        for number in 0..100 {
            let entry = Entry::new(key(number)).expires_after(Duration::ZERO);
            table.insert(Direction::Put, entry, ()).unwrap();
        }
        assert!(table.lock().len() <= 2, "what has expired does not pile up");
    }
}
