//! The program of the section "A client" in README.md.

use dataserver_std::{Client, Error, Key};

const REPORT: Key = Key::from_name("report");

fn main() -> Result<(), Error> {
    let client = Client::new("127.0.0.1:8089")?;
    let receipt = client.put(REPORT)?.send_path("report")?;
    println!("{} bytes were stored by the server", receipt.bytes);

    let receipt = client.get(REPORT)?.receive_to("report.copy")?;
    println!("{} bytes were stored here", receipt.bytes);
    Ok(())
}
