//! The byte accounting of one object, for a sender or a receiver.

use core::num::NonZeroU32;

use crate::error::{Cause, LocalError, PeerError, Refusal};
use crate::start_packet::ObjectSize;

/// Whether this side sends or receives the object.
///
/// ```
/// use dataserver_core::{ObjectSize, Side, Transfer};
///
/// let transfer = Transfer::sender(ObjectSize::UNKNOWN, Transfer::DEFAULT_CHUNK);
/// assert_eq!(transfer.side(), Side::Sender);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This side sends the object.
    Sender,
    /// This side receives the object.
    Receiver,
}

/// Counts the bytes of one object, divides it into chunks, and enforces its size.
///
/// It can be used alone, for another protocol.
///
/// ```
/// use core::num::NonZeroU32;
/// use dataserver_core::{ObjectSize, Transfer};
///
/// let chunk = NonZeroU32::new(4).unwrap();
/// let mut transfer = Transfer::sender(ObjectSize::new(6)?, chunk);
/// assert_eq!(transfer.max(), 4);
/// transfer.advance(4)?;
/// assert_eq!(transfer.max(), 2);
/// transfer.advance(2)?;
/// assert_eq!(transfer.max(), 0);
/// assert_eq!(transfer.finish()?, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    side: Side,
    /// Whether `bound` is the declared size. Otherwise it is the limit.
    declared: bool,
    bound: u64,
    moved: u64,
    chunk: NonZeroU32,
}

impl Transfer {
    /// The default chunk, the most bytes that one step moves: 4 MiB, about what a socket holds at most.
    ///
    /// The original's is 21 bytes, which costs a system call for each 21 bytes. The chunk is not visible
    /// on the wire, and no buffer of its size is allocated: it limits how much of the application's own
    /// buffer, or of a file, moves at once. A larger chunk was no faster.
    ///
    /// ```
    /// assert_eq!(dataserver_core::Transfer::DEFAULT_CHUNK.get(), 4 << 20);
    /// ```
    pub const DEFAULT_CHUNK: NonZeroU32 = match NonZeroU32::new(4 << 20) {
        Some(bytes) => bytes,
        None => NonZeroU32::MIN,
    };

    /// A sender of an object of `size`, in steps of at most `chunk` bytes.
    ///
    /// ```
    /// use dataserver_core::{ObjectSize, Transfer};
    ///
    /// let transfer = Transfer::sender(ObjectSize::UNKNOWN, Transfer::DEFAULT_CHUNK);
    /// assert_eq!(transfer.max(), 4 << 20);
    /// ```
    pub const fn sender(size: ObjectSize, chunk: NonZeroU32) -> Self {
        Self::new(Side::Sender, size, u64::MAX, chunk)
    }

    /// A receiver of an object of `size`, of at most `limit` bytes, in steps of at most `chunk`.
    ///
    /// # Errors
    /// Returns [`Refusal::TooLarge`] if the declared size is above the limit.
    ///
    /// ```
    /// use dataserver_core::{ObjectSize, Refusal, Transfer};
    ///
    /// let chunk = Transfer::DEFAULT_CHUNK;
    /// assert!(Transfer::receiver(ObjectSize::new(5)?, 5, chunk).is_ok());
    /// assert_eq!(
    ///     Transfer::receiver(ObjectSize::new(6)?, 5, chunk),
    ///     Err(Refusal::TooLarge { declared: 6, limit: 5 }),
    /// );
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub const fn receiver(
        size: ObjectSize,
        limit: u64,
        chunk: NonZeroU32,
    ) -> Result<Self, Refusal> {
        match size.bytes() {
            Some(declared) if declared > limit => Err(Refusal::TooLarge { declared, limit }),
            _ => Ok(Self::new(Side::Receiver, size, limit, chunk)),
        }
    }

    pub(crate) const fn new(side: Side, size: ObjectSize, limit: u64, chunk: NonZeroU32) -> Self {
        let (declared, bound) = match size.bytes() {
            Some(bytes) => (true, bytes),
            None => (false, limit),
        };
        Self { side, declared, bound, moved: 0, chunk }
    }

    /// Whether this side sends or receives the object.
    ///
    /// ```
    /// use dataserver_core::{ObjectSize, Side, Transfer};
    ///
    /// let transfer = Transfer::receiver(ObjectSize::UNKNOWN, 9, Transfer::DEFAULT_CHUNK)?;
    /// assert_eq!(transfer.side(), Side::Receiver);
    /// # Ok::<(), dataserver_core::Refusal>(())
    /// ```
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The declared size, or the limit.
    pub(crate) const fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether no further byte is allowed.
    pub(crate) const fn is_full(&self) -> bool {
        self.moved >= self.bound
    }

    pub(crate) const fn chunk(&self) -> NonZeroU32 {
        self.chunk
    }

    /// The chunk in bytes, as far as this machine can address it.
    pub(crate) const fn chunk_len(&self) -> usize {
        at_most(self.chunk.get() as u64, usize::MAX)
    }

