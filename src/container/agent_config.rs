//! From a town's resolved config to what an agent server is started and prompted with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Error;
use crate::config::ResolvedTownConfig;
use crate::model::AgentRole;
use crate::sdk::{AgentServerKind, ModelRef};

/// The agent server's own gateway, for models whose provider the town does not configure.
const GATEWAY: &str = "kilo";

/// Where the gateway is, for opencode, which does not know it.
const GATEWAY_URL: &str = "https://api.kilo.ai/api/gateway";

/// The key under `providers` that holds the settings of the built-in rehearsal; no real provider.
const REHEARSAL: &str = "rehearsal";

/// What an agent server is started with. If these change, a new one is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerSettings {
    /// Which agent server.
    pub(crate) kind: AgentServerKind,
    /// Its whole config.
    pub(crate) config: Value,
    /// What is added to its environment.
    pub(crate) env: BTreeMap<String, String>,
}

impl ServerSettings {
    /// The settings that a town's config asks for; `git` is what makes git work for agents.
    pub(crate) fn of(
        config: &ResolvedTownConfig,
        git: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let kind = kind_of(config)?;
        let mut env = config.env_vars.clone();
        // Last, so that no variable of the town's can turn git's safety off.
        env.extend(git.clone());
        let config = match kind {
            AgentServerKind::Rehearsal => rehearsal_config(config),
            AgentServerKind::Acp => acp_config(config),
            AgentServerKind::Opencode | AgentServerKind::Kilo => program_config(config, kind),
        };
        Ok(Self { kind, config, env })
    }

