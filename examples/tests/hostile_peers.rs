//! The servers among the examples, run as programs, with clients that violate the protocol.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use dataserver_examples::peers::{self, Offered, check};
use dataserver_examples::program::example;
use dataserver_std::{Cause, Client, Key, StartPacket, Timer};

const SIZE: usize = 300_000;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[test]
fn server_reports_no_success_for_a_broken_client() -> Result {
    let key = Key::from_name("start");
    let mut server = Program::start("server")?;
    server.meets_broken_clients(StartPacket::put(key), StartPacket::get(key), 64 << 20)
}

/// A server that reports on standard error how each connection ended.
struct Program {
    child: Child,
    address: SocketAddr,
    report: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(name: &str) -> Result<Self> {
        let mut child = Command::new(example(name)?)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let line =
            BufReader::new(stdout.ok_or("no pipe")?).lines().next().ok_or("no address")??;
        let address = line.trim_start_matches("listening on ").parse()?;
        let report = BufReader::new(stderr.ok_or("no pipe")?).lines();
        Ok(Self { child, address, report })
    }

    /// The outcome of the next connection: `Err` with the line of the report if it failed.
    fn outcome(&mut self) -> Result<std::result::Result<u64, String>> {
        let line = self.report.next().ok_or("the server has ended")??;
        let bytes = line.trim_end_matches(" bytes").rsplit(": ").next();
        Ok(bytes.and_then(|bytes| bytes.parse().ok()).ok_or(line))
    }

    fn meets_broken_clients(&mut self, put: StartPacket, get: StartPacket, limit: u64) -> Result {
        let address = self.address;
        let offered = Offered { put, get, size: SIZE as u64, limit };
        for broken in offered.broken_clients()? {
            if broken.outcome == Cause::TimedOut(Timer::Receipt) {
                continue; // this takes a minute
            }
            // The object for the next get. This also shows that the server still works.
            Client::new(address)?.put(peers::request(put))?.send(&peers::object(SIZE))?;
            check("a put", &self.outcome()?, &Ok(SIZE as u64))?;
            let error = broken.visit(address, || self.outcome())?;
            println!("{}: {error}", broken.what);
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
