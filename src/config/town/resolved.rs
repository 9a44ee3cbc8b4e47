//! What a container is told with every request: the header `X-Town-Config`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{AgentRole, RigId};

use super::document::{AcpConfig, AgentServer, GitAuth, TownConfig, is_default};
use super::mask;

/// The model of a role if neither the rig nor the town names one.
const SYSTEM_DEFAULT_MODEL: &str = "anthropic/claude-sonnet-4.6";

/// A town's config with every default filled in, for one rig or for none. It holds the secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedTownConfig {
    /// Variables of every agent's environment.
    #[serde(default)]
    pub env_vars: BTreeMap<String, String>,
    /// The model of each role.
    #[serde(default)]
    pub models: BTreeMap<String, String>,
    /// The model of a role that `models` lacks.
    pub default_model: String,
    /// The model for titles and summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small_model: Option<String>,
    /// Which agent server to run.
    #[serde(default)]
    pub agent_server: AgentServer,
    /// The program of `agent_server: acp`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub acp: AcpConfig,
    /// Merged into the agent server's provider config.
    #[serde(default)]
    pub providers: Map<String, Value>,
    /// How to log in to git hosts.
    #[serde(default)]
    pub git_auth: GitAuth,
    /// The token for the agent server's own gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kilocode_token: Option<String>,
    /// Where agents reach the server.
    pub gastown_api_url: String,
    /// The agent server's permission config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Value>,
}

impl TownConfig {
    /// The config for work in `rig`, or for the mayor. A rig's own gateway token wins.
    #[must_use]
    pub fn resolve(
        &self,
        rig: Option<RigId>,
        rig_token: Option<&str>,
        api_url: &str,
    ) -> ResolvedTownConfig {
        let own = self.rig_override(rig);
        let mut env_vars = self.env_vars.clone();
        env_vars.extend(own.into_iter().flat_map(|own| own.env_vars.clone()));
        let default_model = own
            .and_then(|own| own.default_model.as_deref())
            .or(self.default_model.as_deref())
            .unwrap_or(SYSTEM_DEFAULT_MODEL);
        let model = |role: AgentRole| {
            own.and_then(|own| own.agent_models.get(role).or(own.default_model.as_deref()))
                .or_else(|| self.agent_models.get(role))
                .unwrap_or(default_model)
        };
        ResolvedTownConfig {
            env_vars,
            models: AgentRole::ALL
                .iter()
                .map(|role| (role.to_string(), model(*role).to_owned()))
                .collect(),
            default_model: default_model.to_owned(),
            small_model: self.small_model.clone(),
            agent_server: self.agent_server.unwrap_or_default(),
            acp: self.acp.clone(),
            providers: self.providers.clone(),
            git_auth: self.git_auth.clone(),
            kilocode_token: rig_token.map(str::to_owned).or(self.kilocode_token.clone()),
            gastown_api_url: api_url.to_owned(),
            permissions: self.permissions.clone(),
        }
    }
}

impl ResolvedTownConfig {
    /// The model for an agent of that role.
    #[must_use]
    pub fn model_for(&self, role: AgentRole) -> &str {
        self.models
            .get(role.as_str())
            .unwrap_or(&self.default_model)
    }

    /// The value of the header `X-Town-Config`: JSON without a control character.
    #[must_use]
    pub fn to_header(&self) -> String {
        let json = serde_json::to_string(self).expect("keys are text and numbers are finite");
        // JSON may hold DEL as it is, a header may not; it stands within strings only.
        json.replace('\u{7f}', "\\u007f")
    }

    /// Reads the header's value. `None` if it is not such a config.
    #[must_use]
    pub fn from_header(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

impl fmt::Debug for ResolvedTownConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log line must not hold a secret.
        let value = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        write!(f, "ResolvedTownConfig{}", mask::masked_document(value))
    }
}
