//! The command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use dataserver_std::{Entry, Key, ObjectSize};
use lexopt::{Arg, Error, Parser, ValueExt};

pub(crate) enum Command {
    Help,
    Serve(Serve),
    Put(Object),
    Get(Object),
}

/// `serve`.
pub(crate) struct Serve {
    pub(crate) listen: String,
    pub(crate) puts: Vec<Named>,
    pub(crate) gets: Vec<Named>,
    pub(crate) uses: Uses,
    pub(crate) max_size: Option<u64>,
}

/// `NAME=PATH`.
pub(crate) struct Named {
    pub(crate) key: Key,
    pub(crate) path: PathBuf,
}

/// How often an entry may be used.
#[derive(Clone, Copy)]
pub(crate) enum Uses {
    Standing,
    Once,
    UntilDelivered,
}

impl Uses {
    pub(crate) fn of(self, entry: Entry) -> Entry {
        match self {
            Self::Standing => entry,
            Self::Once => entry.once(),
            Self::UntilDelivered => entry.until_delivered(),
        }
    }
}

/// `put` and `get`.
pub(crate) struct Object {
    pub(crate) address: String,
    pub(crate) key: Key,
    /// `None` for standard input or output.
    pub(crate) path: Option<PathBuf>,
    /// `None` if the command line has no `--size`.
    pub(crate) size: Option<ObjectSize>,
    /// Whether to use the format of the original.
    pub(crate) bare: bool,
}

impl Command {
    pub(crate) fn from_env() -> Result<Self, Error> {
        let mut parser = Parser::from_env();
        match parser.next()? {
            Some(Arg::Long("help") | Arg::Short('h')) => Ok(Self::Help),
            Some(Arg::Value(command)) => match command.to_str() {
                Some("serve") => parse_serve(parser),
                Some("put") => Ok(parse_object(parser)?.map_or(Self::Help, Self::Put)),
                Some("get") => Ok(parse_object(parser)?.map_or(Self::Help, Self::Get)),
                _ => Err(format!("no command {command:?}, expected serve, put or get").into()),
            },
            Some(argument) => Err(argument.unexpected()),
            None => Err("no command, expected serve, put or get".into()),
        }
    }
}

fn parse_serve(mut parser: Parser) -> Result<Command, Error> {
    let (mut listen, mut puts, mut gets) = (None, Vec::new(), Vec::new());
    let (mut uses, mut max_size) = (Uses::Standing, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("listen") => listen = Some(address(parser.value()?)?),
            Arg::Long("put") => puts.push(named(&parser.value()?)?),
            Arg::Long("get") => gets.push(named(&parser.value()?)?),
            Arg::Long("once") if !matches!(uses, Uses::UntilDelivered) => uses = Uses::Once,
            Arg::Long("until-delivered") if !matches!(uses, Uses::Once) => {
                uses = Uses::UntilDelivered;
            }
            Arg::Long("once" | "until-delivered") => {
                return Err("--once and --until-delivered exclude each other".into());
            }
            Arg::Long("max-size") => max_size = Some(parser.value()?.parse()?),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if puts.is_empty() && gets.is_empty() {
        return Err("nothing to serve, expected --put or --get".into());
    }
    let listen = listen.ok_or("missing option --listen ADDR")?;
    Ok(Command::Serve(Serve { listen, puts, gets, uses, max_size }))
}

/// Returns `None` for `--help`.
fn parse_object(mut parser: Parser) -> Result<Option<Object>, Error> {
    let (mut operands, mut size, mut bare) = (Vec::new(), None, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) if operands.len() < 3 => operands.push(value),
            Arg::Long("size") => size = Some(parser.value()?.parse_with(parse_size)?),
            Arg::Long("bare") => bare = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let [to, name, path] = <[OsString; 3]>::try_from(operands).map_err(|given| {
        format!("{} of the operands ADDR NAME FILE are missing", 3 - given.len())
    })?;
    Ok(Some(Object {
        address: address(to)?,
        key: Key::from_name_bytes(name.as_bytes()),
        path: Some(path).filter(|path| path != "-").map(PathBuf::from),
        size,
        bare,
    }))
}

fn address(value: OsString) -> Result<String, Error> {
    let address = value.string()?;
    match address.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(address),
        _ => Err(format!("{address:?} is not an address, expected HOST:PORT").into()),
    }
}

fn named(value: &OsStr) -> Result<Named, Error> {
    let bytes = value.as_bytes();
    let Some(end) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err(format!("{value:?} has no `=`, expected NAME=PATH").into());
    };
    let (name, path) = (&bytes[..end], &bytes[end + 1..]);
    Ok(Named { key: Key::from_name_bytes(name), path: OsStr::from_bytes(path).into() })
}

fn parse_size(value: &str) -> Result<ObjectSize, String> {
    if value == "unknown" {
        return Ok(ObjectSize::UNKNOWN);
    }
    let bytes = value.parse().map_err(|_| "expected a number of bytes, or unknown".to_owned())?;
    ObjectSize::new(bytes).map_err(|error| error.to_string())
}
