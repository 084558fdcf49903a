//! How a scenario should end: what each trouble leads to, at the sender and at the receiver.

use dataserver_core::{Error, LocalError, Malformed, PeerError, Refusal, StartPacket, Timer};

use super::scenario::{AT_END, Fault, Role, Scenario, Trouble};

/// How one side may end.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Is(Result<u64, Error>),
    /// Reset by the peer, wherever it was.
    Reset,
    /// Closed by the peer too early, wherever it was.
    ClosedEarly,
    /// By one of the timers that wait for the peer.
    TimedOut,
}

use Outcome::{ClosedEarly, Is, Reset, TimedOut};

/// With one trouble or none, the outcome is one of those that it leads to. With several, it is one
/// of what any of them leads to; but there is no success where this side itself is in trouble.
pub(super) fn check(scenario: &Scenario, results: [Result<u64, Error>; 2]) {
    for role in Role::BOTH {
        let of_role = |(sender, receiver): (Vec<Outcome>, Vec<Outcome>)| {
            if role == scenario.sender() { sender } else { receiver }
        };
        let whole = Is(Ok(scenario.size));
        let troubles = &scenario.troubles;
        let mut outcomes: Vec<Outcome> =
            troubles.iter().flat_map(|trouble| of_role(after(scenario, trouble))).collect();
        match troubles.len() {
            0 => outcomes.push(whole),
            1 => {}
            _ => outcomes.extend([whole, Reset]),
        }
        let result = results[role as usize];
        assert!(
            outcomes.iter().any(|outcome| outcome.allows(result)),
            "{role:?}: {result:?}, expected one of {outcomes:?}",
        );
        if troubles.iter().any(|trouble| is_fatal_to(scenario, trouble, role)) {
            assert!(result.is_err(), "{role:?}: {result:?}, against all expectation");
        }
    }
}

/// What one trouble, alone, leads to: at the sender, and at the receiver.
fn after(scenario: &Scenario, trouble: &Trouble) -> (Vec<Outcome>, Vec<Outcome>) {
    let size = scenario.size;
    let local = |error: LocalError| vec![Is(Err(error.into()))];
    let aborted = |reason| local(LocalError::Aborted { reason });
    let by_role = |whose: Role, his: Vec<Outcome>, other: Vec<Outcome>| {
        if whose == scenario.sender() { (his, other) } else { (other, his) }
    };
    match *trouble {
        Trouble::Source { length } if length < size => {
            (local(LocalError::ShorterThanDeclared { sent: length, declared: size }), vec![Reset])
        }
        Trouble::Source { .. } => {
            (local(LocalError::LongerThanDeclared { declared: size }), vec![Reset])
        }
        Trouble::Aborts { role, .. } => by_role(role, aborted("gives up"), vec![Reset]),
        Trouble::CommitFails => (vec![Reset], aborted("can not commit")),
        Trouble::Refused(reason) => {
            by_role(Role::Server, vec![Is(Err(reason.into()))], vec![Reset])
        }
        Trouble::Limit { limit, .. } => (vec![Reset], vec![too_long(scenario, limit)]),
        Trouble::Slow { role, .. } => by_role(role, vec![Reset], vec![TimedOut]),
        Trouble::Hurry { role, .. } => {
            let timed_out = Is(Err(Timer::Transfer.into()));
            by_role(role, vec![Is(Ok(size)), timed_out], vec![Is(Ok(size)), Reset])
        }
        Trouble::Stream { writer, fault } => after_fault(scenario, writer, fault),
    }
}

