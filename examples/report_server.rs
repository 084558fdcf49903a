//! The program of the section "A server" in README.md.

use dataserver_std::{Error, Key, Server};

const REPORT: Key = Key::from_name("report");

fn main() -> Result<(), Error> {
    let server = Server::bind("127.0.0.1:8089")?;
    server.on_put(REPORT, |object| object.receive_to("report.stored"))?;
    server.on_get(REPORT, |object| object.send_path("report.stored"))?;
    server.run()
}
