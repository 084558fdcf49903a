//! What a driver owes to a transport that buffers, to one whose reads are expensive, and to one whose
//! writes fail.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;

use dataserver_std::protocol::Frame;
use dataserver_std::{
    AbortReason, Config, Error, Handlers, Instant, Key, ObjectWriter, Receipt, Request, Session,
    Socket, StartPacket, Transport,
};

const KEY: Key = Key::from_name("object");
const OBJECT: &[u8] = b"an object";

/// A socket that is watched, and has these properties.
struct Watched {
    socket: Socket,
    seen: Arc<Mutex<Seen>>,
    /// What was written since the last flush. `None` if the transport does not buffer.
    buffer: Option<Vec<u8>>,
    /// How many bytes can be written. A write beyond them fails, and nobody is told how much of it left.
    room: usize,
}

#[derive(Default)]
struct Seen {
    /// The size of the buffer of each read, and how many bytes it got.
    reads: Vec<(usize, usize)>,
    failed: bool,
    /// How many bytes the driver has tried to write after a write had failed.
    after_failure: usize,
}

impl Watched {
    fn pair() -> (Self, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (Self::over(here), there)
    }

    fn over(stream: UnixStream) -> Self {
        let (socket, seen) = (Socket::from_unix(stream).unwrap(), Arc::default());
        Self { socket, seen, buffer: None, room: usize::MAX }
    }

    fn buffering(self) -> Self {
        Self { buffer: Some(Vec::new()), ..self }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.read(buffer)?;
        self.seen.lock().unwrap().reads.push((buffer.len(), n));
        Ok(n)
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(buffer) = &mut self.buffer {
            buffer.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let mut seen = self.seen.lock().unwrap();
        if seen.failed {
            seen.after_failure += bytes.len();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let fits = bytes.len().min(self.room);
        self.room -= fits;
        self.socket.write_all(&bytes[..fits])?;
        if fits < bytes.len() {
            seen.failed = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(fits)
    }

    /// All slices in one write, as over a socket: a header that was cut off would be noticed.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.write(&bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let waiting = self.buffer.as_mut().map(std::mem::take).unwrap_or_default();
        self.socket.write_all(&waiting)
    }
}

impl Transport for Watched {
    fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.socket.set_deadline(deadline);
    }
    fn shut_down(&mut self) -> io::Result<()> {
        self.flush()?;
        self.socket.shut_down()
    }
    fn disarm(&mut self) -> io::Result<()> {
        self.socket.disarm()
    }
}

fn handlers() -> Handlers {
    let handlers = Handlers::new();
    let put = handlers.on_put(KEY, |mut object| {
        io::copy(&mut object, &mut io::sink())?;
        Ok::<_, io::Error>(object.commit()?)
    });
    put.unwrap();
    handlers.on_get(KEY, |object| object.send(OBJECT)).unwrap();
    handlers
}

/// The server has the receipt of the last object, which no later step of the client flushes.
#[test]
fn a_transport_that_buffers_carries_a_session() {
    let (here, there) = Watched::pair();
    let serving = thread::spawn(move || {
        let mut outcomes = Vec::new();
        let transport = Watched::over(there).buffering();
        handlers().serve_session(transport, &Config::default(), |outcome| outcomes.push(outcome));
        outcomes
    });
    let mut session = Session::over(here.buffering(), &Config::default());
    assert_eq!(session.put(KEY).unwrap().send(OBJECT).unwrap().bytes, 9);
    let mut object = session.get(KEY).unwrap();
    assert_eq!(io::copy(&mut object, &mut io::sink()).unwrap(), 9);
    assert_eq!(object.commit().unwrap().bytes, 9);
    drop(session);
    let outcomes = serving.join().unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "{outcomes:?}");
}

#[test]
fn a_transport_that_buffers_delivers_the_reason_of_a_refusal() {
    let (here, there) = Watched::pair();
    let serving = thread::spawn(move || {
        Handlers::new().serve(Watched::over(there).buffering(), &Config::default())
    });
    let mut session = Session::over(here.buffering(), &Config::default());
    let error = session.put(KEY).unwrap().send(OBJECT).unwrap_err();
    assert_eq!(error.abort_reason(), Some(AbortReason::Refused));
    assert!(serving.join().unwrap().unwrap_err().is_refused());
}

