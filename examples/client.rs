//! The client of the original's pair of examples: puts some messages under the name `start`, comes
//! back for them, and prints them as they arrive.
//!
//! ```text
//! cargo run --release --example server
//! cargo run --release --example client [-- --connect ADDR]    ADDR is localhost:8089 unless given
//! ```

use std::error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use dataserver_std::{Client, Key, StartPacket};
use lexopt::ValueExt;

const KEY: Key = Key::from_name("start");

/// What the original writes at a time. The server cannot see it: the wire has no chunks.
const CHUNK: usize = 21;

/// What the original sends ahead of its messages, as it spells it.
const TITLE: &str = "write using read write by chanks";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "client: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn error::Error>> {
    let client = Client::new(connect_address()?);
    let mut out = io::stdout();

    let messages = (0..10).map(|i| format!("Hello, server - 4-{i}!")).chain(["Bye!".to_owned()]);
    let messages = messages.collect::<String>();
    let mut object = client.put(StartPacket::put(KEY))?;
    object.write_all(TITLE.as_bytes())?;
    for chunk in messages.as_bytes().chunks(CHUNK) {
        object.write_all(chunk)?;
    }
    let receipt = object.finish()?; // the server has it all, so that it is there to be read back
    writeln!(out, "sent {} bytes", receipt.bytes)?;

    let mut object = client.get(StartPacket::get(KEY))?;
    let mut got = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let n = object.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        got.extend_from_slice(&chunk[..n]);
        writeln!(out, "got {n} bytes: '{}'", chunk[..n].escape_ascii())?;
    }
    object.commit()?;
    if got != [TITLE, &messages].concat().as_bytes() {
        return Err("what came back is not what was sent".into());
    }
    Ok(())
}

fn connect_address() -> Result<String, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let mut address = "localhost:8089".to_owned();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("connect") => address = parser.value()?.string()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(address)
}
