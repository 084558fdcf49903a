//! A server and clients on plain sockets with epoll(7), for small objects.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use dataserver_core::Direction;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect,
    recv, send, shutdown, socket_with,
};

use crate::subject::Job;

/// The event data of the listener. No file descriptor has this number.
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
                // After an error the connection is over, too.
                if !serve_some(&stream, job, &mut buffer).unwrap_or(true) {
                    waiting.insert(key, stream);
                }
                continue;
            }
            while let Ok(stream) =
                accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
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

/// Serves a connection until it would block. Returns whether it has ended.
fn serve_some(stream: &OwnedFd, job: &Job, buffer: &mut [u8]) -> Result<bool, Errno> {
    loop {
        let read = match recv(stream, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return Ok(false),
            read => read?.0,
        };
        match job.direction {
            _ if read == 0 => return Ok(true),
            Direction::Put => {}
            // The start packet arrives in one piece, as the client wrote it.
            Direction::Get => {
                send(stream, &buffer[..job.piece()], SendFlags::NOSIGNAL)?;
                shutdown(stream, Shutdown::Write)?;
            }
        }
    }
}

/// Transfers small objects, `at_once` at a time, until `end`. Returns how many.
pub(crate) fn transfer_concurrently(
    address: SocketAddr,
    job: &Job,
    at_once: usize,
    end: Instant,
) -> io::Result<u64> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut buffer = vec![0; job.piece().max(2 * 1024)];
    let mut waiting: HashMap<u64, OwnedFd> = HashMap::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    let mut request = job.packet().as_bytes().to_vec();
    if job.direction == Direction::Put {
        request.extend_from_slice(&vec![7; job.piece()]);
    }
    let begin = || -> io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // A connect over loopback does not block for long.
        let stream = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&stream, &address)?;
        send(&stream, &request, SendFlags::NOSIGNAL)?;
        if job.direction == Direction::Put {
            shutdown(&stream, Shutdown::Write)?;
        }
        Ok(stream)
    };
    let mut done = 0;
    loop {
        while waiting.len() < at_once && Instant::now() < end {
            let stream = begin()?;
            let key = stream.as_raw_fd() as u64;
            epoll::add(&epoll, &stream, EventData::new_u64(key), EventFlags::IN)?;
            waiting.insert(key, stream);
        }
        if waiting.is_empty() {
            return Ok(done);
        }
        let ready = epoll::wait(&epoll, &mut events, None)?;
        for key in events[..ready].iter().map(|event| event.data.u64()) {
            let Some(stream) = waiting.get(&key) else { continue };
            match recv(stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => continue,
                read if read?.0 > 0 => continue, // the end of the stream is another event
                _ => {
                    waiting.remove(&key);
                    done += 1;
                }
            }
        }
    }
}
