//! From JSON that a person sent to a sound document, or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::config::bounds;
use crate::model::{AgentRole, RigId, UserId};

use super::document::{
    AcpConfig, AgentServer, Budget, ContainerConfig, GitAuth, RefineryConfig, RetentionConfig,
    RigOverride, RoleTexts, TownConfig,
};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The field, from the document's top.
    pub path: Vec<String>,
    /// What would be right.
    pub message: String,
}

impl Issue {
    pub(super) fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|&part| part.to_owned()).collect(),
            message: message.into(),
        }
    }
}

/// Reads the whole document.
pub(super) fn read(document: &Value) -> Result<TownConfig, Vec<Issue>> {
    let mut issues = Vec::new();
    let none = Map::new();
    let mut top = Object {
        fields: document.as_object().unwrap_or(&none),
        path: Vec::new(),
        issues: &mut issues,
    };
    let config = TownConfig {
        env_vars: top.env_vars(),
        git_auth: top.object("git_auth", git_auth),
        default_model: top.line("default_model"),
        small_model: top.line("small_model"),
        agent_models: top.object("agent_models", |roles| {
            roles.role_texts(bounds::LINE_CHARS_MAX)
        }),
        rig_overrides: top.object("rig_overrides", rig_overrides),
        agent_server: top.agent_server(),
        acp: top.object("acp", |acp| AcpConfig {
            command: acp.list("command", bounds::COMMAND_WORDS_MAX, "words"),
        }),
        providers: top.object("providers", providers),
        kilocode_token: top.line("kilocode_token"),
        owner_user_id: top.owner(),
        max_polecats_per_rig: top.small_count("max_polecats_per_rig", bounds::MAX_POLECATS),
        refinery: top.object("refinery", refinery),
        alarm_interval_active: top.count("alarm_interval_active", bounds::ALARM_ACTIVE_SECONDS),
        alarm_interval_idle: top.count("alarm_interval_idle", bounds::ALARM_IDLE_SECONDS),
        container: top.object("container", |container| ContainerConfig {
            sleep_after_minutes: container
                .count("sleep_after_minutes", bounds::SLEEP_AFTER_MINUTES),
        }),
        permissions: top.permissions(),
        budget: top.object("budget", |budget| Budget {
            tokens_per_day: budget.count("tokens_per_day", bounds::TOKENS_PER_DAY),
            cost_per_day: budget.cost("cost_per_day"),
        }),
        retention: top.object("retention", |retention| RetentionConfig {
            days: retention.small_count("days", days()),
            events_max: retention.count("events_max", bounds::EVENTS_MAX),
            bytes_max: retention.count("bytes_max", bounds::BYTES_MAX),
        }),
        custom_instructions: top.object("custom_instructions", |roles| {
            roles.role_texts(bounds::INSTRUCTIONS_CHARS_MAX)
        }),
    };
    if issues.is_empty() && config.agent_server == Some(AgentServer::Acp) {
        issues.extend(acp_without_command(&config));
    }
    if issues.is_empty() {
        Ok(config)
    } else {
        Err(issues)
    }
}

/// The one rule that two fields have together.
fn acp_without_command(config: &TownConfig) -> Option<Issue> {
    config.acp.command.is_empty().then(|| {
        Issue::new(
            &["acp", "command"],
            "must be the command of the agent program, such as [\"opencode\", \"acp\"], \
             where agent_server is acp",
        )
    })
}

fn git_auth(auth: &mut Object<'_>) -> GitAuth {
    GitAuth {
        github_token: auth.line("github_token"),
        gitlab_token: auth.line("gitlab_token"),
        gitlab_instance_url: auth.web_address("gitlab_instance_url"),
        ssh_key: auth.private_key("ssh_key"),
        ssh_known_hosts: auth.lines("ssh_known_hosts", bounds::KNOWN_HOSTS_CHARS_MAX),
    }
}

fn refinery(refinery: &mut Object<'_>) -> RefineryConfig {
    RefineryConfig {
        gates: refinery.list("gates", bounds::GATES_MAX, "commands"),
        auto_merge: refinery.switch("auto_merge"),
        require_clean_merge: refinery.switch("require_clean_merge"),
        gate_timeout_seconds: refinery.count("gate_timeout_seconds", bounds::GATE_SECONDS),
    }
}

