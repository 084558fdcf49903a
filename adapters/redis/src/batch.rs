//! Calls of several threads at the same time: they are sent together, over one connection.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Value};

use crate::error::Error;
use crate::pool::Pool;

/// The calls to Redis.
///
/// While one thread waits for the answers to a batch, the calls of others gather, and are the next batch. The thread
/// of the first of them sends it. So Redis reads many calls at once, and no thread waits for longer than two batches
/// take.
pub(crate) struct Batches {
    pool: Pool,
    max_len: usize,
    /// How many batches may run at the same time, each over a connection of its own.
    max_running: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Call>>,
    running: usize,
}

impl Batches {
    pub(crate) fn new(pool: Pool, max_len: usize, max_running: usize) -> Self {
        Self { pool, max_len, max_running, state: Mutex::default() }
    }

    /// The answer to this command.
    pub(crate) fn call(&self, command: &Cmd) -> Result<Value, Error> {
        let call = Arc::new(Call::new(command.get_packed_command()));
        if !self.may_run(&call) {
            if let Some(answer) = call.wait() {
                return answer;
            }
        }
        let _next = Running(self);
        let mut batch = Batch(vec![Arc::clone(&call)]);
        let mut state = self.lock();
        let others = state.waiting.len().min(self.max_len - 1);
        batch.0.extend(state.waiting.drain(..others));
        drop(state);
        batch.run(&self.pool);
        call.wait().unwrap_or(Err(Error::Away)) // it has its answer
    }

    /// Whether this call may run now. If not, it waits until another one has run it, or has given its turn to it.
    fn may_run(&self, call: &Arc<Call>) -> bool {
        let mut state = self.lock();
        let may_run = state.running < self.max_running;
        match may_run {
            true => state.running += 1,
            false => state.waiting.push_back(Arc::clone(call)),
        }
        may_run
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that runs. Then the next call may run.
struct Running<'a>(&'a Batches);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        match state.waiting.pop_front() {
            Some(next) => next.set(Turn::Runs),
            None => state.running -= 1,
        }
    }
}

struct Call {
    command: Vec<u8>,
    turn: Mutex<Turn>,
    changed: Condvar,
}

enum Turn {
    Waits,
    /// Its thread runs the next batch.
    Runs,
    Ended(Result<Value, Error>),
}

impl Call {
    fn new(command: Vec<u8>) -> Self {
        Self { command, turn: Mutex::new(Turn::Waits), changed: Condvar::new() }
    }

    fn set(&self, turn: Turn) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        self.changed.notify_one();
    }

    /// Waits for the answer. `None` if this thread is to run the next batch.
    fn wait(&self) -> Option<Result<Value, Error>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |turn: &mut Turn| matches!(turn, Turn::Waits);
        let mut turn = self.changed.wait_while(turn, waits).unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *turn, Turn::Runs) {
            Turn::Ended(answer) => Some(answer),
            Turn::Waits | Turn::Runs => None,
        }
    }
}

/// Calls that are sent together. Each has an answer when this is dropped.
struct Batch(Vec<Arc<Call>>);

impl Batch {
    fn run(&mut self, pool: &Pool) {
        let commands: Vec<&[u8]> = self.0.iter().map(|call| &call.command[..]).collect();
        match pool.run(|connection| connection.ask(&commands)) {
            Ok(answers) => {
                for (call, answer) in self.0.drain(..).zip(answers) {
                    call.set(Turn::Ended(answer.map_err(Error::from)));
                }
            }
            Err(error) => {
                for call in self.0.drain(..) {
                    call.set(Turn::Ended(Err(error.clone())));
                }
            }
        }
    }
}

impl Drop for Batch {
    /// After a panic.
    fn drop(&mut self) {
        for call in &self.0 {
            call.set(Turn::Ended(Err(Error::Away)));
        }
    }
}
