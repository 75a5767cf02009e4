//! Where an attack takes place: a server with one shard, so that everybody shares it, and a bystander.

use std::thread;

use shardcast::config::Config;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::client::{Client, Received, Response};
use shardcast_tests::server::{Counts, ECHO, TestServer, WS, one_shard, with_echo};

/// Arenas a table of attacks is spread over: each attack mostly waits for the server's next report.
const ARENAS: usize = 6;

/// Carries out every case of a table, a few at a time, each on a server that has no other guest but the bystander.
pub(crate) fn each<T: Sync>(cases: &[T], attack: impl Fn(&mut Arena, &T) + Sync) {
    thread::scope(|scope| {
        for share in cases.chunks(cases.len().div_ceil(ARENAS).max(1)) {
            scope.spawn(|| {
                let mut arena = Arena::new();
                share.iter().for_each(|case| attack(&mut arena, case));
                arena.end();
            });
        }
    });
}

/// A server under attack.
pub(crate) struct Arena {
    // Dropped in this order: the bystander leaves before the server goes.
    bystander: Option<Bystander>,
    before: Counts,
    pub(crate) server: TestServer,
}

impl Arena {
    /// A server in dev mode with the Ignis mount and an echo mount.
    pub(crate) fn new() -> Self {
        Self::with(with_echo(one_shard()))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::of(TestServer::start(&config))
    }

    /// Around a server that runs.
    pub(crate) fn of(server: TestServer) -> Self {
        let bystander = Some(Bystander::of(&server));
        let before = server.counts();
        Self { bystander, before, server }
    }

    /// A connection to the Ignis mount that has not said anything.
    pub(crate) fn ws(&self) -> Client {
        Client::connect(self.server.address(), WS)
    }

    /// A connection to the echo mount.
    pub(crate) fn echo(&self) -> Client {
        Client::connect(self.server.address(), ECHO)
    }

    /// A connection that has not sent a byte.
    pub(crate) fn raw(&self) -> Client {
        Client::open(self.server.address())
    }

    /// Carries out an attack, which ends all connections that it opens. Afterwards nothing may be left of it but
    /// these incidents, each counted this often, and the bystander is well.
    pub(crate) fn attack(&mut self, label: &str, expected: &[(&str, u64)], attack: impl FnOnce(&Self)) {
        attack(self);
        self.is_well();
        self.before = self.server.expect_incidents(label, &self.before, expected);
    }

    /// The bystander receives what is emitted from here on.
    pub(crate) fn is_well(&mut self) {
        self.bystander.as_mut().expect("there until the end").is_well();
    }

    /// The counters before the attack that is going on.
    pub(crate) fn before(&self) -> &Counts {
        &self.before
    }

    /// Ends the test: the bystander must have received everything.
    pub(crate) fn end(mut self) {
        self.bystander.take().expect("ends once").leave();
        self.server.expect_empty("after the attacks");
        self.server.stop();
    }
}

/// The server ends the connection with this close frame and FIN.
pub(crate) fn expect_close(label: &str, client: &mut Client, code: u16, reason: &str) {
    assert_eq!(client.recv(), Received::Close(Some(code), reason.to_owned()), "{label}");
    assert_eq!(client.recv(), Received::Eof, "{label}: after the close frame");
}

/// The server answers with this status and FIN.
pub(crate) fn expect_refusal(label: &str, client: &mut Client, status: u16) -> Response {
    let answer = client.response();
    assert_eq!(answer.status, status, "{label}: {answer:?}");
    assert_eq!(client.recv(), Received::Eof, "{label}: after the answer");
    answer
}

/// A text message from the server.
pub(crate) fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}
