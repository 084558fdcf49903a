//! Tickets that several servers share: what a store of them does, and what a running object holds of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::{error, fmt};

use dataserver_core::{Delivery, Refusal, StartPacket};

use crate::error::BoxError;
use crate::panic::catch_application_panic;

/// Where tickets are claimed. A ticket allows one object, once or until it is delivered.
///
/// The calls may block, for a bounded time. A store whose leases end by themselves keeps each one until it is
/// finished or dropped, by means of its own: [`renew`](Self::renew) is only called before a commit.
///
/// ```
/// use dataserver_common::{ClaimError, SharedRegistry, TicketStore};
/// use dataserver_core::{Delivery, Direction, Key, Refusal, StartPacket};
///
/// let key = Key::from_name("start");
/// let store = SharedRegistry::default(); // the tickets of one process
/// store.insert(Direction::Put, key, "handler")?;
///
/// let claimed = store.claim(&StartPacket::put(key), None)?;
/// assert_eq!(claimed.ticket, "handler");
/// store.renew(&claimed.lease)?;
/// store.finish(claimed.lease, Delivery::Succeeded)?;
///
/// let error = store.claim(&StartPacket::get(key), None).unwrap_err();
/// assert!(matches!(error, ClaimError::Refused(Refusal::NotRegistered)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TicketStore {
    /// What was issued with the ticket, for its handler.
    type Ticket;
    /// The right to use a ticket. One that is dropped is not renewed, and ends after its time to live, if it
    /// has one.
    type Lease;

    /// Claims the ticket for this start packet, on a server that receives at most `limit` bytes. A packet that
    /// declares more claims nothing.
    ///
    /// # Errors
    /// Returns [`ClaimError::Refused`] if there is no such ticket now, and [`ClaimError::Unavailable`] if the
    /// store cannot tell.
    fn claim(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<Claimed<Self::Ticket, Self::Lease>, ClaimError>;

    /// Checks that the lease holds, and lets it hold for its full time from now.
    ///
    /// # Errors
    /// Returns [`LeaseError::Lost`] if it does not, and [`LeaseError::Unavailable`] if the store cannot tell.
    fn renew(&self, lease: &Self::Lease) -> Result<(), LeaseError>;

    /// Ends the lease. If the transfer succeeded, the ticket ends, too, unless it is for any number of objects.
    /// If it failed, the ticket may be claimed again, unless it was for one claim.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    fn finish(&self, lease: Self::Lease, delivery: Delivery) -> Result<(), LeaseError>;
}

/// What a successful [`TicketStore::claim`] gives.
///
/// ```
/// use dataserver_common::Claimed;
///
/// let claimed = Claimed { ticket: b"report.csv".to_vec(), limit: Some(9), lease: () };
/// assert_eq!(claimed.limit, Some(9));
/// ```
#[derive(Debug)]
pub struct Claimed<T, L> {
    /// What was issued with the ticket.
    pub ticket: T,
    /// The most bytes that a put may have.
    pub limit: Option<u64>,
    /// To be given back with [`TicketStore::finish`].
    pub lease: L,
}

/// Why a ticket was not claimed.
///
/// ```
/// use dataserver_common::ClaimError;
/// use dataserver_core::Refusal;
///
/// let unavailable = ClaimError::Unavailable("connection refused".into());
/// assert_eq!(unavailable.to_string(), "the ticket store cannot answer: connection refused");
/// let refused = ClaimError::from(Refusal::InUse);
/// assert_eq!(refused.to_string(), "another connection is using this registration");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ClaimError {
    /// The store says no.
    Refused(Refusal),
    /// The store cannot say. The peer may try again later.
    Unavailable(BoxError),
}

impl ClaimError {
    /// What the connection is told: a store that cannot answer is busy.
    ///
    /// ```
    /// use dataserver_common::ClaimError;
    /// use dataserver_core::Refusal;
    ///
    /// assert_eq!(ClaimError::Unavailable("away".into()).refusal(), Refusal::InUse);
    /// ```
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Unavailable(_) => Refusal::InUse,
        }
    }
}

impl From<Refusal> for ClaimError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unavailable(source) => write!(f, "the ticket store cannot answer: {source}"),
        }
    }
}

impl error::Error for ClaimError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unavailable(source) => Some(&**source),
        }
    }
}

/// Why a lease was not renewed or finished.
///
/// ```
/// use dataserver_common::LeaseError;
///
/// assert_eq!(LeaseError::Lost.to_string(), "the lease is lost: another server may have claimed the ticket");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum LeaseError {
    /// It has ended, or the ticket was revoked. Another server may have claimed the ticket.
    Lost,
    /// The store cannot say.
    Unavailable(BoxError),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => {
                f.write_str("the lease is lost: another server may have claimed the ticket")
            }
            Self::Unavailable(source) => write!(f, "the ticket store cannot answer: {source}"),
        }
    }
}

impl error::Error for LeaseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Lost => None,
            Self::Unavailable(source) => Some(&**source),
        }
    }
}

/// Any store whose tickets carry bytes of the application.
///
/// Its methods are those of the store, and a panic of the store is [`ClaimError::Unavailable`].
#[derive(Clone)]
pub struct SharedStore(Arc<dyn Store>);

