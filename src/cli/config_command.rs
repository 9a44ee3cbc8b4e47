//! `gastownd config show|check`.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::config::{Layers, SETTINGS, Settings};

use super::arguments::ConfigAction;
use super::error::Error;

/// Prints to stdout what the action asks for.
pub(super) fn run(action: ConfigAction) -> Result<(), Error> {
    let text = match action {
        ConfigAction::Show(flags) => {
            let layers = flags.layers()?;
            Settings::from_layers(&layers)?;
            shown(&layers)
        }
        ConfigAction::Check(flags) => {
            let layers = flags.layers()?;
            Settings::from_layers(&layers)?;
            checked(&layers)
        }
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| Error::Print { source })
}

/// A TOML file that would give the same settings, with the source of each as a comment.
pub(super) fn shown(layers: &Layers) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in SETTINGS {
        let (value, source) = layers.get(setting);
        let (own_table, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if own_table != table {
            table = own_table;
            let _ = write!(text, "\n[{table}]\n");
        }
        let _ = if value.is_empty() {
            writeln!(text, "# {name} is not set")
        } else {
            writeln!(text, "{:40} # {source}", assignment(name, value))
        };
    }
    text + &warnings(layers)
}

fn checked(layers: &Layers) -> String {
    let file = layers.file().map_or_else(
        || "no config file".to_owned(),
        |path| path.display().to_string(),
    );
    format!("The settings are sound ({file}).\n{}", warnings(layers))
}

fn warnings(layers: &Layers) -> String {
    let mut text = String::new();
    for name in layers.unknown_env() {
        let _ = writeln!(text, "# {name} in the environment is no setting");
    }
    text
}

fn assignment(name: &str, value: &str) -> String {
    if ["true", "false"].contains(&value) || value.parse::<u32>().is_ok() {
        return format!("{name} = {value}");
    }
    format!("{name} = {}", toml::Value::from(value))
}
