//! Which handler serves a start packet, how often, and for how long.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use crate::error::Refusal;
use crate::key::Key;
use crate::start_packet::{Direction, ObjectSize, StartPacket};
use crate::time::Instant;

/// What may be claimed: the key, the sizes of objects, how often, and for how long. The direction is
/// given when the entry is registered.
///
/// An entry takes objects of any size, stays until it is removed, and does not expire, unless it is told
/// otherwise.
///
/// ```
/// use core::time::Duration;
/// use dataserver_core::{Entry, Key};
///
/// let one_upload = Entry::new(Key::from_name("start"))
///     .max_size(1 << 30)
///     .until_delivered()
///     .expires_after(Duration::from_secs(3600));
/// assert_eq!(one_upload.key(), Key::from_name("start"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    key: Key,
    /// `None` if any size matches.
    size: Option<ObjectSize>,
    max_size: Option<u64>,
    uses: Uses,
    valid_for: Option<Duration>,
    framed_only: bool,
    digest_only: bool,
}

/// What a start packet is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    key: Key,
    direction: Direction,
    size: Option<ObjectSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    Once,
    UntilDelivered,
    Unlimited,
}

impl Entry {
    /// Matches this key with any size, declared or not.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key};
    ///
    /// let key = Key::from_name("start");
    /// assert_eq!(Entry::new(key), Entry::from(key));
    /// ```
    pub const fn new(key: Key) -> Self {
        let (uses, valid_for) = (Uses::Unlimited, None);
        Self {
            key,
            size: None,
            max_size: None,
            uses,
            valid_for,
            framed_only: false,
            digest_only: false,
        }
    }

    /// Matches the key and the size of this start packet only: the original's rule. The direction is the
    /// one for which the entry is registered.
    ///
    /// A packet of unknown size matches clients that declare none. If there is also an entry for any
    /// size, the exact one comes first.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
    /// assert_ne!(Entry::exact(packet), Entry::new(packet.key()));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub const fn exact(packet: StartPacket) -> Self {
        Self { size: Some(packet.size()), ..Self::new(packet.key()) }
    }

    /// Takes objects of at most this many bytes.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key};
    ///
    /// let entry = Entry::new(Key::from_name("start")).max_size(1 << 30);
    /// # assert_ne!(entry, Entry::new(Key::from_name("start")));
    /// ```
    #[must_use]
    pub const fn max_size(self, bytes: u64) -> Self {
        Self { max_size: Some(bytes), ..self }
    }

    /// Takes only objects for which this size is declared.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, ObjectSize, StartPacket};
    ///
    /// let key = Key::from_name("start");
    /// let entry = Entry::new(key).exact_size(ObjectSize::new(3)?);
    /// assert_eq!(entry, Entry::exact(StartPacket::put(key).with_size(3)?));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    #[must_use]
    pub const fn exact_size(self, size: ObjectSize) -> Self {
        Self { size: Some(size), ..self }
    }

    /// Serves one connection: the claim ends the entry, even if the transfer fails (at most once).
    /// Replaces [`until_delivered`](Self::until_delivered).
    ///
    /// ```
    /// use dataserver_core::{Entry, Key};
    ///
    /// let ticket = Entry::new(Key::from_bytes([7; 16])).once();
    /// # assert_ne!(ticket, Entry::new(Key::from_bytes([7; 16])));
    /// ```
    #[must_use]
    pub const fn once(self) -> Self {
        Self { uses: Uses::Once, ..self }
    }

    /// Serves one connection at a time, until a transfer succeeds (at least once): if the connection
    /// fails between the commit and the receipt, the sender tries again. Replaces [`once`](Self::once).
    ///
    /// ```
    /// use dataserver_core::{Entry, Key};
    ///
    /// let ticket = Entry::new(Key::from_bytes([7; 16])).until_delivered();
    /// # assert_ne!(ticket, Entry::new(Key::from_bytes([7; 16])));
    /// ```
    #[must_use]
    pub const fn until_delivered(self) -> Self {
        Self { uses: Uses::UntilDelivered, ..self }
    }

    /// Expires when it has been registered for this long. A transfer that has begun by then goes on.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Entry, Key};
    ///
    /// let ticket = Entry::new(Key::from_bytes([7; 16])).expires_after(Duration::from_secs(3600));
    /// # assert_ne!(ticket, Entry::new(Key::from_bytes([7; 16])));
    /// ```
    #[must_use]
    pub const fn expires_after(self, duration: Duration) -> Self {
        Self { valid_for: Some(duration), ..self }
    }

    /// Serves the framed format only. Otherwise an entry serves both.
    ///
    /// ```
    /// use dataserver_core::{Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Entry::new(packet.key()).framed_only(), (), now)?;
    /// assert_eq!(registry.claim(&packet, None, now).unwrap_err(), Refusal::NotFramed);
    /// assert!(registry.claim(&packet.framed(), None, now).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn framed_only(self) -> Self {
        Self { framed_only: true, ..self }
    }

    /// Serves only clients that ask for a digest, with which an object can also be resumed. Otherwise that is up to
    /// the client.
    ///
    /// ```
    /// use dataserver_core::{Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).framed();
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Entry::new(packet.key()).digest_only(), (), now)?;
    /// assert_eq!(registry.claim(&packet, None, now).unwrap_err(), Refusal::WithoutDigest);
    /// assert!(registry.claim(&packet.with_digest(), None, now).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn digest_only(self) -> Self {
        Self { digest_only: true, ..self }
    }

    /// The key that it matches.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key};
    ///
    /// let key = Key::from_bytes([7; 16]);
    /// assert_eq!(Entry::new(key).key(), key);
    /// ```
    pub const fn key(&self) -> Key {
        self.key
    }

    const fn slot(&self, direction: Direction) -> Slot {
        Slot { key: self.key, direction, size: self.size }
    }
}

