//! One run: a server, a client, and the relay between them.

use std::sync::mpsc::channel;
use std::time::Duration;
use std::{fs, io};

use dataserver_common::Receipt;
use dataserver_core::{Direction, Key, StartPacket};
use dataserver_tests::{
    DynAdapter, Op, Relay, Server, Setup, Smol, Std, TIMEOUT, TempFile, Wait, eventually, get,
    long_timeouts, object, put, spawn,
};

use crate::oracle::{self, Ending, Observed};
use crate::plan::Plan;

/// Longer than a run.
const LONG: Duration = TIMEOUT.saturating_mul(10);

/// The start packet of other clients.
const OTHER: StartPacket = StartPacket::put(Key::from_bytes([1; 16]));

/// Runs a seed in the bare format, and checks the result.
pub(crate) fn bare(seed: u64) -> Ending {
    let plan = Plan::bare(seed);
    let bytes = object(plan.size);
    oracle::judge(&plan, &bytes, &see(&plan, &bytes))
}

/// The same in the framed format.
pub(crate) fn framed(seed: u64) -> Ending {
    let plan = Plan::framed(seed);
    let bytes = object(plan.size);
    oracle::judge_framed(&plan, &bytes, &see(&plan, &bytes))
}

/// The same over TLS, in either format.
pub(crate) fn over_tls(seed: u64) -> Ending {
    let plan = Plan::over_tls(seed);

    let bytes = object(plan.size);
    oracle::judge_over_tls(&plan, &bytes, &see(&plan, &bytes))
}

fn see(plan: &Plan, bytes: &[u8]) -> Observed {
    let (source, target) = (TempFile::new(bytes), TempFile::new(b""));
    let (sender, stored) = channel();
    let (packet, [at_client, at_server]) = (plan.packet(), plan.configs());
    let sending = plan.sending(bytes, source.path());
    let receiving = plan.receiving(target.path(), sender);
    let (client, server) = match plan.direction {
        Direction::Put => (sending, receiving),
        Direction::Get => (receiving, sending),
    };

    let setup = Setup::new().config(at_server).on(packet, server).on(OTHER, [Op::ReadToEnd]);
    let server = Server::start(plan.server, setup);
    let relay = Relay::start(server.address, plan.fault_plan.clone());
    let (adapter, address) = (plan.client, relay.address);
    let client = spawn(move || adapter.client(address, packet, at_client, &client)).wait();
    let passed = relay.relayed();
    still_serves(&server, plan.client);
    server.stop(LONG);
    let server = outcome(server.join(), packet);

    let stored = stored.try_iter().next().map(|read| match plan.stores_in_a_file() {
        true => fs::read(target.path()).expect("a file"),
        false => read,
    });
    let client = client.map(|outcome| outcome.receipt.expect("a script that asks for it"));
    let (sender, receiver, given, taken) = match plan.direction {
        Direction::Put => (client, server, passed.to_server, passed.to_client),
        Direction::Get => (server, client, passed.to_client, passed.to_server),
    };
    Observed { sender, receiver: receiver.map(drop), stored, given, taken }
}

/// The next client is served, whatever happened to this one. Some timers are short, so it may have to
/// try again.
fn still_serves(server: &Server, client: DynAdapter) {
    eventually("the next client is served", || {
        client.client(server.address, OTHER, long_timeouts(), &[Op::Send(object(10))]).is_ok()
    });
}

/// The outcome that the server has reported for this connection: a success, if there is one. It does
/// not report connections that were reset before they were accepted.
fn outcome(outcomes: Vec<io::Result<Receipt>>, packet: StartPacket) -> io::Result<Receipt> {
    let is_ours = |receipt: &Receipt| receipt.packet == packet;
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let ours = good.into_iter().filter(|outcome| outcome.as_ref().is_ok_and(is_ours));
    let unseen = Err(io::Error::other("the server has seen no client"));
    ours.chain(bad).next().unwrap_or(unseen)
}

/// Sets up what a process keeps.
pub(crate) fn warm_up() {
    let pairs: [(DynAdapter, DynAdapter); 4] = [
        (&Std::TCP, &Smol::TCP),
        (&Smol::TCP, &Std::TCP),
        (&Std::TLS, &Smol::TLS),
        (&Smol::TLS, &Std::TLS),
    ];
    for (server, client) in pairs {
        let setup = Setup::new().on(put(None), [Op::ReadToEnd]).on(get(None), [Op::Send(vec![])]);
        let server = Server::start(server, setup);
        let script = [Op::Send(object(10))];
        client.client(server.address, put(None), long_timeouts(), &script).expect("a receipt");
        let script = [Op::SendPath("/dev/null".into())];
        client.client(server.address, put(None), long_timeouts(), &script).expect_err("no file");
        let script = [Op::ReadToEnd, Op::Commit];
        client.client(server.address, get(None), long_timeouts(), &script).expect("an object");
        server.stop(LONG);
        server.join();
    }
}
