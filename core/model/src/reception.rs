//! What the server has registered, and who has claimed it.

use core::time::Duration;

use dataserver_core::{Entry, Instant, Lease, Refusal, Registry};

use super::{Setup, Uses};

/// What has happened at the registry. A lease can not be copied as states are, and so the registry
/// itself is made again from this where it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reception {
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// By this attempt, with success.
    Claimed(usize),
    Released(usize, Delivered),
}

pub(super) type Delivered = bool;

const NOW: Instant = Instant::new(Duration::ZERO);

impl Reception {
    /// The limit of what was claimed, or why it can not be.
    pub(super) fn claim(&mut self, setup: &Setup, attempt: usize) -> Result<u64, Refusal> {
        let claim = self.registry(setup).claim(&setup.packet(), u64::MAX, NOW)?;
        self.events.push(Event::Claimed(attempt));
        Ok(claim.limit)
    }

    pub(super) fn release(&mut self, attempt: usize, delivered: Delivered) {
        self.events.push(Event::Released(attempt, delivered));
    }

    fn registry(&self, setup: &Setup) -> Registry<()> {
        let entry = Entry::exact(setup.packet());
        let entry = match setup.uses {
            _ if setup.stands => entry,
            Uses::Once => entry.once(),
            Uses::UntilDelivered => entry.until_delivered(),
        };
        let mut registry = Registry::new();
        registry.add(entry, (), NOW).expect("it is empty");
        let mut leases: Vec<(usize, Lease)> = Vec::new();
        for event in &self.events {
            match *event {
                Event::Claimed(attempt) => {
                    let claim =
                        registry.claim(&setup.packet(), u64::MAX, NOW).expect("as it was before");
                    leases.push((attempt, claim.lease));
                }
                Event::Released(attempt, delivered) => {
                    let held = leases.iter().position(|(holder, _)| *holder == attempt);
                    let (_, lease) = leases.swap_remove(held.expect("it was claimed before"));
                    registry.release(lease, delivered);
                }
            }
        }
        registry
    }
}
