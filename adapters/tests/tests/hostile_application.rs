//! An application that blocks, fails, panics, or panics when it is dropped does not cost other
//! connections anything, and does not end the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dataserver_core::{Direction, Entry, Key, StartPacket};
use dataserver_tests::{
    Call, DynAdapter, Gate, Op, Server, Setup, TIMEOUT, Wait, long_timeouts, object, pairs,
    servers, spawn,
};

/// Panics when it is dropped, and counts that.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("as the test says");
    }
}

/// An operation that has captured a [`Bomb`].
fn bomb(dropped: &Arc<AtomicUsize>) -> Op {
    let bomb = Bomb(Arc::clone(dropped));
    Op::Call(Call::new(move || _ = &bomb))
}

fn named(name: &str, number: usize) -> StartPacket {
    StartPacket::put(Key::from_name(&format!("{name} {number}")))
}

/// With as few connections as possible: a panic that leaks one would be noticed.
fn a_handler_that_panics_when_dropped_leaks_no_connection(server: DynAdapter, client: DynAdapter) {
    const BOMBS: usize = 20;
    let dropped = Arc::new(AtomicUsize::new(0));
    let well_behaved = named("well-behaved", 0);
    let setup = Setup::new().max_connections(2).on(well_behaved, [Op::ReadToEnd]);
    let server = Server::start(server, setup);
    for number in 0..BOMBS {
        let packet = named("bomb", number);
        let entry = match number % 2 {
            0 => Entry::exact(packet).once(),
            _ => Entry::exact(packet).until_delivered(),
        };
        server.add(Direction::Put, entry, [bomb(&dropped), Op::ReadToEnd]).unwrap();
        let script = [Op::Send(object(10))];
        client.client(server.address, packet, long_timeouts(), &script).unwrap();
        client.client(server.address, well_behaved, long_timeouts(), &script).unwrap();
        assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
        assert_eq!(server.outcomes.wait().unwrap().bytes, 10);
    }
    assert_eq!(dropped.load(Ordering::Relaxed), BOMBS);
    server.stop(TIMEOUT);
    server.join();
}

/// A report that never returns occupies no connection, and does not keep the server from ending. In
/// smol, reports run on the application's executor, which the application may block.
fn a_report_that_never_returns_occupies_no_connection() {
    let never = Gate::new();
    let blocked = never.clone();
    let well_behaved = named("well-behaved", 0);
    let setup = Setup::new()
        .max_connections(2)
        .on(well_behaved, [Op::ReadToEnd])
        .on_complete(move |_| blocked.wait_blocking());
    let running = dataserver_tests::adapter("std").serve(setup);
    let address = running.address();
    let client = dataserver_tests::adapter("std");
    for _ in 0..20 {
        client.client(address, well_behaved, long_timeouts(), &[Op::Send(object(10))]).unwrap();
    }
    running.stop(Duration::ZERO);
    spawn(|| running.join()).wait().unwrap();
    never.open();
}

#[test]
fn a_report_that_never_returns_occupies_no_connection_in_std() {
    a_report_that_never_returns_occupies_no_connection();
}

/// All of these together, beside well-behaved clients.
fn hostile_handlers_under_load(server: DynAdapter, client: DynAdapter) {
    const ROUNDS: usize = 25;
    let dropped = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let well_behaved = named("well-behaved", 0);
    let setup = Setup::new()
        .on(well_behaved, [Op::ReadToEnd])
        .on(named("panics", 0), [Op::Read(5), Op::Panic])
        .on(named("fails", 0), [Op::ReadToEnd, Op::Fail])
        .on(named("blocks", 0), [Op::ReadToEnd, Op::Wait(gate.clone())])
        .on_complete(|_| panic!("as the test says"));
    let server = Server::start(server, setup);
    let address = server.address;
    let send = move |packet| {
        client.client(address, packet, long_timeouts(), &[Op::Send(object(10))]).map(|_| ())
    };
    let blocked: Vec<_> = (0..8).map(|_| spawn(move || send(named("blocks", 0)))).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (running, dropped) = (server.running(), &dropped);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let packet = named("bomb", thread * ROUNDS + round);
                    let entry = Entry::exact(packet).once();
                    let script = vec![bomb(dropped), Op::Read(5), Op::Panic];
                    running.add(Direction::Put, entry, script).unwrap();
                    send(packet).unwrap_err();
                    send(named("panics", 0)).unwrap_err();
                    send(named("fails", 0)).unwrap_err();
                }
            });
            scope.spawn(move || (0..2 * ROUNDS).for_each(|_| send(well_behaved).unwrap()));
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 4 * ROUNDS);
    gate.open();
    for blocked in blocked {
        blocked.wait().unwrap();
    }
    server.stop(TIMEOUT);
    server.join();
}

/// The server shuts down and drops the script while it runs.
fn a_handler_that_panics_when_it_is_cancelled_costs_nothing(server: DynAdapter) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let packet = named("bomb", 0);
    let (begun, beginning) = channel();
    let script = [bomb(&dropped), Op::Read(5), Op::Notify(begun), Op::Wait(gate.clone())];
    let server = Server::start(server, Setup::new().on_put(Entry::exact(packet).once(), script));
    let address = server.address;
    let client = dataserver_tests::adapter("std");
    let putting = spawn(move || {
        client.client(address, packet, long_timeouts(), &[Op::Write(object(10)), Op::Finish])
    });
    beginning.wait();
    server.stop(Duration::ZERO);
    gate.open();
    putting.wait().unwrap_err();
    server.join();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

/// Handlers that were never called are dropped with the server.
fn a_handler_that_panics_when_dropped_does_not_fail_the_server(server: DynAdapter) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let setup =
        Setup::new().on(named("bomb", 0), [bomb(&dropped)]).on(named("bomb", 1), [bomb(&dropped)]);
    let server = Server::start(server, setup);
    server.stop(Duration::ZERO);
    server.join();
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

servers!(
    a_handler_that_panics_when_it_is_cancelled_costs_nothing,
    a_handler_that_panics_when_dropped_does_not_fail_the_server,
);
pairs!(a_handler_that_panics_when_dropped_leaks_no_connection, hostile_handlers_under_load);
