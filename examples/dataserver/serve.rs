//! `serve`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dataserver_examples::{announce, listen};
use dataserver_std::{Config, Entry, Receipt, Sender, StartPacket, StopHandle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::{Named, Serve};
use crate::failure::{Failure, Status};
use crate::say;
use crate::target::{Target, about};

pub(crate) fn serve(options: Serve) -> Result<(), Failure> {
    let Serve { listen: address, puts, gets, uses, max_size } = options;
    let config = Config { limit: max_size, ..Config::default() };
    let server = listen(&address).map_err(|error| Failure::new(Status::Connect, error))?;
    let server = server.config(config).report(report);

    for Named { key, path } in puts {
        let entry = uses.of(Entry::any_size(StartPacket::put(key), max_size));
        say(&format!("put, key {key}: into {}", path.display()));
        server.on_put(entry, move |object| Target::open(&path)?.receive(object))?;
    }
    for Named { key, path } in gets {
        let entry = uses.of(Entry::any_size(StartPacket::get(key), u64::MAX));
        say(&format!("get, key {key}: from {}", path.display()));
        server.on_get(entry, move |object| send(object, &path))?;
    }

    let reset = stop_on_signals(server.stop_handle())?;
    announce(&server)?;
    server.run().map_err(|error| Failure::new(Status::Connect, error))?;
    if reset.load(Ordering::Relaxed) {
        return Err(Failure::new(Status::Reset, "a second signal reset what still ran"));
    }
    Ok(())
}

fn send(object: &mut Sender, path: &Path) -> io::Result<Receipt> {
    let metadata = fs::metadata(path).map_err(|error| about(path, &error))?;
    if !metadata.is_file() {
        return Err(about(path, &io::Error::other("not a regular file"))); // opening it may block
    }
    let file = File::open(path).map_err(|error| about(path, &error))?;
    let len = file.metadata()?.len(); // of the file that is open, whatever has the name by now
    match object.packet().size().bytes() {
        Some(declared) if declared != len => {
            Err(about(path, &io::Error::other(format!("{len} bytes, not {declared}"))))
        }
        _ => object.send_file(&file),
    }
}

fn report(outcome: io::Result<Receipt>) {
    match outcome {
        Ok(receipt) => say(&format!("{receipt}, confirmed")),
        Err(error) => say(&error.to_string()),
    }
}

/// The first signal lets what runs end by itself, the second does not, and a third waits for nothing.
/// Whether there was a second.
fn stop_on_signals(stop: StopHandle) -> io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let reset = Arc::new(AtomicBool::new(false));
    let second = Arc::clone(&reset);
    thread::spawn(move || {
        for (earlier, signal) in signals.forever().enumerate() {
            match earlier {
                0 => {
                    say("no further connections; a second signal resets those that are left");
                    stop.stop(Duration::MAX);
                }
                1 => {
                    second.store(true, Ordering::Relaxed);
                    stop.stop(Duration::ZERO);
                }
                _ => drop(emulate_default_handler(signal)),
            }
        }
    });
    Ok(reset)
}
