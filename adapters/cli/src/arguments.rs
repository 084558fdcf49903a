//! The command line.

use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
#[cfg(feature = "digest")]
use dataserver_std::Request;
use dataserver_std::{Address, Config, Entry, InvalidAddress, Key, ObjectSize};

use crate::failure::{Failure, Status};
#[cfg(feature = "redis")]
use crate::redis_tickets;
use crate::ticket::{Fingerprint, Ticket};
use crate::tls;
use crate::units;

/// Transfers files and streams between processes, one object over one connection, and says on both sides
/// how it ended.
#[derive(Debug, Parser)]
#[command(version, after_help = STATUSES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const STATUSES: &str = "\
Exit status:
  0  The object was stored and acknowledged. `serve`: a signal ended the server.
  2  The command line is invalid.
  3  No connection was made, or the server cannot listen.
  4  The peer refused, is busy, failed, or closed the connection. `serve`: a second signal.
  5  The object is truncated, too large, or of another size or digest than declared.
  6  A timeout of either side ran out, or a ticket expired.
  7  A local file, or standard input or output, failed.

Durations are seconds, or have a unit: 500ms, 10s, 5min, 1h 30min. 0 stands for none.
Sizes are bytes, or have a unit: 64K and 64KiB are 65,536 bytes, 64kB are 64,000.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a file, or standard input, to a server
    #[command(override_usage = "dataserver put [OPTIONS] <ADDR> <NAME> <FILE>\n       \
                                dataserver put [OPTIONS] <TICKET> <FILE>")]
    Put(Transfer),
    /// Receive an object from a server into a file, or to standard output
    #[command(override_usage = "dataserver get [OPTIONS] <ADDR> <NAME> <FILE>\n       \
                                dataserver get [OPTIONS] <TICKET> <FILE>")]
    Get(Transfer),
    /// Offer one object to one peer, without a server: prints a ticket for `dataserver get`
    Share(Single),
    /// Wait for one object from one peer, without a server: prints a ticket for `dataserver put`
    Collect(Single),
    /// Store puts in files, and serve gets from them, until a signal
    Serve(Serve),
    /// Issue, show or revoke tickets in Redis, which any of several servers serves
    #[cfg(feature = "redis")]
    #[command(subcommand)]
    Ticket(redis_tickets::Command),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory, such as /usr/local/share/man/man1
        directory: PathBuf,
    },
}

/// `put` and `get`.
#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// The server as HOST:PORT, the name of the object, and the file; or a ticket and the file. The file
    /// may be `-` for standard input or output
    #[arg(num_args = 2..=3, required = true, value_names = ["ADDR NAME | TICKET", "FILE"], hide_possible_values = true)]
    operands: Vec<OsString>,
    /// Declare this size, or `unknown`. By default a put of a regular file declares its size
    #[arg(long, value_name = "BYTES", value_parser = object_size)]
    pub(crate) size: Option<ObjectSize>,
    /// Use the format of the original Go package, in which a failure is a reset without a reason, and
    /// which does not hold over proxies and tunnels
    #[arg(long)]
    pub(crate) bare: bool,
    #[cfg(feature = "digest")]
    #[command(flatten)]
    pub(crate) digest: Digest,
    /// Try again up to this often when another try can help: no connection, a lost connection, a timeout,
    /// or a busy server. The pause grows from 1 s to 30 s
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retry: u32,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Give up an attempt to connect to an address after this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::duration)]
    pub(crate) connect_timeout: Timeout,
    #[command(flatten)]
    pub(crate) tls: tls::ClientOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What is known of the object from earlier attempts, and at its end.
#[cfg(feature = "digest")]
#[derive(Debug, Args)]
pub(crate) struct Digest {
    /// Compare a digest of the object (BLAKE3) on both sides before it is stored
    #[arg(long, conflicts_with = "bare")]
    check: bool,
    /// Go on where an earlier attempt broke, and compare a digest at the end. The receiver keeps what it has in
    /// a file beside the target. It is found again for the same target, name and declared size
    #[arg(long, conflicts_with_all = ["bare", "limit_rate"])]
    resume: bool,
}

