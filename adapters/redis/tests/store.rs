//! The store, against a Redis server.

mod support;

use std::time::Duration;

use dataserver_core::{Delivery, Direction, Key, ObjectSize, Refusal, StartPacket};
use dataserver_redis::{ClaimError, Error, LeaseError, Nodes, Ticket, TicketStore, Tickets};
use support::{PATIENCE, Redis, eventually, options};

const KEY: Key = Key::from_bytes([0xab; 16]);
const NAME: &str = "dataserver:put:abababababababababababababababab";

fn put() -> StartPacket {
    StartPacket::put(KEY)
}

/// Why the packet is refused.
fn refusal(tickets: &Tickets, packet: StartPacket) -> Refusal {
    match tickets.claim(&packet, None) {
        Err(ClaimError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_ticket_is_issued_shown_and_revoked() {
    let redis = Redis::start();
    let tickets = redis.tickets();
    assert_eq!(tickets.show(Direction::Put, KEY).unwrap(), None);
    let data: Vec<u8> = (0..Ticket::MAX_DATA).map(|byte| byte as u8).collect();
    let ticket = Ticket::put(KEY)
        .until_delivered()
        .exact_size(ObjectSize::new(5).unwrap())
        .max_size(u64::MAX)
        .expires_after(Duration::from_secs(3600))
        .data(data.clone());
    tickets.issue(&ticket).unwrap();
    assert!(matches!(tickets.issue(&ticket), Err(Error::AlreadyIssued)));
    let found = tickets.show(Direction::Put, KEY).unwrap().unwrap();
    assert!(found.until_delivered);
    assert_eq!(found.exact_size, Some(ObjectSize::new(5).unwrap()));
    assert_eq!(found.max_size, Some(i64::MAX as u64));
    assert_eq!(found.owner, None);
    assert_eq!(found.data, data);
    let left = found.expires_in.unwrap();
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");

    assert_eq!(tickets.show(Direction::Get, KEY).unwrap(), None);
    assert!(tickets.revoke(Direction::Put, KEY).unwrap());
    assert!(!tickets.revoke(Direction::Put, KEY).unwrap());
    assert_eq!(refusal(&tickets, put()), Refusal::NotRegistered);

    let long = Ticket::put(KEY).data(vec![0; Ticket::MAX_DATA + 1]);
    assert!(matches!(tickets.issue(&long), Err(Error::DataTooLong { len: 65_537 })));
}

#[test]
fn sizes_are_checked_before_anything_is_claimed() {
    let redis = Redis::start();
    let tickets = redis.tickets();
    let sized = |bytes| put().with_size(bytes).unwrap();
    // Two sizes that are the same number in floating point.
    let max = (1 << 60) + 1;
    tickets.issue(&Ticket::put(KEY).max_size(max)).unwrap();
    let too_large = Refusal::TooLarge { declared: max + 1, limit: max };
    assert_eq!(refusal(&tickets, sized(max + 1)), too_large);
    let refused = tickets.claim(&sized(10), Some(9)).unwrap_err().refusal();
    assert_eq!(refused, Refusal::TooLarge { declared: 10, limit: 9 });
    assert_eq!(tickets.claim(&sized(max), None).unwrap().limit, Some(max));

    tickets.issue(&Ticket::put(KEY).exact_size(ObjectSize::new(5).unwrap())).unwrap();
    assert_eq!(refusal(&tickets, sized(6)), Refusal::NotRegistered);
    assert_eq!(refusal(&tickets, put()), Refusal::NotRegistered);
    assert_eq!(tickets.claim(&sized(5), Some(100)).unwrap().limit, Some(100));

    tickets.issue(&Ticket::put(KEY).exact_size(ObjectSize::UNKNOWN)).unwrap();
    assert_eq!(refusal(&tickets, sized(5)), Refusal::NotRegistered);
    tickets.claim(&put(), None).unwrap();
}

#[test]
fn a_ticket_for_one_claim_is_claimed_once() {
    let redis = Redis::start();
    let (one, other) = (redis.tickets(), redis.tickets());
    one.issue(&Ticket::put(KEY).data("report")).unwrap();
    assert_eq!(refusal(&one, StartPacket::get(KEY)), Refusal::NotRegistered);
    let claimed = one.claim(&put().framed(), None).unwrap();
    assert_eq!(claimed.ticket, b"report");
    assert_eq!(refusal(&other, put()), Refusal::NotRegistered);
    one.renew(&claimed.lease).unwrap();
    one.finish(claimed.lease, Delivery::Failed).unwrap();
    assert_eq!(refusal(&other, put()), Refusal::NotRegistered);
}

#[test]
fn a_lease_is_renewed_until_it_is_dropped_and_then_lost_to_another() {
    let redis = Redis::start();
    let (one, other) = (redis.tickets(), redis.tickets());
    one.issue(&Ticket::put(KEY).until_delivered()).unwrap();
    let first = one.claim(&put(), None).unwrap().lease;
    let leased_until = || redis.cli(&["HGET", NAME, "leased_until"]).parse::<u64>().unwrap();
    let began = leased_until();
    // Three times the lease: without renewals, it would have ended.
    eventually(|| {
        assert_eq!(refusal(&other, put()), Refusal::InUse);
        leased_until() > began + 3000
    });
    assert!(one.show(Direction::Put, KEY).unwrap().unwrap().owner.is_some());
    one.finish(first, Delivery::Failed).unwrap();

    let second = one.claim(&put(), None).unwrap().lease;
    drop(second); // as by a server that has died
    let mut claimed = None;
    eventually(|| {
        claimed = other.claim(&put(), None).ok();
        claimed.is_some()
    });
    let third = claimed.unwrap().lease;
    assert_eq!(refusal(&one, put()), Refusal::InUse);
    other.finish(third, Delivery::Succeeded).unwrap();
    assert_eq!(one.show(Direction::Put, KEY).unwrap(), None);
}

#[test]
fn a_lease_that_was_lost_is_neither_renewed_nor_finished() {
    let redis = Redis::start();
    let (one, other) = (redis.tickets(), redis.tickets());
    one.issue(&Ticket::put(KEY).until_delivered()).unwrap();
    let lost = one.claim(&put(), None).unwrap().lease;
    redis.cli(&["HSET", NAME, "leased_until", "1"]); // as if it had stood still
    let held = other.claim(&put(), None).unwrap().lease;
    assert!(matches!(one.renew(&lost), Err(LeaseError::Lost)));
    assert!(matches!(one.finish(lost, Delivery::Succeeded), Err(LeaseError::Lost)));
    other.renew(&held).unwrap();
    assert!(other.revoke(Direction::Put, KEY).unwrap());
    assert!(matches!(other.renew(&held), Err(LeaseError::Lost)));
}

#[test]
fn an_expiry_stops_claims_and_not_transfers() {
    let redis = Redis::start();
    let tickets = redis.tickets();
    tickets.issue(&Ticket::put(KEY).expires_after(Duration::from_millis(1))).unwrap();
    eventually(|| tickets.claim(&put(), None).is_err());
    let ticket = Ticket::put(KEY).until_delivered().expires_after(Duration::from_millis(300));
    tickets.issue(&ticket).unwrap();
    let lease = tickets.claim(&put(), None).unwrap().lease;
    eventually(|| {
        tickets.renew(&lease).unwrap();
        let found = tickets.show(Direction::Put, KEY).unwrap();
        found.unwrap().expires_in == Some(Duration::ZERO)
    });
    tickets.finish(lease, Delivery::Failed).unwrap();
    assert_eq!(refusal(&tickets, put()), Refusal::NotRegistered);
}

#[test]
fn tickets_of_redis_cli_are_claimed_and_malformed_ones_are_not() {
    let redis = Redis::start();
    let tickets = redis.tickets();
    redis.cli(&["HSET", NAME, "policy", "once", "limit", "9", "data", "from the shell"]);
    let claimed = tickets.claim(&put(), None).unwrap();
    assert_eq!((claimed.limit, claimed.ticket), (Some(9), b"from the shell".to_vec()));
    for (field, value) in [("policy", "twice"), ("limit", "-1"), ("limit", "007"), ("size", "1e3")]
    {
        redis.cli(&["HSET", NAME, "policy", "once", field, value]);
        let error = tickets.claim(&put(), None).unwrap_err();
        assert!(matches!(error, ClaimError::Unavailable(_)));
        assert!(error.to_string().contains(&format!("its field `{field}`")), "{error}");
        redis.cli(&["DEL", NAME]);
    }
}

#[test]
fn a_redis_that_is_away_is_found_again_and_answers_nothing_meanwhile() {
    let mut redis = Redis::start();
    let options = options().lease(Duration::from_secs(5));
    let tickets = Tickets::new(Nodes::single(&redis.url()).unwrap(), options);
    tickets.issue(&Ticket::put(KEY).until_delivered()).unwrap();
    let lease = tickets.claim(&put(), None).unwrap().lease;
    redis.kill();
    assert!(matches!(tickets.claim(&put(), None), Err(ClaimError::Unavailable(_))));
    // It holds for what is left of its time, and not for longer.
    tickets.renew(&lease).unwrap();
    eventually(|| matches!(tickets.renew(&lease), Err(LeaseError::Unavailable(_))));
    redis.start_again();
    eventually(|| tickets.renew(&lease).is_ok());
    redis.signal("STOP");
    assert!(matches!(tickets.claim(&put(), None), Err(ClaimError::Unavailable(_))));
    redis.signal("CONT");
    eventually(|| matches!(tickets.claim(&put(), None), Err(ClaimError::Refused(Refusal::InUse))));
    tickets.finish(lease, Delivery::Succeeded).unwrap();
}

#[test]
fn a_master_is_found_through_its_sentinel() {
    let redis = Redis::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let port = support::free_port();
    let watched = format!("port {port}\nsentinel monitor tickets 127.0.0.1 {} 1\n", redis.port);
    std::fs::write(file.path(), watched).unwrap();
    let mut command = std::process::Command::new("redis-server");
    command.arg(file.path()).arg("--sentinel").stdout(std::process::Stdio::null());
    let mut sentinel = command.spawn().unwrap();
    let url = format!("redis://127.0.0.1:{port}");
    let nodes = Nodes::sentinels([url.as_str()], "tickets", "redis://").unwrap();
    let tickets = Tickets::new(nodes, options());
    let began = std::time::Instant::now();
    let issued = loop {
        match tickets.issue(&Ticket::put(KEY)) {
            Err(_) if began.elapsed() < PATIENCE => {}
            issued => break issued,
        }
    };
    sentinel.kill().unwrap();
    sentinel.wait().unwrap();
    issued.unwrap();
    assert_eq!(redis.cli(&["HGET", NAME, "policy"]), "once");
}
