//! The command-line tool of dataserver.

mod arguments;
mod client;
mod console;
mod descriptors;
mod failure;
mod host;
mod log;
#[cfg(feature = "redis")]
mod redis_tickets;
mod serve;
mod share;
mod signals;
mod source;
mod stream;
mod target;
mod ticket;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod units;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use failure::{Failure, Status};

fn main() -> ExitCode {
    signals::survive_file_size_limit();
    let status = match Arguments::parse().command {
        Command::Put(transfer) => client::put(&transfer),
        Command::Get(transfer) => client::get(&transfer),
        Command::Share(options) => share::share(&options),
        Command::Collect(options) => share::collect(&options),
        Command::Serve(options) => status(serve::serve(&options)),
        #[cfg(feature = "redis")]
        Command::Ticket(command) => status(redis_tickets::run(&command)),
        Command::Completions { shell } => status(print_completions(shell)),
        Command::Man { directory } => status(write_man_pages(&directory)),
    };
    ExitCode::from(status as u8)
}

fn status(result: Result<(), Failure>) -> Status {
    match result {
        Ok(()) => Status::Success,
        Err(failure) => {
            console::say(&failure.to_string());
            failure.status
        }
    }
}

fn print_completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "dataserver", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// A page for the tool, and one for each command.
fn write_man_pages(directory: &Path) -> Result<(), Failure> {
    let written = clap_mangen::generate_to(Arguments::command(), directory);
    written.map_err(|error| Failure::file(directory, &error))
}
