//! What one person hands to another: an address and a random key.

use std::fmt;
use std::str::FromStr;

use dataserver_std::{Address, Key};

use crate::failure::{Failure, Status};

/// `dataserver://HOST:PORT/KEY`, with `?cert=SHA256` if the server uses TLS with the certificate of this
/// fingerprint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) address: Address,
    pub(crate) key: Key,
    pub(crate) certificate: Option<Fingerprint>,
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Two keys have as many digits as a fingerprint.
        let halves = text.is_ascii().then(|| text.split_at_checked(2 * Key::LEN)).flatten();
        let parsed = halves.and_then(|(first, second)| {
            let [first, second] = [first.parse::<Key>().ok()?, second.parse::<Key>().ok()?];
            [&first.as_bytes()[..], second.as_bytes()].concat().try_into().ok()
        });
        parsed.map(Self).ok_or_else(|| "expected a SHA-256 as 64 hexadecimal digits".to_owned())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const SCHEME: &str = "dataserver://";

impl FromStr for Ticket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.strip_prefix(SCHEME).and_then(|rest| rest.trim_end_matches('/').split_once('/'));
        let Some((address, rest)) = parts else {
            return Err(format!("{text:?} is not a ticket, expected dataserver://HOST:PORT/KEY"));
        };
        let (key, certificate) = match rest.split_once("?cert=") {
            Some((key, certificate)) => (key, Some(certificate)),
            None => (rest, None),
        };
        let certificate = certificate.map(str::parse).transpose();
        Ok(Self {
            certificate: certificate
                .map_err(|error| format!("the certificate of the ticket {text:?}: {error}"))?,
            address: address.parse().map_err(|error| format!("the ticket {text:?}: {error}"))?,
            key: key.parse().map_err(|error| format!("the key of the ticket {text:?}: {error}"))?,
        })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.address, self.key)?;
        self.certificate.iter().try_for_each(|certificate| write!(f, "?cert={certificate}"))
    }
}

/// A random key of 128 bits.
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
            let plain = Ticket { address: host.parse().unwrap(), key, certificate: None };
            assert_eq!(plain.to_string(), format!("dataserver://{host}/{key}"));
            let certificate = Some(Fingerprint([0xa5; 32]));
            let pinned = Ticket { address: host.parse().unwrap(), key, certificate };
            for ticket in [plain, pinned] {
                assert_eq!(ticket.to_string().parse(), Ok(ticket));
            }
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
            &format!("dataserver://127.0.0.1:7001/{key}?cert=a5"),
            &format!("dataserver://127.0.0.1:7001/{key}?cert={}", "\u{e4}".repeat(32)),
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
