//! The invariants of a run, and the faults that are not detectable.
//!
//! 1. The receiving application stores only an object that has ended gracefully, and exactly the bytes
//!    that arrived. If the size was declared, they are the object.
//! 2. A sender that succeeds has a receipt for its whole object, which was stored before. A receiver
//!    that succeeds has stored it, too.
//! 3. Fragmentation and delays are no faults: both sides succeed.
//! 4. After any fault the sender fails, even if the object was stored. It would send it again.
//! 5. Timers run out only if the relay is silent. Then both sides end by their own timers.
//!
//! Two kinds of tampering are undetectable without a MAC, as the documentation says:
//!
//! - In the direction of the object, an early FIN or additional bytes make another object if the size
//!   is unknown. That is [`Expected::Forgery`], for which invariant 1 holds, and invariant 2 with the
//!   forged object. With a declared size, invariant 4 holds. Replaced bytes are not tested: integrity
//!   is the task of TLS.
//! - In the direction of the receipt, a FIN after the end of the object is a receipt. No relay here
//!   sends one by itself. A FIN before that is no receipt, which is tested: the sender waits until the
//!   FIN has arrived.

use std::fmt;
use std::io;

use dataserver_common::{Error, Receipt};
use dataserver_core::{Cause, Direction, StartPacket};
use dataserver_tests::{Delivered, FaultPoint, KEY};

use crate::plan::{Kind, Plan, Wrong};

/// The observations after a run.
pub(crate) struct Observed {
    pub(crate) sender: io::Result<Receipt>,
    pub(crate) receiver: io::Result<()>,
    /// The object that the receiving application has stored.
    pub(crate) stored: Option<Vec<u8>>,
    /// The bytes that the relay has delivered to the receiver.
    pub(crate) given: Delivered,
    /// Those that it has delivered to the sender.
    pub(crate) taken: Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Success,
    Failure,
    Forgery,
}

/// The results of a run.
const TRANSFERRED: &str = "the object was transferred, and both sides succeeded";
const LOST: &str = "stored, without a receipt";
const NOTHING: &str = "nothing stored, no receipt";
const FORGED: &str = "another object of unknown size, with a receipt";
const FORGED_AND_LOST: &str = "another object of unknown size, without a receipt";

/// The results that the runs must cover.
pub(crate) const EVERY_ENDING: [&str; 4] = [TRANSFERRED, LOST, NOTHING, FORGED];
pub(crate) const EVERY_FRAMED_ENDING: [&str; 3] = [TRANSFERRED, LOST, NOTHING];

/// The fault of a run, and its result.
pub(crate) struct Ending {
    wrong: String,
    how: &'static str,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.wrong, self.how)
    }
}

fn expected(plan: &Plan) -> Expected {
    let Some(wrong) = plan.wrong else {
        return Expected::Success;
    };
    let start_packet_is_whole = match (plan.direction, wrong.at) {
        (Direction::Put, FaultPoint::Byte(byte)) => byte >= StartPacket::LEN as u64,
        (Direction::Put, FaultPoint::End) | (Direction::Get, _) => true, // the packet has the other direction
    };
    let is_another_object =
        matches!(wrong.kind, Kind::End | Kind::Garbage) && start_packet_is_whole;
    if wrong.with_the_object && !plan.declared && is_another_object {
        return Expected::Forgery;
    }
    Expected::Failure
}

/// Checks the invariants of a run.
#[track_caller]
pub(crate) fn judge(plan: &Plan, object: &[u8], seen: &Observed) -> Ending {
    let Observed { sender, receiver, stored, given, .. } = seen;
    let expected = expected(plan);

    if let Some(stored) = stored {
        assert!(given.ended, "1: stored an object that has not ended: {plan}");
        let came = match plan.direction {
            Direction::Put => &given.bytes[StartPacket::LEN..],
            Direction::Get => &given.bytes,
        };
        assert!(stored == came, "1: stored other bytes than arrived: {plan}");
        assert!(!plan.declared || stored == object, "1: stored another object: {plan}");
    }
    if let Ok(receipt) = sender {
        let stored = stored.as_ref();
        assert!(stored.is_some(), "2: a receipt without a stored object: {plan}");
        assert_eq!(receipt.bytes, object.len() as u64, "2: a receipt for another size: {plan}");
        let is_object = stored.is_some_and(|stored| stored == object);
        assert!(
            is_object || expected == Expected::Forgery,
            "2: a receipt for another object: {plan}"
        );
    }
    assert!(receiver.is_err() || stored.is_some(), "2: a success without a stored object: {plan}");
    match expected {
        Expected::Success => assert!(
            sender.is_ok() && receiver.is_ok(),
            "3: a failure without a fault, {sender:?}, {receiver:?}: {plan}",
        ),
        Expected::Failure => assert!(sender.is_err(), "4: a receipt after a fault: {plan}"),
        Expected::Forgery => {}
    }
    let impatient = timed_out(sender) || timed_out(receiver);
    assert!(plan.is_silent() || !impatient, "5: {sender:?}, {receiver:?}: {plan}");

    Ending { wrong: wrong(plan), how: ending(seen, expected) }
}

