//! The Redis thread against a real Redis: what arrives, what is published, and what happens when the link breaks.

mod failures;
mod listening;
mod messages;
mod proxy;
mod publishing;
mod resubscribing;
mod rig;
mod rooms_by_name;

use shardcast_tests::redis::RedisServer;

/// A connection for commands that no server of ours sends.
fn admin(redis: &RedisServer) -> redis::Connection {
    let client = redis::Client::open(redis.url()).expect("a good address");
    client.get_connection().expect("Redis takes connections")
}

/// Runs a command, given as words.
#[track_caller]
fn run<T: redis::FromRedisValue>(conn: &mut redis::Connection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().expect("a command"));
    cmd.arg(words.collect::<Vec<_>>());
    cmd.query(conn).unwrap_or_else(|error| panic!("{command}: {error}"))
}
