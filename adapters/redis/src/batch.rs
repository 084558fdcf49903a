//! Calls of several threads at the same time: they are sent together.

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

    /// Gives the answer, if there is none yet.
    fn end(&self, answer: Result<Value, Error>) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*turn, Turn::Ended(_)) {
            *turn = Turn::Ended(answer);
            self.changed.notify_one();
        }
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
    fn run(self, pool: &Pool) {
        let commands: Vec<&[u8]> = self.0.iter().map(|call| &call.command[..]).collect();
        let mut unanswered = self.0.iter();
        let asked = pool.run(|connection| {
            connection.ask(&commands, |answer| {
                if let Some(call) = unanswered.next() {
                    call.end(answer.map_err(Error::from));
                }
            })
        });
        if let Err(error) = asked {
            unanswered.for_each(|call| call.end(Err(error.clone())));
        }
    }
}

impl Drop for Batch {
    /// After a panic.
    fn drop(&mut self) {
        for call in &self.0 {
            call.end(Err(Error::Away));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use redis::cmd;

    use super::*;
    use crate::nodes::Nodes;

    /// The words of the next command.
    fn command(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
        let number = |reader: &mut dyn BufRead| {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            line.trim()[1..].parse::<usize>().map_err(io::Error::other)
        };
        let count = number(reader)?;
        let word = |_| {
            let mut word = vec![0; number(reader)? + 2];
            reader.read_exact(&mut word)?;
            Ok(String::from_utf8_lossy(&word).trim().to_owned())
        };
        (0..count).map(word).collect()
    }

    /// A server that never answers the command `two`.
    fn silent_at_two() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            while let Ok(words) = command(&mut reader) {
                match &words[0][..] {
                    "one" => (&stream).write_all(b":1\r\n").unwrap(),
                    "two" => {}
                    _ => (&stream).write_all(b"+OK\r\n").unwrap(), // of the client itself
                }
            }
        });
        url
    }

    #[test]
    fn an_answer_counts_if_the_next_one_does_not_come() {
        let pool =
            Pool::new(Nodes::single(&silent_at_two()).unwrap(), Duration::from_millis(50), 1);
        let calls = ["one", "two"].map(|name| Arc::new(Call::new(cmd(name).get_packed_command())));
        Batch(calls.to_vec()).run(&pool);
        let [one, two] = calls.map(|call| call.wait().unwrap());
        assert_eq!(one.unwrap(), Value::Int(1));
        assert!(matches!(two, Err(Error::Redis(_))), "{two:?}");
    }
}
