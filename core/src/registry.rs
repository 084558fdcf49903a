//! Start packet to handler: who may claim what, and for how long.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Refusal;
use crate::key::Key;
use crate::start_packet::{Direction, ObjectSize, StartPacket};
use crate::time::Instant;

/// What may be claimed: which start packets, how often, and until when.
///
/// An entry is *standing* unless [`once`](Self::once) or [`until_delivered`](Self::until_delivered)
/// says otherwise, and does not expire unless [`expires`](Self::expires) does.
///
/// ```
/// use core::time::Duration;
/// use dataserver_core::{Entry, Instant, Key, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let one_upload = Entry::any_size(packet, 1 << 30)
///     .until_delivered()
///     .expires(Instant::new(Duration::from_secs(3600)));
/// assert_eq!(one_upload.direction(), packet.direction());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    slot: Slot,
    limit: u64,
    uses: Uses,
    expiry: Option<Instant>,
}

/// What a start packet is looked up by. `size` is `None` where any size matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    key: Key,
    direction: Direction,
    size: Option<ObjectSize>,
}

impl Slot {
    fn of(packet: &StartPacket, size: Option<ObjectSize>) -> Self {
        Self { key: packet.key(), direction: packet.direction(), size }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    Once,
    UntilDelivered,
    Standing,
}

impl Entry {
    /// Matches this start packet only, all 25 bytes of it: the original's rule.
    ///
    /// A packet of unknown size matches clients that declare none; how much they may send is up to
    /// [`Config::limit`](crate::Config::limit).
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start")).with_size(3)?;
    /// assert_eq!(Entry::exact(packet), Entry::from(packet));
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub fn exact(packet: StartPacket) -> Self {
        Self::new(Slot::of(&packet, Some(packet.size())), u64::MAX)
    }

    /// Matches this direction and key with any declared size up to `limit` bytes, or with none, and
    /// holds a put to the limit. The packet's own size does not count.
    ///
    /// Where there is an exact entry too, that one comes first.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, StartPacket};
    ///
    /// let key = Key::from_name("start");
    /// assert_ne!(Entry::any_size(StartPacket::put(key), 9), Entry::exact(StartPacket::put(key)));
    /// ```
    pub fn any_size(packet: StartPacket, limit: u64) -> Self {
        Self::new(Slot::of(&packet, None), limit)
    }

    fn new(slot: Slot, limit: u64) -> Self {
        Self { slot, limit, uses: Uses::Standing, expiry: None }
    }

    /// For one connection: the claim ends the entry, whatever becomes of the transfer.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, StartPacket};
    ///
    /// let ticket = Entry::exact(StartPacket::get(Key::new([7; 16]))).once();
    /// # assert_ne!(ticket, Entry::exact(StartPacket::get(Key::new([7; 16]))));
    /// ```
    #[must_use]
    pub fn once(self) -> Self {
        Self { uses: Uses::Once, ..self }
    }

    /// For one connection at a time, until a transfer succeeds. So the receiver commits at least
    /// once: where the connection fails between the commit and the receipt, the sender comes again.
    ///
    /// ```
    /// use dataserver_core::{Entry, Key, StartPacket};
    ///
    /// let ticket = Entry::exact(StartPacket::get(Key::new([7; 16]))).until_delivered();
    /// # assert_ne!(ticket, Entry::exact(StartPacket::get(Key::new([7; 16]))));
    /// ```
    #[must_use]
    pub fn until_delivered(self) -> Self {
        Self { uses: Uses::UntilDelivered, ..self }
    }

    /// Not to be claimed at `expiry` or after. A transfer that has begun by then goes on.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Entry, Instant, Key, StartPacket};
    ///
    /// let hour = Instant::new(Duration::from_secs(3600));
    /// let ticket = Entry::exact(StartPacket::get(Key::new([7; 16]))).expires(hour);
    /// # assert_ne!(ticket, Entry::exact(StartPacket::get(Key::new([7; 16]))));
    /// ```
    #[must_use]
    pub fn expires(self, expiry: Instant) -> Self {
        Self { expiry: Some(expiry), ..self }
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

    /// Which way the objects of this entry go.
    ///
    /// ```
    /// use dataserver_core::{Direction, Entry, Key, StartPacket};
    ///
    /// let entry = Entry::from(StartPacket::get(Key::new([7; 16])));
    /// assert_eq!(entry.direction(), Direction::Get);
    /// ```
    pub fn direction(&self) -> Direction {
        self.slot.direction
    }
}

/// [`Entry::exact`].
impl From<StartPacket> for Entry {
    fn from(packet: StartPacket) -> Self {
        Self::exact(packet)
    }
}

/// `put of 5 bytes, key ea2b…`, or `put of any size up to 9 bytes, key ea2b…`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slot { key, direction, size } = self.slot;
        match size {
            Some(size) => write!(f, "{direction} of {size}, key {key}"),
            None => write!(f, "{direction} of any size up to {} bytes, key {key}", self.limit),
        }
    }
}

