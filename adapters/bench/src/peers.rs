//! What a user would pick instead: programs that are measured where they are installed.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu::Cpu;

/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a program is. Where it is not, says how to install it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join(program)).find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: {program} is not installed: apt-get install {program}");
    }
    found
}

/// An address that nobody listens at for now.
///
/// # Errors
/// What the system says.
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
    /// What the system says, or that it does not listen.
    pub fn listening(command: &mut Command, address: SocketAddr) -> io::Result<Self> {
        let program = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Self(program.spawn()?);
        let begin = Instant::now();
        while let Err(error) = TcpStream::connect(address) {
            if begin.elapsed() > PATIENCE {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(program)
    }

    /// The processor time of it and the processes that it started.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> io::Result<Cpu> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        children.map(Cpu::of).try_fold(Cpu::of(pid)?, |sum, child| Ok(sum + child?))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // nginx takes its workers with it when it is asked to end, and leaves them when it is killed.
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            _ = self.0.kill();
        }
        _ = self.0.wait();
    }
}

/// nginx with two workers, which serves the files in this directory, and takes puts into it.
///
/// # Errors
/// What the system says.
pub fn nginx(program: &Path, root: &Path, address: SocketAddr) -> io::Result<Program> {
    let here = root.display();
    let config = format!(
        "daemon off; worker_processes 2; user root; pid {here}/nginx.pid; error_log {here}/log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; client_max_body_size 0;\n\
           client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
           fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
           scgi_temp_path {here}/scgi;\n\
           server {{ listen {address}; root {here}; location / {{ dav_methods PUT; }} }}\n\
         }}\n"
    );
    let path = root.join("nginx.conf");
    fs::write(&path, config)?;
    Program::listening(
        Command::new(program).arg("-e").arg(root.join("log")).arg("-c").arg(path),
        address,
    )
}

/// Runs a command to its end. What it printed.
///
/// # Errors
/// It failed.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
