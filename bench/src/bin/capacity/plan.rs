//! From a question to a plan: how many shards on how many nodes, and what they will do.
//!
//! Pure. The smallest number of shards is taken for which the latency objective holds, the work that batching
//! cannot save stays below the headroom, and no node has more than its memory, network and connections.

use serde::Serialize;
use thiserror::Error;

use crate::fit::{Model, Residuals};
use crate::model::{Prediction, Shape};
use crate::uncertainty::Figure;
use crate::units;
use crate::wire;

/// Resident kernel memory of an idle TCP socket: TCP 2,365 B, inode 825 B, dentry, file, security (measured with
/// Linux 6.18, in the design notes on performance).
pub(crate) const SOCKET_BYTES: f64 = 3.8 * 1024.0;
/// Shards in all at which the search ends.
const SHARDS_MAX: u32 = 4096;
/// Nodes at which the search for enough memory ends.
const NODES_MAX: u32 = 65_536;
/// Cores of a node kept for the Redis thread and the control plane.
pub(crate) const CORES_RESERVED: u32 = 1;

/// Which percentile of the time to the last member must not exceed what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Slo {
    /// Which.
    pub(crate) percentile: Percentile,
    /// What.
    pub(crate) seconds: f64,
}

/// Percentiles the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Percentile {
    /// The median.
    P50,
    /// The 99th.
    P99,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Question {
    /// Connections in all.
    pub(crate) connections: u32,
    /// Rooms in all.
    pub(crate) rooms: u32,
    /// Rooms of each connection.
    pub(crate) rooms_per_connection: u32,
    /// Publications a second in all.
    pub(crate) rate: f64,
    /// Bytes of data of each.
    pub(crate) data_bytes: u32,
    /// The latency objective.
    pub(crate) slo: Slo,
    /// Share of cores, memory and network that may be used.
    pub(crate) headroom: f64,
    /// What a node is.
    pub(crate) node: Node,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    /// Cores, of which [`CORES_RESERVED`] are no shard's.
    pub(crate) cores: u32,
    /// Bytes of memory.
    pub(crate) memory_bytes: f64,
    /// Bits a second, each way.
    pub(crate) nic_bits_per_second: f64,
    /// Connections it may have.
    pub(crate) connections_max: u32,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub(crate) enum PlanError {
    /// No core is left for a shard.
    #[error("a node needs at least 2 cores: {CORES_RESERVED} for the Redis thread and the control plane")]
    NoCoreForShards,
    /// A connection cannot be in so many rooms.
    #[error("--rooms-per-connection {each} is more than --rooms {rooms}")]
    RoomsEach {
        /// Rooms of a connection.
        each: u32,
        /// Rooms in all.
        rooms: u32,
    },
    /// The Redis thread is full.
    #[error(
        "each node's Redis thread handles every publication: {:.0} % of a core at this rate, more than the headroom \
         of {:.0} %. More nodes do not help: lower --rate, or split the rooms over several clusters, each with its \
         own Redis", share * 100.0, headroom * 100.0
    )]
    RedisThread {
        /// Share of a core it needs.
        share: f64,
        /// Share it may use.
        headroom: f64,
    },
    /// A node with hardly a connection is too small already.
    #[error(
        "a node's memory or network is too small whatever the number of nodes: give it more, or raise --headroom"
    )]
    NodeTooSmall,
    /// The objective cannot be met.
    #[error(
        "no number of shards up to {SHARDS_MAX} meets the objective; the best, {shards} shards on {nodes} nodes, \
         comes to {}, and needs {:.0} % of each shard however much is batched: ask for more time (--slo), \
         smaller rooms or a lower rate", units::span(*seconds), unbatchable * 100.0
    )]
    Objective {
        /// Shards of the best attempt.
        shards: u32,
        /// Its nodes.
        nodes: u32,
        /// The latency it comes to.
        seconds: f64,
        /// The share of a shard that batching cannot save.
        unbatchable: f64,
    },
}

/// How many nodes each bound alone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodesBy {
    /// Cores and latency.
    pub(crate) cores: u32,
    /// Memory.
    pub(crate) memory: u32,
    /// Network, if nothing is batched.
    pub(crate) network: u32,
    /// Connections.
    pub(crate) connections: u32,
}

/// Shards on nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Layout {
    /// Nodes.
    pub(crate) nodes: u32,
    /// Shards of each.
    pub(crate) shards_per_node: u32,
    /// Why so many nodes.
    pub(crate) nodes_by: NodesBy,
}

