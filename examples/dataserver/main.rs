//! A command-line tool.
//!
#![doc = concat!("```text\n", include_str!("help.txt"), "```")]

mod arguments;
mod client;
mod failure;
mod serve;
mod target;

use std::io::{self, Write};
use std::process::ExitCode;

use arguments::Command;
use failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::from(failure.status as u8)
        }
    }
}

fn run() -> Result<(), Failure> {
    match Command::from_env()? {
        Command::Help => Ok(io::stdout().write_all(include_bytes!("help.txt"))?),
        Command::Serve(options) => serve::serve(options),
        Command::Put(object) => client::put(&object),
        Command::Get(object) => client::get(&object),
    }
}

/// Prints a message. Standard error may be closed, which is not a failure.
fn say(line: &str) {
    writeln!(io::stderr(), "dataserver: {line}").ok();
}
