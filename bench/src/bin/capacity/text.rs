//! An answer for people.
//!
//! Pure. Every figure has its error bar, or follows from the question alone and says so.

use std::fmt;

use crate::answer::Answer;
use crate::fit::{LatencyFit, MemoryFit};
use crate::model::Prediction;
use crate::plan::{CORES_RESERVED, SOCKET_BYTES};
use crate::uncertainty::Figure;
use crate::units;
use crate::usl::Basis;
use crate::wire;

/// How figures are told.
type Unit = fn(f64) -> String;

/// A figure with its error bar.
fn bar(figure: &Figure, told: Unit) -> String {
    format!("{} ({} to {})", told(figure.value), told(figure.low), told(figure.high))
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_question(f)?;
        self.write_plan(f)?;
        self.write_formulas(f)?;
        self.write_costs(f)?;
        self.write_scaling(f)?;
        writeln!(f, "\nConditions")?;
        self.conditions.iter().try_for_each(|said| writeln!(f, "  - {said}"))
    }
}

impl Answer {
    fn write_question(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let question = &self.question;
        writeln!(
            f,
            "connections {}, rooms {}, rooms of a connection {}, members of a room {}; {} publications/s of {} bytes, \
             to rooms chosen evenly\n",
            units::count(f64::from(question.connections)),
            units::count(f64::from(question.rooms)),
            question.rooms_per_connection,
            units::count(question.shape(1, 1).members()),
            units::count(question.rate),
            question.data_bytes
        )
    }

