//! `put` and `get`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use dataserver_std::core::SizeOutOfRange;
use dataserver_std::{Client, ObjectSize, StartPacket};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::arguments::Object;
use crate::failure::Failure;
use crate::say;
use crate::target::{Target, about};

pub(crate) fn put(object: &Object) -> Result<(), Failure> {
    // The file before the connection: a ticket is not to be spent on a file that is not there.
    let file = match &object.path {
        Some(path) => open(path).map_err(|error| about(path, &error))?,
        None => io::stdin().as_fd().try_clone_to_owned()?.into(),
    };
    let metadata = file.metadata()?;
    let size = match object.size {
        Some(size) => size,
        None if object.path.is_some() && metadata.is_file() => ObjectSize::new(metadata.len())?,
        None => ObjectSize::UNKNOWN,
    };

    let packet = with_size(StartPacket::put(object.key), size)?;
    let mut sender = Client::new(&object.address[..]).put(packet)?;
    let receipt = if metadata.is_file() {
        sender.send_file(&file)? // the kernel does it
    } else {
        sender.send_reader(&file)?
    };
    say(&format!("{receipt}, confirmed"));
    Ok(())
}

pub(crate) fn get(object: &Object) -> Result<(), Failure> {
    let target = target(object)?; // before the connection, as above
    let packet =
        with_size(StartPacket::get(object.key), object.size.unwrap_or(ObjectSize::UNKNOWN))?;
    let mut receiver = Client::new(&object.address[..]).get(packet)?;
    target.receive(&mut receiver)?;
    say(&format!("{}, confirmed", receiver.commit()?));
    Ok(())
}

fn target(object: &Object) -> io::Result<Target> {
    let Some(path) = &object.path else {
        return Target::stdout();
    };
    if let Some(target) = Target::direct(path)? {
        return Ok(target);
    }
    // From here on a signal waits for the thread that will know what to remove.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let target = Target::beside(path)?;
    if let Target::Beside { data, .. } = &target {
        let data = data.path().to_owned();
        thread::spawn(move || {
            for signal in signals.forever() {
                fs::remove_file(&data).ok(); // or it has its final name, and is whole
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

fn with_size(packet: StartPacket, size: ObjectSize) -> Result<StartPacket, SizeOutOfRange> {
    size.bytes().map_or(Ok(packet), |bytes| packet.with_size(bytes))
}
