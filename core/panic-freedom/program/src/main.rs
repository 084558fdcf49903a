//! This program links only if no public function of the core can panic.
//!
//! The panic handler calls a symbol that no library defines. If a panic is reachable, the linker keeps
//! the handler and reports the missing symbol. If none is, it removes the handler.
//!
//! Arguments and results pass through [`black_box`], so that the optimizer makes no assumptions about
//! them. It cannot even assume that a connection is in a state that its methods can lead to.

#![no_std]
#![no_main]

use core::fmt::{self, Display, LowerHex, Write};
use core::hint::black_box;
use core::num::NonZeroU32;
use core::panic::PanicInfo;
use core::str::FromStr;
use core::time::Duration;

use dataserver_core::{
    AbortReason, Cause, Config, Connection, Direction, Frame, FrameParser, Instant, InvalidKey,
    Key, LocalError, Malformed, MalformedFrame, ObjectSize, PeerError, Refusal, SizeOutOfRange,
    StartPacket, StartPacketParser, Step, Timeouts, Timer, Transfer,
};

#[panic_handler]
#[expect(unsafe_code, reason = "the declaration of a foreign symbol is unsafe")]
fn panic(_: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn dataserver_core_can_panic() -> !;
    }
    // SAFETY: a program that can reach this call does not link.
    unsafe { dataserver_core_can_panic() }
}

// Provides the startup code, and functions that the compiler calls, such as `memcpy`.
#[expect(unsafe_code, reason = "the block declares nothing and only links the library")]
#[link(name = "c")]
unsafe extern "C" {}

/// Calls a function. The test searches this file for the calls by their paths.
macro_rules! call {
    ($function:path $(, $argument:expr)*) => {
        black_box($function($(black_box($argument)),*))
    };
}

// SAFETY: no other symbol of this program has this name, and the C startup code calls this function.
#[expect(unsafe_code, reason = "without std, the startup code finds `main` by its name")]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let key = key();
    let packet = start_packet(key);
    parser(packet);
    time();
    let config = config();
    transfer();
    errors();
    misuse(config, packet);
    #[cfg(feature = "index")]
    black_box(key.as_bytes()[black_box(0)]);
    frame();
    let framed = call!(StartPacket::framed, packet);
    call!(StartPacket::is_framed, &framed);
    let checked = call!(StartPacket::with_digest, packet);
    call!(StartPacket::has_digest, &checked);
    let resumable = call!(StartPacket::resumable, packet);
    call!(StartPacket::is_resumable, &resumable);
    let exchanges = [
        exchange(config, packet),
        framed_exchange(config, framed),
        resumed_exchange(config, resumable),
    ];
    i32::from(exchanges != [true; 3])
}

fn key() -> Key {
    let key = call!(Key::from_name, "start");
    call!(Key::from_name_bytes, b"start".as_slice());
    call!(Key::from_bytes, *call!(Key::as_bytes, &key));
    call!(show::<Key>, &key);
    call!(show_hex::<Key>, &key);
    let _ = call!(parse::<Key>, "ea2b2676c28c0db26d39331a336c6b92");
    call!(convert::<Key, _>, [7; Key::LEN]);
    key
}

fn start_packet(key: Key) -> StartPacket {
    let _ = call!(ObjectSize::new, 3);
    call!(ObjectSize::bytes, ObjectSize::UNKNOWN);
    call!(show::<ObjectSize>, &ObjectSize::UNKNOWN);

    let packet = call!(StartPacket::put, key);
    call!(StartPacket::get, key);
    let _ = call!(StartPacket::with_size, packet, 3);
    call!(StartPacket::with_object_size, packet, ObjectSize::UNKNOWN);
    let _ = call!(StartPacket::from_bytes, *call!(StartPacket::as_bytes, &packet));
    call!(StartPacket::size, &packet);
    call!(StartPacket::key, &packet);
    call!(show::<Direction>, &call!(StartPacket::direction, &packet));
    call!(show::<StartPacket>, &packet);
    packet
}

fn parser(packet: StartPacket) {
    call!(convert::<StartPacketParser, _>, packet);
    let mut parser = call!(StartPacketParser::new);
    call!(StartPacketParser::feed, &mut parser, packet.as_bytes().as_slice());
    call!(StartPacketParser::missing, &parser);
    let _ = call!(StartPacketParser::packet, &parser);
}

