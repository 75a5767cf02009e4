//! What a shard does with its mail: the cost of a turn, how many messages a turn serves, and how busy that makes it.
//!
//! Pure. Time is in seconds and rates are per second, so a rate times a cost is a share of a core.
//!
//! A turn serves everything that arrived while the last one ran. Invariants of a [`Prediction`] that is not
//! overloaded: `1 ≤ messages_per_turn ≤ MAIL_PER_TURN_MAX`, `0 ≤ busy ≤ 1`, `node_cores ≤ shape.cores`.

use serde::Serialize;

use crate::usl::Usl;
use crate::wire;

/// Letters a turn takes at most (`docs/ARCHITECTURE.md`, "A turn").
pub(crate) const MAIL_PER_TURN_MAX: f64 = 1024.0;
/// Bytes of frames after which a turn takes no more letters (the same).
const MAIL_BYTES_PER_TURN_MAX: f64 = (8 << 20) as f64;
/// Halvings of the interval in which the messages a turn are sought; enough for every bit of the figure.
const HALVINGS: u32 = 60;

/// CPU seconds that things cost, and what sharing a machine adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Costs {
    /// A turn with anything to do: the wake-up, the ring, the bookkeeping.
    pub(crate) turn: f64,
    /// A letter in a shard: posting, taking, marking the room.
    pub(crate) mail: f64,
    /// A message in the Redis thread, whatever its size.
    pub(crate) message: f64,
    /// A byte of data in the Redis thread.
    pub(crate) message_byte: f64,
    /// A send to one connection, whatever it carries.
    pub(crate) send: f64,
    /// A message in a send.
    pub(crate) delivery: f64,
    /// A byte in a send.
    pub(crate) byte: f64,
    /// A connection for a second, doing nothing.
    pub(crate) idle_connection: f64,
    /// A shard for a second, doing nothing.
    pub(crate) idle_shard: f64,
    /// What several shards in a process add to the cost of each other's turns.
    pub(crate) scaling: Usl,
}

/// A load and the shards it is spread over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Shape {
    /// Of all nodes.
    pub(crate) connections: f64,
    /// Of all nodes.
    pub(crate) rooms: f64,
    /// Rooms of every connection.
    pub(crate) rooms_per_connection: f64,
    /// Publications a second, to rooms chosen evenly.
    pub(crate) rate: f64,
    /// Bytes of data of a publication.
    pub(crate) data_bytes: f64,
    /// Shards of all nodes.
    pub(crate) shards: u32,
    /// Shards of one process.
    pub(crate) shards_per_node: u32,
    /// Cores one process may use.
    pub(crate) cores: f64,
}

/// What the model says of one node and each of its shards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Prediction {
    /// `k`: messages that a turn serves.
    pub(crate) messages_per_turn: f64,
    /// `T(k)`: CPU time of a turn.
    pub(crate) turn_secs: f64,
    /// `W(k)`: how long a turn takes by the clock, with idle work and other shards on the same cores.
    pub(crate) wall_secs: f64,
    /// Share of the time in which a turn runs.
    pub(crate) busy: f64,
    /// Share of its core that a shard's thread uses, idle work included.
    pub(crate) shard_cores: f64,
    /// Share of a core that a shard needs however much it batches.
    pub(crate) unbatchable: f64,
    /// Share of a core that the Redis thread uses.
    pub(crate) redis_thread_cores: f64,
    /// Cores that the process uses.
    pub(crate) node_cores: f64,
    /// Sends a second of the process.
    pub(crate) sends_per_second: f64,
    /// Deliveries a second of the process.
    pub(crate) deliveries_per_second: f64,
    /// More arrives than can be served, however much is batched.
    pub(crate) is_overloaded: bool,
}

/// What one shard gets of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    /// Connections.
    pub(crate) connections: f64,
    /// Letters a second: publications to rooms with members here.
    pub(crate) letters_per_second: f64,
    /// Members here of a room that has any.
    pub(crate) members: f64,
}

impl Shape {
    /// Members of a room.
    pub(crate) fn members(&self) -> f64 {
        self.connections * self.rooms_per_connection / self.rooms
    }

    /// Nodes, the last of which may have fewer shards.
    pub(crate) fn nodes(&self) -> f64 {
        f64::from(self.shards) / f64::from(self.shards_per_node)
    }

