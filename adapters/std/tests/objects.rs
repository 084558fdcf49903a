//! What an application may do with its objects and handlers.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataserver_std::{
    Client, Config, Entry, Error, Handlers, Key, ObjectReader, ObjectWriter, Receipt, Server,
    ShutdownHandle, Socket,
};

const KEY: Key = Key::from_name("object");

/// Fails, or panics, after its first bytes.
struct Source {
    left: usize,
    panics: bool,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            assert!(!self.panics, "as the test says");
            return Err(io::ErrorKind::NotFound.into());
        }
        let n = self.left.min(buffer.len());
        self.left -= n;
        Ok(n)
    }
}

fn serve(handlers: Handlers) -> (Socket, JoinHandle<Result<Receipt, Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = Socket::from_std(listener.accept().unwrap().0).unwrap();
    let serving = thread::spawn(move || handlers.serve(server, &Config::default()));
    (Socket::from_std(client).unwrap(), serving)
}

fn put(socket: Socket) -> ObjectWriter {
    ObjectWriter::open(socket, KEY, &Config::default())
}

#[test]
fn a_send_that_fails_or_panics_aborts_the_connection() {
    for panics in [false, true] {
        let committed = Arc::new(AtomicBool::new(false));
        let commit = Arc::clone(&committed);
        let handlers = Handlers::new();
        let result = handlers.on_put(KEY, move |mut object| {
            io::copy(&mut object, &mut io::sink())?;
            commit.store(true, Ordering::Relaxed);
            Ok::<_, io::Error>(object.commit()?)
        });
        result.unwrap();
        let (socket, serving) = serve(handlers);
        let source = Source { left: 100_000, panics };
        let sent = catch_unwind(AssertUnwindSafe(|| put(socket).send_reader(source)));
        match sent {
            Ok(sent) => {
                let error = sent.unwrap_err().to_string();
                assert!(error.contains("aborted: the object cannot be read"), "{error}");
            }
            Err(_panic) => assert!(panics),
        }
        let error = serving.join().unwrap().unwrap_err();
        assert!(error.is_reset(), "{error}");
        assert!(!committed.load(Ordering::Relaxed));
    }
}

/// The panic of a reader in a handler aborts the connection before the rest of its object is sent.
#[test]
fn a_send_that_panics_in_a_handler_is_reported_as_given_up() {
    let handlers = Handlers::new();
    let source = || Source { left: 100_000, panics: true };
    handlers.on_get(KEY, move |object| object.send_reader(source())).unwrap();
    let (socket, serving) = serve(handlers);
    let object = ObjectReader::open(socket, KEY, &Config::default()).unwrap();
    let error = { object }.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = serving.join().unwrap().unwrap_err().to_string();
    assert!(error.ends_with("a send was given up before the end of the object"), "{error}");
}

#[test]
fn the_error_of_a_handler_is_the_source_of_the_error_of_its_connection() {
    let unreachable = "127.0.0.1:1";
    let handlers = Handlers::new();
    let result = handlers.on_put(KEY, move |_| Client::new(unreachable)?.put(KEY)?.send(b"hello"));
    result.unwrap();
    let (socket, serving) = serve(handlers);
    put(socket).send(b"hello").unwrap_err();
    let error = serving.join().unwrap().unwrap_err();
    assert!(error.to_string().contains(unreachable), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(matches!(source.downcast_ref(), Some(Error::Connect { .. })), "{source:?}");
}

/// The peer of the other connection has the receipt, and the peer of this one has none.
#[test]
fn the_receipt_of_another_object_is_an_error() {
    let (server, address, shutdown) = server();
    let forward = Key::from_name("forward");
    let result = server.on_put(forward, move |mut object| {
        io::copy(&mut object, &mut io::sink())?;
        Ok::<_, io::Error>(Client::new(address)?.get(Key::from_name("other"))?.commit()?)
    });
    result.unwrap();
    server.on_get(Key::from_name("other"), |object| object.send(b"")).unwrap();
    let (report, reports) = mpsc::channel();
    let server = server.on_complete(move |outcome| report.send(outcome).unwrap());
    let running = thread::spawn(move || server.run());
    let error = Client::new(address).unwrap().put(forward).unwrap().send(b"hello").unwrap_err();
    assert!(error.is_reset(), "{error}");
    let outcomes: Vec<_> = (0..2).map(|_| reports.recv().unwrap()).collect();
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 1));
    let error = bad[0].as_ref().unwrap_err().to_string();
    let expected = "aborted: the handler returned the receipt of another object";
    assert!(error.ends_with(expected), "{error}");
    shutdown.shutdown(Duration::ZERO);
    running.join().unwrap().unwrap();
}

