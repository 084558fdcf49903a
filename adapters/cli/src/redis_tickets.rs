//! Tickets in Redis, for several servers: `serve --tickets` and `ticket`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use dataserver_redis::{Error, Ticket, Tickets};
use dataserver_std::{Address, Direction, Handlers, Key, ObjectSize, Receipt, TicketObject};

use crate::arguments::{Timeout, address, file, object_size};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::serve;
use crate::ticket::random_key;
use crate::units;

/// Tickets for `serve`.
#[derive(Debug, Args)]
pub(crate) struct RedisOptions {
    /// Serve also the tickets in this Redis or Valkey, such as redis://127.0.0.1
    #[arg(long, value_name = "URL", requires = "root")]
    tickets: Option<String>,
    /// The directory of the paths of these tickets, which they cannot leave
    #[arg(long, value_name = "DIRECTORY", requires = "tickets")]
    root: Option<PathBuf>,
}

/// `ticket`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Issue a ticket, and print it
    Issue(Issue),
    /// Print what a ticket is for
    Show(Existing),
    /// Revoke a ticket. A transfer that has begun goes on
    Revoke(Existing),
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The Redis or Valkey, such as redis://127.0.0.1
    #[arg(long, value_name = "URL")]
    tickets: String,
    /// What the client does
    direction: Verb,
    /// The path of the object, below the root of the servers
    #[arg(value_parser = clap::builder::TypedValueParser::try_map(clap::builder::OsStringValueParser::new(), file))]
    path: PathBuf,
    /// The address that the ticket names. Without it, only the key is printed
    #[arg(long, value_name = "ADDR", value_parser = address)]
    server: Option<Address>,
    /// Use this key instead of a random one
    #[arg(long, value_name = "KEY")]
    key: Option<Key>,
    /// Allow tries until one transfer has succeeded. Without it, the ticket is for one connection
    #[arg(long)]
    until_delivered: bool,
    /// How long the ticket is valid
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::duration)]
    expires: Timeout,
    /// Demand that this size is declared
    #[arg(long, value_name = "BYTES", value_parser = object_size)]
    size: Option<ObjectSize>,
    /// Refuse larger objects
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Existing {
    /// The Redis or Valkey, such as redis://127.0.0.1
    #[arg(long, value_name = "URL")]
    tickets: String,
    /// What the client does
    direction: Verb,
    /// The key of the ticket
    key: Key,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verb {
    Put,
    Get,
}

impl From<Verb> for Direction {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Put => Self::Put,
            Verb::Get => Self::Get,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::AlreadyIssued | Error::DataTooLong { .. } => Status::Usage,
            Error::Malformed { .. } => Status::Peer,
            _ => Status::Connect,
        };
        Self::new(status, error)
    }
}

/// Registers the tickets. Returns whether there are any.
pub(crate) fn register(
    options: &RedisOptions,
    handlers: &Handlers,
    console: &Arc<Console>,
) -> Result<bool, Failure> {
    let (Some(url), Some(root)) = (&options.tickets, &options.root) else { return Ok(false) };
    let root = fs::canonicalize(root).map_err(|error| Failure::file(root, &error))?;
    let tickets = Tickets::open(url)
        .map_err(|error| Failure::new(Status::Usage, format!("{url}: {error}")))?;
    let console = Arc::clone(console);
    handlers.on_tickets(tickets, move |object, data| -> Result<Receipt, Failure> {
        let path = below(&root, Path::new(OsStr::from_bytes(&data)))?;
        match object {
            TicketObject::Put(object) => serve::receive(object, &path, &console),
            TicketObject::Get(object) => serve::send(object, &path),
        }
    });
    Ok(true)
}

/// The path below this root, which neither `..` nor a link leaves.
fn below(root: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let outside = || {
        let error = io::Error::other("the path of the ticket leaves the root of this server");
        Err(Failure::file(path, &error))
    };
    let is_normal = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if path.as_os_str().is_empty() || !path.components().all(is_normal) {
        return outside();
    }
    let whole = root.join(path);
    // The target of a link counts, or the directory of a file that does not exist.
    let existing = fs::canonicalize(&whole)
        .or_else(|_| fs::canonicalize(whole.parent().unwrap_or(root)))
        .map_err(|error| Failure::file(path, &error))?;
    match existing.starts_with(root) {
        true => Ok(whole),
        false => outside(),
    }
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Issue(options) => issue(options),
        Command::Show(ticket) => show(ticket),
        Command::Revoke(ticket) => {
            match open(&ticket.tickets)?.revoke(ticket.direction.into(), ticket.key)? {
                true => Ok(()),
                false => Err(unknown()),
            }
        }
    }
}

fn open(url: &str) -> Result<Tickets, Failure> {
    Tickets::open(url).map_err(|error| Failure::new(Status::Usage, format!("{url}: {error}")))
}

fn unknown() -> Failure {
    Failure::new(Status::Peer, "there is no such ticket: it has been used, revoked, or has expired")
}

fn issue(options: &Issue) -> Result<(), Failure> {
    let key = options.key.map_or_else(random_key, Ok)?;
    let ticket = match options.direction {
        Verb::Put => Ticket::put(key),
        Verb::Get => Ticket::get(key),
    };
    let mut ticket = ticket.data(options.path.as_os_str().as_bytes());
    if options.until_delivered {
        ticket = ticket.until_delivered();
    }
    if let Some(duration) = options.expires {
        ticket = ticket.expires_after(duration);
    }
    if let Some(size) = options.size {
        ticket = ticket.exact_size(size);
    }
    if let Some(bytes) = options.max_size {
        ticket = ticket.max_size(bytes);
    }
    open(&options.tickets)?.issue(&ticket)?;
    let mut output = io::stdout();
    match &options.server {
        Some(address) => {
            let ticket = crate::ticket::Ticket { address: address.clone(), key, certificate: None };
            writeln!(output, "{ticket}")?;
        }
        None => writeln!(output, "{key}")?,
    }
    Ok(())
}

fn show(ticket: &Existing) -> Result<(), Failure> {
    let found = open(&ticket.tickets)?.show(ticket.direction.into(), ticket.key)?;
    let found = found.ok_or_else(unknown)?;
    let mut output = io::stdout();
    writeln!(output, "path: {}", Path::new(OsStr::from_bytes(&found.data)).display())?;
    let policy = if found.until_delivered { "until delivered" } else { "once" };
    writeln!(output, "for: {policy}")?;
    if let Some(size) = found.exact_size {
        writeln!(output, "size: {size}")?;
    }
    if let Some(bytes) = found.max_size {
        writeln!(output, "at most: {bytes} bytes")?;
    }
    if let Some(left) = found.expires_in {
        writeln!(output, "expires in: {}", humantime::format_duration(left))?;
    }
    if let Some(owner) = found.owner {
        writeln!(output, "served by: {owner}")?;
    }
    Ok(())
}
