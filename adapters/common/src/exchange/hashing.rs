//! The digest of the object, and what the receiver has of it already.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::mem;

use dataserver_core::{Direction, Key, ObjectSize, Step};

use super::{Action, Exchange, Goal, ProtocolBytes};
use crate::delivered::Delivered;
use crate::digest::ObjectDigest;
use crate::object::{NOT_HASHED, regular_len};

/// What an exchange holds for an object that has a digest.
#[derive(Debug, Default)]
pub(super) struct Hashing {
    /// What was hashed of the object.
    digest: ObjectDigest,
    /// The digest of the whole object, as soon as it is known.
    whole: Option<[u8; 32]>,
    /// What is received is hashed when it is in its file, behind what was there: see
    /// [`Exchange::handle_stored`].
    hashes_file: bool,
    /// How many bytes of the object were hashed and not sent, because the receiver has them.
    skipped: u64,
}

impl Exchange {
    /// What a transfer that can be resumed is for, as long as this side is to say how much of the object it
    /// has: the key and the declared size. `None` otherwise.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Exchange::server(&Config::default()).to_resume(), None);
    /// ```
    pub fn to_resume(&self) -> Option<(Key, ObjectSize)> {
        let packet = self.connection.packet()?;
        (self.connection.step() == Step::Resume).then(|| (packet.key(), packet.size()))
    }

    /// The first `offset` bytes of this file are those that are there of the object. The rest is received into the
    /// same file.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, file: &std::fs::File) {
    /// exchange.resume(file, 7);
    /// # }
    /// ```
    pub fn resume(&mut self, file: &File, offset: u64) {
        let hashing = self.hashing();
        hashing.digest.update_range(file, 0, offset);
        hashing.hashes_file = offset > 0;
        self.connection.resume(offset);
    }

    /// `n` bytes were written for [`Action::Write`]: of the protocol's, and of the object behind them.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, protocol: dataserver_common::ProtocolBytes) {
    /// exchange.handle_written(&protocol, b"hello", protocol.as_slice().len() + 5);
    /// # }
    /// ```
    pub fn handle_written(&mut self, protocol: &ProtocolBytes, object: &[u8], n: usize) {
        if self.has_digest() {
            let sent = n.saturating_sub(protocol.len).min(object.len());
            self.hashing().digest.update(&object[..sent]);
        }
        self.connection.handle_moved(n);
    }

