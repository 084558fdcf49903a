//! Other programs for the same task, which are measured if they are installed.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu::Cpu;

/// How long a program may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The path of a program. If it is not installed, prints how to install it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join(program)).find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: {program} is not installed: apt-get install {program}");
    }
    found
}

/// An unused address.
///
/// # Errors
/// Returns an error if the system has none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A program that runs until this is dropped.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// Returns an error if it cannot be started, or does not listen in time.
    pub fn listening(command: &mut Command, address: SocketAddr) -> io::Result<Self> {
        let program = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Self(program.spawn()?);
        let begin = Instant::now();
        while let Err(error) = TcpStream::connect(address) {
            if begin.elapsed() > START_TIMEOUT {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(program)
    }

    /// The processor time of this process and its children.
    ///
    /// # Errors
    /// Returns an error if it has ended.
    pub fn cpu(&self) -> io::Result<Cpu> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.map(Cpu::of).try_fold(Cpu::of(pid)?, |sum, child| Ok(sum + child?))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // nginx ends its workers after SIGTERM, but not after SIGKILL.
        let pid = self.0.id().to_string();
        let terminated = Command::new("kill").args(["-TERM", &pid]).status();
        if !terminated.is_ok_and(|status| status.success()) {
            _ = self.0.kill();
        }
        _ = self.0.wait();
    }
}

/// Starts nginx with two workers, which serves the files of a directory, and stores puts there.
///
/// # Errors
/// Returns an error if nginx cannot be started.
pub fn nginx(program: &Path, root: &Path, address: SocketAddr) -> io::Result<Program> {
    let root_path = root.display();
    let config = format!(
        "daemon off; worker_processes 2; user root; pid {root_path}/nginx.pid; error_log {root_path}/log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; client_max_body_size 0;\n\
           client_body_temp_path {root_path}/body; proxy_temp_path {root_path}/proxy;\n\
           fastcgi_temp_path {root_path}/fastcgi; uwsgi_temp_path {root_path}/uwsgi;\n\
           scgi_temp_path {root_path}/scgi;\n\
           server {{ listen {address}; root {root_path}; location / {{ dav_methods PUT; }} }}\n\
         }}\n"
    );
    let path = root.join("nginx.conf");
    fs::write(&path, config)?;
    Program::listening(
        Command::new(program).arg("-e").arg(root.join("log")).arg("-c").arg(path),
        address,
    )
}

/// Runs a command. Returns its standard output.
///
/// # Errors
/// Returns an error with its standard error if it fails.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {stderr}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