    fn write_plan(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layout, figures, by) = (&self.layout, &self.figures, &self.layout.nodes_by);
        let mut line = |what: &str, told: String| writeln!(f, "  {what:<29}{told}");
        line("nodes", bar(&self.nodes, units::count))?;
        line(
            "",
            format!(
                "for cores and latency {}, memory {}, network {}, connections {}",
                by.cores, by.memory, by.network, by.connections
            ),
        )?;
        line("shards, in all", bar(&self.shards, units::count))?;
        line(
            "shards of a node",
            format!("{}, and {CORES_RESERVED} core for Redis and control", layout.shards_per_node),
        )?;
        let rows: [(&str, &Figure, Unit); 13] = [
            ("latency to the last, p50", &figures.p50_secs, units::span),
            ("latency to the last, p99", &figures.p99_secs, units::span),
            ("CPU of a shard", &figures.shard_cores, units::percent),
            ("  beyond batching", &figures.unbatchable, units::percent),
            ("CPU of a Redis thread", &figures.redis_thread_cores, units::percent),
            ("cores used, a node", &figures.node_cores, units::count),
            ("cores used, in all", &figures.all_cores, units::count),
            ("CPU of a delivery", &figures.delivery_cpu_secs, units::span),
            ("sends/s, in all", &figures.sends_per_second, units::count),
            ("RAM of a process", &figures.process_bytes, units::bytes),
            ("RAM, in all, with sockets", &figures.all_bytes, units::bytes),
            ("egress of a node", &figures.node_egress_bytes, units::bytes_per_second),
            ("egress, in all", &figures.all_egress_bytes, units::bytes_per_second),
        ];
        for (what, figure, told) in rows {
            line(what, bar(figure, told))?;
        }
        writeln!(f, "\nExact for these nodes: they follow from the load, the formats and a constant")?;
        let rows: [(&str, &Figure, Unit); 7] = [
            ("deliveries/s, in all", &figures.deliveries_per_second, units::count),
            ("RAM of a node's sockets", &figures.socket_bytes, units::bytes),
            ("egress of a node, unbatched", &figures.node_egress_bytes_max, units::bytes_per_second),
            ("Redis, messages/s in", &figures.redis_in_messages, units::count),
            ("Redis, messages/s out", &figures.redis_out_messages, units::count),
            ("Redis, bytes in", &figures.redis_in_bytes, units::bytes_per_second),
            ("Redis, bytes out", &figures.redis_out_bytes, units::bytes_per_second),
        ];
        rows.into_iter()
            .try_for_each(|(what, figure, told)| writeln!(f, "  {what:<29}{}", told(figure.value)))
    }

    fn write_formulas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.question.shape(self.layout.nodes, self.layout.shards_per_node);
        let (share, costs) = (shape.share(), &self.model.costs);
        let prediction = costs.predict(&shape);
        let k = prediction.messages_per_turn;
        let frame_bytes = wire::frame_bytes(shape.data_bytes);
        let contention = costs.scaling.contention(shape.shards_per_node);
        let (span, count) = (units::span, units::count);
        writeln!(f, "\nFormulas, for one of {} shards", shape.shards)?;
        writeln!(
            f,
            "  C_s     connections         = {} / {} = {}",
            count(shape.connections),
            shape.shards,
            count(share.connections)
        )?;
        writeln!(
            f,
            "  λ_s     messages/s          = λ · (1 − (1 − 1/{})^m) = {} · {:.4} = {}",
            shape.shards,
            count(shape.rate),
            share.letters_per_second / shape.rate,
            count(share.letters_per_second)
        )?;
        writeln!(f, "  m_s     members of a room   = {} where it has any", count(share.members))?;
        writeln!(
            f,
            "  n(k)    connections touched = C_s · (1 − (1 − m_s/C_s)^k) = {}",
            count(share.touched(k))
        )?;
        writeln!(
            f,
            "  T(k)    a turn              = contention · (c_turn + k·c_mail + n(k)·c_send + \
             k·m_s·(c_delivery + {frame_bytes:.0} B·c_byte))"
        )?;
        writeln!(
            f,
            "                              = {contention:.3} · ({} + {} + {} + {}) = {}",
            span(costs.turn),
            span(k * costs.mail),
            span(share.touched(k) * costs.send),
            span(k * share.members * (costs.delivery + frame_bytes * costs.byte)),
            span(prediction.turn_secs)
        )?;
        writeln!(
            f,
            "  W(k)    a turn by the clock = T(k) · {:.3} = {} (idle work, shared cores)",
            prediction.wall_secs / prediction.turn_secs,
            span(prediction.wall_secs)
        )?;
        writeln!(
            f,
            "  k       messages a turn     = max(1, λ_s · W(k)) = max(1, {}) = {}",
            count(share.letters_per_second * prediction.wall_secs),
            count(k)
        )?;
        writeln!(
            f,
            "  U       utilisation         = min(1, λ_s/k · W(k)) = {}",
            units::percent(prediction.busy)
        )?;
        self.write_latency(f, &prediction)?;
        self.write_memory(f)
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>, prediction: &Prediction) -> fmt::Result {
        let told = self.model.latency(prediction);
        for (name, fit, told) in
            [("p50", self.model.latency[0], told[0]), ("p99", self.model.latency[1], told[1])]
        {
            let LatencyFit { base, served, waited } = fit;
            writeln!(
                f,
                "  {name}     to the last member  = {} + ({served:.2} + {waited:.2} · U) · W(k) = {}",
                units::span(base),
                units::span(told)
            )?;
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.question.shape(self.layout.nodes, self.layout.shards_per_node);
        let MemoryFit { base, shard, connection, membership, room, working } = self.model.memory;
        let connections = shape.connections / shape.nodes();
        let bytes = units::bytes;
        writeln!(
            f,
            "  RAM     of a process        = {} + {}·({} idle + {} working) + {}·({} + {}·{}) + {}·{} = {}",
            bytes(base),
            shape.shards_per_node,
            bytes(shard),
            bytes(working),
            units::count(connections),
            bytes(connection),
            shape.rooms_per_connection,
            bytes(membership),
            units::count(shape.rooms_on_node()),
            bytes(room),
            bytes(self.model.memory.bytes(&shape))
        )?;
        writeln!(
            f,
            "  RAM     of its sockets      = {} · {} (a constant: idle sockets of Linux)",
            units::count(connections),
            bytes(SOCKET_BYTES)
        )?;
        writeln!(
            f,
            "  egress  of a send           = payload + {:.0} B TCP/IP and {:.0} B Ethernet a segment; a frame is {:.0} B",
            wire::SEGMENT_HEADER_BYTES,
            wire::ETHERNET_BYTES,
            wire::frame_bytes(shape.data_bytes)
        )
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let residuals = &self.model.residuals;
        writeln!(
            f,
            "\nCosts, from {} loads ({} more kept the server busy and tell latency) and {} benchmarks; bars: 5 to 95 % \
             of {} resamples, and the residual",
            self.model.loads_calm,
            self.model.loads_busy,
            self.benchmarks.len(),
            self.resamples
        )?;
        for cost in &self.costs {
            let user = match cost.user_secs {
                Some(secs) => format!("; of it {} in user space (benchmarks)", units::span(secs)),
                None => String::new(),
            };
            writeln!(f, "  {:<15}{:<38}{}{user}", cost.name, cost.of, bar(&cost.secs, units::span))?;
        }
        writeln!(
            f,
            "  residuals: CPU {}, p50 {}, p99 {}, memory {}",
            units::percent(residuals.cpu),
            units::percent(residuals.p50),
            units::percent(residuals.p99),
            units::percent(residuals.memory)
        )
    }

    fn write_scaling(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaling = &self.model.costs.scaling;
        let basis = match scaling.basis {
            Basis::Assumed => "assumed, see below",
            Basis::AlphaOnly => "α fitted, β taken to be 0",
            Basis::Fitted => "fitted",
        };
        writeln!(
            f,
            "\nScaling in a process: X(n)/X(1) = n / (1 + α(n−1) + βn(n−1)), α = {:.4}, β = {:.5} ({basis})",
            scaling.alpha, scaling.beta
        )?;
        for (shards, capacity) in &self.scaling {
            let efficiency = units::percent(capacity.value / f64::from(*shards));
            writeln!(f, "  {shards:>4} shards  {:<28}{efficiency} of linear", bar(capacity, units::count))?;
        }
        Ok(())
    }
}
