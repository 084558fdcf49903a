//! Counts the instructions of each operation with callgrind. The counts are exact and do not depend on
//! the machine.
//!
//! `cargo bench -p dataserver-core` compares the counts with the [`recorded`] ones, and fails if one has
//! risen by more than 5 %. It needs valgrind, and `cargo install gungraun-runner --version 0.18.2`. It is
//! skipped if one of them is missing.

mod recorded;

use std::env;

use dataserver_core::Connection;

fn main() {
    if env::args().any(|word| word == "--gungraun-run") {
        return counted::run(); // one benchmark, under valgrind and without an environment
    }
    let size = size_of::<Connection>();
    println!("Connection: {size} bytes, target <= 240: {}", verdict(size <= 240));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = |program| env::split_paths(&path).any(|place| place.join(program).is_file());
    for (program, command) in [
        ("valgrind", "apt-get install valgrind"),
        ("gungraun-runner", "cargo install gungraun-runner --version 0.18.2"),
    ] {
        if !found(program) {
            println!("SKIPPED: {program} is not installed: {command}");
            return;
        }
    }
    counted::run();
    let chunk = recorded::CHUNK - recorded::NOTHING;
    println!("a chunk (`step` + `handle_moved`): {chunk}, target <= 60: {}", verdict(chunk <= 60));
    let framed = (recorded::FRAMED_11_CHUNKS - recorded::FRAMED_1_CHUNK) / 10;
    println!("a chunk with its frame: {framed}, target <= 150: {}", verdict(framed <= 150));
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::needless_pass_by_value,
    reason = "the macros generate such code"
)]
mod counted {
    use std::hint::black_box;
    use std::num::NonZeroU32;

    use dataserver_core::{
        Claim, Config, Connection, Delivery, Direction, Entry, Instant, Key, Registry, StartPacket,
        Step,
    };
    use gungraun::prelude::*;
    use gungraun::{Callgrind, EventKind};

    use crate::recorded;

    pub(crate) fn run() {
        main();
    }

    /// The bench fails if the count exceeds the recorded one by more than 5 %.
    fn at_most(recorded: u64) -> LibraryBenchmarkConfig {
        let limits = [(EventKind::Ir, recorded * 105 / 100)];
        let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
        callgrind.hard_limits(limits);
        let mut config = LibraryBenchmarkConfig::default();
        config.tool(callgrind);
        config
    }

    const NAME: &str = "a name that has thirty-two bytes";
    const OBJECT: u64 = 1 << 30;

    fn packet() -> StartPacket {
        let packet = StartPacket::put(Key::from_name(NAME)).with_size(OBJECT);
        packet.expect("the size is in range")
    }

    #[library_benchmark(config = at_most(recorded::DECODE))]
    #[bench::it(*packet().as_bytes())]
    fn decode(bytes: [u8; StartPacket::LEN]) -> bool {
        StartPacket::from_bytes(black_box(bytes)).is_ok()
    }

    #[library_benchmark(config = at_most(recorded::ENCODE))]
    #[bench::it(Key::from_name(NAME))]
    fn encode(key: Key) -> bool {
        black_box(StartPacket::put(key).with_size(black_box(OBJECT))).is_ok()
    }

    /// A client of a put. It is on the heap, so that passing it copies nothing.
    fn client() -> Box<Connection> {
        let chunk = NonZeroU32::new(256 * 1024).unwrap_or(NonZeroU32::MIN);
        let config = Config::default().chunk(chunk);
        Box::new(Connection::client(config, packet(), Instant::default()))
    }

    fn sender() -> Box<Connection> {
        let mut client = client();
        client.handle_moved(StartPacket::LEN);
        client
    }

    #[library_benchmark(config = at_most(recorded::CHUNK))]
    #[bench::it(setup = sender)]
    fn chunk(mut sender: Box<Connection>) -> Box<Connection> {
        if let Step::Send { max } = black_box(&mut sender).step() {
            sender.handle_moved(max);
        }
        sender
    }

    fn framed_sender() -> Box<Connection> {
        let config = Config::default();
        let mut client =
            Box::new(Connection::client(config, packet().framed(), Instant::default()));
        client.offer(0, false);
        client.handle_moved(StartPacket::LEN);
        client
    }

