//! The server of the original's pair of examples: a client puts an object under the name `start`,
//! and the next get for `start` returns it.
//!
//! ```text
//! cargo run --release --example server [-- --listen ADDR]     ADDR is :8089 unless given
//! cargo run --release --example client
//! ```
//!
//! The original's own client does not wait for its receipt: it closes, and comes back for the object
//! at once, maybe before this server has looked at the put. So the get is registered from the start,
//! and waits: for a put to begin if need be, and then for the object of the newest put to be whole.

use std::error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataserver_examples::{announce, listen};
use dataserver_std::{Entry, Key, Receipt, StartPacket};
use lexopt::ValueExt;

const KEY: Key = Key::from_name("start");

/// The largest object that is taken, since it is kept in memory.
const LIMIT: u64 = 64 << 20;

/// How long a get waits for a put to begin.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let server = listen(&listen_address()?)?.report(report);

    let echo = Arc::new(Echo::default());
    let newest = Arc::clone(&echo);
    server.on_put(Entry::any_size(StartPacket::put(KEY), LIMIT), move |object| {
        let promise = newest.begin();
        let mut bytes = Vec::new();
        object.read_to_end(&mut bytes)?; // a put that fails breaks its promise
        promise.send(bytes).ok(); // nobody has it where a newer one has taken its place
        Ok(())
    })?;
    server.on_get(Entry::any_size(StartPacket::get(KEY), u64::MAX), move |object| {
        object.send(&echo.take()?)
    })?;

    announce(&server)?;
    Ok(server.run()?)
}

/// The newest object, from the beginning of its put until a get takes it.
#[derive(Default)]
struct Echo {
    newest: Mutex<Option<Receiver<Vec<u8>>>>,
    begun: Condvar,
}

impl Echo {
    /// A put begins: its object is the newest from now on.
    fn begin(&self) -> mpsc::Sender<Vec<u8>> {
        let (promise, object) = mpsc::channel();
        *self.lock() = Some(object);
        self.begun.notify_one();
        promise
    }

    /// A get takes the newest object, for itself, and waits until it is whole.
    fn take(&self) -> io::Result<Vec<u8>> {
        let waited =
            self.begun.wait_timeout_while(self.lock(), PATIENCE, |newest| newest.is_none());
        let newest = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        let object = newest.ok_or_else(|| io::Error::other("there is no object"))?;
        object.recv().map_err(|_| io::Error::other("the put of the object failed"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Receiver<Vec<u8>>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(outcome: io::Result<Receipt>) {
    let line = match outcome {
        Ok(receipt) => receipt.to_string(),
        Err(error) => error.to_string(),
    };
    writeln!(io::stderr(), "{line}").ok();
}

fn listen_address() -> Result<String, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut address = ":8089".to_owned();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("listen") => address = parser.value()?.string()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(address)
}
