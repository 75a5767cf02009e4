//! Where an attack takes place: a server with one shard, so that everybody shares it, and a bystander.
//!
//! Whatever happens to an arena has a bound on the server's memory and processor time, from its beginning to its end.

use std::thread;
use std::time::Duration;

use shardcast::config::Config;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::client::{Client, Received, Response};
use shardcast_tests::cost::{Mark, Spent};
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

/// What an attack may cost the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Memory beyond what it took before, bytes.
    pub(crate) memory_bytes_max: usize,
    /// Processor time.
    pub(crate) cpu_max: Duration,
}

impl Cost {
    /// Of an attack by a connection or a few, with the bystander's ticks meanwhile, in a debug build on two cores that
    /// others use: the dearest of 700 held 393 KB, which is exact, and computed for 75 ms.
    pub(crate) const USUAL: Self = Self { memory_bytes_max: 1 << 20, cpu_max: Duration::from_millis(500) };

    /// The same for what may hold so much memory.
    pub(crate) const fn holding(self, memory_bytes_max: usize) -> Self {
        Self { memory_bytes_max, ..self }
    }

    /// The same for what may take so many seconds of a processor.
    pub(crate) const fn computing(self, seconds: u64) -> Self {
        Self { cpu_max: Duration::from_secs(seconds), ..self }
    }

    /// The attack cost no more.
    pub(crate) fn expect(self, label: &str, spent: Spent) {
        let Spent { memory_bytes, cpu } = spent;
        eprintln!("{label}: {memory_bytes} bytes, {cpu:?} of a processor");
        assert!(memory_bytes <= self.memory_bytes_max, "{label}: the server grew by {memory_bytes} bytes");
        assert!(cpu <= self.cpu_max, "{label}: the server took {cpu:?} of a processor");
    }
}

/// A server under attack.
pub(crate) struct Arena {
    // Dropped in this order: the bystander leaves before the server goes.
    bystander: Option<Bystander>,
    before: Counts,
    /// Where what was paid for ends.
    paid: Mark,
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
        let bystander = Bystander::of(&server);
        Self::beside(bystander, server)
    }

    /// Around a server that runs and its bystander.
    pub(crate) fn beside(bystander: Bystander, server: TestServer) -> Self {
        let bystander = Some(bystander);
        let before = server.counts();
        let paid = server.meter().mark();
        Self { bystander, before, paid, server }
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
    /// these incidents, each counted this often, and the bystander is well. It costs what an attack usually may.
    pub(crate) fn attack(&mut self, label: &str, expected: &[(&str, u64)], attack: impl FnOnce(&Self)) {
        self.attack_for(Cost::USUAL, label, expected, attack);
    }

    /// The same for an attack that may cost more or less, together with what was done since the last.
    pub(crate) fn attack_for(
        &mut self,
        cost: Cost,
        label: &str,
        expected: &[(&str, u64)],
        attack: impl FnOnce(&Self),
    ) {
        attack(self);
        self.is_well();
        self.before = self.server.expect_incidents(label, &self.before, expected);
        cost.expect(label, self.server.meter().since(&self.paid));
        self.paid = self.server.meter().mark();
    }

    /// The bystander receives what is emitted from here on.
    pub(crate) fn is_well(&mut self) {
        self.bystander.as_mut().expect("there until the end").is_well();
    }

    /// The counters before the attack that is going on.
    pub(crate) fn before(&self) -> &Counts {
        &self.before
    }

    /// Ends the test: the bystander must have received everything, and what was done since the last attack may cost
    /// what an attack usually may.
    pub(crate) fn end(self) {
        self.end_for(Cost::USUAL);
    }

    /// The same when it may have cost more or less.
    pub(crate) fn end_for(mut self, cost: Cost) {
        self.bystander.take().expect("ends once").leave();
        self.server.expect_empty("after the attacks");
        cost.expect("after the attacks", self.server.meter().since(&self.paid));
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

#[test]
#[should_panic(expected = "memory: the server grew by")]
fn an_attack_that_holds_more_than_it_may_is_told() {
    let mut arena = Arena::new();
    arena.attack_for(Cost::USUAL.holding(64 << 10), "memory", &[], |arena| {
        let mut client = arena.echo();
        client.send_text(&"x".repeat(256 << 10));
        assert!(matches!(client.recv(), Received::Text(_)));
        client.leave();
    });
}

#[test]
#[should_panic(expected = "processor: the server took")]
fn an_attack_that_computes_more_than_it_may_is_told() {
    let mut arena = Arena::new();
    let cost = Cost { cpu_max: Duration::from_millis(20), ..Cost::USUAL };
    arena.attack_for(cost, "processor", &[], |arena| {
        let mut client = arena.echo();
        for _ in 0..5_000 {
            client.send_ping(b"");
            assert_eq!(client.recv(), Received::Pong(Vec::new()));
        }
        client.leave();
    });
}

#[test]
fn what_another_server_does_is_not_booked() {
    let mut arena = Arena::new();
    let mut busy = Arena::new();
    let little = Cost::USUAL.holding(256 << 10);
    arena.attack_for(little, "beside a busy one", &[], |_| {
        busy.attack_for(Cost::USUAL.holding(16 << 20).computing(5), "the busy one", &[], |busy| {
            let mut client = busy.echo();
            client.send_text(&"x".repeat(2 << 20));
            assert!(matches!(client.recv(), Received::Text(_)));
            client.leave();
        });
    });
    busy.end();
    arena.end();
}