/// Checks the invariants of a framed run. Nothing is undetectable.
///
/// 1. The receiving application stores the object, or nothing.
/// 2. A sender that succeeds has a receipt for an object that was stored.
/// 3. Fragmentation and delays are no faults: both sides succeed.
/// 4. After what is no frame, the side that reads it fails: nothing is stored, or there is no receipt.
#[track_caller]
pub(crate) fn judge_framed(plan: &Plan, object: &[u8], seen: &Observed) -> Ending {
    let Observed { sender, receiver, stored, .. } = seen;
    if let Some(stored) = stored {
        assert!(stored == object, "1: stored another object: {plan}");
    }
    assert!(sender.is_err() || stored.is_some(), "2: a receipt, and nothing was stored: {plan}");
    assert!(receiver.is_err() || stored.is_some(), "2: a success, and nothing was stored: {plan}");
    assert!(
        plan.wrong.is_some() || (sender.is_ok() && receiver.is_ok()),
        "3: a failure without a fault, {sender:?}, {receiver:?}: {plan}",
    );
    if let Some(Wrong { kind: Kind::Garbage, with_the_object, .. }) = plan.wrong {
        assert!(sender.is_err(), "4: a receipt after what is no frame: {plan}");
        assert!(!with_the_object || stored.is_none(), "4: stored what is no frame: {plan}");
    }
    Ending { wrong: wrong(plan), how: ending(seen, Expected::Failure) }
}

/// Checks the invariants of a run over TLS, in either format. Nothing is undetectable.
///
/// 1. The receiving application stores the object, or nothing.
/// 2. A sender that succeeds has a receipt for an object that was stored.
/// 3. Fragmentation and delays are no faults: both sides succeed. The bare format needs a relay that keeps a
///    direction open when the other one has ended.
/// 4. Neither the key nor the object passes the relay in the clear.
#[track_caller]
pub(crate) fn judge_over_tls(plan: &Plan, object: &[u8], seen: &Observed) -> Ending {
    let Observed { sender, receiver, stored, given, taken } = seen;
    if let Some(stored) = stored {
        assert!(stored == object, "1: stored another object: {plan}");
    }
    assert!(sender.is_err() || stored.is_some(), "2: a receipt, and nothing was stored: {plan}");
    assert!(receiver.is_err() || stored.is_some(), "2: a success, and nothing was stored: {plan}");
    let may_fail = plan.wrong.is_some() || (!plan.framed && plan.fault_plan.closes_both);
    assert!(
        may_fail || (sender.is_ok() && receiver.is_ok()),
        "3: a failure without a fault, {sender:?}, {receiver:?}: {plan}",
    );
    let is_clear = |secret: &[u8]| {
        let contains = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        secret.len() >= SECRET && (contains(&given.bytes) || contains(&taken.bytes))
    };
    assert!(!is_clear(KEY.as_bytes()), "4: the key was in the clear: {plan}");
    assert!(!is_clear(&object[..object.len().min(SECRET)]), "4: the object, too: {plan}");
    Ending { wrong: wrong(plan), how: ending(seen, Expected::Failure) }
}

/// So many bytes do not occur by chance.
const SECRET: usize = 16;

fn timed_out<T>(result: &io::Result<T>) -> bool {
    let cause = result.as_ref().err().and_then(Error::of).and_then(Error::cause);
    matches!(cause, Some(Cause::TimedOut(_)))
}

fn ending(seen: &Observed, expected: Expected) -> &'static str {
    match (&seen.stored, &seen.sender, expected) {
        (None, _, _) => NOTHING,
        (Some(_), Ok(_), Expected::Forgery) => FORGED,
        (Some(_), Err(_), Expected::Forgery) => FORGED_AND_LOST,
        (Some(_), Ok(_), _) => TRANSFERRED,
        (Some(_), Err(_), _) => LOST,
    }
}

fn wrong(plan: &Plan) -> String {
    plan.wrong.map_or("no fault".into(), |wrong| {
        let direction = if wrong.with_the_object { "object" } else { "receipt" };
        format!("{:?} in the direction of the {direction}", wrong.kind)
    })
}
