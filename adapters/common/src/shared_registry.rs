//! The registered handlers, for many connections at once.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dataserver_core::{Claim, Delivery, Direction, Entry, Lease, Refusal, Registry, StartPacket};

use crate::clock::registry_now;
use crate::delivered::{Delivered, RecentlyDelivered};
use crate::error::Error;
use crate::panic::drop_application_value;
use crate::ticket_store::{ClaimError, Claimed, HeldClaim, LeaseError, SharedStore, TicketStore};

/// A [`Registry`] behind a lock, on the adapters' clock: the tickets of one process. Beside it there may be a
/// store that several servers share, which is asked for what has no entry here.
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
/// assert_eq!(registry.hold(&StartPacket::put(key), None)?.handler(), &"handler");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedRegistry<H> {
    registry: Mutex<Registry<H>>,
    /// The store that others share, and the handler of its tickets.
    shared: Mutex<Option<(SharedStore, H)>>,
    /// What entries that have ended by it have received.
    delivered: Mutex<RecentlyDelivered>,
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
        if inserted.is_ok() {
            self.lock_delivered().forget(direction, entry.key()); // it is for another object
        }
        drop(registry);
        expired.into_iter().for_each(drop_application_value);
        drop_application_value(handler);
        inserted.map(drop_application_value).map_err(Error::from)
    }

    /// Claims the handler for a start packet, on a server that receives at most `limit` bytes.
    ///
    /// # Errors
    /// Returns the [`Refusal`] to give to the connection, unless [`shared`](Self::shared) has another answer.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::{Key, Refusal, StartPacket};
    ///
    /// let registry = SharedRegistry::<()>::default();
    /// let packet = StartPacket::put(Key::from_bytes([0; 16]));
    /// assert_eq!(registry.hold(&packet, None).unwrap_err(), Refusal::NotRegistered);
    /// ```
    pub fn hold(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<ClaimGuard<'_, H>, Refusal> {
        if packet.has_digest() && !cfg!(feature = "digest") {
            return Err(Refusal::Unsupported);
        }
        let Claim { handler, limit, lease, .. } =
            self.lock().claim(packet, limit, registry_now())?;
        Ok(ClaimGuard { handler: Some(handler), limit, lease: Some(lease), registry: self })
    }

    /// The store to ask if this refusal is all that there is here, and the handler of its tickets.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::Refusal;
    ///
    /// assert!(SharedRegistry::<()>::default().shared(Refusal::NotRegistered).is_none());
    /// ```
    pub fn shared(&self, refusal: Refusal) -> Option<(SharedStore, H)> {
        match refusal {
            Refusal::NotRegistered => self.lock_shared().clone(),
            _ => None, // there is an entry, which comes first
        }
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
        self.set_shared(None);
        let take_one = || self.lock().pop();
        self.lock_delivered().clear();
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
        let mut registry = self.lock();
        self.lock_delivered().forget(direction, entry.key());
        registry.remove(direction, entry)
    }

    /// Sets the store that is asked for what has no entry here, and the handler of its tickets.
    ///
    /// ```
    /// use dataserver_common::{SharedRegistry, SharedStore};
    /// use dataserver_core::Refusal;
    ///
    /// let store = SharedStore::new(SharedRegistry::<Vec<u8>>::default());
    /// let registry = SharedRegistry::default();
    /// registry.set_shared(Some((store, "handler")));
    /// assert!(registry.shared(Refusal::NotRegistered).is_some());
    /// assert!(registry.shared(Refusal::InUse).is_none());
    /// ```
    pub fn set_shared(&self, shared: Option<(SharedStore, H)>) {
        let earlier = std::mem::replace(&mut *self.lock_shared(), shared);
        drop_application_value(earlier);
    }

    fn lock_shared(&self) -> MutexGuard<'_, Option<(SharedStore, H)>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object that the last put with this start packet has delivered, if its entry has ended thereby. `error`
    /// is that of the claim. It is remembered for an hour, among the last 1024 of them, unless the entry is removed
    /// or its key is registered again.
    ///
    /// ```
    /// use dataserver_common::SharedRegistry;
    /// use dataserver_core::{Key, Refusal, StartPacket};
    ///
    /// let registry = SharedRegistry::<()>::default();
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// assert_eq!(registry.delivered(&packet, &Refusal::NotRegistered.into()), None);
    /// ```
    pub fn delivered(&self, packet: &StartPacket, error: &ClaimError) -> Option<Delivered> {
        match error {
            ClaimError::Refused(Refusal::NotRegistered) => {
                self.lock_delivered().find(packet, registry_now())
            }
            _ => None,
        }
    }

    fn lock_delivered(&self) -> MutexGuard<'_, RecentlyDelivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, lease: Lease, delivery: Delivery, object: Option<Delivered>) {
        let mut registry = self.lock();
        let ended = registry.release(lease, delivery);
        if let (Some(_), Some(object)) = (&ended, object) {
            // While the registry is locked: it is known as soon as the entry has ended.
            self.lock_delivered().remember(object, registry_now());
        }
        drop(registry);
        drop_application_value(ended);
    }

    /// A registry is consistent after every call: a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Registry<H>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Default for SharedRegistry<H> {
    fn default() -> Self {
        Self {
            registry: Mutex::new(Registry::new()),
            shared: Mutex::new(None),
            delivered: Mutex::default(),
        }
    }
}

