//! `serve`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dataserver_examples::{announce, listen};
use dataserver_std::{Config, Entry, Error, ObjectReader, ObjectWriter, Receipt, ShutdownHandle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::{Named, Serve};
use crate::failure::{Failure, Status};
use crate::say;
use crate::target::{Target, with_path};

pub(crate) fn serve(options: Serve) -> Result<(), Failure> {
    let Serve { listen: address, puts, gets, uses, max_size } = options;
    let config = Config::default().max_object_size(max_size);
    let server = listen(&address).map_err(|error| Failure::new(Status::Connect, error))?;
    let server = server.config(config).on_complete(report);

    for Named { key, path } in puts {
        say(&format!("put, key {key}: into {}", path.display()));
        server.on_put(uses.of(Entry::new(key)), move |object| receive(object, &path))?;
    }
    for Named { key, path } in gets {
        say(&format!("get, key {key}: from {}", path.display()));
        server.on_get(uses.of(Entry::new(key)), move |object| send(object, &path))?;
    }

    let was_reset = shut_down_on_signals(server.shutdown_handle())?;
    announce(&server)?;
    server.run().map_err(|error| Failure::new(Status::Connect, error))?;
    if was_reset.load(Ordering::Relaxed) {
        return Err(Failure::new(Status::Reset, "a second signal reset the open connections"));
    }
    Ok(())
}

fn receive(object: ObjectReader, path: &Path) -> Result<Receipt, Failure> {
    match Target::direct(path)? {
        Some(target) => target.receive(object),
        None => Ok(object.receive_to(path)?),
    }
}

fn send(object: ObjectWriter, path: &Path) -> Result<Receipt, Failure> {
    let metadata = fs::metadata(path).map_err(|error| with_path(path, &error))?;
    if !metadata.is_file() {
        // Not opened, which might block.
        return Err(with_path(path, &io::Error::other("not a regular file")).into());
    }
    let file = File::open(path).map_err(|error| with_path(path, &error))?;
    let len = file.metadata()?.len(); // of the open file: the name may have a new one by now
    match object.declared_size().bytes() {
        Some(declared) if declared != len => {
            let error = io::Error::other(format!("{len} bytes, not {declared}"));
            Err(with_path(path, &error).into())
        }
        _ => Ok(object.send_file(&file)?),
    }
}

fn report(outcome: Result<Receipt, Error>) {
    match outcome {
        Ok(receipt) => say(&format!("{receipt}, confirmed")),
        Err(error) => say(&error.to_string()),
    }
}

/// Shuts the server down at a signal. The first one lets open connections end, the second resets them,
/// and the third ends the process. Returns whether there was a second.
fn shut_down_on_signals(handle: ShutdownHandle) -> io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let was_reset = Arc::new(AtomicBool::new(false));
    let second = Arc::clone(&was_reset);
    thread::spawn(move || {
        for (earlier, signal) in signals.forever().enumerate() {
            match earlier {
                0 => {
                    say("no further connections; a second signal resets the open ones");
                    handle.shutdown(Duration::MAX);
                }
                1 => {
                    second.store(true, Ordering::Relaxed);
                    handle.shutdown(Duration::ZERO);
                }
                _ => drop(emulate_default_handler(signal)),
            }
        }
    });
    Ok(was_reset)
}
