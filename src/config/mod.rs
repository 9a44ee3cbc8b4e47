//! What a person may set: the server's settings and each town's config.
//!
//! Ground, so it imports only `model`. [`Settings`] are read once at start: a default, the TOML
//! file, the environment and the flags, each layer over the one before. [`TownConfig`] is a town's
//! own document: `town` stores its JSON and changes it by [`TownConfig::patched`] alone, so a stored
//! document is always valid and its secrets leave this room only in [`ResolvedTownConfig`].
//!
//! Absent on purpose: no setting holds a secret (a token in an argument is seen by every process
//! of the machine), nothing is re-read while running, and no setting has a default elsewhere.

mod bounds;
mod error;
mod launcher;
mod layers;
mod names;
mod quantity;
mod settings;
mod town;

pub use bounds::{
    ALARM_INTERVAL_ACTIVE_DEFAULT, ALARM_INTERVAL_IDLE_DEFAULT, MAX_POLECATS_PER_RIG_DEFAULT,
    TOWN_CONFIG_BYTES_MAX,
};
pub use error::Error;
pub use launcher::{LauncherTemplate, Place};
pub use layers::{FileChoice, Layers, Source};
pub use names::{CONFIG_FILE_DEFAULT, CONFIG_FILE_ENV, SETTINGS, Setting, SettingKind};
pub use settings::{
    ContainerSettings, DispatchSettings, HttpSettings, Isolation, RetentionSettings, Settings,
    StorageSettings, StreamSettings,
};
pub use town::{
    AgentServer, Budget, ContainerConfig, GitAuth, Issue, RefineryConfig, ResolvedTownConfig,
    RetentionConfig, RigOverride, RoleTexts, TownConfig,
};

#[cfg(test)]
mod tests;
