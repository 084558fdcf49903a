//! The registry of the server, as a log of its events.

use core::time::Duration;

use dataserver_core::{Delivery, Entry, Instant, Lease, Refusal, Registry};

use super::{Setup, Uses};

/// The events of the registry. States are cloned, but leases cannot be. So the registry is built again
/// from its events whenever it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RegistryLog {
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// This attempt has claimed the entry.
    Claimed(usize),
    Released(usize, Delivery),
}

const NOW: Instant = Instant::new(Duration::ZERO);

impl RegistryLog {
    /// Returns the limit of the claim, or why it was refused.
    pub(super) fn claim(&mut self, setup: &Setup, attempt: usize) -> Result<Option<u64>, Refusal> {
        let claim = self.registry(setup).claim(&setup.packet(), None, NOW)?;
        self.events.push(Event::Claimed(attempt));
        Ok(claim.limit)
    }

    pub(super) fn release(&mut self, attempt: usize, delivery: Delivery) {
        self.events.push(Event::Released(attempt, delivery));
    }

    fn registry(&self, setup: &Setup) -> Registry<()> {
        let entry = Entry::exact(setup.packet());
        let entry = match setup.uses {
            _ if setup.ignores_uses => entry,
            Uses::Once => entry.once(),
            Uses::UntilDelivered => entry.until_delivered(),
        };
        let mut registry = Registry::new();
        registry.insert(setup.direction, entry, (), NOW).expect("it is empty");
        let mut leases: Vec<(usize, Lease)> = Vec::new();
        for event in &self.events {
            match *event {
                Event::Claimed(attempt) => {
                    let claim = registry
                        .claim(&setup.packet(), None, NOW)
                        .expect("the claim succeeded before");
                    leases.push((attempt, claim.lease));
                }
                Event::Released(attempt, delivery) => {
                    let held = leases.iter().position(|(holder, _)| *holder == attempt);
                    let (_, lease) = leases.swap_remove(held.expect("it was claimed before"));
                    registry.release(lease, delivery);
                }
            }
        }
        registry
    }
}
