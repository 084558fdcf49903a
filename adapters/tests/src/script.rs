//! What an application does with an object, as data: so that all adapters run the same.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use dataserver_common::Receipt;

/// One operation of an application, in a handler or as a client.
///
/// The first error ends the script, and is the error of the handler or of the client's call. The script
/// of a handler that has neither ended its object nor failed ends with [`Commit`](Self::Commit) or
/// [`Finish`](Self::Finish).
#[derive(Clone, Debug)]
pub enum Op {
    /// Sends what was read so far.
    Notify(mpsc::Sender<Vec<u8>>),
    /// Waits until the gate opens, without touching the object.
    Wait(Gate),
    /// Sleeps: a slow application.
    Sleep(Duration),
    /// Fails with [`Op::failure`].
    Fail,
    /// Panics.
    Panic,
    /// Calls a function. What it has captured is dropped with the script.
    Call(Call),
    /// Syncs the first file, and renames it to the second one, which is in the same directory.
    Persist(PathBuf, PathBuf),
    /// Ignores errors from here on.
    IgnoreErrors,
    /// Returns this receipt, whatever becomes of the object.
    ReturnReceipt(Receipt),

    /// Receiving: reads up to this many bytes, or to the end.
    Read(usize),
    /// Receiving: reads to the end.
    ReadToEnd,
    /// Receiving: reads to the end, in pieces of at most this many bytes, and drops them.
    Discard(usize),
    /// Receiving: `receive_file` into a new file.
    ReceiveFile(PathBuf),
    /// Receiving: `receive_to`.
    ReceiveTo(PathBuf),
    /// Receiving: `commit`.
    Commit,

    /// Sending: `flush`.
    Flush,
    /// Sending: writes all of these bytes.
    Write(Vec<u8>),
    /// Sending: writes these bytes repeatedly, until it fails.
    WriteForever(Vec<u8>),
    /// Sending: `send`.
    Send(Vec<u8>),
    /// Sending: `send_path`.
    SendPath(PathBuf),
    /// Sending: `send_file`.
    SendFile(PathBuf),
    /// Sending: `send_reader`.
    SendReader(Source),
    /// Sending: `send_reader` with a file.
    SendByReading(PathBuf),
    /// Sending: `finish`.
    Finish,

    /// Ends the object on another thread, by `commit` or `finish`, and waits for that.
    EndOnAnotherThread,
}

impl Op {
    /// Every way to send a whole object, given also as a file.
    pub fn ways_to_send(bytes: &[u8], file: &Path) -> [Vec<Self>; 6] {
        let (front, back) = bytes.split_at(bytes.len() / 3);
        [
            vec![Self::Send(bytes.into())],
            vec![Self::SendFile(file.into())],
            vec![Self::SendReader(Source::new(bytes.into()))],
            vec![Self::Write(front.into()), Self::Write(back.into()), Self::Finish],
            vec![Self::Flush, Self::Write(front.into()), Self::Send(back.into())],
            vec![Self::SendPath(file.into())],
        ]
    }

    /// The error of [`Op::Fail`].
    pub fn failure() -> io::Error {
        io::Error::new(io::ErrorKind::StorageFull, "as the script says")
    }

    /// Runs [`Op::Persist`].
    pub(crate) fn persist(file: &Path, name: &Path) -> io::Result<()> {
        File::open(file)?.sync_all()?;
        fs::rename(file, name)?;
        name.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    /// Reports an operation for an object of the other direction.
    ///
    /// # Panics
    /// Always.
    pub fn wrong_direction(&self) -> ! {
        panic!("the script does not fit the object: {self:?}")
    }
}

/// The object of a script, which some operations consume.
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) fn new(object: T) -> Self {
        Self(Some(object))
    }

    pub(crate) fn get(&mut self) -> io::Result<&mut T> {
        self.0.as_mut().ok_or_else(consumed)
    }

    pub(crate) fn take(&mut self) -> io::Result<T> {
        self.0.take().ok_or_else(consumed)
    }
}

fn consumed() -> io::Error {
    io::Error::other("the script has consumed its object")
}

/// A function of the application.
#[derive(Clone)]
pub struct Call(Arc<dyn Fn() + Send + Sync>);

impl Call {
    /// A function for [`Op::Call`].
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Calls it.
    pub fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// A gate that is closed until it is opened for good.
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

    /// Opens the gate for all present and future waiters.
    pub fn open(&self) {
        self.opener.close();
    }

    /// Blocks until the gate is open.
    pub fn wait_blocking(&self) {
        self.waiter.recv_blocking().expect_err("nothing is sent");
    }

    /// Waits until the gate is open.
    pub async fn wait(&self) {
        self.waiter.recv().await.expect_err("nothing is sent");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A reader of some bytes that then ends or fails.
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

    /// Fails after these bytes, with [`Op::failure`].
    pub fn failing(bytes: Vec<u8>) -> Self {
        Self { fails: true, ..Self::new(bytes) }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&self.bytes[self.at..]).read(buffer)?;
        self.at += n;
        if n == 0 && self.fails { Err(Op::failure()) } else { Ok(n) }
    }
}