fn frame() {
    let header = call!(Frame::to_bytes, &Frame::Receipt { size: 3 });
    let _ = call!(Frame::from_bytes, header);
    call!(show::<Frame>, &Frame::Receipt { size: 3 });
    call!(show::<MalformedFrame>, &MalformedFrame { kind: 0, code: 0, value: 0 });
    let reason = call!(AbortReason::new, 9, 0);
    call!(AbortReason::code, reason);
    call!(AbortReason::value, reason);
    call!(show::<AbortReason>, &reason);
    let mut parser = call!(FrameParser::new);
    call!(FrameParser::feed, &mut parser, header.as_slice());
    call!(FrameParser::missing, &parser);
    let _ = call!(FrameParser::frame, &parser);
}

fn time() {
    let now = call!(Instant::new, Duration::ZERO);
    let later = call!(Instant::saturating_add, now, Duration::from_secs(1));
    call!(Instant::saturating_since, later, now);
    call!(Instant::since_epoch, later);
}

fn config() -> Config {
    let timeouts = call!(Timeouts::start, Timeouts::default(), Duration::ZERO);
    let timeouts = call!(Timeouts::idle, timeouts, Duration::ZERO);
    let timeouts = call!(Timeouts::receipt, timeouts, None);
    let timeouts = call!(Timeouts::keep_alive, timeouts, None);
    let timeouts = call!(Timeouts::total, timeouts, None);
    let config = call!(Config::chunk, Config::default(), NonZeroU32::MAX);
    let config = call!(Config::max_object_size, config, 3);
    call!(Config::timeouts, config, timeouts)
}

fn transfer() {
    let (size, chunk) = (ObjectSize::UNKNOWN, NonZeroU32::MIN);
    let _ = call!(Transfer::receiver, size, 9, chunk);
    let mut transfer = call!(Transfer::sender, size, chunk);
    call!(Transfer::side, &transfer);
    call!(Transfer::max, &transfer);
    let _ = call!(Transfer::advance, &mut transfer, 1);
    call!(Transfer::moved, &transfer);
    let _ = call!(Transfer::finish, &transfer);
}

/// To the optimizer, each of these can be any variant of its type.
fn errors() {
    call!(show::<Cause>, &Cause::TimedOut(Timer::Idle));
    call!(show::<PeerError>, &PeerError::NotSilent);
    call!(show::<LocalError>, &LocalError::Aborted { reason: "", code: 0 });
    call!(show::<InvalidKey>, &InvalidKey::Digit);
    call!(show::<Refusal>, &Refusal::InUse);
    call!(show::<Malformed>, &Malformed::Type(2));
    call!(show::<SizeOutOfRange>, &SizeOutOfRange(0));
    call!(show::<Timer>, &Timer::Idle);
}

fn show<T: Display>(value: &T) {
    let _ = write!(Sink, "{value}");
}

fn show_hex<T: LowerHex>(value: &T) {
    let _ = write!(Sink, "{value:x}");
}

fn parse<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

fn convert<T: From<U>, U>(value: U) -> T {
    value.into()
}

struct Sink;

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        black_box(Ok(()))
    }
}

/// Calls the functions that a successful transfer does not need.
fn misuse(config: Config, packet: StartPacket) {
    let now = Instant::default();
    let mut client = Connection::client(config, packet, now);
    call!(Connection::declare, &mut client, ObjectSize::UNKNOWN);
    call!(Connection::handle_blocked, &mut client, now);
    call!(Connection::deadline, &client, now);
    call!(Connection::handle_timeout, &mut client, now);
    call!(Connection::refuse, &mut client, Refusal::InUse);
    call!(Connection::abort, &mut client, "twice");
    call!(Connection::abort_with_code, &mut client, "again", 1);
    call!(Connection::reject_offset, &mut client, 1);
    call!(Connection::handle_reset, &mut client);
}