    #[library_benchmark(config = at_most(recorded::FRAMED_1_CHUNK))]
    #[bench::it(setup = framed_sender)]
    fn framed_1_chunk(sender: Box<Connection>) -> Box<Connection> {
        framed_chunks(1, sender)
    }

    #[library_benchmark(config = at_most(recorded::FRAMED_11_CHUNKS))]
    #[bench::it(setup = framed_sender)]
    fn framed_11_chunks(sender: Box<Connection>) -> Box<Connection> {
        framed_chunks(11, sender)
    }

    /// Each chunk is offered, and leaves behind its header in one write.
    fn framed_chunks(count: u64, mut sender: Box<Connection>) -> Box<Connection> {
        let mut left = black_box(count);
        black_box(&mut sender);
        while left > 0 {
            match sender.step() {
                Step::Offer { max } => sender.offer(max, false),
                Step::Write { bytes, payload } => {
                    let n = bytes.len() + payload;
                    sender.handle_moved(n);
                    left -= 1;
                }
                _ => break,
            }
        }
        sender
    }

    // The overhead of the benchmark of a chunk.
    #[library_benchmark(config = at_most(recorded::NOTHING))]
    #[bench::it(setup = sender)]
    fn nothing(mut sender: Box<Connection>) -> Box<Connection> {
        black_box(&mut sender);
        sender
    }

    #[library_benchmark(config = at_most(recorded::TRANSFER))]
    #[bench::it(setup = client)]
    fn transfer(mut client: Box<Connection>) -> Box<Connection> {
        loop {
            match black_box(&client).step() {
                Step::Write { bytes, .. } => {
                    let n = bytes.len();
                    client.handle_moved(n);
                }
                Step::Send { max } => client.handle_moved(max),
                Step::Offer { .. } => client.offer(0, true),
                Step::Peek => client.handle_still_open(),
                Step::Shutdown => client.handle_shutdown(),
                Step::AwaitEnd => client.handle_end_of_stream(),
                _ => return client,
            }
        }
    }

    #[library_benchmark(config = at_most(recorded::KEY))]
    #[bench::of_32_bytes(NAME)]
    fn key(name: &str) -> Key {
        Key::from_name(black_box(name))
    }

    /// A registry with this many unlimited entries, one of which is claimed.
    fn registry(entries: u32) -> Registry<u32> {
        let mut registry = Registry::new();
        for entry in 0..entries {
            let mut key = [0; Key::LEN];
            key[..4].copy_from_slice(&entry.wrapping_mul(2_654_435_761).to_le_bytes());
            let packet = StartPacket::put(Key::from_bytes(key));
            registry
                .insert(Direction::Put, Entry::exact(packet), entry, Instant::default())
                .expect("the keys differ");
        }
        registry
    }

    fn claim(mut registry: Registry<u32>) -> Registry<u32> {
        let packet = black_box(StartPacket::put(Key::from_bytes([0; Key::LEN]))); // entry 0
        if let Ok(Claim { lease, .. }) = registry.claim(&packet, None, Instant::default()) {
            registry.release(lease, Delivery::Succeeded);
        }
        registry
    }

    #[library_benchmark(config = at_most(recorded::CLAIM_1))]
    #[bench::it(args = (1), setup = registry)]
    fn claim_of_1(registry: Registry<u32>) -> Registry<u32> {
        claim(registry)
    }

    #[library_benchmark(config = at_most(recorded::CLAIM_1_000))]
    #[bench::it(args = (1_000), setup = registry)]
    fn claim_of_1_000(registry: Registry<u32>) -> Registry<u32> {
        claim(registry)
    }

    #[library_benchmark(config = at_most(recorded::CLAIM_1_000_000))]
    #[bench::it(args = (1_000_000), setup = registry)]
    fn claim_of_1_000_000(registry: Registry<u32>) -> Registry<u32> {
        claim(registry)
    }

    library_benchmark_group!(
        name = core;
        benchmarks = decode, encode, chunk, framed_1_chunk, framed_11_chunks, nothing, transfer, key, claim_of_1, claim_of_1_000,
            claim_of_1_000_000
    );
    gungraun::main!(library_benchmark_groups = core);
}