/// What a layout does: plain figures, or figures with error bars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures<T> {
    /// `k`: messages a turn serves.
    pub(crate) messages_per_turn: T,
    /// `T(k)`: CPU seconds of a turn.
    pub(crate) turn_secs: T,
    /// Median of the time to the last member, in seconds.
    pub(crate) p50_secs: T,
    /// Its 99th percentile.
    pub(crate) p99_secs: T,
    /// Share of its core that a shard uses.
    pub(crate) shard_cores: T,
    /// Share that batching cannot save.
    pub(crate) unbatchable: T,
    /// Share of a core that a node's Redis thread uses.
    pub(crate) redis_thread_cores: T,
    /// Cores a node uses.
    pub(crate) node_cores: T,
    /// Cores all nodes use.
    pub(crate) all_cores: T,
    /// CPU seconds of a delivery, everything included.
    pub(crate) delivery_cpu_secs: T,
    /// Resident bytes of a node's process.
    pub(crate) process_bytes: T,
    /// Kernel memory of a node's sockets.
    pub(crate) socket_bytes: T,
    /// Both, of all nodes.
    pub(crate) all_bytes: T,
    /// Deliveries a second of all nodes.
    pub(crate) deliveries_per_second: T,
    /// Sends a second of all nodes.
    pub(crate) sends_per_second: T,
    /// Bytes a second that leave a node, with all headers.
    pub(crate) node_egress_bytes: T,
    /// The same of all nodes.
    pub(crate) all_egress_bytes: T,
    /// Bytes a second that leave a node when nothing is batched.
    pub(crate) node_egress_bytes_max: T,
    /// Publications a second into Redis.
    pub(crate) redis_in_messages: T,
    /// Messages a second out of Redis, to all nodes.
    pub(crate) redis_out_messages: T,
    /// Bytes a second into Redis.
    pub(crate) redis_in_bytes: T,
    /// Bytes a second out of Redis.
    pub(crate) redis_out_bytes: T,
}

impl Layout {
    /// Shards of all nodes.
    pub(crate) fn shards(&self) -> u32 {
        self.nodes * self.shards_per_node
    }
}

impl Question {
    /// The load on so many shards.
    pub(crate) fn shape(&self, nodes: u32, shards_per_node: u32) -> Shape {
        Shape {
            connections: f64::from(self.connections),
            rooms: f64::from(self.rooms),
            rooms_per_connection: f64::from(self.rooms_per_connection),
            rate: self.rate,
            data_bytes: f64::from(self.data_bytes),
            shards: nodes * shards_per_node,
            shards_per_node,
            cores: f64::from(self.node.cores),
        }
    }

    /// The smallest layout that answers.
    pub(crate) fn layout(&self, model: &Model) -> Result<Layout, PlanError> {
        let per_node_max = self.node.cores.saturating_sub(CORES_RESERVED);
        if per_node_max == 0 {
            return Err(PlanError::NoCoreForShards);
        }
        if self.rooms_per_connection > self.rooms {
            return Err(PlanError::RoomsEach { each: self.rooms_per_connection, rooms: self.rooms });
        }
        let redis_thread = self.rate * model.costs.publication_secs(f64::from(self.data_bytes));
        if redis_thread > self.headroom {
            return Err(PlanError::RedisThread { share: redis_thread, headroom: self.headroom });
        }
        let connections = self.connections.div_ceil(self.node.connections_max);
        let memory = self.nodes_where(|nodes| {
            let shape = self.shape(nodes, per_node_max);
            let sockets = shape.connections / f64::from(nodes) * SOCKET_BYTES;
            model.memory.bytes(&shape) + sockets <= self.headroom * self.node.memory_bytes
        })?;
        let network = self.nodes_where(|nodes| {
            self.node_egress_bytes_max(nodes) * 8.0 <= self.headroom * self.node.nic_bits_per_second
        })?;
        let nodes_min = connections.max(memory).max(network);

        let mut best: Option<PlanError> = None;
        for shards in 1..=SHARDS_MAX.max(nodes_min) {
            let cores = shards.div_ceil(per_node_max);
            let nodes = cores.max(nodes_min);
            let shards_per_node = shards.div_ceil(nodes);
            if nodes * shards_per_node != shards && shards != 1 {
                continue;
            }
            let prediction = model.costs.predict(&self.shape(nodes, shards_per_node));
            let seconds = self.objective_secs(model, &prediction);
            if self.is_met(&prediction, seconds) {
                let nodes_by = NodesBy { cores, memory, network, connections };
                return Ok(Layout { nodes, shards_per_node, nodes_by });
            }
            let is_better = match best {
                Some(PlanError::Objective { seconds: best_secs, .. }) => seconds < best_secs,
                _ => true,
            };
            if is_better {
                let unbatchable = prediction.unbatchable;
                best = Some(PlanError::Objective {
                    shards: nodes * shards_per_node,
                    nodes,
                    seconds,
                    unbatchable,
                });
            }
        }
        Err(best.unwrap_or(PlanError::NodeTooSmall))
    }

    fn is_met(&self, prediction: &Prediction, seconds: f64) -> bool {
        !prediction.is_overloaded && prediction.unbatchable <= self.headroom && seconds <= self.slo.seconds
    }

    fn objective_secs(&self, model: &Model, prediction: &Prediction) -> f64 {
        let [p50, p99] = model.latency(prediction);
        match self.slo.percentile {
            Percentile::P50 => p50,
            Percentile::P99 => p99,
        }
    }

