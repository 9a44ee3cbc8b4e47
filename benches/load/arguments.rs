//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::append::Way;

/// Load for a gastownd server, and how well it bears it.
///
/// Without --url it starts servers of its own in temporary folders, from the `gastownd` beside it.
/// Every figure stands beside a floor that was measured in the same run on the same machine: the
/// same work done by next to nothing. Compare ratios and processor time; absolute rates depend on
/// the machine and on what else it does.
///
/// A table is printed on stdout, progress on stderr.
#[derive(Debug, Parser)]
#[command(name = "gastownd-bench", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  gastownd-bench all
      Measures every goal of the event path; takes about ten minutes.
  gastownd-bench --quick all
      The same as a smoke test, in seconds.
  gastownd-bench --url http://127.0.0.1:8787 --token \"$(cat admin.token)\" fanout --subscribers 200
      Two hundred subscribers of one agent, on a server that runs. What is made there (a town
      called gastownd-bench) is deleted at the end.
  gastownd-bench --json report.json append --through relay --producers 64")]
pub(crate) struct Arguments {
    /// A server that runs, instead of one of our own.
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) url: Option<String>,

    /// The administrator's token for --url.
    #[arg(
        long,
        env = "GASTOWND_BENCH_TOKEN",
        hide_env_values = true,
        global = true
    )]
    pub(crate) token: Option<String>,

    /// The server's program, where it is not beside this one.
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "url")]
    pub(crate) server: Option<PathBuf>,

    /// In which folder our servers keep their data while they run; it decides which disk is
    /// measured.
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "url")]
    pub(crate) folder: Option<PathBuf>,

    /// Writes all figures to this file, too.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) json: Option<PathBuf>,

    /// As little as possible of everything, to see that it works.
    #[arg(long, global = true)]
    pub(crate) quick: bool,

    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Events of agents to many subscribers: flat out and at a pace.
    Fanout(Fanout),
    /// Durable appends by several producers.
    Append(Append),
    /// Kept events to new subscribers.
    Backfill(Backfill),
    /// Many agents replay a recording while subscribers stall, drop and resume; checks every event.
    Mixed(Mixed),
    /// Single HTTP requests.
    Http(Http),
    /// Memory of idle and of stalled subscribers, and opening a large database.
    Memory(Memory),
    /// Everything, and how it stands with each goal.
    All,
    /// The work alone, for comparison; started by the others.
    #[command(hide = true)]
    Floor {
        /// Which, and its numbers.
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Fanout {
    /// How many subscribers; several cases are separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 500, 5000],
        value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) subscribers: Vec<u32>,
    /// Over how many agents they are spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) agents: u32,
    /// Events per second of all agents together; 0 is flat out. Without it, both: flat out and at a
    /// pace that one machine can write.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// Events of all agents together.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) events: Option<u32>,
    /// Flat out, how many events of an agent may be given before the average subscriber has them; 0
    /// for no bound.
    #[arg(long)]
    pub(crate) lead: Option<u32>,
    /// Leaves out the floor.
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// Leaves out the usual way.
    #[arg(long)]
    pub(crate) no_baseline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Append {
    /// How many producers, each with an agent of its own; several cases are separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64],
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) producers: Vec<u32>,
    /// How the events come in [default: all that the server allows].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) through: Vec<Way>,
    /// Seconds of each case.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// How many events are kept; several cases are separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 5_000_000],
        value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) events: Vec<u32>,
    /// How many subscribers come at once; several cases are separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 200],
        value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) readers: Vec<u32>,
    /// After how many seconds a case ends, whoever has caught up.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) limit: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Mixed {
    /// How many agents.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) agents: u32,
    /// How many subscribers.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) subscribers: u32,
    /// How many times as fast as recorded; several cases are separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100],
        value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) speed: Vec<u64>,
    /// Seconds of each case.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Http {
    /// How many connections.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Seconds of each case.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// How many idle subscribers; 0 leaves them out.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(0..=15_000))]
    pub(crate) idle: u32,
    /// How many stalled subscribers; 0 leaves them out.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=15_000))]
    pub(crate) stalled: u32,
    /// How many events pass while they stall.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) events: u32,
    /// How long those that stalled may take to catch up, in seconds.
    #[arg(long, default_value_t = 600)]
    pub(crate) limit: u64,
    /// With how many events a server of our own is opened again; 0 leaves it out.
    #[arg(long, default_value_t = 5_000_000)]
    pub(crate) reopen_events: u32,
    /// In how many logs they are.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) reopen_trees: u32,
}
