//! The `gastownd` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "guard") {
        return match gastownd::sdk::guard::run(args.collect()) {
            Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            Err(error) => {
                eprintln!("gastownd guard: {error}");
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::SUCCESS
}