#[cfg(feature = "digest")]
impl Digest {
    pub(crate) fn of(&self, request: Request) -> Request {
        match (self.check, self.resume) {
            (_, true) => request.resumable(),
            (true, false) => request.with_digest(),
            (false, false) => request,
        }
    }
}

/// A timeout; `None` for none.
pub(crate) type Timeout = Option<Duration>;

/// What `put` and `get` are about.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: Address,
    pub(crate) key: Key,
    /// What the certificate of the server must be, if the ticket names it.
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) path: PathBuf,
}

impl Transfer {
    pub(crate) fn peer(&self) -> Result<Peer, Failure> {
        let usage = |error: String| Failure::new(Status::Usage, error);
        let text = |operand: &OsStr| match operand.to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(usage(format!("{operand:?} is not text, expected an address or a ticket"))),
        };
        let (address, key, certificate, path) = match &self.operands[..] {
            [ticket, path] => {
                let ticket: Ticket = text(ticket)?.parse().map_err(usage)?;
                (ticket.address, ticket.key, ticket.certificate, path)
            }
            [address, name, path] => {
                let address = text(address)?.parse().map_err(|error| usage(format!("{error}")))?;
                (address, Key::from_name_bytes(name.as_bytes()), None, path)
            }
            _ => return Err(usage("expected ADDR NAME FILE, or TICKET FILE".to_owned())),
        };
        Ok(Peer { address, key, certificate, path: file(path.clone()).map_err(usage)? })
    }
}

/// `share` and `collect`.
#[derive(Debug, Args)]
pub(crate) struct Single {
    /// The file, or `-` for standard input or output
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().try_map(file))]
    pub(crate) path: PathBuf,
    /// Listen at this address. Without a host, at all addresses; with port 0, at any free port
    #[arg(long, value_name = "ADDR", default_value = ":0", value_parser = address)]
    pub(crate) listen: Address,
    /// Print this host in the ticket instead of the address of this machine that leads to most others
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// End if the object has not been transferred after this long
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::duration)]
    pub(crate) expires: Timeout,
    #[command(flatten)]
    pub(crate) tls: tls::ShareOptions,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Listen at this address. Without a host, at all addresses; with port 0, at any free port. Several are
    /// possible
    #[arg(long, value_name = "ADDR", required = true, value_parser = address)]
    pub(crate) listen: Vec<Address>,
    /// Store puts of NAME in the file PATH. NAME ends at the first `=`
    #[arg(long = "put", value_name = "NAME=PATH", value_parser = OsStringValueParser::new().try_map(named))]
    pub(crate) puts: Vec<Named>,
    /// Serve gets of NAME from the file PATH
    #[arg(long = "get", value_name = "NAME=PATH", value_parser = OsStringValueParser::new().try_map(named))]
    pub(crate) gets: Vec<Named>,
    /// Use a random key for each NAME, and print the tickets
    #[arg(long)]
    pub(crate) ticket: bool,
    /// Print this host in the tickets instead of the address of this machine that leads to most others
    #[arg(long, value_name = "HOST", requires = "ticket")]
    pub(crate) host: Option<String>,
    /// Each NAME can be used for one connection
    #[arg(long, conflicts_with = "until_delivered")]
    pub(crate) once: bool,
    /// Each NAME can be used until one transfer has succeeded
    #[arg(long)]
    pub(crate) until_delivered: bool,
    /// Each NAME can be used for this long
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::duration)]
    pub(crate) expires: Timeout,
    /// Refuse larger puts
    #[arg(long, value_name = "BYTES", value_parser = units::size)]
    pub(crate) max_size: Option<u64>,
    /// Serve at most this many connections at once, at each address
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) max_connections: NonZeroUsize,
    /// Refuse the format of the original Go package
    #[arg(long)]
    pub(crate) framed_only: bool,
    /// Serve only clients that ask for a digest: those with `--check` or `--resume`
    #[cfg(feature = "digest")]
    #[arg(long)]
    pub(crate) check_only: bool,
    /// How to log connections on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log: LogFormat,
    /// Log failures only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Log also when a connection begins
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    #[cfg(feature = "redis")]
    #[command(flatten)]
    pub(crate) redis: redis_tickets::RedisOptions,
    #[command(flatten)]
    pub(crate) tls: tls::ServerOptions,
    #[command(flatten)]
    pub(crate) timeouts: Timeouts,
}

