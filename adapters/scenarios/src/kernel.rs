//! What the kernel says, in `/proc`.

use std::fs;
use std::net::SocketAddr;

/// The queues of one end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Bytes that were sent and not acknowledged, or could not be sent yet.
    pub to_send: u64,
    /// Bytes that came and were not read.
    pub to_read: u64,
}

/// The queues of both ends of a connection: of the one that has the address `here`, and of the one
/// `there` (proc(5), `/proc/net/tcp`). `None` for an end that is no more.
///
/// # Panics
/// The file is not as documented.
pub fn queues(here: SocketAddr, there: SocketAddr) -> (Option<Queues>, Option<Queues>) {
    let table = fs::read_to_string("/proc/net/tcp").expect("a kernel with /proc");
    let (here, there) = (hex(here), hex(there));
    let end = |local: &str, remote: &str| {
        let addresses = format!(" {local} {remote} "); // then the state, and the queues
        let (_, behind) = table.split_once(&addresses)?;
        let (to_send, to_read) = behind.split_ascii_whitespace().nth(1)?.split_once(':')?;
        let number = |hex| u64::from_str_radix(hex, 16).expect("a number");
        Some(Queues { to_send: number(to_send), to_read: number(to_read) })
    };
    (end(&here, &there), end(&there, &here))
}

/// An address as that file has it.
fn hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("scenarios use IPv4");
    };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// How many threads this process has.
///
/// # Panics
/// There is no `/proc`.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("a kernel with /proc").count()
}

/// How many descriptors this process has open, one for asking included.
///
/// # Panics
/// There is no `/proc`.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a kernel with /proc").count()
}

/// How much time a process has spent on a CPU, in hundredths of a second.
///
/// # Panics
/// There is no such process.
pub fn cpu_time(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, behind_the_name) = stat.rsplit_once(')').expect("a name in brackets");
    let fields = behind_the_name.split_ascii_whitespace().skip(11).take(2); // utime, stime
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// How often the threads of a process have gone to sleep.
///
/// # Panics
/// There is no such process.
pub fn sleeps(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let sleeps = status.map(|status| {
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    });
    sleeps.sum()
}
