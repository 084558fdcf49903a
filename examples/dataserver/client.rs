//! `put` and `get`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use dataserver_std::{Client, Request};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::Object;
use crate::failure::Failure;
use crate::say;
use crate::target::{Target, with_path};

pub(crate) fn put(object: &Object) -> Result<(), Failure> {
    // The file before the connection: a missing file should not use up an entry of the server.
    let file = match &object.path {
        Some(path) => open(path).map_err(|error| with_path(path, &error))?,
        None => io::stdin().as_fd().try_clone_to_owned()?.into(),
    };
    let writer = Client::new(&object.address[..])?.put(request(object))?;
    let receipt = if object.path.is_some() && file.metadata()?.is_file() {
        writer.send_file(&file)?
    } else {
        writer.send_reader(&file)?
    };
    say(&format!("{receipt}, confirmed"));
    Ok(())
}

pub(crate) fn get(object: &Object) -> Result<(), Failure> {
    let target = target(object)?; // before the connection, as above
    let reader = Client::new(&object.address[..])?.get(request(object))?;
    let receipt = target.receive(reader)?;
    say(&format!("{receipt}, confirmed"));
    Ok(())
}

fn request(object: &Object) -> Request {
    let request = Request::new(object.key);
    let request = if object.bare { request } else { request.framed() };
    object.size.map_or(request, |size| request.size(size))
}

fn target(object: &Object) -> io::Result<Target> {
    let Some(path) = &object.path else {
        return Target::stdout();
    };
    if let Some(target) = Target::direct(path)? {
        return Ok(target);
    }
    // From here on signals are for the thread that removes the temporary file.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let target = Target::new(path)?;
    if let Target::New(new) = &target {
        let discard = new.discard();
        thread::spawn(move || {
            for signal in signals.forever() {
                discard();
                emulate_default_handler(signal).ok();
            }
        });
    }
    Ok(target)
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    }
}
