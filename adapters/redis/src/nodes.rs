//! Where Redis is, and how a connection to it is made.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "cluster")]
use redis::ConnectionLike;
use redis::{Client, IntoConnectionInfo, RedisResult, Value, cmd};

use crate::error::Error;
use crate::pool::is_failure;

/// Where Redis is: one server, a group that Sentinels watch, or a Cluster.
///
/// URLs have the form `redis://user:password@host:port/database`. All but the host may be left out. A Unix socket
/// is `redis+unix:///path`.
///
/// ```
/// use dataserver_redis::Nodes;
///
/// let single = Nodes::single("redis://127.0.0.1:6379")?;
/// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"];
/// let watched = Nodes::sentinels(sentinels, "mymaster", "redis://")?;
/// # Ok::<(), dataserver_redis::Error>(())
/// ```
#[derive(Clone)]
pub struct Nodes(Kind);

#[derive(Clone)]
enum Kind {
    Single(Client),
    Sentinels {
        sentinels: Vec<Client>,
        name: String,
        template: redis::ConnectionInfo,
    },
    #[cfg(feature = "cluster")]
    Cluster(Vec<redis::ConnectionInfo>),
}

/// A connection of any kind.
pub(crate) enum Connection {
    /// To one server. It takes many commands at once.
    Single(redis::Connection),
    #[cfg(feature = "cluster")]
    Cluster(Box<redis::cluster::ClusterConnection>),
}

impl Connection {
    /// Sends these commands, of which a Cluster takes one at a time, and gives each answer as soon as it is read.
    ///
    /// An error means that the connection, and others like it, are of no further use. Commands without an answer
    /// may have taken effect.
    pub(crate) fn ask(
        &mut self,
        commands: &[&[u8]],
        give: impl FnMut(RedisResult<Value>),
    ) -> RedisResult<()> {
        match self {
            Self::Single(connection) => {
                connection.send_packed_command(&commands.concat())?;
                give_each(commands, |_| connection.recv_response(), give)
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => {
                give_each(commands, |command| connection.req_packed_command(command), give)
            }
        }
    }
}

fn give_each(
    commands: &[&[u8]],
    mut read: impl FnMut(&[u8]) -> RedisResult<Value>,
    mut give: impl FnMut(RedisResult<Value>),
) -> RedisResult<()> {
    let mut failed = Ok(());
    for command in commands {
        let answer = read(command)?.extract_error();
        if let Err(error) = &answer {
            if is_failure(error) {
                failed = Err(error.clone()); // the others still have their answers
            }
        }
        give(answer);
    }
    failed
}

impl Nodes {
    /// One server.
    ///
    /// # Errors
    /// Returns [`Error::Redis`] if the URL is malformed. Nothing is connected yet.
    ///
    /// ```
    /// use dataserver_redis::Nodes;
    ///
    /// assert!(Nodes::single("redis://127.0.0.1").is_ok());
    /// assert!(Nodes::single("http://127.0.0.1").is_err());
    /// ```
    pub fn single(url: &str) -> Result<Self, Error> {
        Ok(Self(Kind::Single(Client::open(url)?)))
    }

    /// The master of this name, as the Sentinels at these URLs know it. `template` is the URL of the master
    /// without an address, for its user, password and database.
    ///
    /// # Errors
    /// Returns [`Error::Redis`] if a URL is malformed. Nothing is connected yet.
    ///
    /// ```
    /// let sentinels = ["redis://127.0.0.1:26379"];
    /// let nodes = dataserver_redis::Nodes::sentinels(sentinels, "mymaster", "redis://")?;
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    pub fn sentinels<'a>(
        urls: impl IntoIterator<Item = &'a str>,
        name: &str,
        template: &str,
    ) -> Result<Self, Error> {
        let sentinels = urls.into_iter().map(Client::open).collect::<RedisResult<_>>()?;
        let template = match template.split_once("://") {
            Some((_, "")) => "redis://127.0.0.1".into_connection_info()?,
            _ => template.into_connection_info()?,
        };
        Ok(Self(Kind::Sentinels { sentinels, name: name.to_owned(), template }))
    }

    /// The Cluster that these nodes belong to. Needs the feature `cluster`.
    ///
    /// # Errors
    /// Returns [`Error::Redis`] if a URL is malformed. Nothing is connected yet.
    ///
    /// ```
    /// let nodes = dataserver_redis::Nodes::cluster(["redis://10.0.0.1", "redis://10.0.0.2"])?;
    /// # Ok::<(), dataserver_redis::Error>(())
    /// ```
    #[cfg(feature = "cluster")]
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let nodes = urls.into_iter().map(IntoConnectionInfo::into_connection_info);
        Ok(Self(Kind::Cluster(nodes.collect::<RedisResult<_>>()?)))
    }

    /// A new connection, each of whose answers is waited for at most this long.
    pub(crate) fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        match &self.0 {
            Kind::Single(client) => connect(client, timeout).map(Connection::Single),
            Kind::Sentinels { sentinels, name, template } => {
                let mut last = None;
                for sentinel in sentinels {
                    match connect_master(sentinel, name, template, timeout) {
                        Ok(connection) => return Ok(Connection::Single(connection)),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or_else(|| not_connected("there are no Sentinels")))
            }
            #[cfg(feature = "cluster")]
            Kind::Cluster(nodes) => {
                let builder = redis::cluster::ClusterClientBuilder::new(nodes.clone());
                let client = builder
                    .connection_timeout(timeout)
                    .response_timeout(timeout)
                    .retries(1) // to follow a slot that has moved
                    .build()?;
                let connection = client.get_connection()?;
                connection.set_read_timeout(Some(timeout))?;
                connection.set_write_timeout(Some(timeout))?;
                Ok(Connection::Cluster(Box::new(connection)))
            }
        }
    }

    /// How many commands a connection takes at once.
    pub(crate) const fn max_batch(&self) -> usize {
        match self.0 {
            Kind::Single(_) | Kind::Sentinels { .. } => MAX_BATCH,
            #[cfg(feature = "cluster")]
            Kind::Cluster(_) => 1,
        }
    }
}

/// More than the servers of a program usually ask at the same time.
const MAX_BATCH: usize = 1024;

impl fmt::Debug for Nodes {
    /// Without the URLs, which may have passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").finish_non_exhaustive()
    }
}

fn connect(client: &Client, timeout: Duration) -> RedisResult<redis::Connection> {
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    Ok(connection)
}

/// A connection to the master that this Sentinel names.
fn connect_master(
    sentinel: &Client,
    name: &str,
    template: &redis::ConnectionInfo,
    timeout: Duration,
) -> RedisResult<redis::Connection> {
    let mut sentinel = connect(sentinel, timeout)?;
    let answer: Option<(String, u16)> =
        cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query(&mut sentinel)?;
    let Some((host, port)) = answer else {
        return Err(not_connected("the Sentinel does not know this master"));
    };
    let info = template.clone().set_addr(redis::ConnectionAddr::Tcp(host, port));
    let mut master = connect(&Client::open(info)?, timeout)?;
    match cmd("ROLE").query(&mut master)? {
        Value::Array(role) if is_text(role.first(), "master") => Ok(master),
        _ => Err(not_connected("the server that the Sentinel names is no master any more")),
    }
}

fn is_text(value: Option<&Value>, text: &str) -> bool {
    value.is_some_and(|value| {
        matches!(value, Value::BulkString(bytes) if bytes == text.as_bytes())
            || matches!(value, Value::SimpleString(simple) if simple == text)
    })
}

fn not_connected(reason: &'static str) -> redis::RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, reason).into()
}
