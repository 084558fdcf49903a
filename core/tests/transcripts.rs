//! Replays the exchanges of `transcripts.json`, on each side of the connection.
//!
//! A transcript is independent of this implementation: another one can replay it, too. Its fields:
//!
//! - `exchange`: what happens on the stream, in order. `>` is the client and `<` is the server, with bytes in
//!   hexadecimal. The bytes may arrive in any pieces. `end` and `reset` are how that side ends the stream, and
//!   `fails` is a write that fails. A side that `times out` has waited for its timer.
//! - `client` and `server`: how that side ends: `ok` with the size of the object, or the text of its error.
//!   A side with `null` violates the protocol, or does not matter.
//! - `offers`: what the application of the sender has, step by step: bytes, `last`, that it fails with a code,
//!   or that it has fewer bytes than the receiver (`has`). `refuse`, `limit`, `receive` and `commit`: what the application of the receiver does, and the codes
//!   with which it fails.
//! - `has`: how many bytes of the object the receiver has from an earlier attempt.
//! - `other_digest`: the side that computes 32 bytes of `ee` as its digest. Without it both compute 32 of `dd`.
//! - `later`: the object is not the first on its stream.
//! - `only`: the order of the events matters to this side only.

use std::collections::VecDeque;

use dataserver_core::{Config, Connection, Frame, Instant, Key, Refusal, Side, StartPacket, Step};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
struct Transcript {
    name: String,
    exchange: Vec<String>,
    client: Option<String>,
    server: Option<String>,
    #[serde(default)]
    offers: VecDeque<String>,
    refuse: Option<String>,
    limit: Option<u64>,
    receive: Option<u64>,
    commit: Option<u64>,
    #[serde(default)]
    has: u64,
    other_digest: Option<String>,
    #[serde(default)]
    later: bool,
    only: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Bytes(Vec<u8>),
    End,
    Reset,
    Fails,
    TimesOut,
}

#[test]
fn every_side_of_every_transcript_ends_as_it_says() {
    let mut replayed = 0;
    for transcript in transcripts() {
        for (me, outcome) in [("client", &transcript.client), ("server", &transcript.server)] {
            let is_for_me = transcript.only.as_ref().is_none_or(|only| only == me);
            let Some(expected) = outcome.as_ref().filter(|_| is_for_me) else { continue };
            for piece in [usize::MAX, 1, 7] {
                let mut side = Replay::new(&transcript, me, piece);
                let outcome = side.run();
                assert_eq!(&outcome, expected, "{me}: {}", transcript.name);
                assert_eq!(
                    side.written,
                    side.expected_bytes(),
                    "{me} wrote other bytes: {}",
                    transcript.name
                );
            }
            replayed += 1;
        }
    }
    assert!(replayed > 60, "{replayed}");
}

/// One side of a transcript.
struct Replay {
    transcript: Transcript,
    connection: Connection,
    /// What the peer does.
    incoming: VecDeque<Event>,
    /// What this side does.
    own: Vec<Event>,
    /// The most bytes of one read.
    piece: usize,
    written: Vec<u8>,
    /// Bytes that the application has offered.
    offered: VecDeque<u8>,
    /// Each byte of the digest that this side computes.
    digest: u8,
}

impl Replay {
    fn new(transcript: &Transcript, me: &str, piece: usize) -> Self {
        let mine = if me == "client" { ">" } else { "<" };
        let (mut own, mut incoming) = (Vec::new(), VecDeque::new());
        for event in &transcript.exchange {
            match event.strip_suffix(" times out") {
                Some(side) if side == me => {
                    own.push(Event::TimesOut);
                    incoming.push_back(Event::TimesOut);
                }
                Some(_) => {}
                None if event.starts_with(mine) => own.push(parse(event)),
                None => incoming.push_back(parse(event)),
            }
        }
        let first = transcript.exchange.iter().find_map(|event| event.strip_prefix('>'));
        let connection = match (me, first) {
            ("client", Some(hex)) => client(&from_hex(hex)[..25], transcript.later),
            _ => server(transcript.later),
        };
        let is_other = transcript.other_digest.as_deref() == Some(me);
        Self {
            transcript: transcript.clone(),
            connection,
            incoming,
            own,
            piece,
            written: Vec::new(),
            offered: VecDeque::new(),
            digest: if is_other { 0xee } else { 0xdd },
        }
    }

