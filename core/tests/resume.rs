//! Digest and resume: each state by what it allows, how it fails, and which timer runs in it.

use core::time::Duration;

use dataserver_core::{
    AbortReason, Cause, Config, Connection, Direction, Frame, Instant, Key, LocalError, PeerError,
    StartPacket, Step, Timer,
};

const KEY: Key = Key::from_bytes([7; 16]);
const OWN: [u8; 32] = [0xdd; 32];
const NOW: Instant = Instant::new(Duration::ZERO);

fn packet(direction: Direction) -> StartPacket {
    let packet = match direction {
        Direction::Put => StartPacket::put(KEY),
        Direction::Get => StartPacket::get(KEY),
    };
    packet.with_size(5).unwrap().resumable()
}

const BOTH: [Direction; 2] = [Direction::Put, Direction::Get];

/// A sender that has sent its start packet, or read one, and waits for OPEN.
fn waits_for_open(direction: Direction) -> Connection {
    match direction {
        Direction::Put => {
            let mut client = Connection::client(Config::default(), packet(direction), NOW);
            assert!(matches!(client.step(), Step::Write { payload: 0, .. }));
            client.handle_moved(25);
            client
        }
        Direction::Get => accepted(direction),
    }
}

fn accepted(direction: Direction) -> Connection {
    let mut server = Connection::server(Config::default(), NOW);
    server.handle_read(packet(direction).as_bytes());
    server.accept(None);
    server
}

/// A receiver that is asked how much of the object it has.
fn is_asked(direction: Direction) -> Connection {
    let receiver = match direction {
        Direction::Put => accepted(direction),
        Direction::Get => Connection::client(Config::default(), packet(direction), NOW),
    };
    assert_eq!(receiver.step(), Step::Resume);
    receiver
}

/// A receiver that has 3 bytes and has told the sender.
fn has_opened(direction: Direction) -> Connection {
    let mut receiver = is_asked(direction);
    receiver.resume(3);
    let Step::Write { bytes, payload: 0 } = receiver.step() else { panic!() };
    let n = bytes.len();
    assert_eq!(n, if direction == Direction::Put { 12 } else { 25 + 12 });
    receiver.handle_moved(n);
    receiver
}

/// A sender, and a receiver, that compute the digest.
fn at_digest(direction: Direction) -> [Connection; 2] {
    let mut sender = waits_for_open(direction);
    sender.handle_read(&Frame::Open { offset: 3 }.to_bytes());
    assert_eq!((sender.position(), sender.moved()), (3, 0));
    sender.offer(2, true);
    sender.handle_moved(12 + 2);
    let mut receiver = has_opened(direction);
    receiver.handle_read(&Frame::Last { len: 2 }.to_bytes());
    receiver.handle_moved(2);
    for side in [&sender, &receiver] {
        assert_eq!(side.step(), Step::Digest);
        assert_eq!((side.position(), side.moved()), (5, 2));
    }
    [sender, receiver]
}

fn waits_for_digest(direction: Direction) -> Connection {
    let [_, mut receiver] = at_digest(direction);
    receiver.digest(OWN);
    assert_eq!(receiver.step(), Step::Read { max: 32 });
    receiver
}

#[track_caller]
fn aborts(connection: &Connection, reason: AbortReason, cause: impl Into<Cause>) {
    let abort = Frame::Abort(reason).to_bytes();
    assert_eq!(connection.step(), Step::Write { bytes: &abort, payload: 0 });
    assert_eq!(connection.outcome(), Some(Err(cause.into())));
}

#[track_caller]
fn fails(connection: &Connection, cause: impl Into<Cause>) {
    assert_eq!(connection.step(), Step::Done(Err(cause.into())));
}

fn canceled() -> LocalError {
    LocalError::Aborted { reason: "canceled", code: 4 }
}

#[test]
fn the_application_may_give_up_in_each_state() {
    let told = AbortReason::Failed { code: 4 };
    let abort = |mut connection: Connection| {
        connection.abort_with_code("canceled", 4);
        connection
    };
    for direction in BOTH {
        aborts(&abort(waits_for_open(direction)), told, canceled());
        aborts(&abort(has_opened(direction)), told, canceled());
        aborts(&abort(waits_for_digest(direction)), told, canceled());
        let [sender, receiver] = at_digest(direction);
        fails(&abort(sender), canceled()); // 32 bytes are due, which are no frame
        aborts(&abort(receiver), told, canceled());
    }
    aborts(&abort(is_asked(Direction::Put)), told, canceled());
    fails(&abort(is_asked(Direction::Get)), canceled()); // nothing was sent
}

