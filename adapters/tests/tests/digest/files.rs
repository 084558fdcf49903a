//! Transfers between files, directly and through a relay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataserver_common::Error;
use dataserver_core::{Direction, Entry, StartPacket};
use dataserver_tests::{
    DirectionPlan, DynAdapter, Fault, FaultKind, FaultPlan, FaultPoint, KEY, OnReset, Op, Relay,
    Server, Setup, TempDir, get, long_timeouts, put,
};

/// A sender and a receiver of files, in one direction.
pub(crate) struct Files {
    directory: TempDir,
    pub(crate) server: Server,
    client: DynAdapter,
    pub(crate) direction: Direction,
}

impl Files {
    pub(crate) fn new(server: DynAdapter, client: DynAdapter, direction: Direction) -> Self {
        Self::of_entry(server, client, direction, Entry::new(KEY))
    }

    /// The entry of a put that ends when the object is delivered.
    pub(crate) fn until_delivered(server: DynAdapter, client: DynAdapter) -> Self {
        Self::of_entry(server, client, Direction::Put, Entry::new(KEY).until_delivered())
    }

    pub(crate) fn of_entry(
        server: DynAdapter,
        client: DynAdapter,
        direction: Direction,
        entry: Entry,
    ) -> Self {
        let directory = TempDir::new();
        let [source, target] = ["source", "target"].map(|name| directory.path().join(name));
        let setup = match direction {
            Direction::Put => Setup::new().on_put(entry, [Op::ReceiveTo(target)]),
            Direction::Get => Setup::new().on_get(entry, [Op::SendPath(source)]),
        };
        Self { directory, server: Server::start(server, setup), client, direction }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write_source(&self, object: &[u8]) {
        fs::write(self.path("source"), object).unwrap();
    }

    pub(crate) fn target(&self) -> Option<Vec<u8>> {
        fs::read(self.path("target")).ok()
    }

    /// The sizes of the parts.
    pub(crate) fn parts(&self) -> Vec<u64> {
        parts(self.directory.path())
    }

    pub(crate) fn packet(&self) -> StartPacket {
        match self.direction {
            Direction::Put => put(None).resumable(),
            Direction::Get => get(None).resumable(),
        }
    }

    pub(crate) fn transfer(&self, address: std::net::SocketAddr) -> io::Result<()> {
        let script = match self.direction {
            Direction::Put => [Op::SendPath(self.path("source"))],
            Direction::Get => [Op::ReceiveTo(self.path("target"))],
        };
        self.client.client(address, self.packet(), long_timeouts(), &script).map(drop)
    }

    /// Transfers directly. Returns when the server has ended, too.
    pub(crate) fn attempt(&self) -> io::Result<()> {
        let transferred = self.transfer(self.server.address);
        self.server.outcomes.recv().unwrap().ok();
        transferred
    }

    /// Transfers, and the stream of the sender ends or fails after this many bytes. Returns how many the receiver
    /// has read at most.
    pub(crate) fn interrupted_attempt(&self, at: u64, kind: FaultKind) -> u64 {
        let relay = self.relay(at, kind);
        let error = self.transfer(relay.address).unwrap_err();
        assert!(!is_mismatch(&error), "{error}");
        let relayed = self.relayed(&relay);
        self.server.outcomes.recv().unwrap().unwrap_err();
        relayed
    }

    /// Transfers through a relay, which interrupts nothing. Returns how many bytes the sender has sent.
    pub(crate) fn last_attempt(&self) -> u64 {
        let relay = self.relay(u64::MAX, FaultKind::Reset);
        self.transfer(relay.address).unwrap();
        self.server.outcomes.recv().unwrap().unwrap();
        self.relayed(&relay)
    }

    /// How many bytes of the sender were forwarded.
    fn relayed(&self, relay: &Relay) -> u64 {
        let relayed = relay.relayed();
        match self.direction {
            Direction::Put => relayed.to_server.bytes.len() as u64,
            Direction::Get => relayed.to_client.bytes.len() as u64,
        }
    }

    /// A relay that injects this fault when the sender has sent this many bytes.
    pub(crate) fn relay(&self, at: u64, kind: FaultKind) -> Relay {
        let cut = DirectionPlan {
            fault: Some(Fault { at: FaultPoint::Byte(at), kind }),
            ..DirectionPlan::default()
        };
        let (to_server, to_client) = match self.direction {
            Direction::Put => (cut, DirectionPlan::default()),
            Direction::Get => (DirectionPlan::default(), cut),
        };
        let plan = FaultPlan {
            to_server,
            to_client,
            on_reset: OnReset::Reset,
            closes_both: true,
            ends_alone: false,
        };
        Relay::start(self.server.address, plan)
    }
}

/// The sizes of the parts in a directory.
pub(crate) fn parts(directory: &Path) -> Vec<u64> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let is_part = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".part");
    entries.filter(is_part).map(|part| part.metadata().unwrap().len()).collect()
}

/// Whether the digests differ, or the receiver has more than the object.
pub(crate) fn is_mismatch(error: &io::Error) -> bool {
    Error::of(error).is_some_and(Error::is_mismatch)
}
