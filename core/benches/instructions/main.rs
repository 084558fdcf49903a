//! Instructions per operation, counted by callgrind: exact, and the same wherever it runs.
//!
//! `cargo bench -p dataserver-core` compares them with what is [`recorded`], and fails where one has
//! risen by more than 5 %. It needs valgrind, and `cargo install gungraun-runner --version 0.18.2`;
//! without them it is skipped.

mod recorded;

use std::env;

use dataserver_core::Connection;

fn main() {
    if env::args().any(|word| word == "--gungraun-run") {
        return counted::run(); // one of them, under valgrind and with no environment
    }
    let size = size_of::<Connection>();
    println!("Connection: {size} bytes, target <= 160: {}", verdict(size <= 160));
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
    println!("a chunk (`step` + `advance`): {chunk}, target <= 60: {}", verdict(chunk <= 60));
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::needless_pass_by_value,
    reason = "it is what the macros make"
)]
mod counted {
    use std::hint::black_box;
    use std::num::NonZeroU32;

    use dataserver_core::{Claim, Config, Connection, Instant, Key, Registry, StartPacket, Step};
    use gungraun::prelude::*;
    use gungraun::{Callgrind, EventKind};

    use crate::recorded;

    pub(crate) fn run() {
        main();
    }

    /// 5 % more than this fails.
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
        StartPacket::parse(black_box(bytes)).is_ok()
    }

    #[library_benchmark(config = at_most(recorded::ENCODE))]
    #[bench::it(Key::from_name(NAME))]
    fn encode(key: Key) -> bool {
        black_box(StartPacket::put(key).with_size(black_box(OBJECT))).is_ok()
    }

    /// A client that puts, on the heap, so that to hand it over takes no copy.
    fn client() -> Box<Connection> {
        let chunk = NonZeroU32::new(256 * 1024).unwrap_or(NonZeroU32::MIN);
        let config = Config { chunk, ..Config::default() };
        Box::new(Connection::client(config, packet(), Instant::default()))
    }

    fn sender() -> Box<Connection> {
        let mut client = client();
        client.advance(StartPacket::LEN);
        client
    }

    #[library_benchmark(config = at_most(recorded::CHUNK))]
    #[bench::it(setup = sender)]
    fn chunk(mut sender: Box<Connection>) -> Box<Connection> {
        if let Step::Send { max } = black_box(&mut sender).step() {
            sender.advance(max);
        }
        sender
    }

    // What it costs to count at all: the bench of a chunk without the chunk.
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
                    client.advance(n);
                }
                Step::Send { max } => client.advance(max),
                Step::Offer { .. } => client.offer(0, true),
                Step::Peek => client.still_open(),
                Step::Shutdown => client.shut_down(),
                Step::AwaitEnd => client.end_of_stream(),
                _ => return client,
            }
        }
    }

    #[library_benchmark(config = at_most(recorded::KEY))]
    #[bench::of_32_bytes(NAME)]
    fn key(name: &str) -> Key {
        Key::from_name(black_box(name))
    }

    /// Standing entries, of which the last but some is the one to claim.
    fn registry(entries: u32) -> Registry<u32> {
        let mut registry = Registry::new();
        for entry in 0..entries {
            let mut key = [0; Key::LEN];
            key[..4].copy_from_slice(&entry.wrapping_mul(2_654_435_761).to_le_bytes());
            let packet = StartPacket::put(Key::new(key));
            registry.add(packet, entry, Instant::default()).expect("the keys differ");
        }
        registry
    }

    fn claim(mut registry: Registry<u32>) -> Registry<u32> {
        let packet = black_box(StartPacket::put(Key::new([0; Key::LEN]))); // entry 0
        if let Ok(Claim { lease, .. }) = registry.claim(&packet, u64::MAX, Instant::default()) {
            registry.release(lease, true);
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
        benchmarks = decode, encode, chunk, nothing, transfer, key, claim_of_1, claim_of_1_000,
            claim_of_1_000_000
    );
    gungraun::main!(library_benchmark_groups = core);
}
