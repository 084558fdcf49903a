//! The store of tickets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataserver_common::{ClaimError, Claimed, LeaseError, TicketStore, registry_now};
use dataserver_core::{Delivery, Direction, Key, ObjectSize, Refusal, StartPacket};
use redis::{Value, cmd};

use crate::batch::Batches;
use crate::error::Error;
use crate::lease::{Active, Lease, Shared};
use crate::nodes::Nodes;
use crate::pool::Pool;
use crate::ticket::{Found, Ticket};

/// How a store uses Redis.
///
/// ```
/// use std::time::Duration;
/// use dataserver_redis::Options;
///
/// let options = Options::default().lease(Duration::from_secs(30)).timeout(Duration::from_millis(500));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    lease: Duration,
    timeout: Duration,
    max_connections: usize,
    prefix: String,
}

/// How many batches are on their way at the same time where calls are sent together: while one is answered, the next
/// can be sent.
const BATCHES: usize = 2;

impl Options {
    /// Sets how long a lease lasts, from its last renewal. Leases are renewed three times as often while their
    /// transfers run. When a server dies, its tickets may be claimed again after this time. At least 1 ms,
    /// default 10 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = dataserver_redis::Options::default().lease(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: lease.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how long to wait for a connection, and for each answer of Redis. At least 1 ms, default 1 s. It
    /// should be a small part of the lease.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let options = dataserver_redis::Options::default().timeout(Duration::from_millis(200));
    /// ```
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how many connections to a Cluster are used at once. Further calls wait for one. At least 1, default 64.
    ///
    /// Elsewhere there are two at most. Calls at the same time are sent together, which is faster.
    ///
    /// ```
    /// let options = dataserver_redis::Options::default().max_connections(8);
    /// ```
    #[must_use]
    pub fn max_connections(self, max_connections: usize) -> Self {
        Self { max_connections: max_connections.max(1), ..self }
    }

    /// Sets what the names of all keys in Redis begin with. Default `dataserver:`.
    ///
    /// ```
    /// let options = dataserver_redis::Options::default().prefix("staging:");
    /// ```
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            max_connections: 64,
            prefix: "dataserver:".into(),
        }
    }
}

/// Tickets in Redis or Valkey, which several servers share. Clones share their connections.
///
/// A server takes it with `on_tickets`. A program that only issues tickets needs no server.
///
/// ```no_run
/// use dataserver_core::Key;
/// use dataserver_redis::{Ticket, Tickets};
/// use dataserver_std::{Server, TicketObject};
///
/// let tickets = Tickets::open("redis://127.0.0.1")?;
/// let key = Key::from_bytes([7; 16]); // use a random one
/// tickets.issue(&Ticket::put(key).until_delivered().data("hello"))?;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// server.on_tickets(tickets, |object, _data| match object {
///     TicketObject::Put(object) => object.receive_to("report.csv"),
///     TicketObject::Get(object) => object.send_path("report.csv"),
/// });
/// server.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tickets {
    shared: Arc<Shared>,
    prefix: Arc<str>,
}

impl Tickets {
    /// The tickets of one Redis server, with the default options.
    ///
    /// # Errors
    /// Returns [`Error::Redis`] if the URL is malformed, or asks for TLS (`rediss`). Nothing is connected yet.
    ///
    /// ```
    /// let tickets = dataserver_redis::Tickets::open("redis://127.0.0.1")?;
    /// assert!(dataserver_redis::Tickets::open("rediss://127.0.0.1").is_err());
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn open(url: &str) -> Result<Self, Error> {
        Ok(Self::new(Nodes::single(url)?, Options::default()))
    }

    /// The tickets at these nodes. Nothing is connected yet.
    ///
    /// ```
    /// use dataserver_redis::{Nodes, Options, Tickets};
    ///
    /// let nodes = Nodes::single("redis://127.0.0.1")?;
    /// let tickets = Tickets::new(nodes, Options::default().max_connections(8));
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn new(nodes: Nodes, options: Options) -> Self {
        let Options { lease, timeout, max_connections, prefix } = options;
        let max_batch = nodes.max_batch();
        let max_running = if max_batch > 1 { BATCHES } else { max_connections };
        let pool = Pool::new(nodes, timeout, max_running);
        let batches = Batches::new(pool, max_batch, max_running);
        Self { shared: Arc::new(Shared::new(batches, lease)), prefix: prefix.into() }
    }