#[test]
fn a_sender_that_has_read_a_part_of_open_gives_up_without_an_abort() {
    for direction in BOTH {
        let mut sender = waits_for_open(direction);
        sender.handle_read(&Frame::Open { offset: 3 }.to_bytes()[..5]);
        sender.abort_with_code("canceled", 4);
        fails(&sender, canceled());
    }
}

#[test]
fn the_receipt_timer_runs_where_the_application_of_the_peer_is_at_work() {
    for direction in BOTH {
        for mut waits in
            [waits_for_open(direction), has_opened(direction), waits_for_digest(direction)]
        {
            waits.handle_blocked(NOW);
            let deadline = waits.deadline(NOW).unwrap();
            assert_eq!(deadline, Instant::new(Duration::from_secs(60)));
            waits.handle_blocked(deadline);
            aborts(&waits, AbortReason::TimedOut, Timer::Receipt);
        }
        for mut asked in at_digest(direction).into_iter().chain([is_asked(direction)]) {
            asked.handle_blocked(NOW);
            assert_eq!(asked.deadline(NOW), None, "no timer runs against the application");
        }
    }
}

#[test]
fn an_end_of_the_stream_is_never_a_success() {
    for direction in BOTH {
        let ended = |mut connection: Connection| {
            connection.handle_end_of_stream();
            connection
        };
        let early = PeerError::ClosedEarly { moved: 0 };
        fails(&ended(waits_for_open(direction)), early);
        let truncated = PeerError::Truncated { received: 3, expected: 5 };
        fails(&ended(has_opened(direction)), truncated);
        fails(&ended(waits_for_digest(direction)), PeerError::Unfinished { received: 5 });
    }
}

#[test]
fn each_byte_of_the_digest_is_compared() {
    for direction in BOTH {
        for at in 0..32 {
            for bit in 0..8 {
                for piece in [1, 7, 32] {
                    let mut digest = OWN;
                    digest[at] ^= 1 << bit;
                    let mut receiver = waits_for_digest(direction);
                    for bytes in digest.chunks(piece) {
                        if receiver.outcome().is_none() {
                            receiver.handle_read(bytes);
                        }
                    }
                    aborts(&receiver, AbortReason::Mismatch, PeerError::DigestMismatch);
                }
            }
        }
        let mut receiver = waits_for_digest(direction);
        assert_eq!(receiver.handle_read(&[OWN.as_slice(), b"next"].concat()), 32);
        assert_eq!(receiver.step(), Step::Commit);
        receiver.committed();
        let receipt = Frame::Receipt { size: 5 }.to_bytes();
        assert_eq!(receiver.step(), Step::Write { bytes: &receipt, payload: 0 });
    }
}

#[test]
fn an_offset_is_at_most_the_declared_size() {
    for direction in BOTH {
        let mut sender = waits_for_open(direction);
        sender.handle_read(&Frame::Open { offset: 6 }.to_bytes());
        let error = PeerError::OffsetBeyondSize { offset: 6, size: 5 };
        aborts(&sender, AbortReason::Mismatch, error);

        let mut receiver = is_asked(direction);
        receiver.resume(6);
        let error = LocalError::OffsetBeyondSize { offset: 6, size: 5 };
        match direction {
            Direction::Put => aborts(&receiver, AbortReason::Failed { code: 0 }, error),
            Direction::Get => fails(&receiver, error),
        }
    }
}

#[test]
fn a_receipt_is_for_the_whole_object() {
    for direction in BOTH {
        let [mut sender, _] = at_digest(direction);
        sender.digest(OWN);
        assert_eq!(sender.step(), Step::Write { bytes: &OWN, payload: 0 });
        sender.handle_moved(32);
        let mut wrong = sender.clone();
        wrong.handle_read(&Frame::Receipt { size: 2 }.to_bytes());
        fails(&wrong, PeerError::WrongReceipt { size: 2, sent: 5 });
        sender.handle_read(&Frame::Receipt { size: 5 }.to_bytes());
        assert_eq!(sender.step(), Step::Done(Ok(5)));
    }
}