    /// These bytes were read for [`Action::Read`].
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange) {
    /// exchange.handle_received(b"hello");
    /// # }
    /// ```
    pub fn handle_received(&mut self, bytes: &[u8]) {
        if self.has_digest() && !self.hashes_file() {
            self.hashing().digest.update(bytes);
        }
        self.connection.handle_moved(bytes.len());
    }

    /// The `n` bytes that were received last have been written to this file, up to its cursor. While the bytes
    /// of an earlier attempt are being hashed, these are read from the file later: the sender does not wait.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, file: &std::fs::File) {
    /// exchange.handle_stored(file, 5);
    /// # }
    /// ```
    pub fn handle_stored(&mut self, file: &File, n: usize) {
        if self.hashes_file() {
            self.hashing().digest.update_moved(file, n as u64);
        }
    }

    /// The system has moved `n` bytes to or from this file, up to its cursor.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, file: &std::fs::File) {
    /// exchange.handle_file(file, 5);
    /// # }
    /// ```
    pub fn handle_file(&mut self, file: &File, n: usize) {
        if n > 0 && self.has_digest() {
            self.hashing().digest.update_moved(file, n as u64);
        }
        self.connection.handle_moved(n);
    }

    /// What was hashed, to finish it, or to have it catch up.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let digest = Exchange::server(&Config::default()).take_digest();
    /// ```
    pub fn take_digest(&mut self) -> ObjectDigest {
        self.hashing.as_mut().map_or_else(Default::default, |it| mem::take(&mut it.digest))
    }

    /// Gives back what [`take_digest`](Self::take_digest) has taken.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// let mut exchange = Exchange::server(&Config::default());
    /// let mut digest = exchange.take_digest();
    /// digest.catch_up();
    /// exchange.give_digest(digest);
    /// ```
    pub fn give_digest(&mut self, digest: ObjectDigest) {
        self.hashing().digest = digest;
    }

    /// Whether a second thread hashes what the system has moved.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert!(!Exchange::server(&Config::default()).is_digest_behind());
    /// ```
    pub fn is_digest_behind(&self) -> bool {
        self.hashing.as_ref().is_some_and(|hashing| hashing.digest.is_behind())
    }

    /// The digest for [`Action::Digest`].
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange) {
    /// let digest = exchange.take_digest().finish();
    /// exchange.handle_digest(digest);
    /// # }
    /// ```
    pub fn handle_digest(&mut self, digest: io::Result<[u8; 32]>) {
        match digest {
            Ok(digest) => {
                self.hashing().whole = Some(digest);
                self.connection.digest(digest);
            }
            Err(error) => self.abort(NOT_HASHED, Some(error.into())),
        }
    }

    /// How many bytes of the object the receiver has, and the application is still to give.
    pub(super) fn left_to_skip(&self) -> u64 {
        let resumed = self.connection.position() - self.connection.moved();
        match self.connection.step() {
            Step::Offer { .. } => resumed - self.skipped(),
            _ => 0,
        }
    }

    /// A sender hashes what the receiver has, and does not send it.
    pub(super) fn skip<'a>(&mut self, left: u64, goal: &'a mut Goal<'_>) -> Action<'a> {
        match goal {
            Goal::Send(bytes) | Goal::SendLast(bytes) => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let hashing = self.hashing();
                hashing.digest.update(&bytes[..n]);
                hashing.skipped += n as u64;
                Action::Skipped(n)
            }
            Goal::SendFile { file, .. } if regular_len(file).is_some_and(|there| there >= left) => {
                let mut file = *file;
                let Ok(cursor) = file.stream_position() else { return Action::Return };
                if file.seek(SeekFrom::Start(cursor + left)).is_err() {
                    return Action::Return; // it is read instead
                }
                let hashing = self.hashing();
                hashing.digest.update_range(file, cursor, left);
                hashing.skipped += left;
                self.next(goal)
            }
            Goal::End => {
                self.connection.reject_offset(self.skipped());
                self.next(goal)
            }
            _ => Action::Return,
        }
    }

    /// The object of a put that can be resumed, if this server has received and committed it, and has sent the
    /// receipt: it is [recognized](Self::recognize) when it is put again.
    ///
    /// ```
    /// use dataserver_common::Exchange;
    /// use dataserver_core::Config;
    ///
    /// assert_eq!(Exchange::server(&Config::default()).delivered(), None);
    /// ```
    pub fn delivered(&self) -> Option<Delivered> {
        let packet = self.connection.packet()?;
        match (self.connection.step(), self.whole_digest()) {
            (Step::Done(Ok(bytes)), Some(digest))
                if packet.is_resumable() && packet.direction() == Direction::Put =>
            {
                Some(Delivered { packet, bytes, digest })
            }
            _ => None,
        }
    }

    /// Accepts an object that was delivered before. This side says that it has all of it. So only the digest
    /// arrives. If it is the same, the sender has its receipt at [`Goal::End`], and if not, the transfer fails.
    ///
    /// ```no_run
    /// # fn example(exchange: &mut dataserver_common::Exchange, delivered: dataserver_common::Delivered) {
    /// exchange.recognize(&delivered);
    /// # }
    /// ```
    pub fn recognize(&mut self, delivered: &Delivered) {
        self.connection.accept(Some(delivered.bytes));
        self.connection.resume(delivered.bytes);
        self.hashing().whole = Some(delivered.digest);
    }

    fn hashing(&mut self) -> &mut Hashing {
        self.hashing.get_or_insert_default()
    }

    fn hashes_file(&self) -> bool {
        self.hashing.as_ref().is_some_and(|hashing| hashing.hashes_file)
    }

    pub(super) fn skipped(&self) -> u64 {
        self.hashing.as_ref().map_or(0, |hashing| hashing.skipped)
    }

    pub(super) fn whole_digest(&self) -> Option<[u8; 32]> {
        self.hashing.as_ref()?.whole
    }
}