    /// Issues a ticket.
    ///
    /// # Errors
    /// Returns [`Error::AlreadyIssued`] if there is one for this key and direction, [`Error::DataTooLong`], and
    /// the errors of Redis. After one of the latter, the ticket may have been issued or not.
    ///
    /// ```no_run
    /// # use dataserver_redis::{Ticket, Tickets};
    /// # let tickets = Tickets::open("redis://127.0.0.1")?;
    /// tickets.issue(&Ticket::put(dataserver_core::Key::from_bytes([7; 16])))?;
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn issue(&self, ticket: &Ticket) -> Result<(), Error> {
        if ticket.data.len() > Ticket::MAX_DATA {
            return Err(Error::DataTooLong { len: ticket.data.len() });
        }
        let valid_for = ticket.valid_for.map(|duration| duration.as_millis().max(1).to_string());
        let policy = if ticket.until_delivered { "until-delivered" } else { "once" };
        let size = ticket.size.map(|size| match size.bytes() {
            Some(bytes) => bytes.to_string(),
            None => "unknown".into(),
        });
        let max_size = ticket.max_size.map(|bytes| bytes.min(i64::MAX as u64).to_string());
        let mut arguments = vec![valid_for.as_deref().unwrap_or("").as_bytes()];
        arguments.extend([b"policy".as_slice(), policy.as_bytes()]);
        for (field, value) in [("size", &size), ("limit", &max_size)] {
            if let Some(value) = value {
                arguments.extend([field.as_bytes(), value.as_bytes()]);
            }
        }
        arguments.extend([b"data".as_slice(), &ticket.data]);
        let key = self.key(ticket.direction, ticket.key);
        let Shared { batches, scripts, .. } = &*self.shared;
        let answer = scripts.issue.run(batches, &key, &arguments)?;
        if answer == Value::Int(1) { Ok(()) } else { Err(Error::AlreadyIssued) }
    }

    /// Looks a ticket up; `None` if there is none, or not any more.
    ///
    /// # Errors
    /// Returns [`Error::Malformed`] if the ticket is, and the errors of Redis.
    ///
    /// ```no_run
    /// # use dataserver_redis::Tickets;
    /// use dataserver_core::{Direction, Key};
    ///
    /// # let tickets = Tickets::open("redis://127.0.0.1")?;
    /// let found = tickets.show(Direction::Put, Key::from_bytes([7; 16]))?;
    /// println!("{found:?}");
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn show(&self, direction: Direction, key: Key) -> Result<Option<Found>, Error> {
        let key = self.key(direction, key);
        let Shared { batches, scripts, .. } = &*self.shared;
        let answer = scripts.show.run(batches, &key, &[])?;
        let [found, policy, size, limit, data, owner, left] = fields(answer)?;
        if found.is_empty() {
            return Ok(None);
        }
        let malformed = |field: &str| Error::Malformed { field: field.into() };
        Ok(Some(Found {
            until_delivered: match &policy[..] {
                b"once" => false,
                b"until-delivered" => true,
                _ => return Err(malformed("policy")),
            },
            exact_size: match &size[..] {
                b"" => None,
                b"unknown" => Some(ObjectSize::UNKNOWN),
                size => {
                    let size = number(size).and_then(|bytes| ObjectSize::new(bytes).ok());
                    Some(size.ok_or_else(|| malformed("size"))?)
                }
            },
            max_size: match &limit[..] {
                b"" => None,
                limit => Some(number(limit).ok_or_else(|| malformed("limit"))?),
            },
            expires_in: number(&left).map(Duration::from_millis),
            owner: Some(String::from_utf8_lossy(&owner).into_owned()).filter(|it| !it.is_empty()),
            data,
        }))
    }

