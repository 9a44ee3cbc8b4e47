//! The operator's own way to start containers: a command line such as podman's, or a script that asks
//! a scheduler.

use std::ffi::OsString;
use std::path::PathBuf;

use super::isolation::{self, LaunchCommand};
use crate::config::LauncherTemplate;

/// Variables that programs like podman and ssh need beside those that every container gets.
const FOR_LAUNCHERS: &[&str] = &[
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "KUBECONFIG",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// The command that runs a launcher, and through it the container with `arguments`.
pub(super) fn launch_command(
    template: &LauncherTemplate,
    place: impl Fn(crate::config::Place) -> OsString,
    arguments: &[OsString],
) -> LaunchCommand {
    let mut words = template.filled(place, arguments).into_iter();
    LaunchCommand {
        // A template has a program; without one the system says what it can't start.
        program: words.next().map(PathBuf::from).unwrap_or_default(),
        args: words.collect(),
        environment: isolation::environment(FOR_LAUNCHERS),
    }
}