impl Serve {
    /// An entry with the options of the command line.
    pub(crate) fn entry(&self, key: Key) -> Entry {
        let mut entry = Entry::new(key);
        if self.once {
            entry = entry.once();
        }
        if self.until_delivered {
            entry = entry.until_delivered();
        }
        if self.framed_only {
            entry = entry.framed_only();
        }
        #[cfg(feature = "digest")]
        if self.check_only {
            entry = entry.digest_only();
        }
        match self.expires {
            Some(duration) => entry.expires_after(duration),
            None => entry,
        }
    }
}

/// How a server logs its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each connection
    Text,
    /// A line for each connection, which is a JSON object
    Json,
}

/// `NAME=PATH`.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: OsString,
    pub(crate) path: PathBuf,
}

/// How long to wait for the peer, and how fast to be.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    #[command(flatten)]
    pub(crate) timeouts: Timeouts,
    /// Move at most this many bytes a second
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub(crate) limit_rate: Option<NonZeroU64>,
}

/// How long to wait for the peer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Timeouts {
    /// Give up when the peer has sent or taken no byte for this long. Without it, the peer may pause for
    /// as long as it likes, and TCP keep-alive notices when its machine is gone
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::duration)]
    pub(crate) timeout: Timeout,
    /// Give up when the peer has not acknowledged the object this long after its last byte
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = units::duration)]
    pub(crate) receipt_timeout: Timeout,
}

impl Timeouts {
    pub(crate) fn config(self) -> Config {
        let config = Config::default();
        let timeouts = config.timeouts.idle(self.timeout).receipt(self.receipt_timeout);
        config.timeouts(timeouts)
    }
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Show the progress on standard error: if it is a terminal, always, or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print what is done, step by step
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print the outcome as a JSON object, on the last line of standard output, or of standard error if
    /// the data goes to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// When to show the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// If standard error is a terminal
    Auto,
    /// Also into pipes and files, as a line every second
    Always,
    /// Not at all
    Never,
}

/// Whether a path stands for standard input or output.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path == Path::new("-")
}

pub(crate) fn file(path: OsString) -> Result<PathBuf, String> {
    match path.is_empty() {
        true => Err("the name of the file is empty".to_owned()),
        false => Ok(path.into()),
    }
}

fn named(value: OsString) -> Result<Named, String> {
    let Some(end) = value.as_bytes().iter().position(|byte| *byte == b'=') else {
        return Err("expected NAME=PATH".to_owned());
    };
    let mut name = value.into_vec();
    let path = name.split_off(end + 1);
    name.truncate(end);
    Ok(Named { name: OsString::from_vec(name), path: file(OsString::from_vec(path))? })
}

pub(crate) fn address(text: &str) -> Result<Address, InvalidAddress> {
    text.parse()
}

pub(crate) fn object_size(text: &str) -> Result<ObjectSize, String> {
    match text {
        "unknown" => Ok(ObjectSize::UNKNOWN),
        _ => ObjectSize::new(units::size(text)?).map_err(|error| error.to_string()),
    }
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(units::size(text)?)
        .ok_or_else(|| "expected at least 1 byte a second".to_owned())
}
