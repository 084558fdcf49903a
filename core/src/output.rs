//! The protocol bytes that are written: a start packet, a frame, or both; or a digest.

use crate::frame::Frame;
use crate::start_packet::StartPacket;

/// Each has its place, so that a frame does not care whether a start packet is before it.
///
/// A receiver writes no digest. It keeps its own here, and compares it with that of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    bytes: [u8; Self::MAX],
    written: u8,
    end: u8,
}

const FRAME_BEGINS: u8 = StartPacket::LEN as u8;
const DIGEST_BEGINS: u8 = (Output::MAX - DIGEST_LEN) as u8;

/// The length of a digest in bytes.
pub(crate) const DIGEST_LEN: usize = 32;

impl Output {
    const MAX: usize = StartPacket::LEN + Frame::LEN;

    pub(crate) const NONE: Self =
        Self { bytes: [0; Self::MAX], written: FRAME_BEGINS, end: FRAME_BEGINS };

    pub(crate) fn start_packet(packet: &StartPacket) -> Self {
        let mut output = Self { written: 0, ..Self::NONE };
        if let Some(place) = output.bytes.first_chunk_mut() {
            *place = *packet.as_bytes();
        }
        output
    }

    pub(crate) fn frame(frame: &Frame) -> Self {
        let mut output = Self::NONE;
        output.add_frame(frame);
        output
    }

    pub(crate) fn digest(digest: &[u8; DIGEST_LEN]) -> Self {
        let mut output = Self { written: DIGEST_BEGINS, end: Self::MAX as u8, ..Self::NONE };
        if let Some(place) = output.bytes.last_chunk_mut() {
            *place = *digest;
        }
        output
    }

    /// Adds a frame. A frame that was there is replaced: it was written, or is not to be.
    pub(crate) fn add_frame(&mut self, frame: &Frame) {
        if let Some(place) = self.bytes.last_chunk_mut() {
            *place = frame.to_bytes();
        }
        self.written = self.written.min(FRAME_BEGINS);
        self.end = Self::MAX as u8;
    }

    pub(crate) fn unwritten(&self) -> &[u8] {
        self.bytes.get(usize::from(self.written)..usize::from(self.end)).unwrap_or_default()
    }

    /// How many bytes are unwritten.
    pub(crate) const fn left(&self) -> usize {
        self.end.wrapping_sub(self.written) as usize
    }

    /// `n` more bytes were written, of those that are left.
    pub(crate) const fn advance(&mut self, n: usize) {
        self.written = self.written.wrapping_add(n as u8); // at most 37
    }

    /// Whether it is a frame, of which nothing was written, and any start packet was.
    pub(crate) const fn is_unwritten_frame(&self) -> bool {
        self.written == FRAME_BEGINS && self.end == Self::MAX as u8
    }

    /// Whether it is a start packet, alone, of which nothing was written.
    pub(crate) fn is_unwritten_start_packet(&self) -> bool {
        self.written == 0 && self.end == FRAME_BEGINS
    }
}
