//! A healthy client beside an attack: it receives numbered room messages all the while and must notice nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast_wire::ignis::Destination;

use crate::client::{Client, Received};
use crate::http::Http;
use crate::process::POLL_INTERVAL;
use crate::server::{PATIENCE, TestServer, WS, emit};

/// Between two messages.
const INTERVAL: Duration = Duration::from_millis(10);

/// The room; its messages are `{"event":"tick","data":<number>}`.
const ROOM: &str = "bystanders";

/// The room's last message.
const LAST: &str = r#"{"event":"last","data":null}"#;

/// A client, and whoever emits to its room, each on a thread of its own.
#[derive(Debug)]
pub struct Bystander {
    stop: Arc<AtomicBool>,
    emitted: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    emitter: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Joins a server of this process; messages go in through its engine.
    pub fn of(server: &TestServer) -> Self {
        Self::through(server, Client::connect(server.address(), WS))
    }

    /// The same on a connection to the Ignis mount, where it takes more than connecting to have one.
    pub fn through(server: &TestServer, client: Client) -> Self {
        let (engine, meter) = (server.engine().clone(), server.meter().clone());
        Self::join(client, move |event, data| {
            meter.charge(|| emit(&engine, Destination::Room(ROOM.into()), event, data));
        })
    }

    /// Joins a server in dev mode; messages go in through its HTTP API, on one connection.
    pub fn of_address(address: SocketAddr) -> Self {
        let mut api = Http::connect(address);
        Self::join(Client::connect(address, WS), move |event, data| {
            let data: serde_json::Value = serde_json::from_str(data).expect("data is JSON");
            api.emit(&json!({"type": "room", "target": ROOM, "event": event, "data": data}));
        })
    }

    fn join(mut client: Client, mut emit: impl FnMut(&str, &str) + Send + 'static) -> Self {
        client.authenticate("bystander", "bystander");
        client.send_json(&json!({"event": "join", "data": {"rooms": [ROOM]}}));
        client.settle();
        let stop = Arc::new(AtomicBool::new(false));
        let [emitted, received] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let emitter = thread::spawn({
            let (stop, emitted) = (stop.clone(), emitted.clone());
            move || {
                while !stop.load(Ordering::Acquire) {
                    let number = emitted.load(Ordering::Acquire);
                    emit("tick", &number.to_string());
                    emitted.store(number + 1, Ordering::Release);
                    thread::sleep(INTERVAL);
                }
                emit("last", "null");
            }
        });
        let receiver = thread::spawn({
            let received = received.clone();
            move || receive(client, &received)
        });
        Self { stop, emitted, received, emitter: Some(emitter), receiver: Some(receiver) }
    }

    /// Waits until a message that is emitted after this call has arrived, with all before it.
    ///
    /// # Panics
    /// When the client noticed anything else, or nothing arrives.
    pub fn is_well(&mut self) {
        let target = self.emitted.load(Ordering::Acquire) + 2;
        let deadline = Instant::now() + PATIENCE;
        while self.received.load(Ordering::Acquire) < target {
            assert!(Instant::now() < deadline, "the bystander receives nothing");
            for thread in [&mut self.emitter, &mut self.receiver] {
                if thread.as_ref().is_none_or(JoinHandle::is_finished) {
                    end(thread);
                    panic!("the bystander ended early");
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Emits the last message and waits until it has arrived.
    ///
    /// # Panics
    /// When the client noticed anything.
    pub fn leave(mut self) {
        self.stop.store(true, Ordering::Release);
        end(&mut self.emitter);
        end(&mut self.receiver);
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn end(thread: &mut Option<JoinHandle<()>>) {
    if let Some(thread) = thread.take()
        && let Err(panic) = thread.join()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Receives ticks in order until the last message, and then says goodbye.
fn receive(mut client: Client, received: &AtomicU64) {
    for number in 0.. {
        match client.recv() {
            Received::Text(text) if text == LAST => break,
            message => {
                let tick = format!(r#"{{"event":"tick","data":{number}}}"#);
                assert_eq!(message, Received::Text(tick), "the bystander noticed something");
            }
        }
        received.store(number + 1, Ordering::Release);
    }
    client.leave();
}
