//! Several server processes that share one Redis.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_redis::{Nodes, Ticket, Tickets};
use dataserver_std::{
    AbortReason, Client, Direction, Error, Failure, Key, Receipt, Request, Server, TicketObject,
};
use support::{PATIENCE, Redis, eventually, options};
use tempfile::TempDir;

const LOCAL: Key = Key::from_bytes([1; 16]);
const NODES: &str = "DATASERVER_TEST_NODES";
const DIRECTORY: &str = "DATASERVER_TEST_DIRECTORY";

fn store(urls: &str) -> Tickets {
    let urls: Vec<_> = urls.split(',').collect();
    let nodes = match &urls[..] {
        [url] => Nodes::single(url),
        #[cfg(feature = "cluster")]
        urls => Nodes::cluster(urls.iter().copied()),
        #[cfg(not(feature = "cluster"))]
        _ => panic!("a Cluster needs the feature `cluster`"),
    };
    Tickets::new(nodes.unwrap(), options())
}

/// Not a test: the server process of the others. It leaves a file for each object that it commits.
#[test]
#[ignore = "the server process of the other tests"]
fn server_process() {
    let (Ok(urls), Ok(directory)) = (std::env::var(NODES), std::env::var(DIRECTORY)) else {
        return;
    };
    let server = Server::bind("127.0.0.1:0").unwrap();
    server.on_get(LOCAL, |object| object.send(b"local")).unwrap();
    let commits = AtomicUsize::new(0);
    server.on_tickets(store(&urls), move |object, name| match object {
        TicketObject::Get(object) => object.send(&name).map_err(std::io::Error::from),
        TicketObject::Put(mut object) => {
            let mut received = Vec::new();
            object.read_to_end(&mut received)?;
            if received != name {
                return Err(std::io::Error::other(Failure::new(1, "not the object of the ticket")));
            }
            let commit = commits.fetch_add(1, Ordering::Relaxed);
            let name = String::from_utf8(name).unwrap();
            let file = format!("{name}.{}-{commit}", std::process::id());
            fs::write(Path::new(&directory).join(file), b"committed")?;
            Ok(object.commit()?)
        }
    });
    println!("\nADDRESS {}", server.local_addr());
    server.run().unwrap();
}

struct Process {
    child: Child,
    address: SocketAddr,
    /// Open: the harness of the child says after a minute that it still runs, and fails if nobody could read that.
    _output: BufReader<ChildStdout>,
}

impl Process {
    fn start(urls: &str, directory: &TempDir) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "server_process", "--nocapture"]);
        command.env(NODES, urls).env(DIRECTORY, directory.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("ADDRESS ").map(str::to_owned));
        let address = address.expect("the server says its address").parse().unwrap();
        Self { child, address, _output: output }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn key(number: usize) -> Key {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Key::from_bytes(bytes)
}

fn name(number: usize) -> String {
    format!("object-{number}")
}

fn put(address: SocketAddr, number: usize) -> Result<Receipt, Error> {
    let request = Request::new(key(number)).framed();
    Client::new(address)?.put(request)?.send(name(number).as_bytes())
}

/// How often this object was committed.
fn commits(directory: &TempDir, number: usize) -> usize {
    let begin = format!("{}.", name(number));
    let files = fs::read_dir(directory.path()).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with(&begin))
        .count()
}

/// How often each of this many objects was committed.
fn all_commits(directory: &TempDir, objects: usize) -> Vec<usize> {
    let mut commits = vec![0; objects];
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let number = file.strip_prefix("object-").and_then(|file| file.split_once('.')).unwrap().0;
        commits[number.parse::<usize>().unwrap()] += 1;
    }
    commits
}

