//! The document itself, and the questions a town asks it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::bounds;
use crate::model::{AgentRole, RigId};

use super::mask;

/// A town's config. Every field may be absent; unknown fields of a stored document are dropped.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TownConfig {
    /// Variables of every agent's environment.
    pub env_vars: BTreeMap<String, String>,
    /// How to log in to git hosts.
    pub git_auth: GitAuth,
    /// The model of every role that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// The model for titles and summaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    /// The models of the roles.
    #[serde(skip_serializing_if = "RoleTexts::is_empty")]
    pub agent_models: RoleTexts,
    /// What a rig has otherwise, by rig id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rig_overrides: BTreeMap<String, RigOverride>,
    /// Which agent server to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_server: Option<AgentServer>,
    /// The program of `agent_server: acp`.
    #[serde(skip_serializing_if = "is_default")]
    pub acp: AcpConfig,
    /// Merged into the agent server's provider config.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub providers: Map<String, Value>,
    /// The token for the agent server's own gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kilocode_token: Option<String>,
    /// Whom older clients say the town belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_user_id: Option<String>,
    /// Polecats of one rig at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_polecats_per_rig: Option<u32>,
    /// How branches are merged.
    #[serde(skip_serializing_if = "is_default")]
    pub refinery: RefineryConfig,
    /// Seconds between alarms while there is work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_interval_active: Option<u64>,
    /// Seconds between alarms while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_interval_idle: Option<u64>,
    /// The container's life.
    #[serde(skip_serializing_if = "is_default")]
    pub container: ContainerConfig,
    /// The agent server's permission config: an action, or an object by tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Value>,
    /// What a day may cost.
    #[serde(skip_serializing_if = "is_default")]
    pub budget: Budget,
    /// How much of each agent's log is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub retention: RetentionConfig,
    /// Added to the system prompt of a role.
    #[serde(skip_serializing_if = "RoleTexts::is_empty")]
    pub custom_instructions: RoleTexts,
}

/// A text per role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the roles")]
pub struct RoleTexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mayor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polecat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refinery: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
}

/// What one rig has otherwise than its town.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RigOverride {
    /// The model of every role that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// The models of the roles.
    #[serde(skip_serializing_if = "RoleTexts::is_empty")]
    pub agent_models: RoleTexts,
    /// Laid over the town's variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// Polecats at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_polecats: Option<u32>,
}

/// How to log in to git hosts.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitAuth {
    /// For github.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_token: Option<String>,
    /// For gitlab.com, or the instance below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab_token: Option<String>,
    /// A GitLab of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab_instance_url: Option<String>,
    /// A private key without a passphrase, for repositories at `ssh://` and `git@host:path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// Lines of a `known_hosts` file; without them a host is believed when it is met first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_known_hosts: Option<String>,
}

/// How branches are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefineryConfig {
    /// Commands that must succeed before a merge, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
    /// Whether a branch is merged without a person's word; yes if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_merge: Option<bool>,
    /// Whether every conflict goes back to a polecat; yes if absent. If not, git settles those that
    /// are about white space alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_clean_merge: Option<bool>,
    /// How long one gate may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_timeout_seconds: Option<u64>,
}

/// An agent program that speaks the Agent Client Protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcpConfig {
    /// The program and its arguments, for example `opencode` and `acp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// The container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Minutes without activity until it sleeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_after_minutes: Option<u64>,
}

/// What a day may cost; at the cap nothing more is dispatched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Tokens of all agents, in and out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// In the currency of the models' prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_day: Option<f64>,
}

/// How much of each agent's log is kept; what is absent is the server's setting or unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionConfig {
    /// By age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// By count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_max: Option<u64>,
    /// By size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
}

/// Which agent server a town runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentServer {
    /// The program `opencode`.
    #[default]
    Opencode,
    /// The program `kilo`.
    Kilo,
    /// A program that speaks the Agent Client Protocol.
    Acp,
    /// The built-in player of scripts, which needs no model.
    Rehearsal,
}

impl AgentServer {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Opencode, Self::Kilo, Self::Acp, Self::Rehearsal];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Kilo => "kilo",
            Self::Acp => "acp",
            Self::Rehearsal => "rehearsal",
        }
    }
}

impl RoleTexts {
    /// The text of that role.
    #[must_use]
    pub fn get(&self, role: AgentRole) -> Option<&str> {
        match role {
            AgentRole::Mayor => self.mayor.as_deref(),
            AgentRole::Polecat => self.polecat.as_deref(),
            AgentRole::Refinery => self.refinery.as_deref(),
            AgentRole::Witness => self.witness.as_deref(),
        }
    }

    pub(super) fn slot(&mut self, role: AgentRole) -> &mut Option<String> {
        match role {
            AgentRole::Mayor => &mut self.mayor,
            AgentRole::Polecat => &mut self.polecat,
            AgentRole::Refinery => &mut self.refinery,
            AgentRole::Witness => &mut self.witness,
        }
    }

    fn is_empty(&self) -> bool {
        AgentRole::ALL.iter().all(|role| self.get(*role).is_none())
    }
}

impl TownConfig {
    /// Reads a stored document. `None` if the text is not one that [`TownConfig::to_json`] wrote.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The document with its secrets, to be stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// The document as it may be shown: every secret is masked.
    #[must_use]
    pub fn masked(&self) -> Value {
        mask::masked_document(self.to_value())
    }

    /// Polecats that may exist in that rig at the same time.
    #[must_use]
    pub fn max_polecats(&self, rig: RigId) -> u32 {
        self.rig_override(Some(rig))
            .and_then(|own| own.max_polecats)
            .or(self.max_polecats_per_rig)
            .unwrap_or(bounds::MAX_POLECATS_PER_RIG_DEFAULT)
    }

    /// The time between alarms while there is work.
    #[must_use]
    pub fn alarm_active(&self) -> Duration {
        self.alarm_interval_active
            .map_or(bounds::ALARM_INTERVAL_ACTIVE_DEFAULT, Duration::from_secs)
    }

    /// The time between alarms while there is none; never shorter than with work.
    #[must_use]
    pub fn alarm_idle(&self) -> Duration {
        self.alarm_interval_idle
            .map_or(bounds::ALARM_INTERVAL_IDLE_DEFAULT, Duration::from_secs)
            .max(self.alarm_active())
    }

    /// The time with nothing to do after which the container sleeps; `None` leaves it to the server.
    #[must_use]
    pub fn sleep_after(&self) -> Option<Duration> {
        let minutes = self.container.sleep_after_minutes?;
        Some(Duration::from_secs(minutes * 60))
    }

    pub(super) fn rig_override(&self, rig: Option<RigId>) -> Option<&RigOverride> {
        self.rig_overrides.get(&rig?.to_string())
    }

    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("keys are text and numbers are finite")
    }
}

impl fmt::Debug for TownConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log line must not hold a secret.
        write!(f, "TownConfig{}", self.masked())
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
