//! Objects one after the other over a connection that has a fault at any place.

use std::fmt;
use std::sync::mpsc::{Receiver, channel};

use dataserver_core::{Config, Direction, Key, StartPacket, Timeouts};
use dataserver_tests::{
    DirectionPlan, DynAdapter, Fault, FaultKind, FaultPlan, FaultPoint, OnReset, Op, Relay, Server,
    Setup, Smol, Std, TIMEOUT, Wait, long_timeouts, object, spawn,
};
use fastrand::Rng;

use crate::plan::SHORT;

const OBJECTS: usize = 4;

/// Longer than a run.
const LONG: std::time::Duration = TIMEOUT.saturating_mul(10);

/// The objects of a session, and the fault.
struct Plan {
    server: DynAdapter,
    client: DynAdapter,
    directions: [Direction; OBJECTS],
    objects: [Vec<u8>; OBJECTS],
    fault_plan: FaultPlan,
    is_silent: bool,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let adapter = |rng: &mut Rng| -> DynAdapter {
            match rng.usize(..4) {
                0 => &Std::TCP,
                1 => &Smol::TCP,
                2 => &Std::TLS,
                _ => &Smol::TLS,
            }
        };
        let (mut server, client) = (adapter(rng), adapter(rng));
        let has_tls = |adapter: DynAdapter| adapter.name().ends_with("-tls");
        while has_tls(server) != has_tls(client) {
            server = adapter(rng);
        }
        let directions =
            [(); OBJECTS].map(|()| if rng.bool() { Direction::Put } else { Direction::Get });
        let objects = [(); OBJECTS].map(|()| object(rng.usize(1..20_000)));
        let length: usize = objects.iter().map(Vec::len).sum();
        let kind = match rng.usize(..5) {
            0 => None,
            1 => Some(FaultKind::Reset),
            2 => Some(FaultKind::Stall),
            _ => Some(FaultKind::End(None)),
        };
        let on_reset = [OnReset::Reset, OnReset::Silence, OnReset::End][rng.usize(..3)];
        let is_stalled = matches!(kind, Some(FaultKind::Stall));
        let is_silent = kind.is_some() && (is_stalled || on_reset == OnReset::Silence);
        let fault = kind.map(|kind| Fault { at: FaultPoint::Byte(rng.u64(..length as u64)), kind });
        let longest = [1, 25, 1000, 100_000][rng.usize(..4)];
        let mut plan = |fault| DirectionPlan {
            pieces: (0..1000).map(|_| rng.usize(1..=longest)).collect(),
            fault,
            ..DirectionPlan::default()
        };
        let mut plans = [plan(fault), plan(None)];
        if rng.bool() {
            plans.reverse();
        }
        let [to_server, to_client] = plans;
        let closes_both = rng.bool();
        let fault_plan =
            FaultPlan { to_server, to_client, on_reset, closes_both, ends_alone: true };
        Self { server, client, directions, objects, fault_plan, is_silent }
    }

    fn packet(&self, index: usize) -> StartPacket {
        let key = Key::from_bytes([index as u8 + 1; 16]);
        match self.directions[index] {
            Direction::Put => StartPacket::put(key).framed(),
            Direction::Get => StartPacket::get(key).framed(),
        }
    }

    fn config(&self) -> Config {
        let short = Timeouts::default().start(SHORT).idle(SHORT).receipt(SHORT).keep_alive(SHORT);
        if self.is_silent { Config::default().timeouts(short) } else { long_timeouts() }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, client, directions, fault_plan, .. } = self;
        let FaultPlan { on_reset, closes_both, to_server, to_client, .. } = fault_plan;
        let faults = (&to_server.fault, &to_client.fault);
        write!(
            f,
            "{directions:?} from a {} client at a {} server, ",
            client.name(),
            server.name()
        )?;
        write!(f, "{on_reset:?} on reset, closes both: {closes_both}, {faults:?}")
    }
}

/// Runs a seed. A receipt of any object implies that this very object was stored, and nothing else is stored.
pub(crate) fn run(seed: u64) -> String {
    let plan = Plan::new(seed);
    let (mut setup, mut script) = (Setup::new().config(plan.config()), Vec::new());
    let mut stored: Vec<Receiver<Vec<u8>>> = Vec::new();
    for (index, object) in plan.objects.iter().enumerate() {
        let (packet, (notify, receiver)) = (plan.packet(index), channel());
        stored.push(receiver);
        let receive = vec![Op::ReadToEnd, Op::Notify(notify)];
        let (at_server, at_client) = match packet.direction() {
            Direction::Put => (receive, vec![Op::Send(object.clone())]),
            Direction::Get => {
                (vec![Op::Send(object.clone())], [receive, vec![Op::Commit]].concat())
            }
        };
        setup = setup.on(packet, at_server);
        script.push((packet, at_client));
    }
    let server = Server::start(plan.server, setup);
    let relay = Relay::start(server.address, plan.fault_plan.clone());
    let (adapter, address, config) = (plan.client, relay.address, plan.config());
    let ended = spawn(move || adapter.session(address, config, &script)).wait();
    relay.relayed();
    server.stop(LONG);
    let outcomes = server.join();

    let mut receipts = 0;
    for (index, object) in plan.objects.iter().enumerate() {
        let stored = stored[index].try_iter().next();
        assert!(stored.as_ref().is_none_or(|it| it == object), "stored another object: {plan}");
        let packet = plan.packet(index);
        let server_has = outcomes.iter().flatten().any(|receipt| receipt.packet == packet);
        let client_has = ended[index].as_ref().is_ok_and(|outcome| outcome.receipt.is_some());
        assert!(
            stored.is_some() || !(server_has || client_has),
            "a success without a stored object: {plan}"
        );
        receipts += usize::from(server_has && client_has);
    }
    let FaultPlan { to_server, to_client, .. } = &plan.fault_plan;
    let has_fault = to_server.fault.is_some() || to_client.fault.is_some();
    assert!(has_fault || receipts == OBJECTS, "a failure without a fault: {ended:?}: {plan}");
    format!("fault: {has_fault}, {receipts} of {OBJECTS} objects")
}