impl SharedStore {
    /// This store.
    ///
    /// ```
    /// use dataserver_common::{SharedRegistry, SharedStore};
    ///
    /// let store = SharedStore::new(SharedRegistry::<Vec<u8>>::default());
    /// ```
    pub fn new<S>(store: S) -> Self
    where
        S: TicketStore<Ticket = Vec<u8>> + Send + Sync + 'static,
        S::Lease: Send,
    {
        Self(Arc::new(store))
    }

    /// [`TicketStore::claim`].
    ///
    /// # Errors
    /// As the store.
    ///
    /// ```
    /// use dataserver_common::{SharedRegistry, SharedStore};
    /// use dataserver_core::{Direction, Key, StartPacket};
    ///
    /// let key = Key::from_name("start");
    /// let registry = SharedRegistry::default();
    /// registry.insert(Direction::Put, key, b"report.csv".to_vec())?;
    /// let store = SharedStore::new(registry);
    /// assert_eq!(store.claim(&StartPacket::put(key), None)?.take_data(), b"report.csv");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(&self, packet: &StartPacket, limit: Option<u64>) -> Result<HeldClaim, ClaimError> {
        catch_application_panic(|| Arc::clone(&self.0).hold(packet, limit))
            .unwrap_or_else(|| Err(ClaimError::Unavailable("the store panicked".into())))
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").finish_non_exhaustive()
    }
}

/// A store without its types.
trait Store: Send + Sync {
    fn hold(
        self: Arc<Self>,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<HeldClaim, ClaimError>;
}

impl<S> Store for S
where
    S: TicketStore<Ticket = Vec<u8>> + Send + Sync + 'static,
    S::Lease: Send,
{
    fn hold(
        self: Arc<Self>,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<HeldClaim, ClaimError> {
        let Claimed { ticket, limit, lease } = self.claim(packet, limit)?;
        let lease = HeldLease(Arc::new(Held { store: self, lease: Mutex::new(Some(lease)) }));
        Ok(HeldClaim { data: ticket, limit, lease })
    }
}

/// A ticket that one connection has claimed. When it is dropped, the ticket may be claimed again, unless it
/// was for one claim. Dropping it may block, as the store does.
#[derive(Debug)]
#[must_use = "dropping it reports that the transfer failed"]
pub struct HeldClaim {
    data: Vec<u8>,
    limit: Option<u64>,
    lease: HeldLease,
}

impl HeldClaim {
    /// The application's bytes, the first time.
    ///
    /// ```no_run
    /// # fn example(mut claim: dataserver_common::HeldClaim) {
    /// let path = claim.take_data();
    /// # }
    /// ```
    pub fn take_data(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.data)
    }

    /// The most bytes that a put may have.
    ///
    /// ```no_run
    /// # fn example(claim: dataserver_common::HeldClaim) {
    /// assert_eq!(claim.limit(), Some(9));
    /// # }
    /// ```
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Its lease, for the object that is transferred.
    ///
    /// ```no_run
    /// # fn example(claim: dataserver_common::HeldClaim) -> Result<(), dataserver_common::LeaseError> {
    /// claim.lease().renew()
    /// # }
    /// ```
    pub fn lease(&self) -> HeldLease {
        self.lease.clone()
    }

    /// Reports that the transfer has succeeded.
    ///
    /// A ticket whose end cannot be stored now may be claimed again when its lease has ended: the object is
    /// delivered at least once.
    ///
    /// ```no_run
    /// # fn example(claim: dataserver_common::HeldClaim) {
    /// claim.succeeded();
    /// # }
    /// ```
    pub fn succeeded(&self) {
        self.lease.0.finish(Delivery::Succeeded);
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        self.lease.0.finish(Delivery::Failed);
    }
}

/// The lease of a [`HeldClaim`]. It ends with the claim.
#[derive(Clone)]
pub struct HeldLease(Arc<dyn RunningLease>);

impl HeldLease {
    /// [`TicketStore::renew`].
    ///
    /// # Errors
    /// As the store, and [`LeaseError::Lost`] when the claim has been dropped.
    ///
    /// ```no_run
    /// # fn example(lease: dataserver_common::HeldLease) -> Result<(), dataserver_common::LeaseError> {
    /// lease.renew()
    /// # }
    /// ```
    pub fn renew(&self) -> Result<(), LeaseError> {
        self.0.renew()
    }
}

impl fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLease").finish_non_exhaustive()
    }
}

/// A lease without its type.
trait RunningLease: Send + Sync {
    fn renew(&self) -> Result<(), LeaseError>;
    /// Only the first call has an effect. An error is ignored, since the lease ends by itself.
    fn finish(&self, delivery: Delivery);
}

struct Held<S: TicketStore> {
    store: Arc<S>,
    lease: Mutex<Option<S::Lease>>,
}

impl<S> RunningLease for Held<S>
where
    S: TicketStore + Send + Sync,
    S::Lease: Send,
{
    fn renew(&self) -> Result<(), LeaseError> {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lease) = &*lease else { return Err(LeaseError::Lost) };
        catch_application_panic(|| self.store.renew(lease))
            .unwrap_or_else(|| Err(LeaseError::Unavailable("the store panicked".into())))
    }

    fn finish(&self, delivery: Delivery) {
        let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(lease) = lease {
            _ = catch_application_panic(|| self.store.finish(lease, delivery));
        }
    }
}
