//! An application that blocks, fails, panics, or panics when it is dropped, costs nobody else a place, a
//! thread, or the end of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Direction, Entry, Key, StartPacket};
use dataserver_scenarios::{
    Any, Call, Do, Gate, PATIENCE, Server, Setup, Soon, object, pairs, patient, servers, spawn,
};

/// Panics when it is dropped, and counts that.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("as the scenario says");
    }
}

/// An entry whose handler captures a [`Bomb`].
fn bomb(dropped: &Arc<AtomicUsize>) -> Do {
    let bomb = Bomb(Arc::clone(dropped));
    Do::Call(Call::new(move || _ = &bomb))
}

fn named(name: &str, number: usize) -> StartPacket {
    StartPacket::put(Key::from_name(&format!("{name} {number}")))
}

/// With as few places as can be, each of which a panic would cost.
fn a_handler_that_panics_when_dropped_costs_no_place(server: Any, client: Any) {
    const BOMBS: usize = 20;
    let dropped = Arc::new(AtomicUsize::new(0));
    let honest = named("honest", 0);
    let setup = Setup::new().max_connections(2).on(honest, [Do::ReadToEnd]);
    let server = Server::start(server, setup);
    for number in 0..BOMBS {
        let packet = named("bomb", number);
        let entry = match number % 2 {
            0 => Entry::exact(packet).once(),
            _ => Entry::exact(packet).until_delivered(),
        };
        server.add(entry, [bomb(&dropped), Do::ReadToEnd]).unwrap();
        let script = [Do::Send(object(10))];
        client.client(server.address, packet, patient(), &script).unwrap();
        client.client(server.address, honest, patient(), &script).unwrap();
        assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
        assert_eq!(server.outcomes.soon().unwrap().bytes, 10);
    }
    assert_eq!(dropped.load(Ordering::Relaxed), BOMBS);
    server.stop(PATIENCE);
    server.ends();
}

/// A report that never returns holds no place, and does not keep the server from ending. In smol, reports
/// run on the application's executor, which is the application's to block.
fn a_report_that_never_returns_holds_no_place() {
    let never = Gate::new();
    let blocked = never.clone();
    let honest = named("honest", 0);
    let setup = Setup::new()
        .max_connections(2)
        .on(honest, [Do::ReadToEnd])
        .report(move |_| blocked.wait_blocking());
    let running = dataserver_scenarios::adapter("std").serve(setup);
    let address = running.address();
    let client = dataserver_scenarios::adapter("std");
    for _ in 0..20 {
        client.client(address, honest, patient(), &[Do::Send(object(10))]).unwrap();
    }
    running.stop(Duration::ZERO);
    spawn(|| running.join()).soon().unwrap();
    never.open();
}

#[test]
fn a_report_that_never_returns_holds_no_place_in_std() {
    a_report_that_never_returns_holds_no_place();
}

/// Everything at once, beside honest clients. Each hostile entry keeps what it does to itself.
fn all_of_it_under_load(server: Any, client: Any) {
    const ROUNDS: usize = 25;
    let dropped = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let honest = named("honest", 0);
    let setup = Setup::new()
        .on(honest, [Do::ReadToEnd])
        .on(named("panics", 0), [Do::Read(5), Do::Panic])
        .on(named("fails", 0), [Do::ReadToEnd, Do::Fail])
        .on(named("blocks", 0), [Do::ReadToEnd, Do::Wait(gate.clone())])
        .report(|_| panic!("as the scenario says"));
    let server = Server::start(server, setup);
    let address = server.address;
    let send = move |packet| {
        client.client(address, packet, patient(), &[Do::Send(object(10))]).map(|_| ())
    };
    let blocked: Vec<_> = (0..8).map(|_| spawn(move || send(named("blocks", 0)))).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (running, dropped) = (server.running(), &dropped);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let packet = named("bomb", thread * ROUNDS + round);
                    let entry = Entry::exact(packet).once();
                    let script = vec![bomb(dropped), Do::Read(5), Do::Panic];
                    running.add(Direction::Put, entry, script).unwrap();
                    send(packet).unwrap_err();
                    send(named("panics", 0)).unwrap_err();
                    send(named("fails", 0)).unwrap_err();
                }
            });
            scope.spawn(move || (0..2 * ROUNDS).for_each(|_| send(honest).unwrap()));
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 4 * ROUNDS);
    gate.open();
    for blocked in blocked {
        blocked.soon().unwrap();
    }
    server.stop(PATIENCE);
    server.ends();
}

/// A script that is dropped while it runs: the server is stopped, and resets it.
fn a_handler_that_panics_when_it_is_cancelled_costs_nothing(server: Any) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let packet = named("bomb", 0);
    let (begun, beginning) = channel();
    let script = [bomb(&dropped), Do::Read(5), Do::Tell(begun), Do::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on(Entry::exact(packet).once(), script));
    let address = server.address;
    let client = dataserver_scenarios::adapter("std");
    let putting = spawn(move || {
        client.client(address, packet, patient(), &[Do::Write(object(10)), Do::Finish])
    });
    beginning.soon();
    server.stop(Duration::ZERO);
    gate.open();
    putting.soon().unwrap_err();
    server.ends();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

/// What was never claimed is dropped with the server.
fn a_handler_that_panics_when_dropped_does_not_fail_the_server(server: Any) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let setup =
        Setup::new().on(named("bomb", 0), [bomb(&dropped)]).on(named("bomb", 1), [bomb(&dropped)]);
    let server = Server::start(server, setup);
    server.stop(Duration::ZERO);
    server.ends();
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

servers!(
    a_handler_that_panics_when_it_is_cancelled_costs_nothing,
    a_handler_that_panics_when_dropped_does_not_fail_the_server,
);
pairs!(a_handler_that_panics_when_dropped_costs_no_place, all_of_it_under_load);