    /// The smallest number of nodes for which `is_enough` holds, which must stay so for more.
    fn nodes_where(&self, is_enough: impl Fn(u32) -> bool) -> Result<u32, PlanError> {
        let (mut low, mut high) = (0, NODES_MAX);
        if !is_enough(high) {
            return Err(PlanError::NodeTooSmall);
        }
        while high - low > 1 {
            let middle = (low + high) / 2;
            if is_enough(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(high)
    }

    fn deliveries_per_second(&self) -> f64 {
        self.rate * self.shape(1, 1).members()
    }

    fn node_egress_bytes_max(&self, nodes: u32) -> f64 {
        let frame_bytes = wire::frame_bytes(f64::from(self.data_bytes));
        self.deliveries_per_second() * wire::link_bytes(frame_bytes) / f64::from(nodes)
    }

    /// What the layout does.
    pub(crate) fn figures(&self, model: &Model, layout: &Layout) -> Figures<f64> {
        let shape = self.shape(layout.nodes, layout.shards_per_node);
        let prediction = model.costs.predict(&shape);
        let [p50_secs, p99_secs] = model.latency(&prediction);
        let nodes = f64::from(layout.nodes);
        let data_bytes = f64::from(self.data_bytes);
        let process_bytes = model.memory.bytes(&shape);
        let socket_bytes = shape.connections / nodes * SOCKET_BYTES;
        let sends = prediction.sends_per_second;
        let payload = prediction.deliveries_per_second * wire::frame_bytes(data_bytes);
        let node_egress_bytes = if sends > 0.0 { sends * wire::link_bytes(payload / sends) } else { 0.0 };
        Figures {
            messages_per_turn: prediction.messages_per_turn,
            turn_secs: prediction.turn_secs,
            p50_secs,
            p99_secs,
            shard_cores: prediction.shard_cores,
            unbatchable: prediction.unbatchable,
            redis_thread_cores: prediction.redis_thread_cores,
            node_cores: prediction.node_cores,
            all_cores: prediction.node_cores * nodes,
            delivery_cpu_secs: prediction.node_cores / prediction.deliveries_per_second,
            process_bytes,
            socket_bytes,
            all_bytes: (process_bytes + socket_bytes) * nodes,
            deliveries_per_second: self.deliveries_per_second(),
            sends_per_second: sends * nodes,
            node_egress_bytes,
            all_egress_bytes: node_egress_bytes * nodes,
            node_egress_bytes_max: self.node_egress_bytes_max(layout.nodes),
            redis_in_messages: self.rate,
            redis_out_messages: self.rate * nodes,
            redis_in_bytes: self.rate * wire::redis_in_bytes(data_bytes),
            redis_out_bytes: self.rate * nodes * wire::redis_out_bytes(data_bytes),
        }
    }
}

impl Figures<f64> {
    /// Adds error bars: what other models say of the same layout, and the residuals of the fit.
    pub(crate) fn with_bars(&self, samples: &[Self], residuals: &Residuals) -> Figures<Figure> {
        let bar = |figure: fn(&Self) -> f64, residual: f64| {
            Figure::of(figure(self), samples.iter().map(figure), residual)
        };
        let Residuals { cpu, p50, p99, memory } = *residuals;
        Figures {
            messages_per_turn: bar(|all| all.messages_per_turn, 0.0),
            turn_secs: bar(|all| all.turn_secs, cpu),
            p50_secs: bar(|all| all.p50_secs, p50),
            p99_secs: bar(|all| all.p99_secs, p99),
            shard_cores: bar(|all| all.shard_cores, cpu),
            unbatchable: bar(|all| all.unbatchable, cpu),
            redis_thread_cores: bar(|all| all.redis_thread_cores, cpu),
            node_cores: bar(|all| all.node_cores, cpu),
            all_cores: bar(|all| all.all_cores, cpu),
            delivery_cpu_secs: bar(|all| all.delivery_cpu_secs, cpu),
            process_bytes: bar(|all| all.process_bytes, memory),
            socket_bytes: bar(|all| all.socket_bytes, 0.0),
            all_bytes: bar(|all| all.all_bytes, memory),
            deliveries_per_second: bar(|all| all.deliveries_per_second, 0.0),
            sends_per_second: bar(|all| all.sends_per_second, 0.0),
            node_egress_bytes: bar(|all| all.node_egress_bytes, 0.0),
            all_egress_bytes: bar(|all| all.all_egress_bytes, 0.0),
            node_egress_bytes_max: bar(|all| all.node_egress_bytes_max, 0.0),
            redis_in_messages: bar(|all| all.redis_in_messages, 0.0),
            redis_out_messages: bar(|all| all.redis_out_messages, 0.0),
            redis_in_bytes: bar(|all| all.redis_in_bytes, 0.0),
            redis_out_bytes: bar(|all| all.redis_out_bytes, 0.0),
        }
    }
}
