//! A bare server that waits for whichever connection is ready: the best case for small objects.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use dataserver_core::{Direction, StartPacket};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use crate::contender::Job;

/// Which event is the listener's: no descriptor has this number.
const LISTENER: u64 = u64::MAX;

/// Serves small objects from and to memory.
pub(crate) fn serve(listener: &TcpListener, job: &Job) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let interest = EventFlags::IN | EventFlags::EXCLUSIVE;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), interest)?;

    let mut buffer = vec![7; job.piece().max(2 * 1024)];
    let mut waiting: HashMap<u64, OwnedFd> = HashMap::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    loop {
        let ready = epoll::wait(&epoll, &mut events, None)?;
        for event in &events[..ready] {
            let key = event.data.u64();
            if let Some(stream) = waiting.remove(&key) {
                // A client that fails is done, too.
                if !serve_some(&stream, job, &mut buffer).unwrap_or(true) {
                    waiting.insert(key, stream);
                }
                continue;
            }
            while let Ok(stream) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                if serve_some(&stream, job, &mut buffer).unwrap_or(true) {
                    continue;
                }
                let key = stream.as_raw_fd() as u64;
                epoll::add(&epoll, &stream, EventData::new_u64(key), EventFlags::IN)?;
                waiting.insert(key, stream);
            }
        }
    }
}

/// Does what can be done now. Whether that was all.
fn serve_some(stream: &OwnedFd, job: &Job, buffer: &mut [u8]) -> Result<bool, Errno> {
    loop {
        let read = match recv(stream, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return Ok(false),
            read => read?.0,
        };
        match job.direction {
            Direction::Put if read == 0 => return Ok(true),
            Direction::Put => {}
            // Start packets come in one piece here: the client wrote them so.
            Direction::Get if read == StartPacket::LEN => {
                return send(stream, &buffer[..job.piece()], SendFlags::NOSIGNAL).map(|_| true);
            }
            Direction::Get => return Ok(true),
        }
    }
}