/// Puts three bytes. Returns whether both sides end as expected.
fn exchange(config: Config, packet: StartPacket) -> bool {
    let now = Instant::default();
    let mut client = call!(Connection::client, config, packet, now);
    let mut server = call!(Connection::server, config, now);
    call!(Connection::handle_moved, &mut client, StartPacket::LEN);
    call!(Connection::handle_read, &mut server, packet.as_bytes().as_slice());
    call!(Connection::packet, &server);
    call!(Connection::accept, &mut server, None);
    call!(Connection::handle_moved, &mut client, 3);
    call!(Connection::handle_moved, &mut server, 3);
    call!(Connection::moved, &server);
    call!(Connection::offer, &mut client, 0, true);
    call!(Connection::handle_still_open, &mut client);
    call!(Connection::handle_shutdown, &mut client);
    call!(Connection::side, &server);
    call!(Connection::handle_end_of_stream, &mut server);
    call!(Connection::committed, &mut server);
    call!(Connection::handle_shutdown, &mut server);
    call!(Connection::handle_end_of_stream, &mut client);
    [client, server].iter().all(|side| call!(Connection::step, side) == Step::Done(Ok(3)))
}

/// Puts three bytes in frames. Returns whether both sides end as expected, and can go on.
fn framed_exchange(config: Config, packet: StartPacket) -> bool {
    let now = Instant::default();
    let mut client = call!(Connection::client, config, packet, now);
    let mut server = call!(Connection::server, config, now);
    call!(Connection::offer, &mut client, 3, true);
    call!(Connection::handle_moved, &mut client, StartPacket::LEN + Frame::LEN + 3);
    call!(Connection::handle_read, &mut server, packet.as_bytes().as_slice());
    call!(Connection::accept, &mut server, None);
    let last = Frame::Last { len: 3 }.to_bytes();
    call!(Connection::handle_read, &mut server, last.as_slice());
    call!(Connection::handle_moved, &mut server, 3);
    call!(Connection::committed, &mut server);
    call!(Connection::handle_moved, &mut server, Frame::LEN);
    let receipt = Frame::Receipt { size: 3 }.to_bytes();
    call!(Connection::handle_read, &mut client, receipt.as_slice());
    call!(Connection::outcome, &client);
    let next = call!(Connection::next_client, &client, config, packet, now);
    let waits = call!(Connection::next_server, &server, config, now);
    call!(Connection::outcome, &next) == call!(Connection::outcome, &waits)
        && [client, server].iter().all(|side| call!(Connection::step, side) == Step::Done(Ok(3)))
}

/// Puts three bytes, of which the server has one. Returns whether both sides end as expected.
fn resumed_exchange(config: Config, packet: StartPacket) -> bool {
    let now = Instant::default();
    let mut client = call!(Connection::client, config, packet, now);
    let mut server = call!(Connection::server, config, now);
    call!(Connection::handle_moved, &mut client, StartPacket::LEN);
    call!(Connection::handle_read, &mut server, packet.as_bytes().as_slice());
    call!(Connection::accept, &mut server, None);
    call!(Connection::resume, &mut server, 1);
    call!(Connection::handle_moved, &mut server, Frame::LEN);
    let open = Frame::Open { offset: 1 }.to_bytes();
    call!(Connection::handle_read, &mut client, open.as_slice());
    call!(Connection::offer, &mut client, 2, true);
    call!(Connection::handle_moved, &mut client, Frame::LEN + 2);
    call!(Connection::digest, &mut client, [7; 32]);
    call!(Connection::handle_moved, &mut client, 32);
    let last = Frame::Last { len: 2 }.to_bytes();
    call!(Connection::handle_read, &mut server, last.as_slice());
    call!(Connection::handle_moved, &mut server, 2);
    call!(Connection::digest, &mut server, [7; 32]);
    call!(Connection::handle_read, &mut server, [7; 32].as_slice());
    call!(Connection::committed, &mut server);
    call!(Connection::handle_moved, &mut server, Frame::LEN);
    let receipt = Frame::Receipt { size: 3 }.to_bytes();
    call!(Connection::handle_read, &mut client, receipt.as_slice());
    let (position, moved) =
        (call!(Connection::position, &server), call!(Connection::moved, &server));
    (position, moved) == (3, 2)
        && [client, server].iter().all(|side| call!(Connection::step, side) == Step::Done(Ok(3)))
}
