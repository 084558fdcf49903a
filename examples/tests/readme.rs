//! The programs of README.md, run as a reader would run them. They use the port that README.md names, so
//! a lock makes sure that one test at a time has it.

use std::error::Error;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dataserver_examples::program::example;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const ADDRESS: &str = "127.0.0.1:8089";
const MAX_WAIT: Duration = Duration::from_secs(20);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[test]
fn readme_contains_the_programs() -> Result {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("../README.md"))?;
    for (section, name) in [("A server", "report_server"), ("A client", "report_client")] {
        let program = fs::read_to_string(root.join(name).with_extension("rs"))?;
        let (comment, code) =
            program.split_once("\n\n").ok_or("no empty line after the comment")?;
        assert_eq!(comment, format!("//! The program of the section \"{section}\" in README.md."));
        let block = format!("## {section}\n\n```rust,no_run\n{code}```\n");
        assert!(readme.contains(&block), "README.md does not contain\n{block}");
    }
    Ok(())
}

#[test]
fn server_first() -> Result {
    let _lock = lock()?;
    let server = Server::start()?;
    let client = ClientDirectory::new(b"the report")?;
    client.check(&client.run()?)?;
    assert_eq!(fs::read(server.stored())?, b"the report");
    assert_eq!(files(server.directory.path())?, ["report.stored"]);
    Ok(())
}

#[test]
fn client_first() -> Result {
    let _lock = lock()?;
    let client = ClientDirectory::new(b"the report")?;
    let output = client.run()?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(ADDRESS) && error.contains("Connection refused"), "{error}");
    assert_eq!(files(client.0.path())?, ["report"]);

    let server = Server::start()?;
    client.check(&client.run()?)?;
    assert_eq!(fs::read(server.stored())?, b"the report");
    Ok(())
}

#[test]
fn two_clients_at_once() -> Result {
    let _lock = lock()?;
    let server = Server::start()?;
    let reports = [vec![b'a'; 8 << 20], vec![b'b'; 9 << 20]];
    for _ in 0..5 {
        let clients = [ClientDirectory::new(&reports[0])?, ClientDirectory::new(&reports[1])?];
        let running = [clients[0].start()?, clients[1].start()?];
        for (client, child) in clients.iter().zip(running) {
            let copy = client.check(&child.wait_with_output()?)?;
            assert!(reports.contains(&copy), "the copy is not one of the reports");
        }
        let stored = fs::read(server.stored())?;
        assert!(reports.contains(&stored), "the stored file is not one of the reports");
        assert_eq!(files(server.directory.path())?, ["report.stored"]);
    }
    Ok(())
}

/// The directory in which a client runs.
struct ClientDirectory(TempDir);

impl ClientDirectory {
    fn new(report: &[u8]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("report"), report)?;
        Ok(Self(directory))
    }

    fn start(&self) -> Result<Child> {
        Ok(Command::new(example("report_client")?)
            .current_dir(&self.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?)
    }

    fn run(&self) -> Result<Output> {
        Ok(self.start()?.wait_with_output()?)
    }

    /// Checks the output of a client that must succeed, against its files. Returns its copy.
    fn check(&self, output: &Output) -> Result<Vec<u8>> {
        let report = fs::read(self.0.path().join("report"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        let copy = fs::read(self.0.path().join("report.copy"))?;
        let expected = format!(
            "{} bytes were stored by the server\n{} bytes were stored here\n",
            report.len(),
            copy.len(),
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(files(self.0.path())?, ["report", "report.copy"]);
        Ok(copy)
    }
}

/// A server, and the directory in which it runs.
struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let child = Command::new(example("report_server")?).current_dir(&directory).spawn()?;
        let mut server = Self { child, directory };
        let began = Instant::now();
        while TcpStream::connect(ADDRESS).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("the server ended: {status}").into());
            }
            if began.elapsed() > MAX_WAIT {
                return Err("the server does not listen".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn stored(&self) -> PathBuf {
        self.directory.path().join("report.stored")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until no other test of this file runs, in any process. The lock ends with the file.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("dataserver-test-port-8089.lock");
    let file = File::options().create(true).append(true).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    if TcpStream::connect(ADDRESS).is_ok() {
        return Err(format!("another program uses {ADDRESS}").into());
    }
    Ok(file)
}

/// The names of all files in a directory, sorted.
fn files(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