    /// What an average shard gets, when connections land on shards evenly.
    pub(crate) fn share(&self) -> Share {
        let shards = f64::from(self.shards);
        let reached = reached(self.members(), shards);
        let connections = self.connections / shards;
        let members = if reached > 0.0 { self.members() / shards / reached } else { 0.0 };
        Share { connections, letters_per_second: self.rate * reached, members: members.min(connections) }
    }

    /// Rooms with members on a shard, summed over the shards of a node.
    pub(crate) fn rooms_on_node(&self) -> f64 {
        let present = self.rooms.min(self.connections * self.rooms_per_connection);
        if present == 0.0 {
            return 0.0;
        }
        let members = self.connections * self.rooms_per_connection / present;
        present * reached(members, f64::from(self.shards)) * f64::from(self.shards_per_node)
    }
}

/// The share of `shards` on which a room of `members` has at least one.
fn reached(members: f64, shards: f64) -> f64 {
    1.0 - (1.0 - 1.0 / shards).powf(members)
}

impl Share {
    /// `n_dirty(k)`: distinct connections that `messages` to rooms chosen evenly concern.
    pub(crate) fn touched(&self, messages: f64) -> f64 {
        if self.connections == 0.0 {
            return 0.0;
        }
        self.connections * (1.0 - (1.0 - self.members / self.connections).powf(messages))
    }
}

impl Costs {
    /// CPU time of a publication in the Redis thread of a node.
    pub(crate) fn publication_secs(&self, data_bytes: f64) -> f64 {
        self.message + data_bytes * self.message_byte
    }

    /// CPU time of a turn for each message it serves, whatever it batches; without contention.
    pub(crate) fn letter_secs(&self, share: &Share, frame_bytes: f64) -> f64 {
        self.mail + share.members * (self.delivery + frame_bytes * self.byte)
    }

    /// What the load comes to.
    pub(crate) fn predict(&self, shape: &Shape) -> Prediction {
        let share = shape.share();
        let shards = f64::from(shape.shards_per_node);
        let frame_bytes = wire::frame_bytes(shape.data_bytes);
        let contention = self.scaling.contention(shape.shards_per_node);
        let letter_secs = self.letter_secs(&share, frame_bytes) * contention;
        let turn_secs = |messages: f64| {
            (self.turn + share.touched(messages) * self.send) * contention + messages * letter_secs
        };
        let redis_thread_cores = shape.rate * self.publication_secs(shape.data_bytes);
        let idle_cores = share.connections * self.idle_connection + self.idle_shard;
        // Turns get what idle work leaves of a shard's core and what the others leave of the process' cores.
        let left = (shape.cores - redis_thread_cores - shards * idle_cores).min(shards * (1.0 - idle_cores));
        let stretch = if left > 0.0 { shards / left } else { f64::INFINITY };

        let rate = share.letters_per_second;
        let messages = messages_per_turn(|messages| rate * stretch * turn_secs(messages), frame_bytes);
        let k = messages.unwrap_or(MAIL_PER_TURN_MAX);
        // A turn that finds several messages follows the last one at once.
        let busy = if k > 1.0 { 1.0 } else { rate * stretch * turn_secs(k) };
        let turn_cores = if stretch.is_finite() { busy / stretch } else { 0.0 };
        let is_redis_thread_full = redis_thread_cores > 1.0;
        let turns_per_second = if turn_secs(k) > 0.0 { turn_cores / turn_secs(k) } else { 0.0 };
        Prediction {
            messages_per_turn: k,
            turn_secs: turn_secs(k),
            wall_secs: turn_secs(k) * stretch,
            busy,
            shard_cores: turn_cores + idle_cores,
            unbatchable: rate * letter_secs + idle_cores,
            redis_thread_cores,
            node_cores: (redis_thread_cores + shards * (turn_cores + idle_cores)).min(shape.cores),
            sends_per_second: shards * turns_per_second * share.touched(k),
            deliveries_per_second: shards * rate * share.members,
            is_overloaded: messages.is_none() || is_redis_thread_full,
        }
    }
}