fn rig_overrides(overrides: &mut Object<'_>) -> BTreeMap<String, RigOverride> {
    let fields = overrides.fields;
    let mut found = BTreeMap::new();
    for rig in fields.keys() {
        if rig.parse::<RigId>().is_err() {
            overrides.issue(rig, "must be a rig's id");
            continue;
        }
        let own = overrides.object(rig, |rig| RigOverride {
            default_model: rig.line("default_model"),
            agent_models: rig.object("agent_models", |roles| {
                roles.role_texts(bounds::LINE_CHARS_MAX)
            }),
            env_vars: rig.env_vars(),
            max_polecats: rig.small_count("max_polecats", bounds::MAX_POLECATS),
        });
        // An override without content is one that a patch emptied.
        if own != RigOverride::default() {
            found.insert(rig.clone(), own);
        }
    }
    found
}

fn providers(providers: &mut Object<'_>) -> Map<String, Value> {
    let fields = providers.fields;
    for (name, provider) in fields {
        if name.is_empty() || name.contains('/') {
            providers.issue(name, "must be a name without `/`, as in `provider/model`");
        } else if !provider.is_object() {
            providers.issue(name, "must be an object");
        }
    }
    fields.clone()
}

fn days() -> RangeInclusive<u64> {
    u64::from(*bounds::RETENTION_DAYS.start())..=u64::from(*bounds::RETENTION_DAYS.end())
}

/// How the content of an OpenSSH key begins, in base64: the format's name and the cipher `none`.
const OPENSSH_WITHOUT_PASSPHRASE: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUA";

/// An object that is being read, and where it stands.
struct Object<'a> {
    fields: &'a Map<String, Value>,
    path: Vec<String>,
    issues: &'a mut Vec<Issue>,
}

