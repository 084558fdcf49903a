//! One run: a process that is killed, and this one, which is not.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{fs, thread};

use dataserver_scenarios::{Crossing, PATIENCE, Process, Soon, TempDir, object, spawn};

use crate::plan::{Moment, Plan, Role};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scenario-process");

/// Longer than a run may take.
const LONG: Duration = PATIENCE.saturating_mul(10);

/// Who is killed, when, and how that ends: an ending is one of each.
pub(crate) const VICTIMS: [&str; 2] = ["sender", "receiver"];
pub(crate) const WHEN: [&str; 4] =
    ["at the start", "amid the object", "behind the object", "when all was over"];
pub(crate) const HOW: [&str; 4] = [NOTHING, PART, LOST, CROSSED];

const NOTHING: &str = "nothing stored, no receipt";
const PART: &str = "part of it under another name, no receipt";
const LOST: &str = "stored, but without a receipt";
const CROSSED: &str = "stored, with a receipt";

/// What was heard of both sides until the one was dead and the other had ended.
struct Heard {
    /// The survivor's call was a success; `None` where it never heard of the other.
    survivor: Option<bool>,
    /// The victim had said so of its own.
    victim: bool,
}

/// Does what a seed says, and judges it.
pub(crate) fn run(seed: u64) -> String {
    let plan = Plan::new(seed);
    let directory = TempDir::new();
    let crossing = Crossing {
        directory: directory.path().into(),
        direction: plan.direction,
        declared: plan.declared,
        tell_at: plan.tell_at(),
    };
    let (bytes, older) = (object(plan.size), object(7));
    fs::write(crossing.source(), &bytes).expect("room for a file");
    if plan.replaces {
        fs::write(crossing.target(), &older).expect("room for a file");
    }
    let heard = match plan.server_is_the_victim() {
        true => kill_the_server(&plan, &crossing),
        false => kill_the_client(&plan, &crossing),
    };

    let found = fs::read(crossing.target()).ok();
    let stored = found.as_ref() == Some(&bytes);
    let untouched = found == Some(older).filter(|_| plan.replaces);
    assert!(stored || untouched, "part of a file under its name: {plan}");
    let survivor = heard.survivor.unwrap_or(false);
    assert!(stored || !(survivor || heard.victim), "a success, and nothing stored: {plan}");
    let all_was_over = plan.moment == Moment::Over;
    assert!(!all_was_over || (survivor && heard.victim), "a failure before the crash: {plan}");

    let receipt = if plan.victim == Role::Sender { heard.victim } else { survivor };
    let part = fs::metadata(crossing.part()).is_ok_and(|part| part.len() > 0);
    let how = match (stored, receipt) {
        (false, _) if part => PART,
        (false, _) => NOTHING,
        (true, false) => LOST,
        (true, true) => CROSSED,
    };
    format!("{} killed {}: {how}", victim(&plan), when(&plan))
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

/// The client's timers are long: only the reset of the killed one's system can end it so soon.
fn kill_the_server(plan: &Plan, crossing: &Crossing) -> Heard {
    let process = crossing.server_process(PROGRAM, plan.server);
    let address = process.told("listening ").parse().expect("an address");
    let (telling, told) = channel();
    let (client, here) = (plan.client, crossing.clone());
    let survivor = spawn(move || here.client(client, address, &telling).is_ok());
    let mut lines = Vec::new();
    if plan.moment == Moment::Over {
        let survivor = survivor.soon();
        until(&process, "receipt", &mut lines);
        lines.extend(process.kill());
        return Heard { survivor: Some(survivor), victim: said_receipt(&lines) };
    }
    wait(plan, &process, &told, &mut lines);
    lines.extend(process.kill());
    Heard { survivor: Some(survivor.soon()), victim: said_receipt(&lines) }
}

/// And so are the server's.
fn kill_the_client(plan: &Plan, crossing: &Crossing) -> Heard {
    let (telling, told) = channel();
    let server = crossing.serve(plan.server, &telling);
    let process = crossing.client_process(PROGRAM, plan.client, server.address);
    let mut lines = Vec::new();
    let mut survivor = None;
    if plan.moment == Moment::Over {
        survivor = Some(server.outcomes.soon().is_ok());
        until(&process, "receipt", &mut lines);
    } else {
        wait(plan, &process, &told, &mut lines);
    }
    lines.extend(process.kill());
    server.stop(LONG);
    let survivor = survivor.or_else(|| server.ends().first().map(Result::is_ok));
    Heard { survivor, victim: said_receipt(&lines) }
}

/// Waits for the moment, and keeps what the victim says until then.
fn wait(plan: &Plan, process: &Process, told: &Receiver<Vec<u8>>, lines: &mut Vec<String>) {
    let later = match plan.moment {
        Moment::Start(later) => later,
        Moment::Amid(_, later) | Moment::Whole(later) => {
            match plan.victim {
                Role::Sender => until(process, "told", lines),
                Role::Receiver => drop(told.soon()),
            }
            later
        }
        Moment::Over => return,
    };
    thread::sleep(later); // whatever happens meanwhile, what is asserted must hold
}

fn until(process: &Process, what: &str, lines: &mut Vec<String>) {
    loop {
        let line = process.line();
        let is_it = line.starts_with(what);
        lines.push(line);
        if is_it {
            return;
        }
    }
}

fn said_receipt(lines: &[String]) -> bool {
    lines.iter().any(|line| line == "receipt")
}
