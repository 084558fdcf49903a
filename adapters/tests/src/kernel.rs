//! The state of sockets and processes in the kernel.

use std::fs;
use std::net::SocketAddr;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// The queues of one end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Bytes that are unacknowledged or not yet sent.
    pub unacknowledged: u32,
    /// Bytes that were received and not yet read.
    pub unread: u32,
}

/// The queues of the end of a connection at `local`, with its peer at `remote`; `None` if there is no such
/// connection. Uses sock_diag(7), since reading `/proc/net/tcp` visits every socket.
///
/// # Panics
/// Panics if the kernel does not support sock_diag.
pub fn queues(local: SocketAddr, remote: SocketAddr) -> Option<Queues> {
    // struct nlmsghdr, and struct inet_diag_req_v2 with its struct inet_diag_sockid.
    let mut request = Vec::new();
    request.extend(72_u32.to_ne_bytes()); // the length of the request
    request.extend(20_u16.to_ne_bytes()); // SOCK_DIAG_BY_FAMILY
    request.extend(1_u16.to_ne_bytes()); // NLM_F_REQUEST
    request.extend([0; 8]);
    request.extend([2, 6, 0, 0]); // AF_INET, IPPROTO_TCP
    request.extend(u32::MAX.to_ne_bytes()); // in any state
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        let SocketAddr::V4(address) = address else {
            panic!("the tests use IPv4");
        };
        request.extend(address.ip().octets());
        request.extend([0; 12]);
    }
    request.extend(0_u32.to_ne_bytes()); // on any interface
    request.extend([0xff; 8]); // INET_DIAG_NOCOOKIE

    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let kernel = net::socket(family, kind, Some(SOCK_DIAG)).expect("a kernel with sock_diag");
    net::send(&kernel, &request, SendFlags::empty()).expect("a request");
    let mut reply = [0; 4096];
    let (n, _) = net::recv(&kernel, &mut reply[..], RecvFlags::empty()).expect("an answer");

    // struct nlmsghdr, struct inet_diag_msg. An error has another type. If only a listener matches, it has
    // no remote port.
    let number = |at: usize| {
        let bytes = reply[..n].get(at..at + 4).expect("a whole answer");
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    };
    let found = reply[4..6] == 20_u16.to_ne_bytes() && reply[22..24] == remote.port().to_be_bytes();
    found.then(|| Queues { unread: number(72), unacknowledged: number(76) })
}

/// Whether TCP keep-alive watches the connection between these two IPv4 addresses of this machine.
///
/// # Panics
/// Panics if there is no `/proc`.
pub fn is_kept_alive(local: SocketAddr, remote: SocketAddr) -> bool {
    const KEEP_ALIVE_TIMER: &str = "02:";
    let table = fs::read_to_string("/proc/self/net/tcp").expect("a kernel with /proc");
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.len() > 5
            && fields[1].ends_with(&port(local))
            && fields[2].ends_with(&port(remote))
            && fields[5].starts_with(KEEP_ALIVE_TIMER)
    })
}

/// The number of threads of this process.
///
/// # Panics
/// Panics if there is no `/proc`.
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("a kernel with /proc").count()
}

/// The number of threads of this process, without those of the `blocking` crate's pool: version 1.7 of
/// `blocking` keeps them after the pool was used.
///
/// # Panics
/// Panics if there is no `/proc`.
pub fn threads_outside_blocking_pool() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("a kernel with /proc");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("blocking-")).count()
}

/// The threads of a process.
///
/// # Panics
/// Panics if there is no such process.
pub fn threads_of(process: u32) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    names.filter_map(|name| Pid::from_raw(name.parse().ok()?)).collect()
}

/// The number of open descriptors of this process, including one for this call.
///
/// # Panics
/// Panics if there is no `/proc`.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("a kernel with /proc").count()
}

/// The CPU time of a process, in hundredths of a second.
///
/// # Panics
/// Panics if there is no such process.
pub fn cpu_time(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
    let fields = after_name.split_ascii_whitespace().skip(11).take(2); // utime, stime
    fields.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The resident memory of a process, in KiB, and its number of threads.
///
/// # Panics
/// Panics if there is no such process.
pub fn resident_and_threads(process: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let number = |name| {
        let field = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        field.trim_end_matches(" kB").trim().parse().expect("a number")
    };
    (number("VmRSS:"), number("Threads:"))
}

/// The address space of this process, in KiB.
///
/// # Panics
/// Panics if there is no `/proc`.
pub fn address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a kernel with /proc");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a field");
    size.trim_end_matches(" kB").trim().parse().expect("a number")
}

/// The number of voluntary context switches of a process, without the threads of the `blocking` crate's
/// pool: since version 1.7 of `blocking`, they wake up twice a second after the pool was used.
///
/// # Panics
/// Panics if there is no such process.
pub fn sleeps(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let ours = status.filter(|status| !status.starts_with("Name:\tblocking-"));
    let sleeps = ours.map(|status| {
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    });
    sleeps.sum()
}

/// Limits the descriptors of this process to this many more than are open, or to the maximum of the
/// system.
///
/// # Panics
/// Panics if the limit is above the maximum.
pub fn limit_descriptors(more: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let open = descriptors() as u64 - 1; // one is closed again
    let current = more.map_or(maximum, |more| Some(open + more));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a limit within the maximum");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Otherwise, waiting for an empty queue would return at once.
    #[test]
    fn queues_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let (here, there) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(queues(there, here).map(|queues| queues.unread), Some(5));
        assert_eq!(queues(here, there).map(|queues| queues.unread), Some(0));
        drop((client, server));
        assert_eq!(queues(there, here), None);
    }
}