/// The entry is in the registry already, and may be claimed or is being used.
///
/// ```
/// use dataserver_core::{AlreadyRegistered, Instant, Key, Registry, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let mut registry = Registry::new();
/// registry.add(packet, "first", Instant::default())?;
/// assert_eq!(
///     registry.add(packet, "second", Instant::default()),
///     Err(AlreadyRegistered(packet.into())),
/// );
/// # Ok::<(), AlreadyRegistered>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRegistered(pub Entry);

impl fmt::Display for AlreadyRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "already registered: {}", self.0)
    }
}

impl core::error::Error for AlreadyRegistered {}

/// What a successful [`Registry::claim`] gives.
///
/// ```
/// use dataserver_core::{Entry, Instant, Key, Registry, StartPacket};
///
/// let packet = StartPacket::put(Key::from_name("start"));
/// let mut registry = Registry::new();
/// registry.add(Entry::any_size(packet, 9), "handler", Instant::default())?;
/// let claim = registry.claim(&packet, u64::MAX, Instant::default())?;
/// assert_eq!((claim.handler, claim.limit), ("handler", 9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Claim<H> {
    /// What was registered.
    pub handler: H,
    /// The most bytes that a put may have, for [`Connection::accept`](crate::Connection::accept).
    pub limit: u64,
    /// To be given back when the transfer has ended, with [`Registry::release`].
    pub lease: Lease,
}

/// The right to use an entry, from [`Registry::claim`] until [`Registry::release`].
///
/// ```
/// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
///
/// let packet = StartPacket::get(Key::from_name("start"));
/// let now = Instant::default();
/// let mut registry = Registry::new();
/// registry.add(Entry::exact(packet).until_delivered(), (), now)?;
///
/// let lease = registry.claim(&packet, u64::MAX, now)?.lease;
/// assert_eq!(registry.claim(&packet, u64::MAX, now).unwrap_err(), Refusal::InUse);
/// registry.release(lease, false);
/// assert!(registry.claim(&packet, u64::MAX, now).is_ok());
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
/// use core::time::Duration;
/// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
///
/// let now = Instant::default();
/// let packet = StartPacket::get(Key::from_name("start"));
/// let mut registry = Registry::new();
/// registry.add(Entry::exact(packet).once(), "handler", now)?;
///
/// assert_eq!(registry.claim(&packet, u64::MAX, now)?.handler, "handler");
/// assert_eq!(registry.claim(&packet, u64::MAX, now).unwrap_err(), Refusal::NotRegistered);
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
    handler: H,
    /// Tells this registration from later ones of the same slot, and from those of other registries.
    id: usize,
    leased: bool,
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

    /// Registers `handler` for an entry. A start packet stands for [`Entry::exact`].
    ///
    /// Returns the handler of an expired entry whose place this one takes.
    ///
    /// # Errors
    /// Returns [`AlreadyRegistered`] if the same start packets have an entry that has not expired.
    ///
    /// ```
    /// use dataserver_core::{Instant, Key, Registry, StartPacket};
    ///
    /// let mut registry = Registry::new();
    /// registry.add(StartPacket::put(Key::from_name("start")), "handler", Instant::default())?;
    /// assert_eq!(registry.len(), 1);
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn add(
        &mut self,
        entry: impl Into<Entry>,
        handler: H,
        now: Instant,
    ) -> Result<Option<H>, AlreadyRegistered> {
        let entry = entry.into();
        let expired = match self.entries.get(&entry.slot) {
            Some(found) if !found.entry.is_expired(now) => return Err(AlreadyRegistered(entry)),
            Some(_) => self.take(entry.slot),
            None => None,
        };
        let registered = Registered { entry, handler, id: next_id(), leased: false };
        self.entries.insert(entry.slot, registered);
        self.expiries.extend(entry.expiry.map(|expiry| (expiry, entry.slot)));
        Ok(expired)
    }

    /// Takes what is registered for these start packets back out, also while it is in use.
    ///
    /// ```
    /// use dataserver_core::{Instant, Key, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut registry = Registry::new();
    /// registry.add(packet, "handler", Instant::default())?;
    /// assert_eq!(registry.remove(packet), Some("handler"));
    /// assert_eq!(registry.remove(packet), None);
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn remove(&mut self, entry: impl Into<Entry>) -> Option<H> {
        self.take(entry.into().slot)
    }

    /// Takes out one entry that has expired at `now`, and returns its handler.
    ///
    /// A program that adds entries with an expiry calls this now and then, for example twice for each
    /// entry that it adds. Then expired entries do not pile up, and no call has to remove all of them
    /// at once.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Entry, Instant, Key, Registry, StartPacket};
    ///
    /// let hour = Instant::new(Duration::from_secs(3600));
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut registry = Registry::new();
    /// registry.add(Entry::exact(packet).expires(hour), "handler", Instant::default())?;
    /// assert_eq!(registry.take_expired(Instant::default()), None);
    /// assert_eq!(registry.take_expired(hour), Some("handler"));
    /// assert!(registry.is_empty());
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn take_expired(&mut self, now: Instant) -> Option<H> {
        let (_, slot) = self.expiries.first().copied().filter(|(due, _)| *due <= now)?;
        self.take(slot)
    }

    /// Takes out one entry, whichever it is, and returns its handler.
    ///
    /// ```
    /// use dataserver_core::{Instant, Key, Registry, StartPacket};
    ///
    /// let mut registry = Registry::new();
    /// registry.add(StartPacket::put(Key::from_name("start")), "handler", Instant::default())?;
    /// assert_eq!(registry.pop(), Some("handler"));
    /// assert_eq!(registry.pop(), None);
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn pop(&mut self) -> Option<H> {
        let slot = *self.entries.keys().next()?;
        self.take(slot)
    }

    /// Gives a lease back. An entry until delivered ends if the transfer succeeded (`delivered`), and
    /// its handler is returned. It may be claimed again if the transfer failed.
    ///
    /// ```
    /// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.add(Entry::exact(packet).until_delivered(), (), now)?;
    ///
    /// let lease = registry.claim(&packet, u64::MAX, now)?.lease;
    /// registry.release(lease, true);
    /// assert_eq!(registry.claim(&packet, u64::MAX, now).unwrap_err(), Refusal::NotRegistered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, Lease { slot, id }: Lease, delivered: bool) -> Option<H> {
        // It is not found if it was removed, has expired, or was for one claim.
        let registered = self.entries.get_mut(&slot).filter(|found| found.id == id)?;
        registered.leased = false;
        let ends = delivered && registered.entry.uses == Uses::UntilDelivered;
        if ends { self.take(slot) } else { None }
    }

    fn take(&mut self, slot: Slot) -> Option<H> {
        let Registered { entry, handler, .. } = self.entries.remove(&slot)?;
        if let Some(expiry) = entry.expiry {
            self.expiries.remove(&(expiry, slot));
        }
        Some(handler)
    }
}

