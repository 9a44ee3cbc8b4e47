//! The `gastownd` program.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use gastownd::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // If even stderr is gone, nobody is left to be told.
            let _ = report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help and usage as clap prints them; any other error as one line with its causes.
fn report(error: &cli::Error) -> std::io::Result<()> {
    if let cli::Error::Arguments(asked) = error {
        return asked.print();
    }
    let mut line = format!("gastownd: failed to {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(inner.to_string().trim_end());
        cause = inner.source();
    }
    writeln!(std::io::stderr(), "{}", line.replace('\n', " | "))
}