/// [`Entry::new`].
impl From<Key> for Entry {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}

/// `5 bytes, key ea2b…`, or `any size up to 9 bytes, key ea2b…`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.size, self.max_size) {
            (Some(size), _) => write!(f, "{size}")?,
            (None, Some(max)) => write!(f, "any size up to {max} bytes")?,
            (None, None) => f.write_str("any size")?,
        }
        write!(f, ", key {}", self.key)
    }
}

/// The same start packets have an entry already, which has not expired.
///
/// ```
/// use dataserver_core::{AlreadyRegistered, Direction, Instant, Key, Registry};
///
/// let key = Key::from_name("start");
/// let now = Instant::default();
/// let mut registry = Registry::new();
/// registry.insert(Direction::Put, key, "first", now)?;
/// let error = registry.insert(Direction::Put, key, "second", now).unwrap_err();
/// assert!(error.to_string().starts_with("already registered: put of any size, key "));
/// # Ok::<(), AlreadyRegistered>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlreadyRegistered {
    /// The direction of the entry.
    pub direction: Direction,
    /// The entry that was to be registered.
    pub entry: Entry,
}

impl fmt::Display for AlreadyRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "already registered: {} of {}", self.direction, self.entry)
    }
}

impl core::error::Error for AlreadyRegistered {}

/// How a transfer ended, for its entry.
///
/// ```
/// use dataserver_core::Delivery;
///
/// assert_ne!(Delivery::Succeeded, Delivery::Failed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The receiver has committed the object, and the sender has its receipt, as far as this side knows.
    Succeeded,
    /// Anything else.
    Failed,
}

/// What a successful [`Registry::claim`] gives.
///
/// ```
/// use dataserver_core::{Direction, Entry, Instant, Key, Registry, StartPacket};
///
/// let key = Key::from_name("start");
/// let now = Instant::default();
/// let mut registry = Registry::new();
/// registry.insert(Direction::Put, Entry::new(key).max_size(9), "handler", now)?;
/// let claim = registry.claim(&StartPacket::put(key), None, now)?;
/// assert_eq!((claim.handler, claim.limit), ("handler", Some(9)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Claim<H> {
    /// What was registered.
    pub handler: H,
    /// The most bytes that a put may have, for [`Connection::accept`](crate::Connection::accept).
    pub limit: Option<u64>,
    /// To be given back when the transfer has ended, with [`Registry::release`].
    pub lease: Lease,
}

/// The right to use an entry, from [`Registry::claim`] until [`Registry::release`].
///
/// Release it before the stream is closed: a client that sees the end may try again at once. A lease
/// that is dropped leaves an entry until delivered in use. One that is released late, or whose entry was
/// removed and registered again, has no effect.
///
/// ```
/// use dataserver_core::{Delivery, Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
///
/// let packet = StartPacket::get(Key::from_name("start"));
/// let now = Instant::default();
/// let mut registry = Registry::new();
/// registry.insert(Direction::Get, Entry::new(packet.key()).until_delivered(), (), now)?;
///
/// let lease = registry.claim(&packet, None, now)?.lease;
/// assert_eq!(registry.claim(&packet, None, now).unwrap_err(), Refusal::InUse);
/// registry.release(lease, Delivery::Failed);
/// assert!(registry.claim(&packet, None, now).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "an entry until delivered stays in use until its lease is released"]
pub struct Lease {
    slot: Slot,
    id: usize,
}

