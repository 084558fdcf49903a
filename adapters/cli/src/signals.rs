//! Signals, which are handled as a Unix program is expected to.

use std::fs;
use std::io;
use std::process;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::failure::{Failure, Status};
use crate::target;

/// Calls this for each signal that asks the process to end, on a thread of its own. A signal that the parent ignores, as nohup(1) does with SIGHUP, stays ignored.
pub(crate) fn on_termination(mut handle: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(Status::File, format!("cannot handle signals: {error}"));
    let ignored = ignored_signals();
    let handled = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !ignored.contains(signal));
    let mut signals = Signals::new(handled).map_err(failed)?;
    let wait = move || {
        for signal in signals.forever() {
            handle(signal);
        }
    };
    thread::Builder::new().spawn(wait).map_err(failed)?;
    Ok(())
}

/// Removes the temporary files, and ends the process as the signal would have.
pub(crate) fn end_process(signal: i32) -> ! {
    target::discard_all();
    if process::id() != 1 {
        emulate_default_handler(signal).ok();
    }
    process::exit(128 + signal); // process 1 has no default handlers
}

/// Makes a write beyond the limit of the size of files (`RLIMIT_FSIZE`) an error of that write.
pub(crate) fn survive_file_size_limit() {
    // If this fails, such a write ends the process, which is what it would have done anyway.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).ok();
}

/// The signals that are ignored, as far as the system can tell.
fn ignored_signals() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask & (1 << (signal - 1)) != 0).collect()
}
