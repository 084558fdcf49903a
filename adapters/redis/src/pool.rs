//! The connections to Redis, and what happens when it is away.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};

use crate::error::Error;
use crate::nodes::{Connection, Nodes};

/// The first delay before Redis is asked again. It doubles up to [`MAX_BACKOFF`], with jitter.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Connections that are made when they are needed, and kept.
///
/// After a failure, all are dropped, and calls fail at once until a delay is over. Then one caller looks for
/// Redis, and the others still fail. So no thread waits for what is not there, and a server that comes back is
/// not met by all its clients at the same time. Nothing happens without a caller.
pub(crate) struct Pool {
    nodes: Nodes,
    timeout: Duration,
    max: usize,
    state: Mutex<State>,
    /// A connection has become free, or its place.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// How many connections there are, in use or not, or are being made.
    open: usize,
    /// How often Redis has failed. A connection of an earlier epoch is not kept, and says nothing about this one.
    epoch: u64,
    away: Option<Away>,
}

struct Away {
    backoff: Duration,
    retry_at: Instant,
    /// A caller looks for Redis.
    is_probed: bool,
}

impl Pool {
    pub(crate) fn new(nodes: Nodes, timeout: Duration, max: usize) -> Self {
        Self { nodes, timeout, max, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Does something over a connection. Its error means that the connection, and others like it, are of no
    /// further use.
    pub(crate) fn run<T>(
        &self,
        call: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Error> {
        let (idle, epoch) = self.take()?;
        let mut place = Place { pool: self, epoch, is_held: true };
        let connection = match idle {
            Some(connection) => Ok(connection),
            None => self.nodes.connect(self.timeout),
        };
        match connection.and_then(|mut connection| {
            let answer = call(&mut connection)?;
            Ok((connection, answer))
        }) {
            Ok((connection, answer)) => {
                place.put_back(connection);
                Ok(answer)
            }
            Err(error) => Err(error.into()), // and the place ends as a failure
        }
    }

    /// A connection, or the place for one.
    fn take(&self) -> Result<(Option<Connection>, u64), Error> {
        let deadline = Instant::now() + self.timeout;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match &mut state.away {
                Some(away) if away.is_probed || now < away.retry_at => return Err(Error::Away),
                Some(away) => away.is_probed = true,
                None => {}
            }
            if let Some(connection) = state.idle.pop() {
                return Ok((Some(connection), state.epoch));
            }
            if state.open < self.max || state.away.is_some() {
                state.open += 1;
                return Ok((None, state.epoch));
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(Error::NoConnection);
            }
            let waited = self.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The state is consistent after every change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection in use. Dropped with it, Redis has failed.
struct Place<'a> {
    pool: &'a Pool,
    epoch: u64,
    is_held: bool,
}

impl Place<'_> {
    fn put_back(&mut self, connection: Connection) {
        self.is_held = false;
        let mut state = self.pool.lock();
        if state.epoch == self.epoch {
            state.away = None;
            state.idle.push(connection);
        } else {
            state.open -= 1;
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_held {
            return;
        }
        let mut state = self.pool.lock();
        state.open -= 1;
        let mut dropped = Vec::new();
        if state.epoch == self.epoch {
            state.epoch += 1;
            dropped = std::mem::take(&mut state.idle);
            state.open -= dropped.len();
            let backoff = state.away.as_ref().map_or(MIN_BACKOFF, |away| away.backoff);
            state.away = Some(Away {
                backoff: (2 * backoff).min(MAX_BACKOFF),
                retry_at: Instant::now() + backoff.mul_f64(0.5 + fastrand::f64()),
                is_probed: false,
            });
        }
        drop(state);
        drop(dropped);
        self.pool.freed.notify_all(); // they fail, too
    }
}

/// Whether a connection that has given this error, and others like it, are of no further use.
pub(crate) fn is_failure(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ),
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => false,
        _ => true,
    }
}
