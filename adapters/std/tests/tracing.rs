//! The events of the feature `tracing`, as a subscriber sees them.
#![cfg(feature = "tracing")]

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataserver_std::{Client, Config, Entry, Error, Key, Server, ShutdownHandle};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The fields of an event, its level as `level`, and the spans that it is in as `spans`.
type Seen = BTreeMap<String, String>;

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Seen>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collected {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == "dataserver" || event.metadata().target() == "application" {
            let mut fields = Fields(Seen::new());
            event.record(&mut fields);
            let spans = context.event_scope(event).into_iter().flatten();
            let spans: Vec<_> = spans.map(|span| span.name()).collect();
            fields.0.insert("spans".into(), spans.join(","));
            fields.0.insert("level".into(), event.metadata().level().to_string());
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

struct Fields(Seen);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Collected {
    fn install() -> Self {
        let collected = Self::default();
        let subscriber = tracing_subscriber::registry().with(collected.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        collected
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The value of a field; `-` if it is left out.
fn field<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.get(name).map_or("-", String::as_str)
}

/// Some fields of each event, in one line.
fn lines(seen: &[Seen], names: &[&str]) -> Vec<String> {
    let line = |seen| names.iter().map(|name| field(seen, name)).collect::<Vec<_>>().join(" ");
    seen.iter().map(line).collect()
}

fn serve(key: Key, config: &Config) -> (SocketAddr, Client, impl FnOnce() + use<>) {
    let server = Server::bind("127.0.0.1:0").unwrap().config(*config);
    server
        .on_put(Entry::new(key), |mut object| {
            std::io::copy(&mut object, &mut std::io::sink())?;
            tracing::info!(target: "application", "stored");
            Ok::<_, std::io::Error>(object.commit()?)
        })
        .unwrap();
    server.on_get(key, |_| Err::<_, &str>("the shelf is empty")).unwrap();
    let address = server.local_addr();
    let client = Client::new(address).unwrap();
    let shutdown: ShutdownHandle = server.shutdown_handle();
    let running = std::thread::spawn(move || server.run());
    let stop = move || {
        shutdown.shutdown(Duration::MAX);
        running.join().unwrap().unwrap();
    };
    (address, client, stop)
}

fn put_two(client: &Client, key: Key) {
    let mut session = client.session();
    for object in ["hello", "world"] {
        session.put(key).unwrap().send(object.as_bytes()).unwrap();
    }
}

fn refused(client: &Client) {
    client.session().get(Key::from_name("no such thing")).unwrap_err();
}

fn failing(client: &Client, key: Key) {
    let error: Error = client.session().get(key).unwrap_err();
    assert!(error.abort_reason().is_some());
}

/// One test, because the subscriber is that of the whole process.
#[test]
fn a_subscriber_sees_each_connection_from_its_accept_to_its_end() {
    let collected = Collected::install();
    let key = Key::from_name("report");
    let prefix = &key.to_string()[..8];

    // Objects that are delivered, in a session.
    let (_, client, stop) = serve(key, &Config::default());
    put_two(&client, key);
    stop();
    let seen = collected.take();
    let named = ["message", "level", "spans", "direction", "key", "size", "bytes", "outcome"];
    let delivered = format!("done INFO connection put {prefix} 5 5 delivered");
    let claimed = format!("claimed DEBUG connection put {prefix} 5 - -");
    let stored = "stored INFO connection - - - - -".to_owned();
    assert_eq!(
        lines(&seen, &named),
        [
            "accepted DEBUG connection - - - - -".to_owned(),
            claimed.clone(),
            stored.clone(),
            delivered.clone(),
            claimed,
            stored,
            delivered,
        ],
    );
    for seen in seen.iter().filter(|seen| field(seen, "message") == "done") {
        assert!(field(seen, "peer").starts_with("127.0.0.1:"), "{seen:?}");
        assert!(field(seen, "seconds").parse::<f64>().unwrap() >= 0.0, "{seen:?}");
        assert_eq!(field(seen, "cause"), "-");
    }

    // A refused one: the cause is there, and the whole key is nowhere.
    let (_, client, stop) = serve(key, &Config::default());
    refused(&client);
    stop();
    let seen = collected.take();
    let refused = Key::from_name("no such thing").to_string();
    let cause = "refused: nothing is registered for this start packet";
    assert_eq!(
        lines(&seen, &["message", "direction", "key", "outcome"]),
        [
            "accepted - - -".to_owned(),
            format!("refused get {} -", &refused[..8]),
            format!("done get {} refused", &refused[..8]),
        ],
    );
    assert_eq!(field(&seen[2], "cause"), cause);
    assert!(!format!("{seen:?}").contains(&refused), "{seen:?}");

    // A peer that sends nothing, and a handler that fails.
    let (address, client, stop) = serve(key, &Config::default());
    drop(TcpStream::connect(address).unwrap());
    failing(&client, key);
    stop();
    let mut seen = collected.take();
    seen.retain(|seen| field(seen, "message") == "done");
    seen.sort();
    let mut ended = lines(&seen, &["outcome", "direction", "bytes", "cause"]);
    ended.sort();
    assert_eq!(
        ended,
        [
            "failed - 0 the peer ended the start packet after 0 of 25 bytes",
            "failed get 0 aborted: the handler failed: the shelf is empty",
        ],
    );
}
