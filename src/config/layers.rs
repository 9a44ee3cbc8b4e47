//! The layers that settings come from: each value with the place it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::names::{self, CONFIG_FILE_DEFAULT, CONFIG_FILE_ENV, ENV_PREFIX, SETTINGS, Setting};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is the default.
    Default,
    /// The config file.
    File(PathBuf),
    /// That environment variable.
    Environment(&'static str),
    /// That flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Which config file to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FileChoice {
    /// The usual one, if it exists.
    #[default]
    Usual,
    /// That one; it must exist.
    Named(PathBuf),
    /// None.
    None,
}

/// Every setting's value as text, the topmost layer's only.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Source)>,
    unknown_env: Vec<String>,
    file: Option<PathBuf>,
}

impl Layers {
    /// Reads the file, then lays the environment and the flags over it. `flags` are by key.
    ///
    /// # Errors
    /// If the file can't be read, is not TOML or has a key that is no setting.
    pub fn gather(
        file: FileChoice,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (&'static Setting, String)>,
    ) -> Result<Self, Error> {
        let mut layers = Self::default();
        let environment: BTreeMap<String, String> = environment
            .into_iter()
            // An empty variable is how many launchers say "not set".
            .filter(|(name, value)| name.starts_with(ENV_PREFIX) && !value.is_empty())
            .collect();
        layers.read_file(match (file, environment.get(CONFIG_FILE_ENV)) {
            (FileChoice::Usual, Some(path)) => FileChoice::Named(path.into()),
            (file, _) => file,
        })?;
        for (name, value) in environment {
            match SETTINGS.iter().find(|setting| setting.env == name) {
                Some(setting) => layers.set(setting, value, Source::Environment(setting.env)),
                None if name == CONFIG_FILE_ENV => {}
                None => layers.unknown_env.push(name),
            }
        }
        for (setting, value) in flags {
            layers.set(setting, value, Source::Flag(setting.flag));
        }
        Ok(layers)
    }

    /// A setting's value and where it was written.
    #[must_use]
    pub fn get(&self, setting: &'static Setting) -> (&str, Source) {
        match self.values.get(setting.key) {
            Some((value, source)) => (value, source.clone()),
            None => (setting.default, Source::Default),
        }
    }

    /// Variables that look like ours but are no setting: perhaps a typing mistake, perhaps
    /// something an orchestrator adds by itself, hence not an error.
    #[must_use]
    pub fn unknown_env(&self) -> &[String] {
        &self.unknown_env
    }

    /// The config file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn set(&mut self, setting: &'static Setting, value: String, source: Source) {
        self.values.insert(setting.key, (value, source));
    }

    fn read_file(&mut self, choice: FileChoice) -> Result<(), Error> {
        let path = match choice {
            FileChoice::None => return Ok(()),
            FileChoice::Usual if !Path::new(CONFIG_FILE_DEFAULT).exists() => return Ok(()),
            FileChoice::Usual => PathBuf::from(CONFIG_FILE_DEFAULT),
            FileChoice::Named(path) => path,
        };
        let text = std::fs::read_to_string(&path).map_err(|source| Error::FileUnreadable {
            path: path.clone(),
            source,
        })?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            Error::FileNotToml {
                path: path.clone(),
                line: before.map_or(0, |text| text.matches('\n').count()) + 1,
                reason: error.message().replace('\n', "; "),
            }
        })?;
        self.take_table("", table, &path)?;
        self.file = Some(path);
        Ok(())
    }

    fn take_table(&mut self, prefix: &str, table: toml::Table, path: &Path) -> Result<(), Error> {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            let setting = names::find(&key);
            let text = match (value, setting) {
                (toml::Value::String(text), Some(_)) => text,
                (toml::Value::Integer(number), Some(_)) => number.to_string(),
                (toml::Value::Boolean(switch), Some(_)) => switch.to_string(),
                (toml::Value::Table(inner), None) if is_table_of_settings(&key) => {
                    self.take_table(&key, inner, path)?;
                    continue;
                }
                (other, Some(setting)) => {
                    return Err(Error::Invalid {
                        key: setting.key,
                        value: other.to_string().trim().to_owned(),
                        from: Source::File(path.to_owned()),
                        reason: format!("must not be of type {}", other.type_str()),
                    });
                }
                (_, None) => {
                    return Err(Error::UnknownKey {
                        path: path.to_owned(),
                        nearest: names::nearest(&key),
                        key,
                    });
                }
            };
            if let Some(setting) = setting {
                self.set(setting, text, Source::File(path.to_owned()));
            }
        }
        Ok(())
    }
}

fn is_table_of_settings(key: &str) -> bool {
    SETTINGS.iter().any(|setting| {
        setting
            .key
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}
