//! The client of the original's pair of examples: puts some messages under the name `start`, gets them
//! back, and prints them as they arrive.
//!
//! ```text
//! cargo run --release --example server
//! cargo run --release --example client [-- --connect ADDR]    ADDR is localhost:8089 unless given
//! ```

use std::error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use dataserver_examples::address_option;
use dataserver_std::{Client, Key};

const KEY: Key = Key::from_name("start");

/// The size of the original's writes. The server cannot see it: chunks leave no mark on the wire.
const CHUNK: usize = 21;

/// What the original sends before its messages, in its spelling.
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
    let client = Client::new(address_option("--connect", "localhost:8089")?)?;
    let mut out = io::stdout();

    let messages = (0..10).map(|i| format!("Hello, server - 4-{i}!")).chain(["Bye!".to_owned()]);
    let messages = messages.collect::<String>();
    let mut object = client.put(KEY)?;
    object.write_all(TITLE.as_bytes())?;
    for chunk in messages.as_bytes().chunks(CHUNK) {
        object.write_all(chunk)?;
    }
    let receipt = object.finish()?; // the server has stored the object
    writeln!(out, "sent {} bytes", receipt.bytes)?;

    let mut object = client.get(KEY)?;
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
        return Err("the bytes of the get differ from those of the put".into());
    }
    Ok(())
}