impl Object<'_> {
    fn object<T: Default>(&mut self, name: &str, read: impl FnOnce(&mut Object<'_>) -> T) -> T {
        let fields = match self.fields.get(name) {
            None | Some(Value::Null) => return T::default(),
            Some(Value::Object(fields)) => fields,
            Some(_) => {
                self.issue(name, "must be an object");
                return T::default();
            }
        };
        let mut path = self.path.clone();
        path.push(name.to_owned());
        read(&mut Object {
            fields,
            path,
            issues: self.issues,
        })
    }

    /// A line of text: a model, a token, a command.
    fn line(&mut self, name: &str) -> Option<String> {
        let value = self.fields.get(name)?;
        let text = value.as_str().filter(|text| is_line(text));
        if text.is_none() {
            self.issue(name, line_rule());
        }
        text.map(str::to_owned)
    }

    /// Some lines of text.
    fn lines(&mut self, name: &str, chars_max: usize) -> Option<String> {
        let value = self.fields.get(name)?;
        let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        let text = value.as_str().filter(|text| {
            !text.trim().is_empty()
                && text.chars().count() <= chars_max
                && text.chars().all(is_plain)
        });
        if text.is_none() {
            self.issue(
                name,
                format!("must be lines of text, at most {chars_max} characters, or null"),
            );
        }
        text.map(str::to_owned)
    }

    fn private_key(&mut self, name: &str) -> Option<String> {
        let text = self.lines(name, bounds::PRIVATE_KEY_CHARS_MAX)?;
        let rule = private_key_rule(&text);
        if let Some(rule) = rule {
            self.issue(name, rule);
        }
        rule.is_none().then_some(text)
    }

    fn role_texts(&mut self, chars_max: usize) -> RoleTexts {
        let fields = self.fields;
        let mut texts = RoleTexts::default();
        for (name, value) in fields {
            let Ok(role) = name.parse::<AgentRole>() else {
                self.issue(name, "must be mayor, polecat, refinery or witness");
                continue;
            };
            match value.as_str() {
                Some(text) if text.chars().count() <= chars_max && !text.trim().is_empty() => {
                    *texts.slot(role) = Some(text.to_owned());
                }
                _ => self.issue(
                    name,
                    format!("must be text of 1 to {chars_max} characters, or null"),
                ),
            }
        }
        texts
    }

    fn env_vars(&mut self) -> BTreeMap<String, String> {
        self.object("env_vars", |vars| {
            let fields = vars.fields;
            let mut found = BTreeMap::new();
            for (name, value) in fields {
                match (env_name_rule(name), value.as_str()) {
                    (Some(rule), _) => vars.issue(name, rule),
                    (None, Some(text)) if is_env_value(text) => {
                        found.insert(name.clone(), text.to_owned());
                    }
                    (None, _) => vars.issue(
                        name,
                        format!(
                            "must be text of at most {} characters without NUL, or null",
                            bounds::ENV_VALUE_CHARS_MAX
                        ),
                    ),
                }
            }
            found
        })
    }

    fn count(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.fields.get(name)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (min, max) = (range.start(), range.end());
            self.issue(name, format!("must be a whole number from {min} to {max}"));
        }
        number
    }

    fn small_count(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u32> {
        self.count(name, range)
            .and_then(|number| u32::try_from(number).ok())
    }

    fn cost(&mut self, name: &str) -> Option<f64> {
        let value = self.fields.get(name)?;
        let cost = value
            .as_f64()
            .filter(|cost| (0.0..=bounds::COST_PER_DAY_MAX).contains(cost));
        if cost.is_none() {
            let max = bounds::COST_PER_DAY_MAX;
            self.issue(name, format!("must be a number from 0 to {max}"));
        }
        cost
    }

    fn switch(&mut self, name: &str) -> Option<bool> {
        let value = self.fields.get(name)?;
        if !value.is_boolean() {
            self.issue(name, "must be true or false");
        }
        value.as_bool()
    }

    /// A list of lines of text, called `what` where it is not one.
    fn list(&mut self, name: &str, count_max: usize, what: &str) -> Vec<String> {
        let Some(value) = self.fields.get(name) else {
            return Vec::new();
        };
        let lines: Option<Vec<String>> = value
            .as_array()
            .filter(|lines| lines.len() <= count_max)
            .and_then(|lines| {
                lines
                    .iter()
                    .map(|line| {
                        line.as_str()
                            .filter(|text| is_line(text))
                            .map(str::to_owned)
                    })
                    .collect()
            });
        if lines.is_none() {
            self.issue(
                name,
                format!("must be a list of at most {count_max} {what}"),
            );
        }
        lines.unwrap_or_default()
    }

    fn agent_server(&mut self) -> Option<AgentServer> {
        let name = self.fields.get("agent_server")?.as_str();
        let found = AgentServer::ALL
            .into_iter()
            .find(|server| Some(server.as_str()) == name);
        if found.is_none() {
            self.issue("agent_server", "must be opencode, kilo, acp or rehearsal");
        }
        found
    }

    fn owner(&mut self) -> Option<String> {
        let text = self.fields.get("owner_user_id")?.as_str();
        let owner = text.and_then(UserId::parse);
        if owner.is_none() {
            self.issue("owner_user_id", "must be a user's id");
        }
        owner.map(|owner| owner.as_str().to_owned())
    }

    fn permissions(&mut self) -> Option<Value> {
        let value = self.fields.get("permissions")?;
        let sound = match value.as_str() {
            Some(action) => ["allow", "ask", "deny"].contains(&action),
            None => value.is_object(),
        };
        if !sound {
            self.issue(
                "permissions",
                "must be allow, ask, deny or an object by tool",
            );
        }
        sound.then(|| value.clone())
    }

    fn web_address(&mut self, name: &str) -> Option<String> {
        let text = self.line(name)?;
        let sound = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '@'])
            });
        if !sound {
            self.issue(name, "must be a URL such as https://gitlab.example.org");
        }
        sound.then_some(text)
    }

    fn issue(&mut self, name: &str, message: impl Into<String>) {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        self.issues.push(Issue {
            path,
            message: message.into(),
        });
    }
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= bounds::LINE_CHARS_MAX
        && !text.chars().any(char::is_control)
}

fn line_rule() -> String {
    format!(
        "must be a line of 1 to {} characters, or null",
        bounds::LINE_CHARS_MAX
    )
}

/// What is wrong with the text of a private key. ssh itself judges the rest.
fn private_key_rule(text: &str) -> Option<&'static str> {
    let mut lines = text.trim().lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let is_key = first.starts_with("-----BEGIN ")
        && first.ends_with(" PRIVATE KEY-----")
        && text.trim_end().ends_with(" PRIVATE KEY-----");
    let begin: String = lines.collect();
    if !is_key {
        Some("must be a private key, from its BEGIN line to its END line")
    } else if text.contains("ENCRYPTED")
        || (first.contains("OPENSSH") && !begin.starts_with(OPENSSH_WITHOUT_PASSPHRASE))
    {
        Some("must be a key without a passphrase: nobody is there to type it")
    } else {
        None
    }
}

fn is_env_value(text: &str) -> bool {
    text.chars().count() <= bounds::ENV_VALUE_CHARS_MAX && !text.contains('\0')
}

/// What is wrong with a variable's name.
fn env_name_rule(name: &str) -> Option<&'static str> {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some(
            "must be a variable's name: letters, digits and _, not beginning with a digit",
        );
    }
    name.to_ascii_uppercase()
        .starts_with("GASTOWN_")
        .then_some("must not begin with GASTOWN_, which the town sets itself")
}