    /// The same with variables that are only set where the town and git do not set them.
    pub(crate) fn with_env(mut self, more: &BTreeMap<String, String>) -> Self {
        for (name, value) in more {
            self.env
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        self
    }
}

/// Which agent server the town wants.
pub(crate) fn kind_of(config: &ResolvedTownConfig) -> Result<AgentServerKind, Error> {
    config
        .agent_server
        .as_str()
        .parse()
        .map_err(|error| Error::Config {
            reason: format!("{error}"),
        })
}

/// The model for an agent, as its agent server names it.
pub(crate) fn model_for(
    config: &ResolvedTownConfig,
    role: AgentRole,
    override_by_start: Option<&str>,
) -> Result<ModelRef, Error> {
    let model = override_by_start.unwrap_or_else(|| config.model_for(role));
    let kind = kind_of(config)?;
    if kind == AgentServerKind::Acp {
        // Which models it has and what it calls them is between it and its own config.
        return Ok(ModelRef {
            provider_id: String::new(),
            model_id: model.to_owned(),
        });
    }
    let known = model_ref(config, model);
    let reachable = known.provider_id != GATEWAY
        || config.kilocode_token.is_some()
        || config.providers.contains_key(GATEWAY)
        || kind == AgentServerKind::Rehearsal;
    if reachable {
        Ok(known)
    } else {
        Err(Error::Config {
            reason: format!(
                "model {model:?} needs its provider in `providers`, or a `kilocode_token` for the gateway"
            ),
        })
    }
}

/// `provider/model` if the town configures that provider, else a model of the gateway.
fn model_ref(config: &ResolvedTownConfig, model: &str) -> ModelRef {
    match model.split_once('/') {
        Some((provider, name)) if config.providers.contains_key(provider) => ModelRef {
            provider_id: provider.to_owned(),
            model_id: name.to_owned(),
        },
        _ => ModelRef {
            provider_id: GATEWAY.to_owned(),
            model_id: model.to_owned(),
        },
    }
}

fn named(model: &ModelRef) -> String {
    format!("{}/{}", model.provider_id, model.model_id)
}

/// The config of opencode and Kilo.
fn program_config(config: &ResolvedTownConfig, kind: AgentServerKind) -> Value {
    let model = model_ref(config, &config.default_model);
    let small = config
        .small_model
        .as_deref()
        .map_or(model.clone(), |small| model_ref(config, small));
    let mut providers = config.providers.clone();
    providers.remove(REHEARSAL);
    let gateway_models = models_of_gateway(config);
    if let Some(token) = &config.kilocode_token
        && !gateway_models.is_empty()
    {
        let gateway = gateway_provider(kind, token, gateway_models);
        match providers.get_mut(GATEWAY) {
            // What the town says itself wins.
            Some(own) => {
                let own_value = std::mem::replace(own, gateway);
                merge(own, own_value);
            }
            None => {
                providers.insert(GATEWAY.to_owned(), gateway);
            }
        }
    }
    json!({
        "model": named(&model),
        "small_model": named(&small),
        "enabled_providers": providers.keys().collect::<Vec<_>>(),
        "provider": providers,
        "permission": permissions(config),
        "share": "disabled",
        "autoupdate": false,
        "lsp": false,
        "formatter": false,
    })
}

/// Everything is allowed, because the container is the wall; what the town says comes on top.
fn permissions(config: &ResolvedTownConfig) -> Value {
    let mut permissions = json!({"*": "allow"});
    if let Some(own) = &config.permissions {
        merge(&mut permissions, own.clone());
    }
    permissions
}

fn models_of_gateway(config: &ResolvedTownConfig) -> BTreeSet<String> {
    let all = config
        .models
        .values()
        .chain([&config.default_model])
        .chain(&config.small_model);
    all.map(|model| model_ref(config, model))
        .filter(|model| model.provider_id == GATEWAY)
        .map(|model| model.model_id)
        .collect()
}

fn gateway_provider(kind: AgentServerKind, token: &str, models: BTreeSet<String>) -> Value {
    let models: Map<String, Value> = models
        .into_iter()
        .map(|model| (model, json!({"tool_call": true})))
        .collect();
    match kind {
        // Kilo knows its gateway; it needs only the token.
        AgentServerKind::Kilo => json!({
            "options": {"apiKey": token, "kilocodeToken": token},
            "models": models,
        }),
        AgentServerKind::Opencode | AgentServerKind::Acp | AgentServerKind::Rehearsal => json!({
            "npm": "@ai-sdk/openai-compatible",
            "name": "Kilo Gateway",
            "options": {"baseURL": GATEWAY_URL, "apiKey": token},
            "models": models,
        }),
    }
}

/// The config of the rehearsal, which the town may set under `providers.rehearsal`.
fn rehearsal_config(config: &ResolvedTownConfig) -> Value {
    let model = named(&model_ref(config, &config.default_model));
    let settings = config
        .providers
        .get(REHEARSAL)
        .cloned()
        .unwrap_or_else(|| json!({}));
    json!({"model": model, "permission": permissions(config), REHEARSAL: settings})
}

/// The config of a program that speaks the Agent Client Protocol: what it is and what it may do.
/// All else is its own, and reaches it by the town's variables.
fn acp_config(config: &ResolvedTownConfig) -> Value {
    json!({"command": config.acp.command, "permission": permissions(config)})
}

/// Lays `over` on `base`: objects are merged, everything else is replaced.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(slot) => merge(slot, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &Value) -> ResolvedTownConfig {
        let mut whole =
            json!({"default_model": "anthropic/claude", "gastown_api_url": "http://127.0.0.1:1"});
        merge(&mut whole, text.clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_configured_provider_is_used_and_all_else_is_the_gateways() {
        let with = config(&json!({"providers": {"p": {}}, "kilocode_token": "t",
            "models": {"mayor": "p/a/b", "polecat": "q/c"}}));
        let check = |role, provider: &str, model: &str| {
            let found = model_for(&with, role, None).unwrap();
            assert_eq!(
                (found.provider_id.as_str(), found.model_id.as_str()),
                (provider, model)
            );
        };
        check(AgentRole::Mayor, "p", "a/b");
        check(AgentRole::Polecat, "kilo", "q/c");
        check(AgentRole::Witness, "kilo", "anthropic/claude");
    }

    #[test]
    fn a_model_that_nobody_can_reach_is_refused_in_words() {
        let error = model_for(&config(&json!({})), AgentRole::Polecat, None).unwrap_err();
        assert!(error.to_string().contains("kilocode_token"), "{error}");
        model_for(
            &config(&json!({"agent_server": "rehearsal"})),
            AgentRole::Polecat,
            None,
        )
        .unwrap();
    }

    #[test]
    fn a_program_of_acp_gets_its_command_and_chooses_its_model_itself() {
        let config = config(&json!({"agent_server": "acp", "permissions": "ask",
            "acp": {"command": ["opencode", "acp"]}, "models": {"polecat": "q/c"}}));
        let settings = ServerSettings::of(&config, &BTreeMap::new()).unwrap();
        assert_eq!(
            settings.config,
            json!({"command": ["opencode", "acp"], "permission": "ask"})
        );
        let model = model_for(&config, AgentRole::Polecat, None).unwrap();
        assert_eq!(model.model_id, "q/c");
    }

    #[test]
    fn opencode_gets_the_gateway_as_a_provider() {
        let settings = ServerSettings::of(
            &config(
                &json!({"kilocode_token": "t", "permissions": {"bash": "ask"},
                "providers": {"p": {"npm": "x"}}}),
            ),
            &BTreeMap::from([("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned())]),
        )
        .unwrap();
        let config = &settings.config;
        assert_eq!(config["model"], "kilo/anthropic/claude");
        assert_eq!(config["provider"]["kilo"]["options"]["apiKey"], "t");
        assert_eq!(
            config["provider"]["kilo"]["models"]["anthropic/claude"]["tool_call"],
            true
        );
        assert_eq!(config["provider"]["p"]["npm"], "x");
        assert_eq!(config["permission"], json!({"*": "allow", "bash": "ask"}));
        assert_eq!(config["share"], "disabled");
        assert_eq!(settings.env["GIT_TERMINAL_PROMPT"], "0");
    }

    #[test]
    fn the_towns_own_words_on_the_gateway_win() {
        let settings = ServerSettings::of(
            &config(&json!({"kilocode_token": "t",
                "providers": {"kilo": {"options": {"baseURL": "http://127.0.0.1:9"}}}})),
            &BTreeMap::new(),
        )
        .unwrap();
        let options = &settings.config["provider"]["kilo"]["options"];
        assert_eq!(
            options,
            &json!({"apiKey": "t", "baseURL": "http://127.0.0.1:9"})
        );
    }
}
