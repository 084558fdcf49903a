//! A Redis server of a test's own.
#![allow(dead_code, reason = "not every test uses everything")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_redis::{Nodes, Options, Tickets};
use tempfile::TempDir;

/// How long anything may take that will happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `redis-server` on a free port of 127.0.0.1, with an append-only file. Killed when it is dropped.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    arguments: Vec<String>,
    directory: TempDir,
}

/// Below the ports that the system gives to clients: a server that is started again finds it free.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).find(is_free).unwrap()
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, &directory, &arguments);
        let redis = Self { child, port, arguments, directory };
        redis.wait();
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A store with a short lease and timeout.
    pub(crate) fn tickets(&self) -> Tickets {
        Tickets::new(Nodes::single(&self.url()).unwrap(), options())
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, from its append-only file.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.arguments);
        self.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(self.child.id(), signal);
    }

    /// What `redis-cli` prints.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-p").arg(self.port.to_string()).args(arguments);
        let output = command.output().expect("redis-cli is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn wait(&self) {
        eventually(|| {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.cli(&["PING"]) == "PONG"
        });
    }
}

fn spawn(port: u16, directory: &TempDir, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .arg("--dir")
        .arg(directory.path())
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Drop for Redis {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub(crate) fn send_signal(process: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status();
    assert!(sent.unwrap().success());
}

pub(crate) fn options() -> Options {
    Options::default().lease(Duration::from_secs(1)).timeout(Duration::from_millis(300))
}

/// Waits until this is so.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it has not happened within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
