//! One run: a process that is killed, and this one, which is not.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{fs, thread};

use dataserver_tests::{Process, ProcessTransfer, Relay, TIMEOUT, TempDir, Wait, object, spawn};

use crate::plan::{Moment, Plan, Role};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-process");

/// Longer than a run.
const LONG: Duration = TIMEOUT.saturating_mul(10);

/// Who is killed, when, and the result. The outcome of a run is one of each.
pub(crate) const VICTIMS: [&str; 2] = ["sender", "receiver"];
pub(crate) const WHEN: [&str; 4] =
    ["at the start", "during the object", "after the object", "after the end"];
pub(crate) const HOW: [&str; 4] = [NOTHING, PART, LOST, TRANSFERRED];

const NOTHING: &str = "nothing stored, no receipt";
const PART: &str = "part stored under another name, no receipt";
pub(crate) const LOST: &str = "stored, without a receipt";
const TRANSFERRED: &str = "stored, with a receipt";

/// What was known of both sides when the victim was dead and the other side had ended.
struct Observed {
    /// Whether the call of the survivor succeeded. `None` if it never had a connection.
    survivor: Option<bool>,
    /// Whether the victim had reported success.
    victim: bool,
}

/// Runs a seed in the bare format, and checks the result.
pub(crate) fn bare(seed: u64) -> String {
    run(&Plan::bare(seed))
}

/// The same in the framed format.
pub(crate) fn framed(seed: u64) -> String {
    run(&Plan::framed(seed))
}

/// The same over TLS.
pub(crate) fn over_tls(seed: u64) -> String {
    run(&Plan::over_tls(seed))
}

fn run(plan: &Plan) -> String {
    let directory = TempDir::new();
    let transfer = ProcessTransfer {
        directory: directory.path().into(),
        direction: plan.direction,
        declared: plan.declared,
        resumable: plan.resumable,
        framed: plan.framed.is_some(),
        notify_at: plan.notify_at(),
    };
    let (bytes, older) = (object(plan.size), object(7));
    fs::write(transfer.source(), &bytes).expect("room for a file");
    if plan.replaces {
        fs::write(transfer.target(), &older).expect("room for a file");
    }
    let observed = match plan.server_is_the_victim() {
        true => kill_the_server(plan, &transfer),
        false => kill_the_client(plan, &transfer),
    };

    let found = fs::read(transfer.target()).ok();
    let stored = found.as_ref() == Some(&bytes);
    let untouched = found == Some(older).filter(|_| plan.replaces);
    assert!(stored || untouched, "part of a file under its name: {plan}");
    let survivor = observed.survivor.unwrap_or(false);
    assert!(stored || !(survivor || observed.victim), "a success without a stored object: {plan}");
    let all_was_over = plan.moment == Moment::Over;
    assert!(!all_was_over || (survivor && observed.victim), "a failure before the crash: {plan}");

    let receipt = if plan.victim == Role::Sender { observed.victim } else { survivor };
    let part = parts(&transfer).iter().any(|len| *len > 0);
    if plan.resumable {
        resume(plan, &transfer, &bytes);
    }
    let how = match (stored, receipt) {
        (false, _) if part => PART,
        (false, _) => NOTHING,
        (true, false) => LOST,
        (true, true) => TRANSFERRED,
    };
    format!("{} killed {}: {how}", victim(plan), when(plan))
}

/// The sizes of the files that are not complete.
fn parts(transfer: &ProcessTransfer) -> Vec<u64> {
    let entries = fs::read_dir(&transfer.directory).expect("a directory").map(Result::unwrap);
    let is_part = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with("part");
    entries.filter(is_part).map(|part| part.metadata().expect("a file").len()).collect()
}

/// The next attempt goes on with whatever the crash has left.
fn resume(plan: &Plan, transfer: &ProcessTransfer, bytes: &[u8]) {
    let before: u64 = parts(transfer).iter().sum();
    let (progress, _) = channel();
    let server = transfer.serve(plan.server, &progress);
    let outcome = transfer.client(plan.client, server.address, &progress);
    assert!(outcome.is_ok(), "{before} bytes were there: {outcome:?}: {plan}");
    assert!(fs::read(transfer.target()).ok().as_deref() == Some(bytes), "another object: {plan}");
    assert_eq!(parts(transfer), [0; 0], "a part is left: {plan}");
}

fn victim(plan: &Plan) -> &'static str {
    VICTIMS[usize::from(plan.victim == Role::Receiver)]
}

fn when(plan: &Plan) -> &'static str {
    WHEN[match plan.moment {
        Moment::Start(_) => 0,
        Moment::Amid(..) => 1,
        Moment::Whole(_) => 2,
        Moment::Over => 3,
    }]
}

/// The timeouts of the client are long: only what the victim's kernel does can end it in time, a reset, or
/// what an intermediary makes of it.
fn kill_the_server(plan: &Plan, transfer: &ProcessTransfer) -> Observed {
    let process = transfer.server_process(PROGRAM, plan.server);
    let address = process.wait_for_line("listening ").parse().expect("an address");
    let address = through_an_intermediary(plan, address);
    let (sender, progress) = channel();
    let (client, here) = (plan.client, transfer.clone());
    let survivor = spawn(move || here.client(client, address, &sender).is_ok());
    let mut lines = Vec::new();
    if plan.moment == Moment::Over {
        let survivor = survivor.wait();
        until(&process, "receipt", &mut lines);
        lines.extend(process.kill());
        return Observed { survivor: Some(survivor), victim: printed_receipt(&lines) };
    }
    wait(plan, &process, &progress, &mut lines);
    lines.extend(process.kill());
    Observed { survivor: Some(survivor.wait()), victim: printed_receipt(&lines) }
}

/// The timeouts of the server are long, too.
fn kill_the_client(plan: &Plan, transfer: &ProcessTransfer) -> Observed {
    let (sender, progress) = channel();
    let server = transfer.serve(plan.server, &sender);
    let address = through_an_intermediary(plan, server.address);
    let process = transfer.client_process(PROGRAM, plan.client, address);
    let mut lines = Vec::new();
    let mut survivor = None;
    if plan.moment == Moment::Over {
        survivor = Some(server.outcomes.wait().is_ok());
        until(&process, "receipt", &mut lines);
    } else {
        wait(plan, &process, &progress, &mut lines);
    }
    lines.extend(process.kill());
    server.stop(LONG);
    let survivor = survivor.or_else(|| server.join().first().map(Result::is_ok));
    Observed { survivor, victim: printed_receipt(&lines) }
}

/// The address at which a client reaches the server.
fn through_an_intermediary(plan: &Plan, server: SocketAddr) -> SocketAddr {
    plan.framed.clone().map_or(server, |intermediary| Relay::start(server, intermediary).address)
}

/// Waits for the moment, and collects the lines of the victim until then.
fn wait(plan: &Plan, process: &Process, progress: &Receiver<Vec<u8>>, lines: &mut Vec<String>) {
    let later = match plan.moment {
        Moment::Start(later) => later,
        Moment::Amid(_, later) | Moment::Whole(later) => {
            match plan.victim {
                Role::Sender => until(process, "notified", lines),
                Role::Receiver => drop(progress.wait()),
            }
            later
        }
        Moment::Over => return,
    };
    thread::sleep(later); // the assertions hold at any moment
}

fn until(process: &Process, what: &str, lines: &mut Vec<String>) {
    loop {
        let line = process.next_line();
        let is_it = line.starts_with(what);
        lines.push(line);
        if is_it {
            return;
        }
    }
}

fn printed_receipt(lines: &[String]) -> bool {
    lines.iter().any(|line| line == "receipt")
}