    /// How many bytes have moved.
    ///
    /// ```
    /// use dataserver_core::{ObjectSize, Transfer};
    ///
    /// let mut transfer = Transfer::sender(ObjectSize::UNKNOWN, Transfer::DEFAULT_CHUNK);
    /// transfer.advance(7)?;
    /// assert_eq!(transfer.moved(), 7);
    /// # Ok::<(), dataserver_core::Cause>(())
    /// ```
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// The most bytes that the next step may move: at most the chunk, and 0 at the end.
    ///
    /// ```
    /// use dataserver_core::{ObjectSize, Transfer};
    ///
    /// let transfer = Transfer::sender(ObjectSize::new(0)?, Transfer::DEFAULT_CHUNK);
    /// assert_eq!(transfer.max(), 0);
    /// # Ok::<(), dataserver_core::SizeOutOfRange>(())
    /// ```
    pub const fn max(&self) -> usize {
        at_most(self.bound.saturating_sub(self.moved), self.chunk_len())
    }

    /// Counts `n` bytes that have moved.
    ///
    /// # Errors
    /// Returns an error if `n` is above [`max`](Self::max), and counts nothing. If some bytes were
    /// allowed, the driver is at fault ([`LocalError::Overrun`]). If none were, the object is longer than
    /// declared or allowed, which is the fault of the application at a sender, and of the peer at a
    /// receiver.
    ///
    /// ```
    /// use dataserver_core::{Cause, LocalError, ObjectSize, Transfer};
    ///
    /// let mut transfer = Transfer::sender(ObjectSize::new(1)?, Transfer::DEFAULT_CHUNK);
    /// transfer.advance(1)?;
    /// let longer = LocalError::LongerThanDeclared { declared: 1 };
    /// assert_eq!(transfer.advance(1), Err(Cause::Local(longer)));
    /// assert_eq!(transfer.moved(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn advance(&mut self, n: usize) -> Result<(), Cause> {
        if n <= self.max() {
            self.count(n);
            return Ok(());
        }
        Err(self.too_many(n))
    }

    /// These many bytes of the object are there already. They are within the bound.
    pub(crate) const fn resume(&mut self, offset: u64) {
        self.moved = offset;
    }

    /// Counts bytes that were checked before.
    pub(crate) const fn count(&mut self, n: usize) {
        self.moved = self.moved.wrapping_add(n as u64); // at most the bound
    }

    /// Why `n` bytes cannot be counted.
    #[cold]
    fn too_many(&self, n: usize) -> Cause {
        let max = self.max();
        match max {
            0 => self.too_long(),
            max => LocalError::Overrun { reported: n, max }.into(),
        }
    }

    fn too_long(&self) -> Cause {
        let bound = self.bound;
        match (self.side, self.declared) {
            (Side::Sender, _) => LocalError::LongerThanDeclared { declared: bound }.into(),
            (Side::Receiver, true) => PeerError::LongerThanDeclared { declared: bound }.into(),
            (Side::Receiver, false) => PeerError::LongerThanAllowed { limit: bound }.into(),
        }
    }

    fn too_short(&self, moved: u64) -> Cause {
        let bound = self.bound;
        match self.side {
            Side::Sender => LocalError::ShorterThanDeclared { sent: moved, declared: bound }.into(),
            Side::Receiver => PeerError::Truncated { received: moved, expected: bound }.into(),
        }
    }

    /// Checks the length of a body before it moves, and the size of the object if it is the last one.
    pub(crate) fn check_body(&self, len: u64, is_last: bool) -> Result<(), Cause> {
        match self.bound.wrapping_sub(self.moved) {
            left if len > left => Err(self.too_long()),
            left if is_last && self.declared && len < left => {
                Err(self.too_short(self.moved.saturating_add(len)))
            }
            _ => Ok(()),
        }
    }

    /// Checks at the end of the object that it is complete, and returns its size.
    ///
    /// # Errors
    /// Returns [`LocalError::ShorterThanDeclared`] at a sender, and [`PeerError::Truncated`] at a receiver,
    /// if it is shorter than declared.
    ///
    /// ```
    /// use dataserver_core::{Cause, ObjectSize, PeerError, Transfer};
    ///
    /// let transfer = Transfer::receiver(ObjectSize::new(2)?, 9, Transfer::DEFAULT_CHUNK)?;
    /// let truncated = PeerError::Truncated { received: 0, expected: 2 };
    /// assert_eq!(transfer.finish(), Err(Cause::Peer(truncated)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish(&self) -> Result<u64, Cause> {
        match !self.declared || self.moved == self.bound {
            true => Ok(self.moved),
            false => Err(self.too_short(self.moved)),
        }
    }
}

/// The smaller of both. `usize` has 16 bits on some machines.
const fn at_most(n: u64, max: usize) -> usize {
    if n < max as u64 { n as usize } else { max }
}

#[cfg(test)]
mod tests {
    use super::at_most;

    #[test]
    fn a_chunk_beyond_the_address_space_is_cut_and_not_wrapped() {
        let max_of_16_bits = usize::from(u16::MAX);
        assert_eq!(at_most(4 << 20, max_of_16_bits), max_of_16_bits);
        assert_eq!(at_most(7, max_of_16_bits), 7);
    }
}
