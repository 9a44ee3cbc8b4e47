//! `gastownd-bench`: load for a gastownd server, and a table of how well it bears it.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts become figures for people, who read a few digits"
)]

mod api;
mod append;
mod arguments;
mod backfill;
mod cleanup;
mod commands;
mod crowd;
mod error;
mod fanout;
mod feed;
mod floor;
mod frames;
mod goals;
mod histogram;
mod http;
mod memory;
mod mixed;
mod place;
mod played_container;
mod process;
mod recording;
mod report;
mod requests;
mod server;
mod session;
mod system;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

// The same as the server's, so that the baseline in this program differs by its design alone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What was in the way may be that everything was cleaned up.
            cleanup::wait_if_stopping();
            report::say(&format!("gastownd-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}
