//! `gastownd serve`.

use std::io::Write as _;
use std::path::PathBuf;

use tokio::runtime::Builder;

use crate::config::Settings;
use crate::lifecycle::Lifecycle;
use crate::server::{self, Server, StopSignals};
use crate::telemetry;

use super::error::Error;
use super::run::{own_path, until_ended};
use super::settings_flags::SettingsFlags;

pub(super) fn run(flags: SettingsFlags) -> Result<(), Error> {
    let layers = flags.layers()?;
    let settings = Settings::from_layers(&layers)?;
    telemetry::begin(&settings.log)?;
    for name in layers.unknown_env() {
        tracing::warn!(name, "this environment variable is not a setting");
    }
    let program = own_path()?;
    until_ended(&mut Builder::new_multi_thread(), serve(settings, program))?
}

async fn serve(settings: Settings, program: PathBuf) -> Result<(), Error> {
    let walls_are_ours = settings.container.launcher.is_none();
    if walls_are_ours && settings.isolation == crate::config::Isolation::None {
        tracing::warn!("isolation is none: agents can read and change whatever this user can");
    }
    // Before anybody can know that we run, and so want us to stop.
    let signals = catch_signals()?;
    let server = Server::start(settings, program, Lifecycle::new()).await?;
    let address = server.address();
    if let Some(token) = server.new_admin_token() {
        // Once, on stderr: stdout is for the one line that programs wait for.
        let _ = writeln!(
            std::io::stderr(),
            "log in with http://{address}/?token={token}"
        );
    }
    announce(&format!("gastownd listening on http://{address}"))?;
    until_asked(server, signals).await
}

pub(super) fn catch_signals() -> Result<StopSignals, Error> {
    StopSignals::catch().map_err(|source| Error::Signals { source })
}

/// Prints a line that a program may wait for.
pub(super) fn announce(line: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::Print { source })
}

/// Serves until a signal, then stops in order.
pub(super) async fn until_asked(server: Server, mut signals: StopSignals) -> Result<(), Error> {
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = server.failed() => Err(server::Error::Poisoned.into()),
    };
    tracing::info!(address = %server.address(), "stopping");
    stop(server, signals).await;
    outcome
}

/// Stops in order; a signal cuts that short.
pub(super) async fn stop(server: Server, mut signals: StopSignals) {
    tokio::select! {
        () = server.stop() => {}
        () = signals.next() => tracing::warn!("asked a second time: stopping at once"),
    }
}
