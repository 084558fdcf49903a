//! The core in a device with fixed memory, behind a serial line that moves a byte at a time.
//!
//! ```text
//! cargo run --release --example embedded
//! ```
//!
//! [`device`] uses only `core`, and is the file to copy. The other end of the line is a TCP connection
//! to the std adapter.

mod cable;
mod device;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cable::Cable;
use dataserver_core::{AbortReason, Cause, LocalError, PeerError, Timer};
use dataserver_examples::peers::{self, Outcome, check};
use dataserver_std::{Client, Entry, Key, Server, StartPacket};
use device::{Line, Memory, Next, READINGS_KEY, SETTINGS, SETTINGS_KEY, Session};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!(
        "the device: {} bytes for its connection, {} for its memory, no heap",
        size_of::<Session>(),
        size_of::<Memory>(),
    );
    let readings = peers::object(300).try_into().map_err(|_| "300 bytes are not 300 bytes")?;
    let mut memory = Memory::new(readings);
    device_as_client(&mut memory)?;
    device_as_server(&mut memory)?;
    device_with_a_session(&mut memory)
}

/// The device is the server, and the client transfers several framed objects. Nothing but bytes crosses the
/// line between them.
fn device_with_a_session(memory: &mut Memory) -> Result<(), Box<dyn Error>> {
    println!("the device as a server of a session:");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let client = scope.spawn(move || -> io::Result<Vec<u8>> {
            let mut session = Client::new(address).map_err(io::Error::from)?.session();
            session.put(SETTINGS_KEY)?.send(b"interval = 30")?;
            let mut readings = Vec::new();
            let mut object = session.get(READINGS_KEY)?;
            object.read_to_end(&mut readings)?;
            object.commit()?;
            Ok(readings)
        });
        let (mut cable, computer) = Cable::to(listener.accept()?.0)?;
        let mut session = Session::server(&cable);
        for expected in [13, 300] {
            check("the device", &run_session(&mut session, memory, &mut cable), &Ok(expected))?;
            println!("  the device: {expected} bytes");
            session = session.next(&cable);
        }
        let end = run_session(&mut session, memory, &mut cable); // the client has closed
        check("the end of the session", &end, &Ok(0))?;
        cable.unplug();
        computer.join().map_err(|_| "the computer panicked")??;
        let readings = client.join().map_err(|_| "a client panicked")??;
        check("the readings", &readings, &memory.readings.to_vec())?;
        Ok(check("the settings", &memory.settings(), &&b"interval = 30"[..])?)
    })
}

/// The device is the client.
fn device_as_client(memory: &mut Memory) -> Result<(), Box<dyn Error>> {
    println!("the device as a client of dataserver-std:");
    let server = Server::bind("127.0.0.1:0")?;
    let (address, stop) = (server.local_addr(), server.shutdown_handle());
    let (get, too_long) = (StartPacket::get(SETTINGS_KEY), StartPacket::get(TOO_LONG));
    let put = StartPacket::put(READINGS_KEY).with_size(300)?;
    let stored = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&stored);
    server.on_put(Entry::exact(put), move |mut object| {
        let mut readings = Vec::new();
        object.read_to_end(&mut readings)?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = readings;
        Ok::<_, io::Error>(object.commit()?)
    })?;
    server.on_get(SETTINGS_KEY, |object| object.send(b"interval = 60"))?;
    server.on_get(TOO_LONG, |object| object.send(&[b'#'; SETTINGS + 1]))?;
    let running = thread::spawn(|| server.run());

    let call = |memory: &mut Memory, packet| {
        let (mut cable, computer) = Cable::to(TcpStream::connect(address)?)?;
        let outcome = run_session(&mut Session::client(packet, &cable), memory, &mut cable);
        match outcome {
            Ok(_) => cable.unplug(),
            Err(_) => drop(cable),
        }
        computer.join().map_err(|_| "the computer panicked")??;
        Ok::<_, Box<dyn Error>>(outcome)
    };

    check("a framed put", &call(memory, put.framed())?, &Ok(300))?;
    check("put", &call(memory, put)?, &Ok(300))?;
    let received = stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
    check("the readings", &received, &memory.readings.to_vec())?;
    println!("  puts its readings: the receipt for 300 bytes");

    check("a framed get", &call(memory, get.framed())?, &Ok(13))?;
    check("get", &call(memory, get)?, &Ok(13))?;
    check("the settings", &memory.settings(), &&b"interval = 60"[..])?;
    println!("  gets its settings: 13 bytes");

    let refused = call(memory, StartPacket::get(READINGS_KEY))?;
    check("a get that is refused", &refused, &Err(PeerError::Reset { moved: 0 }.into()))?;
    println!("  gets a key that is not registered: {}", PeerError::Reset { moved: 0 });

    let refused = call(memory, StartPacket::get(READINGS_KEY).framed())?;
    let reason = PeerError::Aborted(AbortReason::Refused);
    check("a framed get that is refused", &refused, &Err(reason.into()))?;
    println!("  the same in the framed format: {reason}");

    let longer = PeerError::LongerThanAllowed { limit: SETTINGS as u64 };
    check("too long settings", &call(memory, too_long)?, &Err(longer.into()))?;
    check("the settings", &memory.settings(), &&b"interval = 60"[..])?;
    println!("  gets settings that are too long: {longer}; the old settings stay");

    let (cable, computer) = Cable::to(TcpStream::connect(address)?)?;
    let mut cable = cable.cut_after(100);
    let outcome = run_session(&mut Session::client(put, &cable), memory, &mut cable);
    check("a cut cable", &outcome, &Err(Timer::Receipt.into()))?;
    println!("  puts its readings over a cable that is cut: {}", Cause::from(Timer::Receipt));
    drop(cable);
    computer.join().map_err(|_| "the computer panicked")??;

    stop.shutdown(Duration::ZERO);
    Ok(running.join().map_err(|_| "the server panicked")??)
}