/// The fixed point of `arriving`, which says how many messages arrive during a turn that serves so many; at least
/// one. `None` when more arrive than the largest turn serves.
fn messages_per_turn(arriving: impl Fn(f64) -> f64, frame_bytes: f64) -> Option<f64> {
    if arriving(1.0) <= 1.0 {
        return Some(1.0);
    }
    let most = MAIL_PER_TURN_MAX.min(1.0 + MAIL_BYTES_PER_TURN_MAX / frame_bytes);
    // `arriving` is concave: it lies above the diagonal up to the one point where they cross.
    if arriving(most) > most || !arriving(most).is_finite() {
        return None;
    }
    let (mut low, mut high) = (1.0, most);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if arriving(middle) > middle {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> Costs {
        Costs { turn: 20e-6, message: 10e-6, send: 3e-6, byte: 0.2e-9, delivery: 10e-9, ..Costs::default() }
    }

    fn hot_room(rate: f64) -> Shape {
        Shape {
            connections: 1000.0,
            rooms: 1.0,
            rooms_per_connection: 1.0,
            rate,
            data_bytes: 128.0,
            shards: 1,
            shards_per_node: 1,
            cores: 2.0,
        }
    }

    #[test]
    fn a_slow_rate_costs_a_turn_a_message() {
        let found = costs().predict(&hot_room(100.0));
        let turn = 20e-6 + 1000.0 * (3e-6 + 10e-9 + 159.0 * 0.2e-9);
        assert_eq!(found.messages_per_turn, 1.0);
        assert!((found.turn_secs / turn - 1.0).abs() < 1e-12, "{found:?}");
        assert!((found.node_cores / (100.0 * (turn + 10e-6)) - 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.sends_per_second.round(), 100_000.0);
    }

    #[test]
    fn a_fast_rate_is_batched_until_a_turn_serves_what_arrived_in_one() {
        for rate in [400.0, 1600.0, 6400.0] {
            let found = costs().predict(&hot_room(rate));
            let arrived = rate * found.wall_secs;
            assert!((found.messages_per_turn / arrived - 1.0).abs() < 1e-9, "{found:?}");
            assert!((found.busy, found.is_overloaded) == (1.0, false), "{found:?}");
        }
    }

    #[test]
    fn what_cannot_be_batched_overloads() {
        // 42 µs a message to 1,000 members is all of a core at 24,000 messages a second.
        assert!(!costs().predict(&hot_room(20_000.0)).is_overloaded);
        assert!(costs().predict(&hot_room(30_000.0)).is_overloaded);
        // 10 µs in the Redis thread is all of its core at 100,000, however many shards there are.
        let many = Shape { shards: 64, shards_per_node: 8, cores: 16.0, ..hot_room(110_000.0) };
        assert!(costs().predict(&many).is_overloaded);
    }

    #[test]
    fn shards_that_share_a_core_stop_at_that_core() {
        let crowd = Shape { shards: 4, shards_per_node: 4, cores: 1.0, ..hot_room(1000.0) };
        let found = costs().predict(&crowd);
        assert!((found.node_cores - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found.wall_secs > 3.9 * found.turn_secs, "{found:?}");
        let calm = costs().predict(&Shape { rate: 20.0, ..crowd });
        let alone = costs().predict(&hot_room(20.0));
        let extra = 20.0 * 3.0 * 20e-6;
        assert!((calm.node_cores - alone.node_cores - extra).abs() < 1e-9, "three more turns a message");
    }

    #[test]
    fn a_message_reaches_the_shards_that_have_members_and_connections_are_touched_once() {
        let shape = Shape { rooms: 500.0, shards: 10, shards_per_node: 5, ..hot_room(100.0) };
        let share = shape.share();
        assert_eq!(shape.members(), 2.0);
        assert!((share.letters_per_second - 19.0).abs() < 1e-9, "{share:?}");
        assert!((share.letters_per_second * share.members * 10.0 - 200.0).abs() < 1e-9, "{share:?}");
        let share = Share { connections: 1000.0, letters_per_second: 1.0, members: 1000.0 };
        assert_eq!(share.touched(5.0), 1000.0);
        let share = Share { members: 1.0, ..share };
        assert!((share.touched(1.0) - 1.0).abs() < 1e-9 && share.touched(1e6) > 999.0);
    }

    #[test]
    fn idle_work_leaves_less_of_a_core_to_turns() {
        let costs = Costs { idle_connection: 2e-4, ..costs() };
        let found = costs.predict(&hot_room(800.0));
        assert!((found.wall_secs / found.turn_secs - 1.25).abs() < 1e-9, "{found:?}");
        assert!((found.shard_cores - 1.0).abs() < 1e-9, "{found:?}");
        let drowned = Costs { idle_connection: 2e-3, ..costs }.predict(&hot_room(1.0));
        assert!(drowned.is_overloaded, "{drowned:?}");
    }

    #[test]
    fn no_load_is_no_cost() {
        let found = costs().predict(&Shape { connections: 0.0, rate: 0.0, ..hot_room(1.0) });
        assert_eq!((found.node_cores, found.is_overloaded), (0.0, false), "{found:?}");
    }
}
