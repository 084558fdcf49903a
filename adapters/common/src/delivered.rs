//! Objects that were delivered a short time ago. Their senders may not know it, because the receipt was lost.

use std::collections::VecDeque;
use std::time::Duration;

use dataserver_core::{Direction, Instant, Key, StartPacket};

/// An object that was put, and that is recognized when it is put again.
///
/// ```
/// use dataserver_common::Exchange;
/// use dataserver_core::Config;
///
/// assert_eq!(Exchange::server(&Config::default()).delivered(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub(crate) packet: StartPacket,
    pub(crate) bytes: u64,
    pub(crate) digest: [u8; 32],
}

/// The last objects that were delivered, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct RecentlyDelivered(VecDeque<(Instant, Delivered)>);

/// How long an object is remembered.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// How many objects are remembered at most, of about 100 bytes each. A search looks at all of them.
const MAX_LEN: usize = 1024;

impl RecentlyDelivered {
    pub(crate) fn remember(&mut self, delivered: Delivered, now: Instant) {
        let is_old = |(until, _): &(Instant, Delivered)| *until <= now;
        while self.0.len() >= MAX_LEN || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back((now.saturating_add(MAX_AGE), delivered));
    }

    /// The last object that was delivered for this start packet.
    pub(crate) fn find(&self, packet: &StartPacket, now: Instant) -> Option<Delivered> {
        let is_it =
            |(until, object): &&(Instant, Delivered)| *until > now && object.packet == *packet;
        self.0.iter().rev().find(is_it).map(|(_, delivered)| *delivered)
    }

    pub(crate) fn forget(&mut self, direction: Direction, key: Key) {
        self.0.retain(|(_, object)| {
            (object.packet.direction(), object.packet.key()) != (direction, key)
        });
    }

    pub(crate) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: Key) -> Delivered {
        Delivered { packet: StartPacket::put(key).resumable(), bytes: 5, digest: [7; 32] }
    }

    #[test]
    fn an_object_is_found_by_its_start_packet_for_an_hour() {
        let (now, key) = (Instant::default(), Key::from_name("object"));
        let mut recent = RecentlyDelivered::default();
        recent.remember(object(key), now);
        let packet = object(key).packet;
        assert_eq!(recent.find(&packet, now), Some(object(key)));
        assert_eq!(recent.find(&packet.with_size(5).unwrap(), now), None);
        assert_eq!(recent.find(&StartPacket::put(key).with_digest(), now), None);
        assert_eq!(recent.find(&packet, now.saturating_add(MAX_AGE)), None);
        recent.forget(Direction::Put, key);
        assert_eq!(recent.find(&packet, now), None);
    }

    #[test]
    fn only_the_last_objects_are_remembered() {
        let now = Instant::default();
        let mut recent = RecentlyDelivered::default();
        let objects: Vec<_> =
            (0..=MAX_LEN as u128).map(|n| object(Key::from_bytes(n.to_le_bytes()))).collect();
        objects.iter().for_each(|object| recent.remember(*object, now));
        assert_eq!(recent.0.len(), MAX_LEN);
        assert_eq!(recent.find(&objects[0].packet, now), None);
        assert_eq!(recent.find(&objects[1].packet, now), Some(objects[1]));
        recent.remember(objects[0], now.saturating_add(MAX_AGE));
        assert_eq!(recent.0.len(), 1, "the others were old");
    }
}