/// Start packets and what is registered for them.
///
/// It has no clock: each call is told the time. An entry that has expired cannot be claimed, and its
/// place can be taken by another. It stays in memory until [`take_expired`](Self::take_expired) hands
/// its handler back: so the caller decides when and where handlers are dropped. No call looks at more
/// than a few of the entries.
///
/// ```
/// use dataserver_core::{Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
///
/// let now = Instant::default();
/// let packet = StartPacket::get(Key::from_name("start"));
/// let mut registry = Registry::new();
/// registry.insert(Direction::Get, Entry::new(packet.key()).once(), "handler", now)?;
///
/// assert_eq!(registry.claim(&packet, None, now)?.handler, "handler");
/// assert_eq!(registry.claim(&packet, None, now).unwrap_err(), Refusal::NotRegistered);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry<H> {
    entries: BTreeMap<Slot, Registered<H>>,
    expiries: BTreeSet<(Instant, Slot)>,
}

#[derive(Clone, Debug)]
struct Registered<H> {
    entry: Entry,
    expiry: Option<Instant>,
    handler: H,
    /// Tells this registration from later ones of the same slot, and from those of other registries.
    id: usize,
    leased: bool,
}

impl<H> Registered<H> {
    fn is_expired(&self, now: Instant) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

impl<H> Registry<H> {
    /// An empty registry.
    ///
    /// ```
    /// assert!(dataserver_core::Registry::<()>::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self { entries: BTreeMap::new(), expiries: BTreeSet::new() }
    }

    /// How many entries there are. Expired ones count until they are taken out.
    ///
    /// ```
    /// assert_eq!(dataserver_core::Registry::<()>::new().len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    ///
    /// ```
    /// assert!(dataserver_core::Registry::<()>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Registers `handler` for an entry, for objects that go in this direction. A key stands for
    /// [`Entry::new`].
    ///
    /// Returns the handler of an expired entry whose place this one takes.
    ///
    /// # Errors
    /// Returns [`AlreadyRegistered`] if the same start packets have an entry that has not expired.
    ///
    /// ```
    /// use dataserver_core::{Direction, Instant, Key, Registry};
    ///
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Key::from_name("start"), "handler", Instant::default())?;
    /// assert_eq!(registry.len(), 1);
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn insert(
        &mut self,
        direction: Direction,
        entry: impl Into<Entry>,
        handler: H,
        now: Instant,
    ) -> Result<Option<H>, AlreadyRegistered> {
        let entry = entry.into();
        let slot = entry.slot(direction);
        let expired = match self.entries.get(&slot) {
            Some(found) if !found.is_expired(now) => {
                return Err(AlreadyRegistered { direction, entry });
            }
            Some(_) => self.take(slot),
            None => None,
        };
        let expiry = entry.valid_for.map(|duration| now.saturating_add(duration));
        let registered = Registered { entry, expiry, handler, id: next_id(), leased: false };
        self.entries.insert(slot, registered);
        self.expiries.extend(expiry.map(|expiry| (expiry, slot)));
        Ok(expired)
    }

    /// Takes the entry for these start packets out, even while it is in use, and returns its handler.
    ///
    /// ```
    /// use dataserver_core::{Direction, Instant, Key, Registry};
    ///
    /// let key = Key::from_name("start");
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, key, "handler", Instant::default())?;
    /// assert_eq!(registry.remove(Direction::Get, key), None);
    /// assert_eq!(registry.remove(Direction::Put, key), Some("handler"));
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn remove(&mut self, direction: Direction, entry: impl Into<Entry>) -> Option<H> {
        self.take(entry.into().slot(direction))
    }

    /// Takes out one entry that has expired at `now`, and returns its handler.
    ///
    /// A program that registers entries with an expiry calls this now and then, for example twice for
    /// each entry. Then expired entries do not pile up, and no call has to remove all of them at once.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Direction, Entry, Instant, Key, Registry};
    ///
    /// let hour = Duration::from_secs(3600);
    /// let entry = Entry::new(Key::from_name("start")).expires_after(hour);
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, entry, "handler", Instant::default())?;
    /// assert_eq!(registry.take_expired(Instant::default()), None);
    /// assert_eq!(registry.take_expired(Instant::new(hour)), Some("handler"));
    /// assert!(registry.is_empty());
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn take_expired(&mut self, now: Instant) -> Option<H> {
        let (_, slot) = self.expiries.first().copied().filter(|(due, _)| *due <= now)?;
        self.take(slot)
    }

    /// Takes out any one entry, and returns its handler.
    ///
    /// ```
    /// use dataserver_core::{Direction, Instant, Key, Registry};
    ///
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Key::from_name("start"), "handler", Instant::default())?;
    /// assert_eq!(registry.pop(), Some("handler"));
    /// assert_eq!(registry.pop(), None);
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn pop(&mut self) -> Option<H> {
        let slot = *self.entries.keys().next()?;
        self.take(slot)
    }

    /// Returns a lease. An entry until delivered ends if the transfer succeeded, and its handler is
    /// returned. It may be claimed again if the transfer failed.
    ///
    /// ```
    /// use dataserver_core::{Delivery, Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Entry::new(packet.key()).until_delivered(), (), now)?;
    ///
    /// let lease = registry.claim(&packet, None, now)?.lease;
    /// registry.release(lease, Delivery::Succeeded);
    /// assert_eq!(registry.claim(&packet, None, now).unwrap_err(), Refusal::NotRegistered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, Lease { slot, id }: Lease, delivery: Delivery) -> Option<H> {
        // It is not found if it was removed, has expired, or was for one claim.
        let registered = self.entries.get_mut(&slot).filter(|found| found.id == id)?;
        registered.leased = false;
        let is_last = registered.entry.uses == Uses::UntilDelivered;
        if is_last && delivery == Delivery::Succeeded { self.take(slot) } else { None }
    }

    fn take(&mut self, slot: Slot) -> Option<H> {
        let Registered { expiry, handler, .. } = self.entries.remove(&slot)?;
        if let Some(expiry) = expiry {
            self.expiries.remove(&(expiry, slot));
        }
        Some(handler)
    }
}