/// 64 clients race for each of these tickets, at three servers.
fn race(urls: &str, objects: usize) {
    let directory = tempfile::tempdir().unwrap();
    let servers: Vec<_> = (0..3).map(|_| Process::start(urls, &directory)).collect();
    let tickets = store(urls);
    for number in 0..objects {
        tickets.issue(&Ticket::put(key(number)).data(name(number))).unwrap();
    }
    let receipts: Vec<_> = (0..objects).map(|_| AtomicUsize::new(0)).collect();
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..64 {
            let (servers, receipts, refused) = (&servers, &receipts, &refused);
            scope.spawn(move || {
                for (number, receipts) in receipts.iter().enumerate() {
                    while receipts.load(Ordering::Relaxed) == 0 {
                        match put(servers[(client + number) % 3].address, number) {
                            Ok(_) => _ = receipts.fetch_add(1, Ordering::Relaxed),
                            Err(error) => match error.abort_reason() {
                                Some(AbortReason::Refused) => {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                    break;
                                }
                                Some(AbortReason::Busy) => {}
                                _ => panic!("{error}"),
                            },
                        }
                    }
                }
            });
        }
    });
    assert!(receipts.iter().all(|receipts| receipts.load(Ordering::Relaxed) == 1));
    assert_eq!(all_commits(&directory, objects), vec![1; objects]);
    assert!(refused.load(Ordering::Relaxed) > 0, "the clients did not race");
    println!("{objects} tickets, {} claims refused", refused.into_inner());
}

/// Delivers objects until there are that many and the time is over, while `disturb` does its worst.
fn deliver_all(
    urls: &str,
    objects: usize,
    duration: Duration,
    disturb: impl Fn(&Mutex<Vec<Process>>, &TempDir, &AtomicBool) + Sync,
) {
    let directory = tempfile::tempdir().unwrap();
    let servers: Vec<_> = (0..3).map(|_| Process::start(urls, &directory)).collect();
    let servers = Mutex::new(servers);
    let (next, ended, began) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
    let longest_busy = Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        scope.spawn(|| disturb(&servers, &directory, &ended));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= objects && began.elapsed() >= duration {
                            return;
                        }
                        let busy = deliver(urls, &servers, &directory, number);
                        let mut longest = longest_busy.lock().unwrap();
                        *longest = (*longest).max(busy);
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(results.into_iter().all(|result| result.is_ok()), "a client failed");
    });
    println!("longest busy: {:?}", longest_busy.into_inner().unwrap());
}

/// Issues a ticket until delivered, and comes back until it is. Returns for how long it was busy.
fn deliver(
    urls: &str,
    servers: &Mutex<Vec<Process>>,
    directory: &TempDir,
    number: usize,
) -> Duration {
    let tickets = store(urls);
    let ticket = Ticket::put(key(number)).until_delivered().data(name(number));
    eventually(|| match tickets.issue(&ticket) {
        Ok(()) | Err(dataserver_redis::Error::AlreadyIssued) => true,
        Err(_) => false,
    });
    let (mut busy_since, mut longest, began) = (None, Duration::ZERO, Instant::now());
    let mut last = None;
    for attempt in 0.. {
        assert!(began.elapsed() < PATIENCE, "object {number} was not delivered: {last:?}");
        let address = servers.lock().unwrap()[(number + attempt) % 3].address;
        match put(address, number) {
            Ok(_) => break,
            Err(error) => match last.insert(error).abort_reason() {
                // The receipt was lost, or the object has been committed and its receipt could not be sent.
                Some(AbortReason::Refused) if commits(directory, number) > 0 => break,
                Some(AbortReason::Refused) => panic!("object {number}: {last:?}"),
                Some(AbortReason::Busy) => _ = busy_since.get_or_insert_with(Instant::now),
                _ => busy_since = None,
            },
        }
        longest = longest.max(busy_since.map_or(Duration::ZERO, |since: Instant| since.elapsed()));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(commits(directory, number) > 0, "object {number} has a receipt, and was not committed");
    longest
}

fn kill_servers(urls: &str) -> impl Fn(&Mutex<Vec<Process>>, &TempDir, &AtomicBool) + Sync {
    move |servers, directory, ended| {
        for victim in 0.. {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(150));
            let server = Process::start(urls, directory);
            servers.lock().unwrap()[victim % 3] = server; // the earlier one is killed
        }
    }
}

#[test]
fn a_ticket_for_one_claim_is_handled_once_whoever_races_for_it() {
    let redis = Redis::start();
    race(&redis.url(), 1000);
}

#[test]
fn objects_are_delivered_while_servers_are_killed() {
    let redis = Redis::start();
    deliver_all(&redis.url(), 100, Duration::from_secs(2), kill_servers(&redis.url()));
}

#[test]
fn objects_are_delivered_while_redis_is_killed_and_paused() {
    disturb_redis(100, Duration::from_secs(3));
}