/// A handler that gives its object away and returns fails, and the object is of no use afterwards.
#[test]
fn a_handler_that_returns_before_its_object_has_ended_fails() {
    let (sender, objects) = mpsc::channel::<ObjectReader>();
    let (ended, returned) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let mut object = objects.recv().unwrap();
        returned.recv().unwrap_err(); // the handler has returned
        io::copy(&mut object, &mut io::sink())?;
        Ok::<_, io::Error>(object.commit()?)
    });
    let handlers = Handlers::new();
    let result = handlers.on_put(Entry::new(KEY).until_delivered(), move |object| {
        sender.send(object).unwrap();
        Err::<Receipt, _>("moved away")
    });
    result.unwrap();
    let (socket, serving) = serve(handlers);
    let sending = thread::spawn(|| put(socket).send(b"hello"));
    let error = serving.join().unwrap().unwrap_err().to_string();
    assert!(error.ends_with("aborted: the handler failed: moved away"), "{error}");
    drop(ended);
    other.join().unwrap().unwrap_err();
    assert!(sending.join().unwrap().unwrap_err().is_reset());
}

#[test]
fn the_captures_of_handlers_are_dropped_with_the_handlers() {
    let captured = Arc::new(());
    let handlers = Handlers::new();
    let (weak, held) = (handlers.downgrade(), Arc::clone(&captured));
    let result = handlers.on_put(KEY, move |object| {
        let (_weak, _held) = (&weak, &held);
        object.commit()
    });
    result.unwrap();
    drop(handlers);
    assert_eq!(Arc::strong_count(&captured), 1);
}

fn server() -> (Server, std::net::SocketAddr, ShutdownHandle) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
    (server, address, shutdown)
}

#[test]
fn a_shutdown_handle_does_not_keep_the_listener() {
    let (server, address, shutdown) = server();
    drop(server);
    let error = Client::new(address).unwrap().put(KEY).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    shutdown.shutdown(Duration::ZERO); // has no effect
}

/// Concurrent puts to one path leave one whole object.
#[test]
fn puts_to_one_path_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("object");
    let (server, address, shutdown) = server();
    let path = target.clone();
    server.on_put(KEY, move |object| object.receive_to(&path)).unwrap();
    let running = thread::spawn(move || server.run());
    let puts: Vec<_> = (0..8_u8)
        .map(|fill| {
            thread::spawn(move || {
                let object = vec![fill; 100_000 + usize::from(fill)];
                Client::new(address).unwrap().put(KEY).unwrap().send(&object).unwrap();
            })
        })
        .collect();
    for put in puts {
        put.join().unwrap();
        let stored = std::fs::read(&target).unwrap();
        assert!(stored.iter().all(|byte| *byte == stored[0]));
        assert_eq!(stored.len(), 100_000 + usize::from(stored[0]));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    shutdown.shutdown(Duration::ZERO);
    running.join().unwrap().unwrap();
}

/// Panics again when what the panic carried is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as the test says");
    }
}

#[test]
fn a_panic_whose_payload_panics_costs_no_thread() {
    let server = Server::bind("127.0.0.1:0").unwrap().max_connections(NonZeroUsize::MIN);
    let bad = Key::from_name("bad");
    server.on_put(bad, |_| -> Result<Receipt, Error> { std::panic::panic_any(Bomb) }).unwrap();
    server.on_get(KEY, |object| object.send(b"hello")).unwrap();
    let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
    let running = thread::spawn(move || server.run());
    for _ in 0..3 {
        let client = Client::new(address).unwrap();
        assert!(client.put(bad).unwrap().send(b"hello").unwrap_err().is_reset());
        let mut object = client.get(KEY).unwrap();
        assert_eq!(io::copy(&mut object, &mut io::sink()).unwrap(), 5);
        object.commit().unwrap();
    }
    shutdown.shutdown(Duration::ZERO);
    running.join().unwrap().unwrap();
}
