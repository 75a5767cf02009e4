//! The command line.
//!
//! Only reads and checks arguments; [`Args::task`] says what they ask for.

use std::path::PathBuf;

use clap::Parser;

use crate::plan::{Node, Percentile, Question, Slo};
use crate::units::{self, UnitError};

const EXAMPLES: &str = "\
Examples:
  Measure this machine first, when it is quiet (docs/capacity.md); benchmarks make the fit sharper:
      bench/calibrate mine.jsonl
      cargo bench -p shardcast-bench

  Half a million people in rooms of ten, 2,000 messages a second, 50 ms to the last of them:
      capacity --connections 500000 --rooms 50000 --rate 2000 --size 512 --slo p99=50ms --calibration mine.jsonl

  One room of 20,000, ten messages a second, on small machines:
      capacity --connections 20000 --rooms 1 --rate 10 --cores-per-node 4 --memory-per-node 8GiB --nic 1Gbit

  Everyone in four rooms, the median within 5 ms, half of each machine kept free, for a program:
      capacity --connections 100000 --rooms 2000 --rooms-per-connection 4 --rate 500 --slo p50=5ms --headroom 50% --json

  How far off is the model? Predict runs it has not seen:
      bench/calibrate --held-out held-out.jsonl mine.jsonl
      capacity --calibration mine.jsonl --check held-out.jsonl --tolerance 10%

Exit codes: 0 answered, 1 no plan meets the objective or --check is beyond the tolerance, 2 wrong arguments or files.";

/// Plans shards, nodes, memory, network and Redis for a load, from measurements of one machine
#[derive(Clone, Debug, Parser)]
#[command(name = "capacity", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Connections in all
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        required_unless_present = "check",
        help_heading = "Load"
    )]
    connections: Option<u32>,
    /// Rooms in all; they have equally many members and get equally many messages
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        required_unless_present = "check",
        help_heading = "Load"
    )]
    rooms: Option<u32>,
    /// Rooms every connection is in
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Load"
    )]
    rooms_per_connection: u32,
    /// Publications a second in all, each to one room
    #[arg(
        long,
        value_name = "PER_SECOND",
        value_parser = units::parse_positive,
        required_unless_present = "check",
        help_heading = "Load"
    )]
    rate: Option<f64>,
    /// Bytes of data of a publication
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Load"
    )]
    size: u32,
    /// Time from publishing to the last member of the room that must hold: p50=SPAN or p99=SPAN
    #[arg(long, value_name = "SLO", default_value = "p99=50ms", value_parser = parse_slo, help_heading = "Objective")]
    slo: Slo,
    /// Share of cores, memory and network that may be used
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0.7",
        value_parser = units::parse_share,
        help_heading = "Objective"
    )]
    headroom: f64,
    /// Cores of a node; one of them is kept for the Redis thread and the control plane
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Node")]
    cores_per_node: u32,
    /// Memory of a node
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64GiB",
        value_parser = units::parse_bytes,
        help_heading = "Node"
    )]
    memory_per_node: f64,
    /// Network of a node, a second and direction
    #[arg(
        long,
        value_name = "SPEED",
        default_value = "10Gbit",
        value_parser = units::parse_bits,
        help_heading = "Node"
    )]
    nic: f64,
    /// Connections a node may have: its limit on open files, or what may come back at once when it fails
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Node"
    )]
    connections_per_node: u32,
    /// Runs that were measured, as bench/calibrate writes them
    #[arg(
        long,
        value_name = "FILE",
        default_value = "bench/calibration/reference.jsonl",
        help_heading = "Measurements"
    )]
    pub(crate) calibration: PathBuf,
    /// Results of criterion; what is missing there is fitted from runs
    #[arg(long, value_name = "DIR", default_value = "target/criterion", help_heading = "Measurements")]
    pub(crate) criterion: PathBuf,
    /// Plan nothing: predict these runs and compare with what was measured
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["connections", "rooms", "rate"],
        help_heading = "Measurements"
    )]
    check: Option<PathBuf>,
    /// Largest relative error of CPU and memory that --check accepts
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "10%",
        value_parser = units::parse_share,
        requires = "check",
        help_heading = "Measurements"
    )]
    tolerance: f64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Plan.
    Plan(Question),
    /// Compare held-out runs.
    Check {
        /// The runs.
        file: PathBuf,
        /// The error that may be.
        tolerance: f64,
    },
}

impl Args {
    /// What is asked for.
    pub(crate) fn task(&self) -> Task {
        let (Some(connections), Some(rooms), Some(rate)) = (self.connections, self.rooms, self.rate) else {
            // Without a load there is a file to check, or parsing has failed.
            let file = self.check.clone().unwrap_or_default();
            return Task::Check { file, tolerance: self.tolerance };
        };
        Task::Plan(Question {
            connections,
            rooms,
            rooms_per_connection: self.rooms_per_connection,
            rate,
            data_bytes: self.size,
            slo: self.slo,
            headroom: self.headroom,
            node: Node {
                cores: self.cores_per_node,
                memory_bytes: self.memory_per_node,
                nic_bits_per_second: self.nic,
                connections_max: self.connections_per_node,
            },
        })
    }
}

fn parse_slo(text: &str) -> Result<Slo, UnitError> {
    let (percentile, span) = text.split_once('=').ok_or(UnitError::Slo)?;
    let percentile = match percentile {
        "p50" => Percentile::P50,
        "p99" => Percentile::P99,
        _ => return Err(UnitError::Slo),
    };
    Ok(Slo { percentile, seconds: units::parse_span(span)? })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["capacity"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_load_is_all_that_must_be_said() {
        let args = parse("--connections 500000 --rooms 50000 --rate 2000").expect("valid");
        let Task::Plan(question) = args.task() else { panic!("not a plan") };
        assert_eq!((question.rooms_per_connection, question.data_bytes, question.node.cores), (1, 128, 16));
        assert_eq!(question.slo, Slo { percentile: Percentile::P99, seconds: 0.05 });
    }

    #[test]
    fn a_check_needs_no_load() {
        let args = parse("--check held-out.jsonl --tolerance 5%").expect("valid");
        assert!(matches!(args.task(), Task::Check { tolerance, .. } if tolerance == 0.05));
    }

    #[test]
    fn mistakes_are_refused() {
        let table = [
            ("--rooms 1 --rate 1", ErrorKind::MissingRequiredArgument),
            ("--connections 0 --rooms 1 --rate 1", ErrorKind::ValueValidation),
            ("--connections 1 --rooms 1 --rate 0", ErrorKind::ValueValidation),
            ("--connections 1 --rooms 1 --rate 1 --slo p95=1ms", ErrorKind::ValueValidation),
            ("--connections 1 --rooms 1 --rate 1 --slo 1ms", ErrorKind::ValueValidation),
            ("--connections 1 --rooms 1 --rate 1 --memory-per-node 64", ErrorKind::ValueValidation),
            ("--check f --rate 1", ErrorKind::ArgumentConflict),
        ];
        for (line, kind) in table {
            assert_eq!(parse(line).expect_err(line).kind(), kind, "{line}");
        }
    }
}
