//! Tied to no executor: the same server on several, and what becomes of it when it is dropped.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dataserver_smol::{Client, Error, Handlers, Key, Server, StartPacket, StopHandle};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

const PUT: StartPacket = StartPacket::put(Key::from_name("object"));
const GET: StartPacket = StartPacket::get(Key::from_name("object"));
const OBJECT: &[u8] = b"an object";

fn server() -> (Server, SocketAddr, StopHandle) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let put = server.on_put(PUT, |object| {
        Box::pin(async move {
            let mut received = Vec::new();
            object.read_to_end(&mut received).await?;
            assert_eq!(received, OBJECT);
            Ok(())
        })
    });
    put.unwrap();
    server.on_get(GET, |object| Box::pin(object.send(OBJECT))).unwrap();
    let (address, stop) = (server.local_addr().unwrap(), server.stop_handle());
    (server, address, stop)
}

/// Puts and gets a few times at once, then stops the server.
async fn use_it(address: SocketAddr, stop: StopHandle) -> io::Result<()> {
    let client = Client::new(address);
    for _ in 0..10 {
        let put = async { client.put(PUT).await?.send(OBJECT).await };
        let get = async {
            let mut object = client.get(GET).await?;
            let mut received = Vec::new();
            object.read_to_end(&mut received).await?;
            assert_eq!(received, OBJECT);
            object.commit().await
        };
        let (put, get) = future::try_zip(put, get).await?;
        assert_eq!((put.bytes, get.bytes), (9, 9));
    }
    stop.stop(Duration::from_secs(60));
    Ok(())
}

#[test]
fn it_runs_under_block_on_with_the_global_executor() -> io::Result<()> {
    let (server, address, stop) = server();
    let run = server.run(|connection| smol::spawn(connection).detach());
    smol::block_on(future::try_zip(run, use_it(address, stop))).map(drop)
}

#[test]
fn it_runs_on_an_executor_with_several_threads() -> io::Result<()> {
    let (server, address, stop) = server();
    let executor = Arc::new(smol::Executor::new());
    let (finish, finished) = smol::channel::bounded::<()>(1);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (executor, finished) = (Arc::clone(&executor), finished.clone());
            std::thread::spawn(move || smol::block_on(executor.run(finished.recv())))
        })
        .collect();
    let spawner = Arc::clone(&executor);
    let run = executor
        .spawn(async move { server.run(|connection| spawner.spawn(connection).detach()).await });
    let done = smol::block_on(future::try_zip(run, use_it(address, stop)));
    drop(finish);
    for thread in threads {
        assert!(thread.join().unwrap().is_err()); // the channel is closed
    }
    done.map(drop)
}

#[test]
fn it_runs_on_a_local_executor_with_handlers_that_are_not_send() -> io::Result<()> {
    let handlers = Handlers::local();
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    handlers.on_put(PUT, move |object| {
        let count = Rc::clone(&count);
        Box::pin(async move {
            count
                .set(count.get() + futures_lite::io::copy(object, futures_lite::io::sink()).await?);
            Ok(())
        })
    })?;
    handlers.on_get(GET, |object| Box::pin(object.send(OBJECT)))?;
    let server = Server::with_handlers(TcpListener::bind("127.0.0.1:0")?, handlers)?;
    let (address, stop) = (server.local_addr()?, server.stop_handle());

    let executor = smol::LocalExecutor::new();
    let run = server.run(|connection| executor.spawn(connection).detach());
    future::block_on(executor.run(future::try_zip(run, use_it(address, stop))))?;
    assert_eq!(received.get(), 90);
    Ok(())
}

#[test]
fn it_runs_without_an_executor_on_a_thread_for_each_connection() -> io::Result<()> {
    let (server, address, stop) = server();
    let run = server.run(|connection| {
        std::thread::spawn(|| future::block_on(connection));
    });
    future::block_on(future::try_zip(run, use_it(address, stop))).map(drop)
}

#[test]
fn a_server_that_is_dropped_resets_its_connections_and_refuses_others() -> io::Result<()> {
    let (server, address, _stop) = server();
    let executor = smol::Executor::new();
    future::block_on(executor.run(async {
        let client = Client::new(address);
        let mut object = {
            let run = server.run(|connection| executor.spawn(connection).detach());
            let begin = async {
                let mut object = client.put(PUT).await?;
                object.write_all(OBJECT).await?;
                // A whole transfer behind it: the first one has been accepted.
                client.put(PUT).await?.send(OBJECT).await?;
                Ok::<_, io::Error>(object)
            };
            future::or(begin, async { run.await.and(Err(io::ErrorKind::Other.into())) }).await?
        };
        let error = object.finish().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let error = client.put(PUT).await.err().expect("nobody listens any more");
        assert!(matches!(Error::of(&error), Some(Error::Connect { .. })), "{error}");
        Ok(())
    }))
}

#[test]
fn connections_that_wait_cost_no_thread_and_little_memory() {
    // What a program holds per connection is the future that it spawns.
    let (server, ..) = server();
    let served = server.handlers().clone();
    let (client, _server) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = dataserver_smol::Socket::try_from(client).unwrap();
    let config = dataserver_smol::Config::default();
    let size = size_of_val(&served.serve(socket, &config));
    assert!(size <= 1024, "the future of a connection has {size} bytes");
}
