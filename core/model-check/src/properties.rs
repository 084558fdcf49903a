//! The properties that hold in every state, and those that hold in some.

use dataserver_core::Delivery;
use stateright::{Model, Property};

use super::party::{Lease, Party};
use super::registry::Event;
use super::{Action, Attempt, Role, Setup, Uses, World};

pub(super) fn of(setup: &Setup) -> Vec<Property<Setup>> {
    let mut properties = vec![
        Property::always("a receipt implies a commit", |setup: &Setup, world: &World| {
            world.attempts.iter().all(|attempt| {
                let committed = attempt.receiver(setup).committed;
                committed || !succeeded(attempt.sender(setup))
            })
        }),
        Property::always("success means the whole object", |setup: &Setup, world: &World| {
            let parties = world.attempts.iter().flat_map(|attempt| &attempt.parties);
            parties.filter_map(Party::result).flatten().all(|moved| moved == setup.size)
        }),
        Property::always("one handler at a time", |_, world: &World| {
            let handlers = world.servers().filter(|server| server.lease == Lease::Held);
            handlers.count() <= 1
        }),
        Property::always(
            "an entry for one connection is used at most once",
            |setup: &Setup, world: &World| {
                setup.uses != Uses::Once || (world.claims() <= 1 && world.commits() <= 1)
            },
        ),
        Property::always("delivered at most once", |setup: &Setup, world: &World| {
            let receipts = world.attempts.iter().filter(|it| succeeded(it.sender(setup))).count();
            let events = &world.registry.events;
            let delivered = events
                .iter()
                .position(|event| matches!(event, Event::Released(_, Delivery::Succeeded)));
            let last = delivered.is_none_or(|at| at + 1 == events.len());
            receipts <= 1 && last
        }),
        Property::always(
            "no deadlock: an end that is not done can continue",
            |setup: &Setup, world: &World| {
                let mut actions = Vec::new();
                setup.actions(world, &mut actions);
                actions.into_iter().any(Action::is_certain) || world.is_over()
            },
        ),
        Property::always("no receipt for a wrong size", |setup: &Setup, world: &World| {
            !setup.is_misdeclared()
                || !world.attempts.iter().flat_map(|it| &it.parties).any(succeeded)
        }),
        Property::sometimes("no object arrives", |setup: &Setup, world: &World| {
            let committed = |attempt: &Attempt| attempt.receiver(setup).committed;
            world.is_over() && !world.attempts.is_empty() && !world.attempts.iter().any(committed)
        }),
    ];
    if setup.is_misdeclared() {
        return properties;
    }
    properties.extend([
        Property::sometimes("an object arrives", |setup: &Setup, world: &World| {
            world.attempts.iter().any(|attempt| succeeded(attempt.sender(setup)))
        }),
        Property::sometimes("a commit has no receipt", |setup: &Setup, world: &World| {
            world.is_over()
                && world.attempts.iter().any(|attempt| {
                    attempt.receiver(setup).committed && !succeeded(attempt.sender(setup))
                })
        }),
    ]);
    if setup.attempts > 1 && setup.uses == Uses::UntilDelivered {
        properties.extend([
            Property::sometimes("a retry delivers", |setup: &Setup, world: &World| {
                let [first, second, ..] = &world.attempts[..] else { return false };
                !first.receiver(setup).committed && succeeded(second.sender(setup))
            }),
            // At least once: the receiver commits again if its receipt was lost.
            Property::sometimes("a retry commits again", |_, world: &World| world.commits() > 1),
        ]);
    }
    properties
}

fn succeeded(party: &Party) -> bool {
    party.result().is_some_and(|result| result.is_ok())
}

impl World {
    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        let closed =
            self.attempts.iter().flat_map(|attempt| &attempt.parties).all(|party| !party.is_open());
        let released = self.servers().all(|server| server.lease != Lease::Held);
        closed && (released || !self.alive[Role::Server as usize])
    }

    /// How often the entry was claimed.
    fn claims(&self) -> usize {
        let claimed = |event: &&Event| matches!(event, Event::Claimed(_));
        self.registry.events.iter().filter(claimed).count()
    }

    /// How often the object was committed.
    fn commits(&self) -> usize {
        self.attempts.iter().flat_map(|attempt| &attempt.parties).filter(|it| it.committed).count()
    }

    fn servers(&self) -> impl Iterator<Item = &Party> {
        self.attempts.iter().map(|attempt| &attempt.parties[Role::Server as usize])
    }
}

impl Attempt {
    fn sender(&self, setup: &Setup) -> &Party {
        &self.parties[setup.sender() as usize]
    }

    fn receiver(&self, setup: &Setup) -> &Party {
        &self.parties[setup.sender().peer() as usize]
    }
}
