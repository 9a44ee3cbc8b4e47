//! A launcher of the operator's own: a command line that starts a container somewhere else, such as
//! `podman run` or a script that asks a scheduler.

use std::ffi::OsString;
use std::path::Path;

use super::isolation::{LaunchCommand, PASSED_ON};

/// The word that stands for all arguments of the container.
const ARGUMENTS: &str = "{arguments}";

/// Variables that programs like podman and ssh need beside those that every container gets.
const FOR_LAUNCHERS: &[&str] = &[
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// A command line with places for what differs from town to town.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    words: Vec<String>,
}

/// What is filled in.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) program: &'a Path,
    pub(super) run_dir: &'a Path,
    pub(super) workspace: &'a Path,
    pub(super) town: &'a str,
}

impl Launcher {
    /// Reads a command line as a shell would: words, quotes and backslashes, but nothing else of a
    /// shell. `{program}`, `{run_dir}`, `{workspace}` and `{town}` may stand anywhere in a word, and the
    /// word `{arguments}` must be there.
    ///
    /// `None` if it is no such line.
    #[must_use]
    pub fn parse(template: &str) -> Option<Self> {
        let words = shlex::split(template)?;
        let has_place = words.iter().skip(1).any(|word| word == ARGUMENTS);
        has_place.then_some(Self { words })
    }

    pub(super) fn command(&self, places: &Places<'_>, arguments: &[OsString]) -> LaunchCommand {
        let fill = |word: &str| -> OsString {
            word.replace("{program}", &places.program.to_string_lossy())
                .replace("{run_dir}", &places.run_dir.to_string_lossy())
                .replace("{workspace}", &places.workspace.to_string_lossy())
                .replace("{town}", places.town)
                .into()
        };
        let mut words = Vec::new();
        for word in &self.words {
            if word == ARGUMENTS {
                words.extend_from_slice(arguments);
            } else {
                words.push(fill(word));
            }
        }
        let environment = PASSED_ON.iter().chain(FOR_LAUNCHERS);
        LaunchCommand {
            program: words.remove(0).into(),
            args: words,
            environment: environment
                .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in() {
        let template = "podman run --name 'gastown {town}' -v {workspace}:/w {program} {arguments} --announce h:7";
        let places = Places {
            program: Path::new("/usr/bin/gastownd"),
            run_dir: Path::new("/r"),
            workspace: Path::new("/data/a town"),
            town: "abc",
        };
        let arguments = ["container".into(), "--town-id".into()];
        let command = Launcher::parse(template).unwrap().command(&places, &arguments);
        assert_eq!(command.program, Path::new("podman"));
        assert_eq!(
            command.args,
            [
                "run", "--name", "gastown abc", "-v", "/data/a town:/w", "/usr/bin/gastownd",
                "container", "--town-id", "--announce", "h:7",
            ]
        );
        assert!(!command.environment.iter().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn a_line_without_the_arguments_is_refused() {
        for line in ["", "podman run", "podman 'run {arguments}", "podman x{arguments}"] {
            assert_eq!(Launcher::parse(line), None, "{line}");
        }
    }
}
