//! One run: a server, a client, and the relay between them.

use std::sync::mpsc::channel;
use std::time::Duration;
use std::{fs, io};

use dataserver_adapter::Receipt;
use dataserver_core::{Direction, Key, StartPacket};
use dataserver_scenarios::{
    Any, Do, PATIENCE, Relay, Server, Setup, Smol, Soon, Std, TempFile, eventually, get, object,
    patient, put, spawn,
};

use crate::oracle::{self, Ending, Seen};
use crate::plan::Plan;

/// Longer than a run may take.
const LONG: Duration = PATIENCE.saturating_mul(10);

/// Of somebody else.
const OTHER: StartPacket = StartPacket::put(Key::new([1; 16]));

/// Does what a seed says, and judges it.
pub(crate) fn run(seed: u64) -> Ending {
    let plan = Plan::new(seed);
    let bytes = object(plan.size);
    oracle::judge(&plan, &bytes, &see(&plan, &bytes))
}

fn see(plan: &Plan, bytes: &[u8]) -> Seen {
    let (source, target) = (TempFile::new(bytes), TempFile::new(b""));
    let (telling, told) = channel();
    let (packet, [at_client, at_server]) = (plan.packet(), plan.configs());
    let sending = plan.sending(bytes, source.path());
    let receiving = plan.receiving(target.path(), telling);
    let (client, server) = match plan.direction {
        Direction::Put => (sending, receiving),
        Direction::Get => (receiving, sending),
    };

    let setup = Setup::new().config(at_server).on(packet, server).on(OTHER, [Do::ReadToEnd]);
    let server = Server::start(plan.server, setup);
    let relay = Relay::start(server.address, plan.orders.clone());
    let (adapter, address) = (plan.client, relay.address);
    let client = spawn(move || adapter.client(address, packet, at_client, &client)).soon();
    let passed = relay.passed();
    still_serves(&server, plan.client);
    server.stop(LONG);
    let server = outcome(server.ends(), packet);

    let stored = told.try_iter().next().map(|read| match plan.stores_in_a_file() {
        true => fs::read(target.path()).expect("a file"),
        false => read,
    });
    let client = client.map(|outcome| outcome.receipt.expect("a script that asks for it"));
    let (sender, receiver, given) = match plan.direction {
        Direction::Put => (client, server, passed.to_server),
        Direction::Get => (server, client, passed.to_client),
    };
    Seen { sender, receiver: receiver.map(drop), stored, given }
}

/// Whatever happened to one, the next is served. In time, sooner or later: some timers are short.
fn still_serves(server: &Server, client: Any) {
    eventually("the next client is served", || {
        client.client(server.address, OTHER, patient(), &[Do::Send(object(10))]).is_ok()
    });
}

/// What the server said of this connection: its success, if there was one. A connection that was
/// reset before it was taken, it never saw.
fn outcome(outcomes: Vec<io::Result<Receipt>>, packet: StartPacket) -> io::Result<Receipt> {
    let is_ours = |receipt: &Receipt| receipt.packet == packet;
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let ours = good.into_iter().filter(|outcome| outcome.as_ref().is_ok_and(is_ours));
    let unseen = Err(io::Error::other("the server has seen no client"));
    ours.chain(bad).next().unwrap_or(unseen)
}

/// Does once what a process may set up for good.
pub(crate) fn warm_up() {
    let pairs: [(Any, Any); 2] = [(&Std, &Smol), (&Smol, &Std)];
    for (server, client) in pairs {
        let setup = Setup::new().on(put(None), [Do::ReadToEnd]).on(get(None), [Do::Send(vec![])]);
        let server = Server::start(server, setup);
        let script = [Do::Send(object(10))];
        client.client(server.address, put(None), patient(), &script).expect("a receipt");
        let script = [Do::ReadToEnd, Do::Commit];
        client.client(server.address, get(None), patient(), &script).expect("an object");
        server.stop(LONG);
        server.ends();
    }
}
