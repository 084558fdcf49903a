//! `serve`.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dataserver_common::object::open_regular;
use dataserver_std::{
    Error, Handlers, Key, ObjectReader, ObjectWriter, Receipt, Server, ShutdownHandle,
};
use signal_hook::consts::SIGHUP;
use tracing::{info, warn};

use crate::arguments::{Named, Serve};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::host;
use crate::log;
use crate::signals;
use crate::target::{self, Target};
use crate::ticket::random_key;
use crate::tls::{self, ServerSide};

pub(crate) fn serve(options: &Serve) -> Result<(), Failure> {
    let handlers = Handlers::new();
    let keys = register(options, &handlers)?;
    // A failure that can be known before the first connection comes before it.
    for Named { path, .. } in &options.puts {
        Target::check(path)?;
    }
    for Named { path, .. } in &options.gets {
        open_regular(path)?;
    }
    let tls = tls::server_side(&options.tls)?;
    let config = options.timeouts.config().max_object_size(options.max_size);
    let listen = |address| {
        let server = host::listen(address)?.handlers(handlers.clone()).config(config);
        let server = server.max_connections(options.max_connections);
        Ok(match &tls {
            Some(tls) => tls.secure(server),
            None => server,
        })
    };
    let servers: Vec<Server> = options.listen.iter().map(listen).collect::<Result<_, Failure>>()?;
    let writing = log::start(options.log, options.quiet, options.verbose)?;
    let handles: Vec<_> = servers.iter().map(Server::shutdown_handle).collect();
    let was_reset = shut_down_on_signals(handles.clone(), tls.clone())?;

    let mut output = io::stdout();
    for server in &servers {
        writeln!(output, "listening on {}", server.local_addr())?;
        for (verb, named, key) in keys.iter().filter(|_| options.ticket) {
            let ticket = host::ticket(server, options.host.as_deref(), *key, None);
            writeln!(output, "{verb} {} {ticket}", named.name.to_string_lossy())?;
        }
    }
    drop(handlers);
    let ended = run(servers, &handles);
    writing.finish();
    ended?;
    match was_reset.load(Ordering::Relaxed) {
        true => Err(Failure::new(Status::Peer, "a second signal reset the open connections")),
        false => Ok(()),
    }
}

/// Serves until all servers have ended. If one fails, the others are shut down.
fn run(servers: Vec<Server>, handles: &[ShutdownHandle]) -> Result<(), Failure> {
    thread::scope(|scope| {
        let run = |server: Server| {
            let serve = || {
                server
                    .run()
                    .inspect_err(|_| handles.iter().for_each(|it| it.shutdown(Duration::ZERO)))
            };
            thread::Builder::new().spawn_scoped(scope, serve).map_err(Error::listen)
        };
        let running: Vec<_> = servers.into_iter().map(run).collect();
        if running.iter().any(Result::is_err) {
            handles.iter().for_each(|it| it.shutdown(Duration::ZERO));
        }
        for server in running {
            server?.join().unwrap_or(Ok(()))?; // `run` catches panics of handlers
        }
        Ok(())
    })
}

type Registered<'a> = (&'static str, &'a Named, Key);

fn register<'a>(options: &'a Serve, handlers: &Handlers) -> Result<Vec<Registered<'a>>, Failure> {
    let console = Arc::new(Console::silent());
    #[cfg(feature = "redis")]
    let has_tickets = crate::redis_tickets::register(&options.redis, handlers, &console)?;
    #[cfg(not(feature = "redis"))]
    let has_tickets = false;
    if options.puts.is_empty() && options.gets.is_empty() && !has_tickets {
        return Err(Failure::new(Status::Usage, "nothing to serve, expected --put or --get"));
    }
    let key = |named: &Named| match options.ticket {
        true => random_key(),
        false => Ok(Key::from_name_bytes(named.name.as_encoded_bytes())),
    };
    let mut keys = Vec::new();
    for named in &options.puts {
        let key = key(named)?;
        let (path, console) = (named.path.clone(), Arc::clone(&console));
        handlers.on_put(options.entry(key), move |object| receive(object, &path, &console))?;
        keys.push(("put", named, key));
    }
    for named in &options.gets {
        let key = key(named)?;
        let path = named.path.clone();
        handlers.on_get(options.entry(key), move |object| send(object, &path))?;
        keys.push(("get", named, key));
    }
    Ok(keys)
}

pub(crate) fn receive(
    object: ObjectReader,
    path: &Path,
    console: &Arc<Console>,
) -> Result<Receipt, Failure> {
    Target::open(path)?.receive(object, None, console)
}

pub(crate) fn send(object: ObjectWriter, path: &Path) -> Result<Receipt, Failure> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len(); // of the open file: the name may have a new one by now
    match object.declared_size().bytes() {
        Some(declared) if declared != len => {
            let error =
                io::Error::other(format!("it has {len} bytes, and {declared} were declared"));
            Err(Failure::file(path, &error))
        }
        _ => Ok(object.send_file(&file)?),
    }
}

/// Shuts the server down at a signal. The first one lets open connections end, the second resets them,
/// and the third ends the process. Returns whether there was a second. With TLS, SIGHUP reads the certificate
/// again.
fn shut_down_on_signals(
    handles: Vec<ShutdownHandle>,
    tls: Option<ServerSide>,
) -> Result<Arc<AtomicBool>, Failure> {
    let was_reset = Arc::new(AtomicBool::new(false));
    let second = Arc::clone(&was_reset);
    let mut earlier = 0;
    signals::on_termination(move |signal| {
        if let (SIGHUP, Some(tls)) = (signal, &tls) {
            // A line of the log never waits.
            match tls.certificate.reload() {
                Ok(()) => info!(target: log::TARGET, "the certificate has been read again"),
                Err(error) => warn!(target: log::TARGET, "the old certificate stays: {error}"),
            }
            return;
        }
        match earlier {
            0 => {
                warn!(target: log::TARGET, "no further connections; a second signal resets the open ones");
                handles.iter().for_each(|it| it.shutdown(Duration::MAX));
            }
            1 => {
                second.store(true, Ordering::Relaxed);
                target::discard_all();
                handles.iter().for_each(|it| it.shutdown(Duration::ZERO));
            }
            _ => signals::end_process(signal),
        }
        earlier += 1;
    })?;
    Ok(was_reset)
}
