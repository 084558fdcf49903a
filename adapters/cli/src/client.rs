//! `put` and `get`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dataserver_std::{Client, Receipt, Request};

use crate::arguments::{Peer, Transfer, is_standard_stream};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::signals;
use crate::source::Source;
use crate::target::Target;
use crate::tls;

pub(crate) fn put(transfer: &Transfer) -> Status {
    let console = Arc::new(Console::new(&transfer.output, false));
    console.conclude(&try_put(transfer, &console))
}

pub(crate) fn get(transfer: &Transfer) -> Status {
    let to_stdout = transfer.peer().is_ok_and(|peer| is_standard_stream(&peer.path));
    let console = Arc::new(Console::new(&transfer.output, to_stdout));
    console.conclude(&try_get(transfer, &console))
}

fn try_put(transfer: &Transfer, console: &Arc<Console>) -> Result<Receipt, Failure> {
    let peer = transfer.peer()?;
    signals::on_termination(|signal| signals::end_process(signal))?;
    // The file before the connection: a missing file must not use up an entry of the server.
    let source = Source::open(&peer.path)?;
    let attempt = || {
        console.detail(&format!("connecting to {}", peer.address));
        let object = client(&peer, transfer)?.put(request(&peer, transfer))?;
        source.send(object, transfer.limits.limit_rate, console)
    };
    retry(transfer.retry, console, || source.rewind(), attempt)
}

fn try_get(transfer: &Transfer, console: &Arc<Console>) -> Result<Receipt, Failure> {
    let peer = transfer.peer()?;
    signals::on_termination(|signal| signals::end_process(signal))?;
    let first = Target::open(&peer.path)?; // before the connection, as above
    let can_repeat = !first.is_in_place(); // what a pipe was given cannot be taken back
    let mut first = Some(first);
    let attempt = || {
        let target = first.take().map_or_else(|| Target::open(&peer.path), Ok)?;
        console.detail(&format!("connecting to {}", peer.address));
        let object = client(&peer, transfer)?.get(request(&peer, transfer))?;
        target.receive(object, transfer.limits.limit_rate, console)
    };
    retry(transfer.retry, console, || can_repeat, attempt)
}

fn client(peer: &Peer, transfer: &Transfer) -> Result<Client, Failure> {
    let connect_timeout = transfer.connect_timeout.unwrap_or(Duration::MAX);
    let client = Client::new(peer.address.clone())?.connect_timeout(connect_timeout);
    let client = client.config(transfer.limits.timeouts.config());
    tls::client(client, &transfer.tls, peer)
}

fn request(peer: &Peer, transfer: &Transfer) -> Request {
    let request = Request::new(peer.key);
    let request = if transfer.bare { request.bare() } else { request.framed() };
    #[cfg(feature = "digest")]
    let request = transfer.digest.of(request);
    transfer.size.map_or(request, |size| request.size(size))
}

/// Attempts again while that can help.
fn retry(
    retries: u32,
    console: &Console,
    can_repeat: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<Receipt, Failure>,
) -> Result<Receipt, Failure> {
    let mut pause = Duration::from_secs(1);
    for left in (0..retries).rev() {
        match attempt() {
            Err(failure) if failure.is_transient && can_repeat() => {
                console.error(&format!(
                    "{failure}; trying again in {pause:?}, {left} more after that"
                ));
                thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_secs(30));
            }
            ended => return ended,
        }
    }
    attempt()
}
