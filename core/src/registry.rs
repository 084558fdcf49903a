//! Start packet to handler: who may claim what, and for how long.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;

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
/// let claim = registry.claim(&packet, Instant::default())?;
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
/// let lease = registry.claim(&packet, now)?.lease;
/// assert_eq!(registry.claim(&packet, now).unwrap_err(), Refusal::InUse);
/// registry.release(lease, false);
/// assert!(registry.claim(&packet, now).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "an entry until delivered stays in use until its lease is released"]
pub struct Lease {
    slot: Slot,
    id: u64,
}

/// Start packets and what is registered for them.
///
/// Pure: it has no clock, and what has expired goes when it is next asked anything. Neither adding
/// nor claiming looks at more than a few of the entries.
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
/// assert_eq!(registry.claim(&packet, now)?.handler, "handler");
/// assert_eq!(registry.claim(&packet, now).unwrap_err(), Refusal::NotRegistered);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry<H> {
    entries: BTreeMap<Slot, Registered<H>>,
    expiries: BTreeSet<(Instant, Slot)>,
    next_id: u64,
}

#[derive(Clone, Debug)]
struct Registered<H> {
    entry: Entry,
    handler: H,
    /// Tells this registration from later ones of the same slot.
    id: u64,
    leased: bool,
}

impl<H> Registry<H> {
    /// An empty registry.
    ///
    /// ```
    /// assert!(dataserver_core::Registry::<()>::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self { entries: BTreeMap::new(), expiries: BTreeSet::new(), next_id: 0 }
    }

    /// How many entries there are, those that have expired unnoticed included.
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
    /// # Errors
    /// [`AlreadyRegistered`] where the same start packets have an entry already.
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
    ) -> Result<(), AlreadyRegistered> {
        self.expire(now);
        let entry = entry.into();
        if self.entries.contains_key(&entry.slot) {
            return Err(AlreadyRegistered(entry));
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.entries.insert(entry.slot, Registered { entry, handler, id, leased: false });
        self.expiries.extend(entry.expiry.map(|expiry| (expiry, entry.slot)));
        Ok(())
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

    /// Takes out all that may not be claimed any more at `now`. Adding and claiming do so by
    /// themselves; this is for those who want it sooner.
    ///
    /// ```
    /// use core::time::Duration;
    /// use dataserver_core::{Entry, Instant, Key, Registry, StartPacket};
    ///
    /// let hour = Instant::new(Duration::from_secs(3600));
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let mut registry = Registry::new();
    /// registry.add(Entry::exact(packet).expires(hour), (), Instant::default())?;
    /// registry.expire(hour);
    /// assert!(registry.is_empty());
    /// # Ok::<(), dataserver_core::AlreadyRegistered>(())
    /// ```
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, slot)) = self.expiries.first().copied().filter(|(due, _)| *due <= now) {
            self.expiries.pop_first();
            self.entries.remove(&slot);
        }
    }

    /// Gives a lease back. An entry until delivered ends where the transfer succeeded
    /// (`delivered`), and may be claimed again where it did not.
    ///
    /// ```
    /// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.add(Entry::exact(packet).until_delivered(), (), now)?;
    ///
    /// let lease = registry.claim(&packet, now)?.lease;
    /// registry.release(lease, true);
    /// assert_eq!(registry.claim(&packet, now).unwrap_err(), Refusal::NotRegistered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&mut self, Lease { slot, id }: Lease, delivered: bool) {
        let Some(registered) = self.entries.get_mut(&slot).filter(|found| found.id == id) else {
            return; // removed, expired or claimed once
        };
        registered.leased = false;
        if delivered && registered.entry.uses == Uses::UntilDelivered {
            self.take(slot);
        }
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
    /// Claims what is registered for this start packet, for one connection.
    ///
    /// # Errors
    /// The [`Refusal`] to give to [`Connection::refuse`](crate::Connection::refuse).
    ///
    /// ```
    /// use dataserver_core::{Entry, Instant, Key, Refusal, Registry, StartPacket};
    ///
    /// let packet = StartPacket::put(Key::from_name("start"));
    /// let now = Instant::default();
    /// let mut registry = Registry::new();
    /// registry.add(Entry::any_size(packet, 9), (), now)?;
    ///
    /// assert!(registry.claim(&packet, now).is_ok());
    /// assert!(registry.claim(&packet.with_size(9)?, now).is_ok());
    /// assert_eq!(
    ///     registry.claim(&packet.with_size(10)?, now).unwrap_err(),
    ///     Refusal::TooLarge { declared: 10, limit: 9 },
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(&mut self, packet: &StartPacket, now: Instant) -> Result<Claim<H>, Refusal> {
        self.expire(now);
        let exact = Slot::of(packet, Some(packet.size()));
        let slot = if self.entries.contains_key(&exact) { exact } else { Slot::of(packet, None) };
        let Some(registered) = self.entries.get_mut(&slot) else {
            return Err(Refusal::NotRegistered);
        };
        let Entry { limit, uses, .. } = registered.entry;
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