    /// Revokes a ticket, and returns whether there was one. A transfer that it has begun is told before its
    /// commit, if the ticket is until delivered.
    ///
    /// # Errors
    /// Returns the errors of Redis. The ticket may have been revoked or not.
    ///
    /// ```no_run
    /// # use dataserver_redis::Tickets;
    /// use dataserver_core::{Direction, Key};
    ///
    /// # let tickets = Tickets::open("redis://127.0.0.1")?;
    /// let was_there = tickets.revoke(Direction::Put, Key::from_bytes([7; 16]))?;
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn revoke(&self, direction: Direction, key: Key) -> Result<bool, Error> {
        let key = self.key(direction, key);
        let answer = self.shared.batches.call(cmd("DEL").arg(&key))?;
        Ok(answer == Value::Int(1))
    }

    /// The name of a ticket in Redis.
    fn key(&self, direction: Direction, key: Key) -> String {
        let direction = match direction {
            Direction::Put => "put",
            Direction::Get => "get",
        };
        format!("{}{direction}:{key}", self.prefix)
    }
}

impl TicketStore for Tickets {
    type Ticket = Vec<u8>;
    type Lease = Lease;

    fn claim(
        &self,
        packet: &StartPacket,
        limit: Option<u64>,
    ) -> Result<Claimed<Vec<u8>, Lease>, ClaimError> {
        let key = self.key(packet.direction(), packet.key());
        let text = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
        let declared = packet.size().bytes();
        let limit = limit.filter(|_| packet.direction() == Direction::Put);
        let owner = format!("{:032x}", fastrand::u128(..));
        let claimed_at = registry_now();
        let ttl = self.shared.ttl.as_millis().to_string();
        let (size, limit) = (text(declared), text(limit));
        let arguments = [&size, &limit, &owner, &ttl].map(String::as_bytes);
        let Shared { batches, scripts, .. } = &*self.shared;
        let answer = scripts.claim.run(batches, &key, &arguments).map_err(unavailable)?;
        let [answer, limit, ticket] = fields(answer).map_err(unavailable)?;
        let limit = number(&limit);
        let has_lease = match (&answer[..], declared, limit) {
            (b"once", ..) => false,
            (b"leased", ..) => true,
            (b"refused", ..) => return Err(Refusal::NotRegistered.into()),
            (b"busy", ..) => return Err(Refusal::InUse.into()),
            (b"too large", Some(declared), Some(limit)) => {
                return Err(Refusal::TooLarge { declared, limit }.into());
            }
            _ => {
                let field = String::from_utf8_lossy(&ticket).into_owned();
                return Err(unavailable(Error::Malformed { field }));
            }
        };
        let lease = has_lease.then(|| {
            let held_until = Mutex::new(claimed_at.saturating_add(self.shared.ttl));
            let lease = Arc::new(Active { key, owner, held_until });
            self.shared.keep(&lease);
            lease
        });
        Ok(Claimed { ticket, limit, lease: Lease(lease) })
    }

    /// While Redis cannot tell, a lease holds for what is left of its time.
    fn renew(&self, Lease(lease): &Lease) -> Result<(), LeaseError> {
        lease.as_ref().map_or(Ok(()), |lease| self.shared.renew(lease)) // a ticket for one claim is gone
    }

    fn finish(&self, Lease(lease): Lease, delivery: Delivery) -> Result<(), LeaseError> {
        let Some(lease) = lease else { return Ok(()) };
        let delivered: &[u8] = match delivery {
            Delivery::Succeeded => b"1",
            Delivery::Failed => b"0",
        };
        let arguments = [lease.owner.as_bytes(), delivered];
        let Shared { batches, scripts, .. } = &*self.shared;
        let answer = scripts.finish.run(batches, &lease.key, &arguments);
        match answer {
            Ok(Value::Int(1)) => Ok(()),
            Ok(_) => Err(LeaseError::Lost),
            Err(error) => Err(LeaseError::Unavailable(error.into())),
        }
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn unavailable(error: Error) -> ClaimError {
    ClaimError::Unavailable(error.into())
}

/// The answer of a script, which has this many fields.
fn fields<const N: usize>(answer: Value) -> Result<[Vec<u8>; N], Error> {
    let fields: Vec<Vec<u8>> =
        redis::from_redis_value(answer).map_err(|error| Error::Redis(error.into()))?;
    let len = fields.len();
    fields.try_into().map_err(|_| Error::Malformed { field: format!("one of {len}, expected {N}") })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