impl<H: Clone> Registry<H> {
    /// Claims what is registered for this start packet, for one connection. `limit` is the most bytes
    /// that this server receives. A put that declares more claims nothing.
    ///
    /// # Errors
    /// Returns the [`Refusal`] to give to [`Connection::refuse`](crate::Connection::refuse).
    ///
    /// ```
    /// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.add(Entry::any_size(packet, 9), (), now)?;
    ///
    /// assert!(registry.claim(&packet, u64::MAX, now).is_ok());
    /// assert!(registry.claim(&packet.with_size(9)?, u64::MAX, now).is_ok());
    /// assert_eq!(
    ///     registry.claim(&packet.with_size(10)?, u64::MAX, now).unwrap_err(),
    ///     Refusal::TooLarge { declared: 10, limit: 9 },
    /// );
    /// assert_eq!(
    ///     registry.claim(&packet.with_size(9)?, 8, now).unwrap_err(),
    ///     Refusal::TooLarge { declared: 9, limit: 8 },
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(
        &mut self,
        packet: &StartPacket,
        limit: u64,
        now: Instant,
    ) -> Result<Claim<H>, Refusal> {
        let is_valid =
            |slot: &Slot| self.entries.get(slot).is_some_and(|it| !it.entry.is_expired(now));
        let slots = [Slot::of(packet, Some(packet.size())), Slot::of(packet, None)];
        let slot = slots.into_iter().find(is_valid).ok_or(Refusal::NotRegistered)?;
        let registered = self.entries.get_mut(&slot).ok_or(Refusal::NotRegistered)?;
        let Entry { limit: own_limit, uses, .. } = registered.entry;
        let limit = match packet.direction() {
            Direction::Put => own_limit.min(limit),
            Direction::Get => own_limit,
        };
        match packet.size().bytes() {
            Some(declared) if declared > limit => {
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
