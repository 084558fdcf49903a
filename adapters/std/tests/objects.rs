//! What an application may do with its objects and handlers, over sockets.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use dataserver_std::{
    Client, Config, Entry, Error, Handlers, Key, Receipt, Sender, Server, Socket, StartPacket,
};

const PUT: StartPacket = StartPacket::put(Key::from_name("object"));

/// Fails, or panics, behind its first bytes.
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

fn serve(handlers: Handlers) -> (Socket, JoinHandle<io::Result<Receipt>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = Socket::try_from(listener.accept().unwrap().0).unwrap();
    let serving = thread::spawn(move || handlers.serve(server, &Config::default()));
    (Socket::try_from(client).unwrap(), serving)
}

#[test]
fn a_send_that_failed_or_panicked_cannot_be_finished() {
    for panics in [false, true] {
        let handlers = Handlers::default();
        handlers.on_put(PUT, |object| io::copy(object, &mut io::sink())).unwrap();
        let (socket, serving) = serve(handlers);
        let mut object = Sender::open(socket, PUT, &Config::default()).unwrap();
        let source = Source { left: 100_000, panics };
        let sent = catch_unwind(AssertUnwindSafe(|| object.send_reader(source)));
        assert!(!matches!(sent, Ok(Ok(_))));
        let error = object.finish().unwrap_err().to_string();
        assert!(error.contains("aborted: "), "{error}");
        drop(object);
        serving.join().unwrap().unwrap_err();
    }
}

#[test]
fn the_error_of_another_connection_is_the_source_of_the_error_of_a_handler() {
    let nowhere = "127.0.0.1:1";
    let handlers = Handlers::default();
    handlers.on_put(PUT, move |_| Client::new(nowhere).put(PUT).map(drop)).unwrap();
    let (socket, serving) = serve(handlers);
    let mut object = Sender::open(socket, PUT, &Config::default()).unwrap();
    object.send(b"hello").unwrap_err();
    let error = serving.join().unwrap().unwrap_err();
    assert!(error.to_string().contains(nowhere), "{error}");
}

#[test]
fn what_the_handlers_of_a_table_captured_is_dropped_with_it() {
    let captured = Arc::new(());
    let handlers = Handlers::default();
    let (weak, held) = (handlers.downgrade(), Arc::clone(&captured));
    let put = handlers.on_put(PUT, move |_| {
        let (_weak, _held) = (&weak, &held);
        Ok(())
    });
    put.unwrap();
    drop(handlers);
    assert_eq!(Arc::strong_count(&captured), 1);
}

#[test]
fn a_stop_handle_does_not_keep_the_listener() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let stop = server.stop_handle();
    drop(server);
    let error = Client::new(address).put(PUT).err().expect("nobody listens");
    assert!(matches!(Error::of(&error), Some(Error::Connect { .. })), "{error}");
    stop.stop(std::time::Duration::ZERO); // does nothing
}

/// Two puts to one name at once leave one whole object.
#[test]
fn puts_to_one_file_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("object");
    let server = Server::bind("127.0.0.1:0").unwrap();
    let path = target.clone();
    let entry = Entry::any_size(PUT, u64::MAX);
    server.on_put(entry, move |object| object.receive_to(&path)).unwrap();
    let (address, stop) = (server.local_addr().unwrap(), server.stop_handle());
    let running = thread::spawn(move || server.run());
    let puts: Vec<_> = (0..8_u8)
        .map(|fill| {
            thread::spawn(move || {
                let object = vec![fill; 100_000 + usize::from(fill)];
                let packet = PUT.with_size(object.len() as u64).unwrap();
                Client::new(address).put(packet).unwrap().send(&object).unwrap();
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
    stop.stop(std::time::Duration::ZERO);
    running.join().unwrap().unwrap();
}
