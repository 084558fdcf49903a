//! What must hold of a run, whatever the relay did, and what the relay may not be asked to do.
//!
//! 1. *The receiving application stores nothing but an object that has ended in order*, and exactly
//!    the bytes that came to it. If the size was declared, those are the object.
//! 2. *A sender that succeeds has a receipt for all of its object, and the object is there*, stored
//!    before the receipt was given. So has a receiver that succeeds.
//! 3. *Cuts and delays are no fault*: both succeed.
//! 4. *After any fault the sender fails*, also where the object has been stored: it comes again.
//! 5. Nobody runs into a timer unless the relay is silent; with timers of its own everybody ends.
//!
//! A relay is a peer, and can lie like one. Two lies cannot be seen through without a MAC, and the
//! documentation says so:
//!
//! - On the object's way, a FIN too early, or bytes behind the last, make *another object of unknown
//!   size*: that is [`Expected::Forgery`], for which rule 1 holds, and rule 2 with the forged object.
//!   With a declared size both are rule 4. Other bytes in the place of the object's are not tried at
//!   all: integrity is what TLS is for.
//! - On the receipt's way, a FIN *after the sender has ended its object* is a receipt, whoever sent
//!   it. No relay here sends one but for the receiver's own. A FIN *before that* is no receipt, and
//!   is tried: the sender is held back until the FIN has arrived.

use std::fmt;
use std::io;

use dataserver_adapter::{Error, Receipt};
use dataserver_core::{Direction, Error as Cause, StartPacket};
use dataserver_scenarios::{At, Stream};

use crate::plan::{Kind, Plan};

/// What can be seen of a run when it is over.
pub(crate) struct Seen {
    pub(crate) sender: io::Result<Receipt>,
    pub(crate) receiver: io::Result<()>,
    /// What the receiving application has stored.
    pub(crate) stored: Option<Vec<u8>>,
    /// What the relay gave the receiver, from the connection's beginning.
    pub(crate) given: Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Success,
    Failure,
    Forgery,
}

/// How a run may end.
const CROSSED: &str = "the object has crossed, and both know";
const LOST: &str = "stored, but without a receipt";
const NOTHING: &str = "nothing stored, no receipt";
const FORGED: &str = "another object of unknown size, with a receipt";
const FORGED_AND_LOST: &str = "another object of unknown size, without a receipt";

/// All of which the relay is to bring about.
pub(crate) const EVERY_ENDING: [&str; 4] = [CROSSED, LOST, NOTHING, FORGED];

/// What was wrong in a run, and how it ended.
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
        (Direction::Put, At::Byte(byte)) => byte >= StartPacket::LEN as u64,
        (Direction::Put, At::End) | (Direction::Get, _) => true, // it goes the other way
    };
    let is_another_object =
        matches!(wrong.kind, Kind::End | Kind::Garbage) && start_packet_is_whole;
    if wrong.with_the_object && !plan.declared && is_another_object {
        return Expected::Forgery;
    }
    Expected::Failure
}

/// Judges a run.
#[track_caller]
pub(crate) fn judge(plan: &Plan, object: &[u8], seen: &Seen) -> Ending {
    let Seen { sender, receiver, stored, given } = seen;
    let expected = expected(plan);

    if let Some(stored) = stored {
        assert!(given.ended, "1: stored what has not ended: {plan}");
        let came = match plan.direction {
            Direction::Put => &given.bytes[StartPacket::LEN..],
            Direction::Get => &given.bytes,
        };
        assert!(stored == came, "1: stored what has not come: {plan}");
        assert!(!plan.declared || stored == object, "1: stored another object: {plan}");
    }
    if let Ok(receipt) = sender {
        let stored = stored.as_ref();
        assert!(stored.is_some(), "2: a receipt, and nothing stored: {plan}");
        assert_eq!(receipt.bytes, object.len() as u64, "2: not for all of it: {plan}");
        let is_object = stored.is_some_and(|stored| stored == object);
        assert!(is_object || expected == Expected::Forgery, "2: another object: {plan}");
    }
    assert!(receiver.is_err() || stored.is_some(), "2: success, and nothing stored: {plan}");
    match expected {
        Expected::Success => assert!(
            sender.is_ok() && receiver.is_ok(),
            "3: a failure without a fault, {sender:?}, {receiver:?}: {plan}",
        ),
        Expected::Failure => assert!(sender.is_err(), "4: a receipt in spite of a fault: {plan}"),
        Expected::Forgery => {}
    }
    let impatient = timed_out(sender) || timed_out(receiver);
    assert!(plan.is_silent() || !impatient, "5: {sender:?}, {receiver:?}: {plan}");

    Ending { wrong: wrong(plan), how: ending(seen, expected) }
}

fn timed_out<T>(result: &io::Result<T>) -> bool {
    let cause = result.as_ref().err().and_then(Error::of).and_then(Error::cause);
    matches!(cause, Some(Cause::TimedOut(_)))
}

fn ending(seen: &Seen, expected: Expected) -> &'static str {
    match (&seen.stored, &seen.sender, expected) {
        (None, _, _) => NOTHING,
        (Some(_), Ok(_), Expected::Forgery) => FORGED,
        (Some(_), Err(_), Expected::Forgery) => FORGED_AND_LOST,
        (Some(_), Ok(_), _) => CROSSED,
        (Some(_), Err(_), _) => LOST,
    }
}

fn wrong(plan: &Plan) -> String {
    plan.wrong.map_or("nothing wrong".into(), |wrong| {
        let way = if wrong.with_the_object { "object" } else { "receipt" };
        format!("{:?} on the {way}'s way", wrong.kind)
    })
}
