//! What holds in every state, and what happens in some.

use stateright::{Model, Property};

use super::party::{Lease, Party};
use super::reception::Event;
use super::{Action, Attempt, Role, Setup, Uses, World};

pub(super) fn of(setup: &Setup) -> Vec<Property<Setup>> {
    let mut properties = vec![
        Property::always("a receipt implies a commit", |setup: &Setup, world: &World| {
            world.attempts.iter().all(|attempt| {
                let committed = attempt.receiver(setup).stored;
                committed || !succeeded(attempt.sender(setup))
            })
        }),
        Property::always("who succeeds has all of the object", |setup: &Setup, world: &World| {
            let parties = world.attempts.iter().flat_map(|attempt| &attempt.parties);
            parties.filter_map(Party::result).flatten().all(|moved| moved == setup.size)
        }),
        Property::always("one handler at a time", |_, world: &World| {
            let handlers = world.servers().filter(|server| server.lease == Lease::Held);
            handlers.count() <= 1
        }),
        Property::always("once is handled at most once", |setup: &Setup, world: &World| {
            setup.uses != Uses::Once || (world.claims() <= 1 && world.commits() <= 1)
        }),
        Property::always("delivered at most once", |setup: &Setup, world: &World| {
            let receipts = world.attempts.iter().filter(|it| succeeded(it.sender(setup))).count();
            let events = &world.reception.events;
            let delivered =
                events.iter().position(|event| matches!(event, Event::Released(_, true)));
            let last = delivered.is_none_or(|at| at + 1 == events.len());
            receipts <= 1 && last
        }),
        Property::always("no deadlock: who is not done goes on", |setup: &Setup, world: &World| {
            let mut actions = Vec::new();
            setup.actions(world, &mut actions);
            actions.into_iter().any(Action::is_certain) || world.is_over()
        }),
        Property::always("no receipt for a wrong size", |setup: &Setup, world: &World| {
            !setup.is_misdeclared()
                || !world.attempts.iter().flat_map(|it| &it.parties).any(succeeded)
        }),
        Property::sometimes("nothing arrives", |setup: &Setup, world: &World| {
            let stored = |attempt: &Attempt| attempt.receiver(setup).stored;
            world.is_over() && !world.attempts.is_empty() && !world.attempts.iter().any(stored)
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
                    attempt.receiver(setup).stored && !succeeded(attempt.sender(setup))
                })
        }),
    ]);
    if setup.attempts > 1 && setup.uses == Uses::UntilDelivered {
        properties.extend([
            Property::sometimes("a retry delivers", |setup: &Setup, world: &World| {
                let [first, second, ..] = &world.attempts[..] else { return false };
                !first.receiver(setup).stored && succeeded(second.sender(setup))
            }),
            // It is at least once, for the receiver's application: a receipt can be lost.
            Property::sometimes("a retry commits again", |_, world: &World| world.commits() > 1),
        ]);
    }
    properties
}

fn succeeded(party: &Party) -> bool {
    party.result().is_some_and(|result| result.is_ok())
}

impl World {
    /// Nobody has anything left to do.
    pub(super) fn is_over(&self) -> bool {
        let closed =
            self.attempts.iter().flat_map(|attempt| &attempt.parties).all(|party| !party.is_open());
        let released = self.servers().all(|server| server.lease != Lease::Held);
        closed && (released || !self.alive[Role::Server as usize])
    }

    /// How often the registration was claimed.
    fn claims(&self) -> usize {
        let claimed = |event: &&Event| matches!(event, Event::Claimed(_));
        self.reception.events.iter().filter(claimed).count()
    }

    /// How often the object was made last.
    fn commits(&self) -> usize {
        self.attempts.iter().flat_map(|attempt| &attempt.parties).filter(|it| it.stored).count()
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