fn after_fault(scenario: &Scenario, writer: Role, fault: Fault) -> (Vec<Outcome>, Vec<Outcome>) {
    let (size, header) = (scenario.size, scenario.header_of(writer));
    let whole = Is(Ok(size));
    let peer = |error: PeerError| vec![Is(Err(error.into()))];
    let at_server = |errors: Vec<Outcome>| match scenario.sender() {
        Role::Server => (errors, vec![Reset]),
        Role::Client => (vec![Reset], errors),
    };
    let carries_object = writer == scenario.sender();
    match fault {
        Fault::Corrupt { byte, to } => {
            let mut bytes = *scenario.packet().as_bytes();
            bytes[byte as usize] = to;
            at_server(peer(PeerError::Malformed(malformed(&bytes))))
        }
        Fault::Truncated { at } if at < header => {
            at_server(peer(PeerError::TruncatedStartPacket { received: at as usize }))
        }
        Fault::Truncated { at } if carries_object && scenario.declared => {
            let error = PeerError::Truncated { received: at - header, expected: size };
            (vec![Reset], peer(error))
        }
        // Of unknown size: the end of the stream is the end of the object, and nobody can tell.
        Fault::Truncated { at } if carries_object => {
            (vec![whole, ClosedEarly], vec![Is(Ok(at - header))])
        }
        Fault::Truncated { .. } => (vec![whole, ClosedEarly], vec![whole, Reset]),
        Fault::Overrun { .. } if carries_object && scenario.declared => {
            (vec![Reset], peer(PeerError::LongerThanDeclared { declared: size }))
        }
        Fault::Overrun { by, .. } if carries_object => {
            let limit = limit(scenario);
            match size + by <= limit {
                true => (vec![whole], vec![Is(Ok(size + by))]),
                false => (vec![Reset], peer(PeerError::LongerThanAllowed { limit })),
            }
        }
        Fault::Overrun { .. } => (peer(PeerError::NotSilent), vec![whole, Reset]),
        // In place of the receipt: the receiver has done all that it can.
        Fault::Reset { at: AT_END } if !carries_object => (vec![Reset], vec![whole]),
        Fault::Reset { .. } => (vec![Reset], vec![Reset]),
        // The receiver has done all that it can, but for a shutdown that has to wait for room.
        Fault::Lost { at, clogs } if !carries_object && at == header => {
            let is_stuck = clogs && scenario.link.closes_with_a_byte;
            (vec![TimedOut], if is_stuck { vec![TimedOut, Reset] } else { vec![whole] })
        }
        Fault::Lost { .. } if carries_object => (vec![TimedOut, Reset], vec![TimedOut]),
        Fault::Lost { .. } => (vec![TimedOut], vec![TimedOut, Reset]),
    }
}

/// Whether this side can not succeed, whatever else happens: its own application does not want to.
fn is_fatal_to(scenario: &Scenario, trouble: &Trouble, role: Role) -> bool {
    let truncated = |fault: &Fault| matches!(fault, Fault::Truncated { .. });
    if Role::BOTH.iter().any(|role| scenario.has_fault(*role, truncated)) {
        return false; // it may not come to that
    }
    match *trouble {
        Trouble::Source { .. } => role == scenario.sender(),
        Trouble::Aborts { role: whose, .. } => role == whose,
        Trouble::CommitFails | Trouble::Limit { .. } => role == scenario.receiver(),
        Trouble::Refused(_) => role == Role::Server,
        Trouble::Slow { .. } | Trouble::Hurry { .. } | Trouble::Stream { .. } => false,
    }
}

/// The most that the receiver takes.
fn limit(scenario: &Scenario) -> u64 {
    let limit = scenario.parties[scenario.receiver() as usize].config.limit;
    match scenario.receiver() {
        Role::Server => limit.min(scenario.accepts),
        Role::Client => limit,
    }
}

fn too_long(scenario: &Scenario, limit: u64) -> Outcome {
    Is(Err(match scenario.declared {
        true => Refusal::TooLarge { declared: scenario.size, limit }.into(),
        false => PeerError::LongerThanAllowed { limit }.into(),
    }))
}

fn malformed(bytes: &[u8; StartPacket::LEN]) -> Malformed {
    match bytes[0] {
        0 | 1 => Malformed::Size(i64::from_le_bytes(bytes[1..9].try_into().unwrap())),
        unknown => Malformed::Type(unknown),
    }
}

impl Outcome {
    fn allows(self, result: Result<u64, Error>) -> bool {
        match (self, result) {
            (Is(expected), result) => expected == result,
            (Reset, Err(Error::Peer(PeerError::Reset { .. }))) => true,
            (ClosedEarly, Err(Error::Peer(PeerError::ClosedEarly { .. }))) => true,
            (TimedOut, Err(Error::TimedOut(timer))) => timer != Timer::Transfer,
            _ => false,
        }
    }
}
