//! Links only if no public function of the core can panic.
//!
//! The panic handler calls a symbol that no library defines. While a panic is reachable the linker
//! keeps the handler and misses the symbol; while none is, it drops the handler.
//!
//! Arguments and results go through [`black_box`], so that the optimiser may assume nothing of them,
//! not even that a connection is in a state which its methods can bring about.

#![no_std]
#![no_main]

use core::fmt::{self, Display, Write};
use core::hint::black_box;
use core::num::NonZeroU32;
use core::panic::PanicInfo;
use core::time::Duration;

use dataserver_core::{
    Config, Connection, Direction, Error, Instant, Key, LocalError, Malformed, ObjectSize,
    PeerError, Refusal, SizeOutOfRange, StartPacket, StartPacketParser, Step, Timer, Transfer,
};

#[panic_handler]
#[expect(unsafe_code, reason = "a symbol that does not exist can only be declared unsafe")]
fn panic(_: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn dataserver_core_can_panic() -> !;
    }
    // SAFETY: a program that could come here does not link.
    unsafe { dataserver_core_can_panic() }
}

// For the code before `main`, and for `memcpy` and the like, which the compiler calls.
#[expect(unsafe_code, reason = "it declares nothing, and is there for the link only")]
#[link(name = "c")]
unsafe extern "C" {}

/// Calls a function. The path says whose it is: the test looks for exactly these calls.
macro_rules! call {
    ($function:path $(, $argument:expr)*) => {
        black_box($function($(black_box($argument)),*))
    };
}

// SAFETY: nothing else in this program has the name, and the C start code expects this function.
#[expect(unsafe_code, reason = "without std, `main` is found by its name")]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let key = key();
    let packet = start_packet(key);
    parser(packet);
    time();
    transfer();
    errors();
    misuse(packet);
    #[cfg(feature = "index")]
    black_box(key.as_bytes()[black_box(0)]);
    i32::from(!exchange(packet))
}

fn key() -> Key {
    let key = call!(Key::from_name, "start");
    call!(Key::from_name_bytes, b"start".as_slice());
    call!(Key::new, *call!(Key::as_bytes, &key));
    call!(show::<Key>, &key);
    key
}

fn start_packet(key: Key) -> StartPacket {
    let _ = call!(ObjectSize::new, 3);
    call!(ObjectSize::bytes, ObjectSize::UNKNOWN);
    call!(show::<ObjectSize>, &ObjectSize::UNKNOWN);

    let packet = call!(StartPacket::put, key);
    call!(StartPacket::get, key);
    let _ = call!(StartPacket::with_size, packet, 3);
    let _ = call!(StartPacket::parse, *call!(StartPacket::as_bytes, &packet));
    call!(StartPacket::size, &packet);
    call!(StartPacket::key, &packet);
    call!(show::<Direction>, &call!(StartPacket::direction, &packet));
    call!(show::<StartPacket>, &packet);
    packet
}

fn parser(packet: StartPacket) {
    let mut parser = call!(StartPacketParser::new);
    call!(StartPacketParser::feed, &mut parser, packet.as_bytes().as_slice());
    call!(StartPacketParser::missing, &parser);
    let _ = call!(StartPacketParser::packet, &parser);
}

fn time() {
    let now = call!(Instant::new, Duration::ZERO);
    let later = call!(Instant::saturating_add, now, Duration::from_secs(1));
    call!(Instant::saturating_since, later, now);
    call!(Instant::since_epoch, later);
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

/// Behind `black_box` any of these may be any other variant of its type.
fn errors() {
    call!(show::<Error>, &Error::TimedOut(Timer::Idle));
    call!(show::<PeerError>, &PeerError::NotSilent);
    call!(show::<LocalError>, &LocalError::Aborted { reason: "" });
    call!(show::<Refusal>, &Refusal::InUse);
    call!(show::<Malformed>, &Malformed::Type(2));
    call!(show::<SizeOutOfRange>, &SizeOutOfRange(0));
    call!(show::<Timer>, &Timer::Idle);
}

fn show<T: Display>(value: &T) {
    let _ = write!(Sink, "{value}");
}

struct Sink;

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        black_box(text);
        black_box(Ok(()))
    }
}

/// What is not part of a transfer that goes well.
fn misuse(packet: StartPacket) {
    let now = Instant::default();
    let mut client = Connection::client(Config::default(), packet, now);
    call!(Connection::would_block, &mut client, now);
    call!(Connection::deadline, &client, now);
    call!(Connection::handle_timeout, &mut client, now);
    call!(Connection::refuse, &mut client, Refusal::InUse);
    call!(Connection::abort, &mut client, "twice");
    call!(Connection::reset, &mut client);
}

/// A put of three bytes: whether both sides end as they should.
fn exchange(packet: StartPacket) -> bool {
    let now = Instant::default();
    let mut client = call!(Connection::client, Config::default(), packet, now);
    let mut server = call!(Connection::server, Config::default(), now);
    call!(Connection::advance, &mut client, StartPacket::LEN);
    call!(Connection::feed, &mut server, packet.as_bytes().as_slice());
    call!(Connection::packet, &server);
    call!(Connection::accept, &mut server, u64::MAX);
    call!(Connection::advance, &mut client, 3);
    call!(Connection::advance, &mut server, 3);
    call!(Connection::moved, &server);
    call!(Connection::offer, &mut client, 0, true);
    call!(Connection::still_open, &mut client);
    call!(Connection::shut_down, &mut client);
    call!(Connection::side, &server);
    call!(Connection::end_of_stream, &mut server);
    call!(Connection::commit, &mut server);
    call!(Connection::shut_down, &mut server);
    call!(Connection::end_of_stream, &mut client);
    [client, server].iter().all(|side| call!(Connection::step, side) == Step::Done(Ok(3)))
}
