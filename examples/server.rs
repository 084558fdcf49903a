//! The server of the original's pair of examples: a client puts an object under the name `start`, and
//! the next get of `start` returns it.
//!
//! ```text
//! cargo run --release --example server [-- --listen ADDR]     ADDR is :8089 unless given
//! cargo run --release --example client
//! ```
//!
//! The client of the original does not wait for its receipt. It closes the connection of the put, and
//! may ask for the object before this server has accepted the put. So the get is registered from the
//! start. It waits until a put has begun, and then until the object of the newest put is complete.

use std::error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataserver_examples::{address_option, announce, listen};
use dataserver_std::{Entry, Error, Key, Receipt};

const KEY: Key = Key::from_name("start");

/// The largest object that is accepted, since it is kept in memory.
const MAX_SIZE: u64 = 64 << 20;

/// How long a get waits for a put to begin.
const WAIT_FOR_PUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "server: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn error::Error>> {
    let server = listen(&address_option("--listen", ":8089")?)?.on_complete(report);

    let puts = Arc::new(Newest::default());
    let gets = Arc::clone(&puts);
    server.on_put(Entry::new(KEY).max_size(MAX_SIZE), move |mut object| {
        let complete = puts.begin();
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?; // if this fails, `complete` is dropped, and the get fails
        // A failed send means that a newer put has replaced this one.
        complete.send(bytes).ok();
        Ok::<_, io::Error>(object.commit()?)
    })?;
    server.on_get(KEY, move |object| Ok::<_, io::Error>(object.send(&gets.take()?)?))?;

    announce(&server)?;
    Ok(server.run()?)
}

/// The newest object, from the beginning of its put until a get takes it.
#[derive(Default)]
struct Newest {
    object: Mutex<Option<Receiver<Vec<u8>>>>,
    begun: Condvar,
}

impl Newest {
    /// A put begins: its object is the newest from now on.
    fn begin(&self) -> mpsc::Sender<Vec<u8>> {
        let (complete, object) = mpsc::channel();
        *self.lock() = Some(object);
        self.begun.notify_one();
        complete
    }

    /// Takes the newest object, and waits until it is complete.
    fn take(&self) -> io::Result<Vec<u8>> {
        let waited =
            self.begun.wait_timeout_while(self.lock(), WAIT_FOR_PUT, |object| object.is_none());
        let object = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        let object = object.ok_or_else(|| io::Error::other("there is no object"))?;
        object.recv().map_err(|_| io::Error::other("the put of the object failed"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Receiver<Vec<u8>>>> {
        self.object.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(outcome: Result<Receipt, Error>) {
    let line = match outcome {
        Ok(receipt) => receipt.to_string(),
        Err(error) => error.to_string(),
    };
    writeln!(io::stderr(), "{line}").ok();
}
