//! The expected outcome of a scenario: what each problem leads to, at the sender and at the receiver.

use dataserver_core::{Cause, LocalError, Malformed, PeerError, Refusal, StartPacket, Timer};

use super::scenario::{AT_END, Fault, Problem, Role, Scenario};

/// An outcome of one side.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Is(Result<u64, Cause>),
    /// Reset by the peer, in any state.
    Reset,
    /// Closed early by the peer, in any state.
    ClosedEarly,
    /// Ended by any timer but the total timer.
    TimedOut,
}

use Outcome::{ClosedEarly, Is, Reset, TimedOut};

/// With at most one problem, the outcome is one of those that it leads to. With several, it is an
/// outcome of any of them, but a side whose own application fails does not succeed.
pub(super) fn check(scenario: &Scenario, results: [Result<u64, Cause>; 2]) {
    for role in Role::BOTH {
        let of_role = |(sender, receiver): (Vec<Outcome>, Vec<Outcome>)| {
            if role == scenario.sender() { sender } else { receiver }
        };
        let whole = Is(Ok(scenario.size));
        let problems = &scenario.problems;
        let mut outcomes: Vec<Outcome> =
            problems.iter().flat_map(|problem| of_role(after(scenario, problem))).collect();
        match problems.len() {
            0 => outcomes.push(whole),
            1 => {}
            _ => outcomes.extend([whole, Reset]),
        }
        let result = results[role as usize];
        assert!(
            outcomes.iter().any(|outcome| outcome.allows(result)),
            "{role:?}: {result:?}, expected one of {outcomes:?}",
        );
        if problems.iter().any(|problem| is_fatal_to(scenario, problem, role)) {
            assert!(result.is_err(), "{role:?}: {result:?}, expected an error");
        }
    }
}

/// Returns what one problem alone leads to, at the sender and at the receiver.
fn after(scenario: &Scenario, problem: &Problem) -> (Vec<Outcome>, Vec<Outcome>) {
    let size = scenario.size;
    let local = |error: LocalError| vec![Is(Err(error.into()))];
    let aborted = |reason| local(LocalError::Aborted { reason, code: 0 });
    let by_role = |affected: Role, own: Vec<Outcome>, other: Vec<Outcome>| {
        if affected == scenario.sender() { (own, other) } else { (other, own) }
    };
    match *problem {
        Problem::WrongLength { actual: length } if length < size => {
            (local(LocalError::ShorterThanDeclared { sent: length, declared: size }), vec![Reset])
        }
        Problem::WrongLength { .. } => {
            (local(LocalError::LongerThanDeclared { declared: size }), vec![Reset])
        }
        Problem::Abort { role, .. } => by_role(role, aborted("canceled"), vec![Reset]),
        Problem::CommitFailure => (vec![Reset], aborted("cannot commit")),
        Problem::Refused(reason) => {
            by_role(Role::Server, vec![Is(Err(reason.into()))], vec![Reset])
        }
        Problem::Limit { limit, .. } => (vec![Reset], vec![too_long(scenario, limit)]),
        Problem::Stall { role, .. } => by_role(role, vec![Reset], vec![TimedOut]),
        Problem::ShortTotalTimeout { role, .. } => {
            let timed_out = Is(Err(Timer::Total.into()));
            by_role(role, vec![Is(Ok(size)), timed_out], vec![Is(Ok(size)), Reset])
        }
        Problem::StreamFault { writer, fault } => after_stream_fault(scenario, writer, fault),
    }
}

fn after_stream_fault(
    scenario: &Scenario,
    writer: Role,
    fault: Fault,
) -> (Vec<Outcome>, Vec<Outcome>) {
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
        // With an unknown size, the end of the stream is the end of the object for both sides.
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
        // The reset replaces the receipt. The receiver has already finished.
        Fault::Reset { at: AT_END } if !carries_object => (vec![Reset], vec![whole]),
        Fault::Reset { .. } => (vec![Reset], vec![Reset]),
        // The receiver finishes, unless its shutdown has to wait until it can write.
        Fault::Blackhole { at, rejects_writes } if !carries_object && at == header => {
            let is_stuck = rejects_writes && scenario.link.shutdown_needs_room;
            (vec![TimedOut], if is_stuck { vec![TimedOut, Reset] } else { vec![whole] })
        }
        Fault::Blackhole { .. } if carries_object => (vec![TimedOut, Reset], vec![TimedOut]),
        Fault::Blackhole { .. } => (vec![TimedOut], vec![TimedOut, Reset]),
    }
}

/// Whether the application of this side makes success impossible, whatever else happens.
fn is_fatal_to(scenario: &Scenario, problem: &Problem, role: Role) -> bool {
    let truncated = |fault: &Fault| matches!(fault, Fault::Truncated { .. });
    if Role::BOTH.iter().any(|role| scenario.has_fault(*role, truncated)) {
        return false; // the run may end before the problem occurs
    }
    match *problem {
        Problem::WrongLength { .. } => role == scenario.sender(),
        Problem::Abort { role: affected, .. } => role == affected,
        Problem::CommitFailure | Problem::Limit { .. } => role == scenario.receiver(),
        Problem::Refused(_) => role == Role::Server,
        Problem::Stall { .. } | Problem::ShortTotalTimeout { .. } | Problem::StreamFault { .. } => {
            false
        }
    }
}

/// The largest object that the receiver accepts.
fn limit(scenario: &Scenario) -> u64 {
    let receiver = scenario.receiver();
    let configured = scenario.parties[receiver as usize].config.max_object_size;
    let accepted = scenario.accepts.filter(|_| receiver == Role::Server);
    configured.into_iter().chain(accepted).min().unwrap_or(u64::MAX)
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
    fn allows(self, result: Result<u64, Cause>) -> bool {
        match (self, result) {
            (Is(expected), result) => expected == result,
            (Reset, Err(Cause::Peer(PeerError::Reset { .. }))) => true,
            (ClosedEarly, Err(Cause::Peer(PeerError::ClosedEarly { .. }))) => true,
            (TimedOut, Err(Cause::TimedOut(timer))) => timer != Timer::Total,
            _ => false,
        }
    }
}