    fn expected_bytes(&self) -> Vec<u8> {
        let bytes = self.own.iter().filter_map(|event| match event {
            Event::Bytes(bytes) => Some(&bytes[..]),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    fn run(&mut self) -> String {
        for _ in 0..10_000 {
            match self.connection.step() {
                Step::Done(Ok(bytes)) => return format!("ok {bytes}"),
                Step::Done(Err(error)) => return error.to_string(),
                Step::Read { max } | Step::Receive { max } => self.read(max),
                Step::AwaitEnd => self.read(4096),
                Step::Decide(_) => match self.transcript.refuse.as_deref() {
                    Some("InUse") => self.connection.refuse(Refusal::InUse),
                    Some(_) => self.connection.refuse(Refusal::NotRegistered),
                    None => self.connection.accept(self.transcript.limit),
                },
                Step::Offer { .. } => self.offer(),
                Step::Write { bytes, .. } if self.write_fails(bytes.len()) => {
                    self.connection.handle_reset();
                }
                Step::Write { bytes, payload } => {
                    let n = payload.min(self.offered.len());
                    self.written.extend(bytes);
                    self.written.extend(self.offered.drain(..n));
                    let n = bytes.len() + n;
                    self.connection.handle_moved(n);
                }
                // Bare, nothing was offered before.
                Step::Send { .. } if self.offered.is_empty() => {
                    match self.transcript.offers.front_mut() {
                        Some(offer) if !offer.starts_with(' ') => {
                            self.offered.extend(from_hex(offer.trim_end_matches(" last")));
                            " last".clone_into(offer);
                        }
                        _ => self.connection.offer(0, true),
                    }
                }
                Step::Send { max } => {
                    let n = max.min(self.offered.len());
                    self.written.extend(self.offered.drain(..n));
                    self.connection.handle_moved(n);
                }
                Step::Resume => self.connection.resume(self.transcript.has),
                Step::Digest => self.connection.digest([self.digest; 32]),
                Step::Peek => self.connection.handle_still_open(),
                Step::Shutdown => self.connection.handle_shutdown(),
                Step::Commit => match self.transcript.commit {
                    Some(code) => self.connection.abort_with_code("the script says so", code),
                    None => self.connection.committed(),
                },
            }
            let receives = self.connection.side() == Some(Side::Receiver);
            if let (Step::Read { .. }, Some(code), true) =
                (self.connection.step(), self.transcript.receive, receives)
            {
                self.transcript.receive = None;
                self.connection.abort_with_code("the script says so", code);
            }
        }
        panic!("{}: it does not end", self.transcript.name);
    }

    fn offer(&mut self) {
        let offer = self.transcript.offers.pop_front().expect("an offer");
        if let Some(code) = offer.strip_prefix("fail ") {
            return self.connection.abort_with_code("the script says so", code.parse().unwrap());
        }
        if let Some(size) = offer.strip_prefix("has ") {
            return self.connection.reject_offset(size.parse().unwrap());
        }
        let bytes = from_hex(offer.trim_end_matches("last").trim());
        self.connection.offer(bytes.len(), offer.ends_with("last"));
        self.offered = bytes.into();
    }

    /// Whether all bytes before a write that fails have been written.
    fn write_fails(&self, next: usize) -> bool {
        self.own.contains(&Event::Fails) && self.written.len() + next > self.expected_bytes().len()
    }

    fn read(&mut self, max: usize) {
        match self.incoming.pop_front() {
            Some(Event::Bytes(mut bytes)) => {
                let n = bytes.len().min(max).min(self.piece);
                let rest = bytes.split_off(n);
                if !rest.is_empty() {
                    self.incoming.push_front(Event::Bytes(rest));
                }
                match self.connection.step() {
                    Step::Read { .. } => assert_eq!(self.connection.handle_read(&bytes), n),
                    _ => self.connection.handle_moved(n),
                }
            }
            Some(Event::Reset) => self.connection.handle_reset(),
            Some(Event::TimesOut) => {
                let now = Instant::default();
                self.connection.handle_blocked(now);
                let deadline = self.connection.deadline(now).expect("a timer runs");
                self.connection.handle_blocked(deadline);
            }
            // A side that has ended sends nothing more.
            Some(Event::End | Event::Fails) | None => self.connection.handle_end_of_stream(),
        }
    }
}

fn client(packet: &[u8], later: bool) -> Connection {
    let packet = StartPacket::from_bytes(packet.try_into().unwrap()).unwrap();
    let (config, now) = (Config::default(), Instant::default());
    if !later {
        return Connection::client(config, packet, now);
    }
    let first = StartPacket::put(Key::from_bytes([1; 16])).framed();
    let mut first = Connection::client(config, first, now);
    first.offer(0, true);
    first.handle_moved(37);
    first.handle_read(&Frame::Receipt { size: 0 }.to_bytes());
    first.next_client(config, packet, now)
}

fn server(later: bool) -> Connection {
    let (config, now) = (Config::default(), Instant::default());
    let mut first = Connection::server(config, now);
    if !later {
        return first;
    }
    first.handle_read(StartPacket::get(Key::from_bytes([1; 16])).framed().as_bytes());
    first.accept(None);
    first.offer(0, true);
    first.handle_moved(12);
    first.handle_read(&Frame::Receipt { size: 0 }.to_bytes());
    first.next_server(config, now)
}

fn transcripts() -> Vec<Transcript> {
    serde_json::from_str(include_str!("transcripts.json")).expect("valid JSON")
}

fn parse(event: &str) -> Event {
    match &event[1..] {
        " end" => Event::End,
        " reset" => Event::Reset,
        " fails" => Event::Fails,
        hex => Event::Bytes(from_hex(hex)),
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}
