//! The commands and their arguments.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::model::TownId;

use super::settings_flags::SettingsFlags;

const ABOUT: &str =
    "A self-hosted town of AI coding agents: one binary, every agent live in your browser";

const EXAMPLES: &str = "\
Examples:
  gastownd demo
      See a town at work in a browser; needs no model, key or network
  gastownd serve --data-dir ./data --no-auth
      Run the server for yourself on http://127.0.0.1:8787
  gastownd serve --config /etc/gastownd/gastownd.toml
      Run the server as its service does
  gastownd config show
      Print every setting, its value and where it comes from";

const SERVE_EXAMPLES: &str = "\
Each setting is taken from the flag, else from its environment variable, else from the config \
file, else its default. Sizes are written like 64MiB, durations like 30s or 10m.

Examples:
  gastownd serve --data-dir ./data --listen 127.0.0.1:0 --no-auth
  GASTOWND_LOG=debug gastownd serve
  gastownd serve --config ./gastownd.toml --container-linger 1h";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "gastownd", version, about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    #[command(after_help = SERVE_EXAMPLES, next_line_help = true)]
    Serve(SettingsFlags),
    /// Show a town at work: a sample repository, three beads, agents that play a script
    Demo(DemoArguments),
    /// Show or check the settings that the server would use
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Let the scheduler decide again what it decided in a recorded run; exit 1 if it differs
    Replay {
        /// What the setting `reconcile_record` named
        record: PathBuf,
    },
    /// One town's container; started by the server
    #[command(hide = true)]
    Container(Box<ContainerArguments>),
    /// Ends a program and all that it started together with its parent; started by the container
    #[command(hide = true, disable_help_flag = true)]
    Guard {
        // The guard reads these itself: it also starts its own next stages this way.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// Answers git's questions for credentials; started by git
    #[command(hide = true)]
    GitCredential {
        /// get, store or erase
        #[arg(required = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigAction {
    /// Print every setting, its value and where it comes from
    #[command(after_help = SERVE_EXAMPLES, next_line_help = true)]
    Show(SettingsFlags),
    /// Exit 0 if the server could start with these settings, else say what is wrong
    #[command(after_help = SERVE_EXAMPLES, next_line_help = true)]
    Check(SettingsFlags),
}

/// How to show the demo.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Where to keep its data [default: a temporary folder that is removed at the end]
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
    /// The loopback address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(super) listen: SocketAddr,
    /// End when all beads are merged, instead of going on until Ctrl-C
    #[arg(long)]
    pub(super) exit: bool,
}

/// What the server tells a container that it starts.
#[derive(Debug, Args)]
pub(super) struct ContainerArguments {
    #[arg(long)]
    pub(super) town_id: TownId,
    /// The unix socket to answer on; that for git's questions is made beside it
    #[arg(long)]
    pub(super) socket: PathBuf,
    /// Answer on this TCP address instead
    #[arg(long, requires = "token_file")]
    pub(super) listen: Option<SocketAddr>,
    /// The file with what every request over TCP has to show
    #[arg(long, requires = "listen")]
    pub(super) token_file: Option<PathBuf>,
    /// Where the server reaches that address, if it is another one from there
    #[arg(long, requires = "listen")]
    pub(super) announce: Option<String>,
    /// The folder of the town's repositories and worktrees
    #[arg(long)]
    pub(super) workspace: PathBuf,
    /// The agent server's program, if not found on PATH
    #[arg(long)]
    pub(super) agent_program: Option<PathBuf>,
    /// The program that has the command `guard` [default: this one]
    #[arg(long)]
    pub(super) guard: Option<PathBuf>,
    /// How long to go on without a server
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m")]
    pub(super) linger: Duration,
    /// How long agents may take to finish before it ends
    #[arg(long, value_parser = humantime::parse_duration, default_value = "45s")]
    pub(super) drain_time: Duration,
    /// Bytes of memory that it and all that it starts may hold
    #[arg(long)]
    pub(super) memory_max: u64,
    /// Processes at the same time
    #[arg(long)]
    pub(super) processes_max: u32,
    /// Open files of each process
    #[arg(long)]
    pub(super) open_files_max: u32,
    /// Bytes of memory above which the agent server is replaced between two beads
    #[arg(long)]
    pub(super) recycle_above: u64,
    /// How long the agent server may say and answer nothing until it is replaced
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) hung_after: Duration,
    /// How long a turn may wait for a model that does not answer
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(super) model_wait: Duration,
    /// Accept paths and file:// as git urls
    #[arg(long)]
    pub(super) allow_local_repos: bool,
    /// Accept http:// as git urls
    #[arg(long)]
    pub(super) allow_http_repos: bool,
    /// What to log to stderr
    #[arg(long, default_value = "info")]
    pub(super) log: String,
}