impl<H> Drop for SharedRegistry<H> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<H: Clone> TicketStore for SharedRegistry<H> {
    type Ticket = H;
    type Lease = Lease;

    fn claim(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<Claimed<H, Lease>, ClaimError> {
        let Claim { handler, limit, lease, .. } =
            self.lock().claim(packet, limit, registry_now())?;
        Ok(Claimed { ticket: handler, limit, lease })
    }

    /// A lease of a registry has no end of its own.
    fn renew(&self, _lease: &Lease) -> Result<(), LeaseError> {
        Ok(())
    }

    fn finish(&self, lease: Lease, delivery: Delivery) -> Result<(), LeaseError> {
        self.release(lease, delivery, None);
        Ok(())
    }
}

/// What one connection holds: an entry of the registry, or a ticket of the store that others share.
#[derive(Debug)]
pub enum ActiveClaim<'a, H> {
    /// An entry.
    Entry(ClaimGuard<'a, H>),
    /// A ticket, and the handler of all tickets.
    Ticket(HeldClaim, H),
}

impl<H> ActiveClaim<'_, H> {
    /// What was registered.
    ///
    /// ```no_run
    /// # fn example(claim: dataserver_common::ActiveClaim<'_, &str>) {
    /// assert_eq!(claim.handler(), &"handler");
    /// # }
    /// ```
    pub fn handler(&self) -> &H {
        match self {
            Self::Entry(entry) => entry.handler(),
            Self::Ticket(_, handler) => handler,
        }
    }

    /// The most bytes that a put may have.
    ///
    /// ```no_run
    /// # fn example(claim: dataserver_common::ActiveClaim<'_, &str>) {
    /// assert_eq!(claim.limit(), Some(9));
    /// # }
    /// ```
    pub fn limit(&self) -> Option<u64> {
        match self {
            Self::Entry(entry) => entry.limit(),
            Self::Ticket(ticket, _) => ticket.limit(),
        }
    }

    /// The ticket.
    ///
    /// ```no_run
    /// # fn example(mut claim: dataserver_common::ActiveClaim<'_, &str>) {
    /// assert!(claim.ticket().is_none()); // it is an entry
    /// # }
    /// ```
    pub fn ticket(&mut self) -> Option<&mut HeldClaim> {
        match self {
            Self::Entry(_) => None,
            Self::Ticket(ticket, _) => Some(ticket),
        }
    }

    /// Reports that the transfer has succeeded, and what it has [delivered](crate::Exchange::delivered). A ticket
    /// may block here.
    ///
    /// ```no_run
    /// # fn example(mut claim: dataserver_common::ActiveClaim<'_, &str>) {
    /// claim.succeeded(None);
    /// # }
    /// ```
    pub fn succeeded(&mut self, object: Option<Delivered>) {
        match self {
            Self::Entry(entry) => entry.succeeded(object),
            Self::Ticket(ticket, _) => ticket.succeeded(),
        }
    }
}

/// The use of an entry by one connection, from [`SharedRegistry::hold`].
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
/// drop(registry.hold(&packet, None)?); // failed
/// registry.hold(&packet, None)?.succeeded(None);
/// assert!(registry.hold(&packet, None).is_err());
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
    /// assert_eq!(registry.hold(&packet, None)?.handler(), &"handler");
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
    /// assert_eq!(registry.hold(&packet, None)?.limit(), Some(9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Reports that the transfer has succeeded: an entry until delivered ends. The object, if there is one, is
    /// recognized from then on.
    ///
    /// ```
    /// # use dataserver_common::SharedRegistry;
    /// # use dataserver_core::{Direction, Key, StartPacket};
    /// # let packet = StartPacket::put(Key::from_name("start"));
    /// # let registry = SharedRegistry::default();
    /// # registry.insert(Direction::Put, packet.key(), "handler")?;
    /// registry.hold(&packet, None)?.succeeded(None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn succeeded(&mut self, object: Option<Delivered>) {
        self.release(Delivery::Succeeded, object);
    }

    fn release(&mut self, delivery: Delivery, object: Option<Delivered>) {
        if let Some(lease) = self.lease.take() {
            self.registry.release(lease, delivery, object);
        }
    }
}

impl<H> Drop for ClaimGuard<'_, H> {
    fn drop(&mut self) {
        self.release(Delivery::Failed, None);
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
        table.hold(&packet(2), None).unwrap_err();
        add(3, Entry::once).unwrap();
        drop(table.hold(&packet(3), None).unwrap());
        add(4, Entry::until_delivered).unwrap();
        table.hold(&packet(4), None).unwrap().succeeded(None);
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
