//! Which addresses of a server to try, and when.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use std::vec;

use dataserver_core::Instant;

use crate::address::Address;
use crate::error::Error;

/// How long the latest attempt goes on alone: the value that RFC 8305, section 5, recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The attempts to connect to one server, which may have several addresses ("Happy Eyeballs", RFC 8305).
///
/// The next attempt begins when the latest one has failed, or 250 ms after that one began. Earlier
/// attempts go on. The caller makes the attempts, and uses the first connection.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use dataserver_common::{Address, Attempts, now};
///
/// let server = Address::from(("example.org", 8089));
/// let [ipv6, ipv4] = ["[2001:db8::1]:8089".parse()?, "192.0.2.1:8089".parse()?];
/// let mut attempts = Attempts::new(&server, vec![ipv6, ipv4]);
/// let began = now();
/// assert_eq!(attempts.begin(began), Some(ipv6));
/// assert_eq!(attempts.begin(began), None);
/// assert_eq!(attempts.next_at(), Some(began.saturating_add(Duration::from_millis(250))));
/// attempts.failed(ipv6, io::ErrorKind::ConnectionRefused.into());
/// assert_eq!(attempts.begin(began), Some(ipv4));
/// assert_eq!(attempts.next_at(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Attempts {
    server: Address,
    untried: vec::IntoIter<SocketAddr>,
    /// The address of the latest attempt.
    latest: Option<SocketAddr>,
    /// When the next attempt begins, if there is one.
    next_at: Instant,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl Attempts {
    /// Of this server, which has these addresses, in the order in which to try them.
    pub fn new(server: &Address, addresses: Vec<SocketAddr>) -> Self {
        Self {
            server: server.clone(),
            untried: addresses.into_iter(),
            latest: None,
            next_at: Instant::default(),
            failures: Vec::new(),
        }
    }

    /// The address of an attempt that begins now, if one is due.
    pub fn begin(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        self.latest = self.untried.next();
        self.next_at = now.saturating_add(ATTEMPT_DELAY);
        self.latest
    }

    /// When the next attempt begins; `None` if all addresses have been tried.
    pub fn next_at(&self) -> Option<Instant> {
        (self.untried.len() > 0).then_some(self.next_at)
    }

    /// The attempt to connect to this address failed.
    pub fn failed(&mut self, address: SocketAddr, error: io::Error) {
        if self.latest == Some(address) {
            self.next_at = Instant::default();
        }
        self.failures.push((address, error));
    }

    /// The error of a client whose attempts have all failed. If the server was given by name, the text has
    /// each address with its error, and the kind is that of the last one.
    ///
    /// ```
    /// use std::io;
    /// use dataserver_common::{Address, Attempts};
    ///
    /// let [ipv6, ipv4] = ["[::1]:8089".parse()?, "127.0.0.1:8089".parse()?];
    /// let mut attempts = Attempts::new(&Address::from(("localhost", 8089)), vec![ipv6, ipv4]);
    /// attempts.failed(ipv6, io::ErrorKind::ConnectionRefused.into());
    /// attempts.failed(ipv4, io::ErrorKind::TimedOut.into());
    /// let error = attempts.into_error();
    /// assert!(error.is_timeout());
    /// assert_eq!(
    ///     error.to_string(),
    ///     "cannot connect to localhost:8089: \
    ///      [::1]:8089: connection refused; 127.0.0.1:8089: timed out"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_error(mut self) -> Error {
        let source = match self.failures.pop() {
            None => io::ErrorKind::NotFound.into(),
            Some((_, error)) if self.server.socket_addr().is_some() => error,
            Some((last, error)) => {
                let mut text = String::new();
                for (address, error) in &self.failures {
                    _ = write!(text, "{address}: {error}; "); // a String takes all
                }
                _ = write!(text, "{last}: {error}");
                io::Error::new(error.kind(), text)
            }
        };
        Error::connect(&self.server, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts at three addresses, which are returned too.
    fn attempts() -> (Attempts, [SocketAddr; 3]) {
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        (Attempts::new(&Address::from(("example.org", 0)), addresses.to_vec()), addresses)
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::new(Duration::from_millis(milliseconds))
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    #[test]
    fn attempts_begin_250_ms_apart_while_none_fails() {
        let (mut attempts, [first, second, third]) = attempts();
        assert_eq!(attempts.begin(at(1000)), Some(first));
        assert_eq!(attempts.next_at(), Some(at(1250)));
        assert_eq!(attempts.begin(at(1249)), None);
        assert_eq!(attempts.begin(at(1260)), Some(second));
        assert_eq!(attempts.begin(at(1509)), None);
        assert_eq!(attempts.begin(at(1510)), Some(third));
        assert_eq!(attempts.next_at(), None);
        assert_eq!(attempts.begin(at(9999)), None);
    }

    #[test]
    fn attempt_begins_at_once_when_the_latest_has_failed() {
        let (mut attempts, [first, second, _]) = attempts();
        assert_eq!(attempts.begin(at(1000)), Some(first));
        attempts.failed(first, refused());
        assert!(attempts.next_at().unwrap() <= at(1000));
        assert_eq!(attempts.begin(at(1001)), Some(second));
        assert_eq!(attempts.next_at(), Some(at(1251)));
    }

    #[test]
    fn attempt_does_not_begin_earlier_when_one_before_the_latest_has_failed() {
        let (mut attempts, [first, second, third]) = attempts();
        assert_eq!(attempts.begin(at(1000)), Some(first));
        assert_eq!(attempts.begin(at(1250)), Some(second));
        attempts.failed(first, refused());
        assert_eq!(attempts.begin(at(1499)), None);
        assert_eq!(attempts.begin(at(1500)), Some(third));
    }

    #[test]
    fn error_of_a_socket_address_is_that_of_the_system() {
        let address = SocketAddr::from(([192, 0, 2, 1], 8089));
        let mut attempts = Attempts::new(&address.into(), vec![address]);
        assert_eq!(attempts.begin(at(0)), Some(address));
        attempts.failed(address, refused());
        let error = attempts.into_error();
        assert_eq!(error.to_string(), "cannot connect to 192.0.2.1:8089: connection refused");
    }
}
