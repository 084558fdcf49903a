//! The adapter is not tied to an executor: the same server on several, and the effect of dropping it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dataserver_smol::{Client, Error, Handlers, Key, Server, ShutdownHandle};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

const KEY: Key = Key::from_name("object");
const OBJECT: &[u8] = b"an object";

fn server() -> (Server, SocketAddr, ShutdownHandle) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let result = server.on_put(KEY, |mut object| async move {
        let mut received = Vec::new();
        object.read_to_end(&mut received).await?;
        assert_eq!(received, OBJECT);
        Ok::<_, io::Error>(object.commit().await?)
    });
    result.unwrap();
    server.on_get(KEY, |object| object.send(OBJECT)).unwrap();
    let (address, shutdown) = (server.local_addr(), server.shutdown_handle());
    (server, address, shutdown)
}

/// Runs puts and gets concurrently, then shuts the server down.
async fn transfer(address: SocketAddr, shutdown: ShutdownHandle) -> Result<(), Error> {
    let client = Client::new(address)?;
    for _ in 0..10 {
        let put = async { client.put(KEY).await?.send(OBJECT).await };
        let get = async {
            let mut object = client.get(KEY).await?;
            let mut received = Vec::new();
            object.read_to_end(&mut received).await.expect("an object");
            assert_eq!(received, OBJECT);
            object.commit().await
        };
        let (put, get) = future::try_zip(put, get).await?;
        assert_eq!((put.bytes, get.bytes), (9, 9));
    }
    shutdown.shutdown(Duration::from_secs(60));
    Ok(())
}

#[test]
fn it_runs_under_block_on_with_the_global_executor() -> Result<(), Error> {
    let (server, address, shutdown) = server();
    let run = server.run(|connection| smol::spawn(connection).detach());
    smol::block_on(future::try_zip(run, transfer(address, shutdown))).map(drop)
}

#[test]
fn it_runs_on_an_executor_with_several_threads() -> Result<(), Error> {
    let (server, address, shutdown) = server();
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
    let done = smol::block_on(future::try_zip(run, transfer(address, shutdown)));
    drop(finish);
    for thread in threads {
        assert!(thread.join().unwrap().is_err()); // the channel is closed
    }
    done.map(drop)
}

#[test]
fn it_runs_on_a_local_executor_with_handlers_that_are_not_send() -> Result<(), Error> {
    let handlers = Handlers::local();
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    handlers.on_put(KEY, move |mut object| {
        let count = Rc::clone(&count);
        async move {
            let bytes = futures_lite::io::copy(&mut object, futures_lite::io::sink()).await?;
            count.set(count.get() + bytes);
            Ok::<_, io::Error>(object.commit().await?)
        }
    })?;
    handlers.on_get(KEY, |object| object.send(OBJECT))?;
    let server = Server::bind("127.0.0.1:0")?.handlers(handlers);
    let (address, shutdown) = (server.local_addr(), server.shutdown_handle());

    let executor = smol::LocalExecutor::new();
    let run = server.run(|connection| executor.spawn(connection).detach());
    future::block_on(executor.run(future::try_zip(run, transfer(address, shutdown))))?;
    assert_eq!(received.get(), 90);
    Ok(())
}

#[test]
fn it_runs_without_an_executor_on_a_thread_for_each_connection() -> Result<(), Error> {
    let (server, address, shutdown) = server();
    let run = server.run(|connection| {
        std::thread::spawn(|| future::block_on(connection));
    });
    future::block_on(future::try_zip(run, transfer(address, shutdown))).map(drop)
}

#[test]
fn a_server_that_is_dropped_resets_its_connections_and_refuses_others() -> io::Result<()> {
    let (server, address, _shutdown) = server();
    let executor = smol::Executor::new();
    future::block_on(executor.run(async {
        let client = Client::new(address)?;
        let object = {
            let run = server.run(|connection| executor.spawn(connection).detach());
            let begin = async {
                let mut object = client.put(KEY).await?;
                object.write_all(OBJECT).await?;
                // After another whole transfer, the first connection has been accepted.
                client.put(KEY).await?.send(OBJECT).await?;
                Ok::<_, io::Error>(object)
            };
            future::or(begin, async {
                run.await?;
                Err(io::ErrorKind::Other.into())
            })
            .await?
        };
        let error = object.finish().await.unwrap_err();
        assert!(error.is_reset(), "{error}");
        let error = client.put(KEY).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        Ok(())
    }))
}

#[test]
fn the_future_of_an_idle_connection_is_small() {
    let handlers = Handlers::new();
    let (client, _server) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = dataserver_smol::Socket::from_unix(client).unwrap();
    let config = dataserver_smol::Config::default();
    let size = size_of_val(&handlers.serve(socket, &config));
    assert!(size <= 1024, "the future of a connection has {size} bytes");
}
