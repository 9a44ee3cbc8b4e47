//! The flags of `serve` and `config`: one per setting, made from the table in `config`, so that no
//! setting can lack its flag.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{
    CONFIG_FILE_DEFAULT, CONFIG_FILE_ENV, Error, FileChoice, Layers, SETTINGS, Setting, SettingKind,
};

const CONFIG_FLAG: &str = "config";

/// The settings that the command line gives.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingsFlags {
    file: FileChoice,
    given: Vec<(&'static Setting, String)>,
}

impl SettingsFlags {
    /// These flags over this process's environment, the config file and the defaults.
    pub(super) fn layers(self) -> Result<Layers, Error> {
        // Text that is not UTF-8 can't be a setting's value, but may be someone else's variable.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        self.over(environment)
    }

    /// These flags over that environment.
    pub(super) fn over(
        self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Layers, Error> {
        Layers::gather(self.file, environment, self.given)
    }
}

impl Args for SettingsFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "TOML file with settings [default: {CONFIG_FILE_DEFAULT} if it exists] \
                 [env: {CONFIG_FILE_ENV}]"
            ));
        SETTINGS.iter().fold(command.arg(file), |command, setting| {
            command.arg(flag(setting))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>(CONFIG_FLAG) {
            self.file = FileChoice::Named(path.clone());
        }
        for setting in SETTINGS {
            if let Some(value) = matches.get_one::<String>(setting.key) {
                self.given.push((setting, value.clone()));
            }
        }
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .action(ArgAction::Set)
        .help_heading(heading(setting.key));
    match setting.kind {
        SettingKind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .help(format!("{} [env: {}]", setting.help, setting.env)),
        SettingKind::Value(shape) if setting.default.is_empty() => arg
            .value_name(shape)
            .help(format!("{} [env: {}]", setting.help, setting.env)),
        SettingKind::Value(shape) => arg.value_name(shape).help(format!(
            "{} [default: {}] [env: {}]",
            setting.help, setting.default, setting.env
        )),
    }
}

/// A table of the file is a heading of the help.
fn heading(key: &'static str) -> &'static str {
    key.split_once('.').map_or("Settings", |(table, _)| table)
}