impl<H: Clone> Registry<H> {
    /// Claims the entry for this start packet, for one connection. `limit` is the most bytes that this
    /// server receives. A put that declares more claims nothing.
    ///
    /// # Errors
    /// Returns the [`Refusal`] to give to [`Connection::refuse`](crate::Connection::refuse).
    ///
    /// ```
    /// use dataserver_core::{Direction, Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.insert(Direction::Put, Entry::new(packet.key()).max_size(9), (), now)?;
    ///
    /// assert!(registry.claim(&packet, None, now).is_ok());
    /// assert!(registry.claim(&packet.with_size(9)?, None, now).is_ok());
    /// assert_eq!(
    ///     registry.claim(&packet.with_size(10)?, None, now).unwrap_err(),
    ///     Refusal::TooLarge { declared: 10, limit: 9 },
    /// );
    /// assert_eq!(
    ///     registry.claim(&packet.with_size(9)?, Some(8), now).unwrap_err(),
    ///     Refusal::TooLarge { declared: 9, limit: 8 },
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(
        &mut self,
        packet: &StartPacket,
        limit: Option<u64>,
        now: Instant,
    ) -> Result<Claim<H>, Refusal> {
        let (key, direction) = (packet.key(), packet.direction());
        let is_valid = |slot: &Slot| self.entries.get(slot).is_some_and(|it| !it.is_expired(now));
        let slots = [Some(packet.size()), None].map(|size| Slot { key, direction, size });
        let slot = slots.into_iter().find(is_valid).ok_or(Refusal::NotRegistered)?;
        let registered = self.entries.get_mut(&slot).ok_or(Refusal::NotRegistered)?;
        let Entry { max_size, uses, framed_only, digest_only, .. } = registered.entry;
        if framed_only && !packet.is_framed() {
            return Err(Refusal::NotFramed);
        }
        if digest_only && !packet.has_digest() {
            return Err(Refusal::WithoutDigest);
        }
        let limit = match (direction, limit, max_size) {
            (Direction::Put, Some(limit), Some(max_size)) => Some(limit.min(max_size)),
            (Direction::Put, limit, None) => limit,
            (_, _, max_size) => max_size,
        };
        match (packet.size().bytes(), limit) {
            (Some(declared), Some(limit)) if declared > limit => {
                return Err(Refusal::TooLarge { declared, limit });
            }
            _ if registered.leased => return Err(Refusal::InUse),
            _ => registered.leased = uses == Uses::UntilDelivered,
        }
        let lease = Lease { slot, id: registered.id };
        let claim = Claim { handler: registered.handler.clone(), limit, lease };
        if uses == Uses::Once {
            self.take(slot);
        }
        Ok(claim)
    }
}

impl<H> Default for Registry<H> {
    fn default() -> Self {
        Self::new()
    }
}

/// An id that no other registration of this process has.
fn next_id() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Not every machine can add atomically. On those, only one thread adds entries at a time.
    #[cfg(target_has_atomic = "ptr")]
    return NEXT.fetch_add(1, Ordering::Relaxed);
    #[cfg(not(target_has_atomic = "ptr"))]
    {
        let id = NEXT.load(Ordering::Relaxed);
        NEXT.store(id.wrapping_add(1), Ordering::Relaxed);
        id
    }
}
