//! What an application does with an object, as data: so that every adapter does the same.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_channel::{Receiver, Sender};

/// One thing that an application does, in a handler or as a client.
///
/// The first error ends the script, and is what the handler or the client's call returns.
#[derive(Clone, Debug)]
pub enum Do {
    /// Says here that it has come so far, and what it has read.
    Tell(mpsc::Sender<Vec<u8>>),
    /// Waits until the gate opens, without touching the object.
    Wait(Gate),
    /// Is slow on its own side.
    Sleep(Duration),
    /// Gives up, with [`Do::failure`].
    Fail,
    /// Panics.
    Panic,
    /// Calls this. What it has captured is dropped with the script.
    Call(Call),
    /// Makes the first file last under the name of the second, which is in the same directory.
    Keep(PathBuf, PathBuf),
    /// Takes no notice of errors from here on.
    IgnoreErrors,

    /// Arriving: reads so many bytes, or to the end.
    Read(usize),
    /// Arriving: reads to the end.
    ReadToEnd,
    /// Arriving: reads to the end, at most so many bytes at a time, and keeps nothing.
    Discard(usize),
    /// Arriving: receives the rest into a new file.
    ReceiveFile(PathBuf),
    /// Arriving: says that it is stored.
    Commit,

    /// Leaving: `flush`.
    Flush,
    /// Leaving: writes all of this.
    Write(Vec<u8>),
    /// Leaving: writes this again and again, until it fails.
    WriteForever(Vec<u8>),
    /// Leaving: `send`.
    Send(Vec<u8>),
    /// Leaving: `send_file`.
    SendFile(PathBuf),
    /// Leaving: `send_reader`.
    SendReader(Source),
    /// Leaving: `send_reader` with a file.
    SendByReading(PathBuf),
    /// Leaving: asks for the receipt.
    Finish,
}

impl Do {
    /// Every way to send all of an object, which is in this file, too: each with its receipt.
    pub fn ways_to_send(bytes: &[u8], file: &Path) -> [Vec<Self>; 5] {
        let (front, back) = bytes.split_at(bytes.len() / 3);
        [
            vec![Self::Send(bytes.into())],
            vec![Self::SendFile(file.into())],
            vec![Self::SendReader(Source::new(bytes.into()))],
            vec![Self::Write(front.into()), Self::Write(back.into()), Self::Finish],
            vec![Self::Flush, Self::Write(front.into()), Self::Send(back.into())],
        ]
    }

    /// What [`Do::Fail`] returns.
    pub fn failure() -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, "as the script says")
    }

    /// Does as [`Do::Keep`] says: what is under a name is whole, and does not go with the power.
    pub(crate) fn keep(file: &Path, name: &Path) -> io::Result<()> {
        File::open(file)?.sync_all()?;
        fs::rename(file, name)?;
        name.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    /// For an object that goes the other way.
    ///
    /// # Panics
    /// Always.
    pub fn wrong_way(&self) -> ! {
        panic!("the script does not fit the object: {self:?}")
    }
}

/// Code of the application's.
#[derive(Clone)]
pub struct Call(Arc<dyn Fn() + Send + Sync>);

impl Call {
    /// To be done by [`Do::Call`].
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Does it.
    pub fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// Closed until somebody opens it, once and for all.
#[derive(Clone, Debug)]
pub struct Gate {
    opener: Sender<()>,
    waiter: Receiver<()>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        let (opener, waiter) = async_channel::bounded(1);
        Self { opener, waiter }
    }

    /// Lets all through who wait, and who will.
    pub fn open(&self) {
        self.opener.close();
    }

    /// Waits in a program that blocks.
    pub fn wait_blocking(&self) {
        self.waiter.recv_blocking().expect_err("nothing is sent");
    }

    /// Waits in a program that does not.
    pub async fn wait(&self) {
        self.waiter.recv().await.expect_err("nothing is sent");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A reader that gives these bytes, some at a time, and then ends or fails.
#[derive(Clone, Debug)]
pub struct Source {
    bytes: Vec<u8>,
    at: usize,
    fails: bool,
}

impl Source {
    /// Ends after these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0, fails: false }
    }

    /// Fails after these bytes, with [`Do::failure`].
    pub fn failing(bytes: Vec<u8>) -> Self {
        Self { fails: true, ..Self::new(bytes) }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&self.bytes[self.at..]).read(buffer)?;
        self.at += n;
        if n == 0 && self.fails { Err(Do::failure()) } else { Ok(n) }
    }
}