fn disturb_redis(objects: usize, duration: Duration) {
    let redis = Redis::start();
    let url = redis.url();
    let redis = Mutex::new(redis);
    deliver_all(&url, objects, duration, |_, _, ended| {
        while !ended.load(Ordering::Relaxed) {
            // At random, and for longer than a lease at times. A claim that reached Redis while it was paused holds
            // its ticket from then on, although its server has given up: a fixed interval could repeat that forever.
            let work = || thread::sleep(Duration::from_millis(fastrand::u64(200..2500)));
            work();
            let mut redis = redis.lock().unwrap();
            redis.kill();
            thread::sleep(Duration::from_millis(100));
            redis.start_again();
            work();
            redis.signal("STOP");
            thread::sleep(Duration::from_millis(500)); // longer than the timeout
            redis.signal("CONT");
        }
    });
}

#[test]
fn a_server_that_stood_still_for_longer_than_its_lease_does_not_commit() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let paused = Process::start(&redis.url(), &directory);
    let other = Process::start(&redis.url(), &directory);
    let tickets = redis.tickets();
    tickets.issue(&Ticket::put(key(0)).until_delivered().data(name(0))).unwrap();

    let client = Client::new(paused.address).unwrap();
    let mut first = client.put(Request::new(key(0)).framed()).unwrap();
    first.write_all(b"object").unwrap();
    eventually(|| {
        let found = tickets.show(Direction::Put, key(0)).unwrap();
        found.is_some_and(|found| found.owner.is_some())
    });
    let busy = put(other.address, 0).unwrap_err();
    assert_eq!(busy.abort_reason(), Some(AbortReason::Busy), "{busy}");
    support::send_signal(paused.child.id(), "STOP");
    eventually(|| put(other.address, 0).is_ok());
    support::send_signal(paused.child.id(), "CONT");
    let error = first.send(b"-0").unwrap_err();
    assert!(matches!(error.abort_reason(), Some(AbortReason::Failed { .. })), "{error}");
    assert_eq!(commits(&directory, 0), 1);
}

#[test]
fn without_redis_entries_of_a_server_go_on_and_nothing_else_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(&format!("redis://127.0.0.1:{}", support::free_port()), &directory);
    let error = put(server.address, 0).unwrap_err();
    assert_eq!(error.abort_reason(), Some(AbortReason::Busy), "{error}");
    let bare = Client::new(server.address).unwrap().put(key(0)).unwrap().send(b"object-0");
    assert!(bare.unwrap_err().is_reset());
    let mut text = String::new();
    let mut object = Client::new(server.address).unwrap().get(LOCAL).unwrap();
    object.read_to_string(&mut text).unwrap();
    object.commit().unwrap();
    assert_eq!(text, "local");
    assert_eq!(commits(&directory, 0), 0);
}

const LONG: Duration = Duration::from_secs(200);

#[test]
#[ignore = "long: 200 s"]
fn a_ticket_for_one_claim_is_handled_once_whoever_races_for_it_long() {
    let redis = Redis::start();
    let began = Instant::now();
    while began.elapsed() < LONG {
        race(&redis.url(), 1000);
        redis.cli(&["FLUSHALL"]);
    }
}

#[test]
#[ignore = "long: 200 s"]
fn objects_are_delivered_while_servers_are_killed_long() {
    let redis = Redis::start();
    deliver_all(&redis.url(), 1000, LONG, kill_servers(&redis.url()));
}

#[test]
#[ignore = "long: 200 s"]
fn objects_are_delivered_while_redis_is_killed_and_paused_long() {
    disturb_redis(1000, LONG);
}

#[test]
#[ignore = "it takes minutes"]
#[cfg(feature = "cluster")]
fn a_cluster_of_three() {
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            let bus = support::free_port().to_string();
            Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
        })
        .collect();
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let mut arguments = vec!["--cluster", "create"];
    arguments.extend(addresses.iter().map(String::as_str));
    arguments.extend(["--cluster-yes"]);
    nodes[0].cli(&arguments);
    eventually(|| {
        nodes.iter().all(|node| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    let urls: Vec<_> = nodes.iter().map(Redis::url).collect();
    let urls = urls.join(",");
    race(&urls, 1000);
    nodes.iter().for_each(|node| _ = node.cli(&["FLUSHALL"]));
    deliver_all(&urls, 200, Duration::from_secs(20), kill_servers(&urls));
}
