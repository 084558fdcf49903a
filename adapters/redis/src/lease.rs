//! Leases, and the thread that renews them while transfers run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_common::{LeaseError, registry_now};

use crate::batch::Batches;
use crate::error::Error;
use crate::script::Scripts;

/// The right to use a ticket, from its claim on.
///
/// ```no_run
/// use dataserver_common::TicketStore;
///
/// # fn example(tickets: dataserver_redis::Tickets, packet: dataserver_core::StartPacket) {
/// let lease: dataserver_redis::Lease = tickets.claim(&packet, None).unwrap().lease;
/// # }
/// ```
#[derive(Debug)]
pub struct Lease(pub(crate) Option<Arc<Active>>);

/// A lease that has an end.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) key: String,
    pub(crate) owner: String,
    /// Until then no other server can claim the ticket, unless Redis loses it.
    pub(crate) held_until: Mutex<dataserver_core::Instant>,
}

/// What the calls and the thread share.
pub(crate) struct Shared {
    pub(crate) batches: Batches,
    pub(crate) scripts: Scripts,
    pub(crate) ttl: Duration,
    renewals: Mutex<Renewals>,
}

#[derive(Default)]
struct Renewals {
    /// The leases by the time of their next renewal, and a number.
    due: BTreeMap<(Instant, u64), Weak<Active>>,
    next: u64,
    has_thread: bool,
}

impl Shared {
    pub(crate) fn new(batches: Batches, ttl: Duration) -> Self {
        let renewals = Mutex::default();
        Self { batches, scripts: Scripts::new(), ttl, renewals }
    }

    /// Renews this lease from now on, until it is dropped.
    pub(crate) fn keep(self: &Arc<Self>, lease: &Arc<Active>) {
        let mut renewals = self.lock();
        renewals.add(self.ttl / 3, Arc::downgrade(lease));
        if !renewals.has_thread {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("ticket leases".into());
            // Without a thread the lease ends after its time. The next one tries again.
            renewals.has_thread = thread.spawn(move || shared.renew_all()).is_ok();
        }
    }

    /// Renews all leases when they are due. Ends when there are none.
    fn renew_all(&self) {
        let mut renewals = self.lock();
        loop {
            let Some((&(due, number), lease)) = renewals.due.first_key_value() else {
                renewals.has_thread = false;
                return;
            };
            let wait = due.saturating_duration_since(Instant::now());
            let lease = lease.upgrade();
            if lease.is_some() && !wait.is_zero() {
                drop((lease, renewals)); // it may end meanwhile, and a lease that begins is due later
                thread::sleep(wait);
                renewals = self.lock();
                continue;
            }
            renewals.due.remove(&(due, number));
            let Some(lease) = lease else { continue };
            drop(renewals);
            let renewed = self.ask(&lease);
            renewals = self.lock();
            match renewed {
                Ok(true) => renewals.add(self.ttl / 3, Arc::downgrade(&lease)),
                Ok(false) => {} // it is lost, and its handler will learn that
                Err(_) => renewals.add(self.ttl / 6, Arc::downgrade(&lease)),
            }
        }
    }

    /// Renews a lease before a commit. While Redis cannot tell, the lease holds for what is left of its time.
    pub(crate) fn renew(&self, lease: &Active) -> Result<(), LeaseError> {
        match self.ask(lease) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LeaseError::Lost),
            Err(error) => {
                let held_until = *lease.held_until.lock().unwrap_or_else(PoisonError::into_inner);
                // What differs between clocks, and the time that a commit takes.
                let margin = self.ttl / 5;
                match registry_now().saturating_add(margin) < held_until {
                    true => Ok(()),
                    false => Err(LeaseError::Unavailable(error.into())),
                }
            }
        }
    }

    /// Whether the lease was renewed. If not, it is lost.
    fn ask(&self, lease: &Active) -> Result<bool, Error> {
        let asked_at = registry_now();
        let ttl = self.ttl.as_millis().to_string();
        let arguments: [&[u8]; 2] = [lease.owner.as_bytes(), ttl.as_bytes()];
        let answer = self.scripts.renew.run(&self.batches, &lease.key, &arguments)?;
        let renewed = answer == redis::Value::Int(1);
        if renewed {
            let mut held_until = lease.held_until.lock().unwrap_or_else(PoisonError::into_inner);
            *held_until = (*held_until).max(asked_at.saturating_add(self.ttl));
        }
        Ok(renewed)
    }

    fn lock(&self) -> MutexGuard<'_, Renewals> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renewals {
    fn add(&mut self, delay: Duration, lease: Weak<Active>) {
        self.due.insert((Instant::now() + delay, self.next), lease);
        self.next += 1;
    }
}