#[test]
fn a_transport_that_buffers_delivers_the_end_of_a_session() {
    let (transport, mut peer) = Watched::pair();
    let serving =
        thread::spawn(move || handlers().serve(transport.buffering(), &Config::default()));
    peer.write_all(StartPacket::put(KEY).framed().as_bytes()).unwrap();
    peer.write_all(&Frame::Last { len: 0 }.to_bytes()).unwrap();
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    let closing = Frame::Abort(AbortReason::Closing).to_bytes();
    assert_eq!(answer, [Frame::Receipt { size: 0 }.to_bytes(), closing].concat());
    serving.join().unwrap().unwrap();
}

/// The application wants that the start packet leaves, and nothing else makes it leave.
#[test]
fn a_flush_of_the_application_reaches_a_transport_that_buffers() {
    let (transport, mut peer) = Watched::pair();
    peer.set_read_timeout(Some(Config::default().timeouts.idle.unwrap())).unwrap();
    let request = Request::new(KEY).framed();
    let mut object = ObjectWriter::open(transport.buffering(), request, &Config::default());
    object.flush().unwrap();
    let mut sent = [0; StartPacket::LEN];
    peer.read_exact(&mut sent).unwrap();
    assert_eq!(&sent, StartPacket::put(KEY).framed().as_bytes());
}

/// The handler reads one byte at a time. What comes behind a malformed frame is not read like that.
#[test]
fn what_is_dropped_after_an_abort_is_read_in_large_pieces() {
    const FLOOD: usize = 256 * 1024;
    let (transport, mut peer) = Watched::pair();
    let seen = Arc::clone(&transport.seen);
    let handlers = Handlers::new();
    let put = handlers.on_put(KEY, |mut object| {
        while object.read(&mut [0])? > 0 {}
        Ok::<_, io::Error>(object.commit()?)
    });
    put.unwrap();
    let serving = thread::spawn(move || handlers.serve(transport, &Config::default()));
    peer.write_all(StartPacket::put(KEY).framed().as_bytes()).unwrap();
    peer.write_all(&Frame::Data { len: 1 }.to_bytes()).unwrap();
    peer.write_all(&[9; 1 + Frame::LEN]).unwrap(); // the body, and what is no frame
    peer.write_all(&[9; FLOOD]).unwrap();
    let mut answer = [0; Frame::LEN];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(answer, Frame::Abort(AbortReason::Malformed).to_bytes());
    drop(peer);
    serving.join().unwrap().unwrap_err();
    let seen = seen.lock().unwrap();
    let in_large: usize = seen.reads.iter().filter(|(room, _)| *room >= 4096).map(|(_, n)| n).sum();
    let total: usize = seen.reads.iter().map(|(_, n)| n).sum();
    assert!(total > FLOOD, "only {total} bytes were read");
    assert!(total - in_large < 8 * 1024, "{in_large} of {total} bytes were read in large pieces");
}

/// Calls `transfer` with a transport that fails in each of its writes, for each length up to `total`, and
/// asserts that nothing was written afterwards.
fn fail_each_write(
    first: &[u8],
    total: usize,
    transfer: impl Fn(Watched) -> Result<Receipt, Error>,
) {
    for room in 0..total {
        let (transport, mut peer) = Watched::pair();
        let transport = Watched { room, ..transport };
        let seen = Arc::clone(&transport.seen);
        peer.write_all(first).unwrap();
        let peer = thread::spawn(move || {
            let mut sent = vec![0; room];
            peer.read_exact(&mut sent).unwrap();
        }); // then it has gone
        transfer(transport).unwrap_err();
        peer.join().unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.failed, "all was written, with room for {room} bytes");
        assert_eq!(seen.after_failure, 0, "bytes written after a write that failed at {room}");
    }
}

/// An ABORT would complete a frame whose rest may or may not have left.
#[test]
fn nothing_is_written_after_a_write_that_failed() {
    fail_each_write(&[], StartPacket::LEN + Frame::LEN + OBJECT.len(), |transport| {
        let request = Request::new(KEY).framed();
        ObjectWriter::open(transport, request, &Config::default()).send(OBJECT)
    });
    let get = StartPacket::get(KEY).framed();
    let put = StartPacket::put(KEY).framed();
    let put = [&put.as_bytes()[..], &Frame::Last { len: 0 }.to_bytes()].concat();
    fail_each_write(&put, Frame::LEN, |transport| handlers().serve(transport, &Config::default()));
    for panics in [false, true] {
        fail_each_write(get.as_bytes(), Frame::LEN + OBJECT.len(), |transport| {
            let handlers = Handlers::new();
            let result = handlers.on_get(KEY, move |mut object| {
                object.write_all(OBJECT).unwrap_err();
                assert!(!panics, "as the test says");
                Err::<Receipt, _>("the handler has an error of its own")
            });
            result.unwrap();
            handlers.serve(transport, &Config::default())
        });
    }
}