/// The key of settings that are larger than the memory for them.
const TOO_LONG: Key = Key::from_name("too long");

/// The device is the server, of one connection at a time.
fn device_as_server(memory: &mut Memory) -> Result<(), Box<dyn Error>> {
    println!("the device as a server:");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let put = StartPacket::put(SETTINGS_KEY);

    thread::scope(|scope| {
        let clients = scope.spawn(move || use_device(address, put));
        for expected in [
            Ok(13),
            Ok(300),
            Err(LocalError::LongerThanDeclared { declared: 100 }.into()),
            Err(PeerError::TruncatedStartPacket { received: 24 }.into()),
            Err(PeerError::Truncated { received: 4, expected: 9 }.into()),
            Err(Timer::Start.into()),
        ] {
            let (mut cable, computer) = Cable::to(listener.accept()?.0)?;
            let mut session = Session::server(&cable);
            let outcome = run_session(&mut session, memory, &mut cable);
            drop(cable);
            computer.join().map_err(|_| "the computer panicked")??;
            check("the device", &outcome, &expected)?;
            match outcome {
                Ok(bytes) => println!("  the device: {bytes} bytes"),
                Err(error) => println!("  the device: {error}"),
            }
        }
        let readings = clients.join().map_err(|_| "a client panicked")??;
        check("the readings", &readings, &memory.readings.to_vec())?;
        check("the settings", &memory.settings(), &&b"interval = 90"[..])?;
        Ok(())
    })
}

fn use_device(address: SocketAddr, put: StartPacket) -> io::Result<Vec<u8>> {
    let client = Client::new(address).map_err(io::Error::from)?;
    client.put(peers::request(put))?.send(b"interval = 90")?;
    let mut readings = Vec::new();
    let mut object = client.get(READINGS_KEY)?;
    object.read_to_end(&mut readings)?;
    object.commit()?;

    let declared = put.with_size(9).map_err(io::Error::other)?;
    let truncated = [declared.as_bytes(), &b"inte"[..]].concat();
    let too_few = StartPacket::get(READINGS_KEY).with_size(100).map_err(io::Error::other)?;
    for (broken, ends) in [
        (&too_few.as_bytes()[..], false),
        (&put.as_bytes()[..24], true),
        (&truncated, true),
        (&[], false),
    ] {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(broken)?;
        if ends {
            stream.shutdown(Shutdown::Write)?;
        }
        match stream.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            _ => return Err(io::Error::other("the device did not reset the connection")),
        }
    }
    Ok(readings)
}

/// The device's main loop. Instead of sleeping, a device waits for an interrupt or a timer.
fn run_session(session: &mut Session, memory: &mut Memory, line: &mut impl Line) -> Outcome {
    loop {
        match session.poll(memory, line) {
            Next::Poll => {}
            Next::Sleep(left) => thread::sleep(left.min(Duration::from_micros(50))),
            Next::Over(outcome) => return outcome,
        }
    }
}
