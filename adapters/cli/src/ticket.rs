//! What one person hands to another: an address and a random key.

use std::fmt;
use std::str::FromStr;

use dataserver_std::{Address, Key};

use crate::failure::{Failure, Status};

/// `dataserver://HOST:PORT/KEY`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) address: Address,
    pub(crate) key: Key,
}

const SCHEME: &str = "dataserver://";

impl FromStr for Ticket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.strip_prefix(SCHEME).and_then(|rest| rest.trim_end_matches('/').split_once('/'));
        let Some((address, key)) = parts else {
            return Err(format!("{text:?} is not a ticket, expected dataserver://HOST:PORT/KEY"));
        };
        Ok(Self {
            address: address.parse().map_err(|error| format!("the ticket {text:?}: {error}"))?,
            key: key.parse().map_err(|error| format!("the key of the ticket {text:?}: {error}"))?,
        })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.address, self.key)
    }
}

/// A key that nobody can guess.
pub(crate) fn random_key() -> Result<Key, Failure> {
    let mut bytes = [0; Key::LEN];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(Key::from_bytes(bytes)),
        Err(error) => Err(Failure::new(Status::File, format!("no random numbers: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_parsed_as_it_is_printed() {
        let key = random_key().unwrap();
        for host in ["127.0.0.1:7001", "[2001:db8::1]:7001", "example.org:7001"] {
            let ticket = Ticket { address: host.parse().unwrap(), key };
            let text = ticket.to_string();
            assert_eq!(text, format!("dataserver://{host}/{key}"));
            assert_eq!(text.parse(), Ok(ticket));
        }
    }

    #[test]
    fn what_is_not_a_ticket_is_an_error_that_names_it() {
        let key = "ea2b2676c28c0db26d39331a336c6b92";
        for text in [
            "",
            "127.0.0.1:7001",
            "dataserver://",
            "dataserver://127.0.0.1:7001",
            &format!("dataserver://127.0.0.1/{key}"),
            &format!("dataserver://127.0.0.1:7001/{}", &key[1..]),
            &format!("http://127.0.0.1:7001/{key}"),
        ] {
            let error = text.parse::<Ticket>().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn keys_differ() {
        assert_ne!(random_key().unwrap(), random_key().unwrap());
    }
}
