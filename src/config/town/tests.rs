use serde_json::{Value, json};

use super::mask::{is_secret_name, mask};
use super::{AgentServer, ResolvedTownConfig, TownConfig};
use crate::config::TOWN_CONFIG_BYTES_MAX;
use crate::model::{AgentRole, RigId};

const RIG: &str = "3c10b059-4b96-4f83-b6aa-67b274ccf172";
const API: &str = "http://127.0.0.1:8787";

fn after(patches: &[Value]) -> TownConfig {
    patches.iter().fold(TownConfig::default(), |config, patch| {
        config.patched(patch).expect("a sound patch")
    })
}

#[track_caller]
fn check_shown(patches: &[Value], expected: Value) {
    assert_eq!(after(patches).masked(), expected);
}

#[test]
fn the_recorded_exchange() {
    check_shown(&[], json!({"env_vars": {}, "git_auth": {}}));
    check_shown(
        &[
            json!({"default_model": "m1"}),
            json!({"env_vars": {"FOO": "bar", "API_KEY": "secret123456", "MY_TOKEN": "abc"}}),
        ],
        json!({
            "env_vars": {"FOO": "bar", "API_KEY": "****3456", "MY_TOKEN": "****"},
            "git_auth": {},
            "default_model": "m1",
        }),
    );
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let first = json!({
        "env_vars": {"A": "1", "B": "2"},
        "git_auth": {"github_token": "ghp_0123456789"},
        "default_model": "p/m",
        "agent_models": {"mayor": "p/big", "polecat": "p/small"},
        "budget": {"tokens_per_day": 5},
    });
    check_shown(
        &[
            first,
            json!({
                "env_vars": {"A": null, "C": "3"},
                "agent_models": {"mayor": null},
                "budget": null,
                "small_model": "p/tiny",
                "model": "ignored",
                "no_such_field": {"x": 1},
            }),
        ],
        json!({
            "env_vars": {"B": "2", "C": "3"},
            "git_auth": {"github_token": "****6789"},
            "default_model": "p/m",
            "small_model": "p/tiny",
            "agent_models": {"polecat": "p/small"},
        }),
    );
}

#[test]
fn rig_overrides_are_found_under_any_spelling_of_the_id() {
    let config = after(&[
        json!({"rig_overrides": {RIG: {"max_polecats": 2, "env_vars": {"A": "1"}}}}),
        json!({"rig_overrides": {RIG.to_uppercase(): {"max_polecats": 3}}}),
    ]);
    let rig: RigId = RIG.parse().unwrap();
    assert_eq!(config.rig_overrides.len(), 1);
    assert_eq!(config.max_polecats(rig), 3);
    assert_eq!(config.rig_overrides[RIG].env_vars["A"], "1");
    let emptied = config.patched(&json!({"rig_overrides": {RIG: null}}));
    assert_eq!(emptied, Ok(TownConfig::default()));
}

fn key(kind: &str, content: &str) -> String {
    format!("-----BEGIN {kind}PRIVATE KEY-----\n{content}\n-----END {kind}PRIVATE KEY-----\n")
}

#[test]
fn an_ssh_key_is_kept_as_it_came_and_shown_masked() {
    for text in [
        key("OPENSSH ", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"),
        key("RSA ", "MIIEpAIBAAKCAQEA").replace('\n', "\r\n"),
        key("", "MC4CAQAwBQYDK2VwBCIEI").trim().to_owned(),
    ] {
        let config = after(&[json!({"git_auth": {"ssh_key": text}})]);
        assert_eq!(config.git_auth.ssh_key.as_ref(), Some(&text));
        let shown = config.masked();
        let masked = shown["git_auth"]["ssh_key"].as_str().unwrap();
        assert!(
            masked.starts_with("****") && masked.len() == 8,
            "{masked:?}"
        );
        assert_eq!(
            config.patched(&shown),
            Ok(config.clone()),
            "and can be sent back"
        );
    }
}

#[test]
fn everything_wrong_is_named() {
    let cases = [
        (json!([]), vec![""]),
        (json!("x"), vec![""]),
        (json!({"default_model": 7}), vec!["default_model"]),
        (json!({"default_model": ""}), vec!["default_model"]),
        (json!({"small_model": "a\nb"}), vec!["small_model"]),
        (
            json!({"env_vars": {"1A": "x", "A-B": "x", "GASTOWN_URL": "x", "gastown_x": "x", "N": 1}}),
            vec![
                "env_vars.1A",
                "env_vars.A-B",
                "env_vars.GASTOWN_URL",
                "env_vars.gastown_x",
                "env_vars.N",
            ],
        ),
        (json!({"env_vars": []}), vec!["env_vars"]),
        (
            json!({"git_auth": {"ssh_key": "ssh-ed25519 AAAA", "ssh_known_hosts": "a\u{7}"}}),
            vec!["git_auth.ssh_key", "git_auth.ssh_known_hosts"],
        ),
        // One with a passphrase, as the two formats say it.
        (
            json!({"git_auth": {"ssh_key": key("OPENSSH ", "b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIA")}}),
            vec!["git_auth.ssh_key"],
        ),
        (
            json!({"git_auth": {"ssh_key": key("ENCRYPTED ", "MIIB")}}),
            vec!["git_auth.ssh_key"],
        ),
        (
            json!({"agent_models": {"chef": "x"}}),
            vec!["agent_models.chef"],
        ),
        (
            json!({"max_polecats_per_rig": 0}),
            vec!["max_polecats_per_rig"],
        ),
        (
            json!({"max_polecats_per_rig": 21}),
            vec!["max_polecats_per_rig"],
        ),
        (
            json!({"max_polecats_per_rig": 1.5}),
            vec!["max_polecats_per_rig"],
        ),
        (
            json!({"alarm_interval_active": 4}),
            vec!["alarm_interval_active"],
        ),
        (
            json!({"alarm_interval_active": 601}),
            vec!["alarm_interval_active"],
        ),
        (
            json!({"alarm_interval_idle": 29}),
            vec!["alarm_interval_idle"],
        ),
        (
            json!({"alarm_interval_idle": 3601}),
            vec!["alarm_interval_idle"],
        ),
        (
            json!({"container": {"sleep_after_minutes": 4}}),
            vec!["container.sleep_after_minutes"],
        ),
        (
            json!({"container": {"sleep_after_minutes": 121}}),
            vec!["container.sleep_after_minutes"],
        ),
        (json!({"agent_server": "emacs"}), vec!["agent_server"]),
        (json!({"agent_server": 1}), vec!["agent_server"]),
        (json!({"agent_server": "acp"}), vec!["acp.command"]),
        (
            json!({"agent_server": "acp", "acp": {"command": []}}),
            vec!["acp.command"],
        ),
        (
            json!({"acp": {"command": "opencode acp"}}),
            vec!["acp.command"],
        ),
        (json!({"acp": {"command": ["a", ""]}}), vec!["acp.command"]),
        (
            json!({"acp": {"command": vec!["x"; 33]}}),
            vec!["acp.command"],
        ),
        (json!({"acp": "opencode"}), vec!["acp"]),
        (
            json!({"providers": {"p/q": {}, "r": 1}}),
            vec!["providers.p/q", "providers.r"],
        ),
        (
            json!({"git_auth": {"gitlab_instance_url": "gitlab"}}),
            vec!["git_auth.gitlab_instance_url"],
        ),
        (
            json!({"git_auth": {"gitlab_instance_url": "https://u:p@gitlab.example.org"}}),
            vec!["git_auth.gitlab_instance_url"],
        ),
        (
            json!({"refinery": {"gates": "make"}}),
            vec!["refinery.gates"],
        ),
        (json!({"refinery": {"gates": [""]}}), vec!["refinery.gates"]),
        (
            json!({"refinery": {"auto_merge": "yes"}}),
            vec!["refinery.auto_merge"],
        ),
        (json!({"permissions": "maybe"}), vec!["permissions"]),
        (json!({"permissions": 7}), vec!["permissions"]),
        (
            json!({"budget": {"cost_per_day": -1, "tokens_per_day": -1}}),
            vec!["budget.tokens_per_day", "budget.cost_per_day"],
        ),
        (
            json!({"retention": {"days": 0, "events_max": 1, "bytes_max": 1}}),
            vec![
                "retention.days",
                "retention.events_max",
                "retention.bytes_max",
            ],
        ),
        (
            json!({"custom_instructions": {"mayor": " "}}),
            vec!["custom_instructions.mayor"],
        ),
        (json!({"owner_user_id": "a/b"}), vec!["owner_user_id"]),
        (json!({"rig_overrides": {"x": {}}}), vec!["rig_overrides.x"]),
        (
            json!({"rig_overrides": {RIG: {"max_polecats": 99, "agent_models": {"polecat": 1}}}}),
            vec![
                "rig_overrides.3c10b059-4b96-4f83-b6aa-67b274ccf172.agent_models.polecat",
                "rig_overrides.3c10b059-4b96-4f83-b6aa-67b274ccf172.max_polecats",
            ],
        ),
        (json!({"kilocode_token": "****"}), vec!["kilocode_token"]),
        (
            json!({"env_vars": {"MY_TOKEN": "****3456"}}),
            vec!["env_vars.MY_TOKEN"],
        ),
        (
            json!({"providers": {"p": {"options": {"apiKey": "****"}}}}),
            vec!["providers.p.options.apiKey"],
        ),
    ];
    for (patch, expected) in cases {
        let issues = TownConfig::default()
            .patched(&patch)
            .expect_err("a wrong patch");
        let paths: Vec<String> = issues.iter().map(|issue| issue.path.join(".")).collect();
        assert_eq!(paths, expected, "{patch}: {issues:?}");
        assert!(
            issues.iter().all(|issue| issue.message.contains(' ')),
            "{issues:?}"
        );
    }
}

#[test]
fn a_document_that_no_header_could_carry_is_refused() {
    let part = "x".repeat(30_000);
    let names = 0..=TOWN_CONFIG_BYTES_MAX / part.len();
    let vars: serde_json::Map<String, Value> =
        names.map(|n| (format!("V{n}"), json!(part))).collect();
    let issues = TownConfig::default().patched(&json!({"env_vars": vars}));
    assert!(issues.expect_err("too large")[0].message.contains("262144"));
}

#[test]
fn secrets_are_masked_wherever_they_are() {
    let patch = json!({
        "kilocode_token": "kilo-0123456789",
        "git_auth": {"gitlab_token": "short", "gitlab_instance_url": "https://gitlab.example.org"},
        "env_vars": {
            "PLAIN": "a value",
            "DATABASE_URL": "postgres://user:pass@db/x",
            "CLONE_URL": "https://ghp_0123456789@github.com/o/r",
            "SSH_URL": "ssh://git@github.com/o/r",
            "SITE_URL": "https://example.org/a@b:c",
            "AWS_SECRET_ACCESS_KEY": "0123456789",
            "EMPTY_TOKEN": "",
            "AGENT_CONFIG": "{\"provider\":{\"p\":{\"apiKey\":\"sk-0123456789\"}}}",
            "OPEN_CONFIG": "{\"model\":\"p/m\"}",
        },
        "acp": {"command": ["agent", "--registry", "https://u:pass@npm.example.org"]},
        "rig_overrides": {RIG: {"env_vars": {"NPM_TOKEN": "npm_0123456789"}}},
        "providers": {"p": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {
                "baseURL": "http://127.0.0.1:1/v1",
                "apiKey": "sk-0123456789",
                "headers": {"X-Org": "0123456789", "Authorization": "Bearer 0123456789"},
            },
            "models": {"m": {"limit": {"context": 1000}, "maxTokens": 5}},
        }},
        "permissions": {"bash": {"cat *token*": "deny"}},
    });
    check_shown(
        &[patch],
        json!({
            "kilocode_token": "****6789",
            "git_auth": {"gitlab_token": "****", "gitlab_instance_url": "https://gitlab.example.org"},
            "env_vars": {
                "PLAIN": "a value",
                "CLONE_URL": "****/o/r",
                "SSH_URL": "ssh://git@github.com/o/r",
                "DATABASE_URL": "****db/x",
                "SITE_URL": "https://example.org/a@b:c",
                "AWS_SECRET_ACCESS_KEY": "****6789",
                "EMPTY_TOKEN": "",
                "AGENT_CONFIG": "****\"}}}",
                "OPEN_CONFIG": "{\"model\":\"p/m\"}",
            },
            "acp": {"command": ["agent", "--registry", "****.org"]},
            "rig_overrides": {RIG: {"env_vars": {"NPM_TOKEN": "****6789"}}},
            "providers": {"p": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {
                    "baseURL": "http://127.0.0.1:1/v1",
                    "apiKey": "****6789",
                    "headers": {"X-Org": "****6789", "Authorization": "****6789"},
                },
                "models": {"m": {"limit": {"context": 1000}, "maxTokens": 5}},
            }},
            "permissions": {"bash": {"cat *token*": "deny"}},
        }),
    );
}

#[test]
fn masks_and_secret_names() {
    for (secret, shown) in [
        ("secret123456", "****3456"),
        ("123456789", "****6789"),
        ("12345678", "****"),
        ("abc", "****"),
        ("ünïcödé-ßß", "****é-ßß"),
    ] {
        assert_eq!(mask(secret), shown);
    }
    for name in [
        "API_KEY",
        "apiKey",
        "apikey",
        "x-api-key",
        "MY_TOKEN",
        "githubToken",
        "DB_PASSWORD",
        "PGPASS_PASS",
        "CLIENT_SECRET",
        "privateKey",
        "AWS_ACCESS_KEY_ID",
        "Authorization",
        "Set-Cookie",
        "NPM_AUTH",
        "KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GH_PAT",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in [
        "FOO",
        "PATH",
        "baseURL",
        "KEYBOARD",
        "MONKEY",
        "PATTERN",
        "PASSENGERS",
        "AUTHOR",
        "npm",
        "COMPASS",
        "",
    ] {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn a_masked_value_keeps_the_secret_and_a_new_one_replaces_it() {
    let config = after(&[json!({
        "kilocode_token": "kilo-0123456789",
        "providers": {"p": {"keys": [{"token": "first-0123"}, {"token": "other-4567"}]}},
    })]);
    // Another mask than the present one: a page that was loaded before the secret changed.
    let kept = config.patched(&json!({"kilocode_token": "****zzzz"}));
    assert_eq!(kept.as_ref(), Ok(&config));
    let changed = config.patched(&json!({"kilocode_token": "new"})).unwrap();
    assert_eq!(changed.kilocode_token.as_deref(), Some("new"));
    // Items of a list keep their secrets when their order changes.
    let swapped = config
        .patched(
            &json!({"providers": {"p": {"keys": [{"token": "****4567"}, {"token": "****0123"}]}}}),
        )
        .unwrap();
    assert_eq!(
        swapped.providers["p"]["keys"],
        json!([{"token": "other-4567"}, {"token": "first-0123"}])
    );
    let unknown = json!({"providers": {"p": {"keys": [{"token": "****9999"}]}}});
    let issues = config.patched(&unknown).expect_err("nothing behind it");
    assert_eq!(issues[0].path, ["providers", "p", "keys", "0", "token"]);
}

#[test]
fn models_are_resolved_from_the_nearest_place() {
    let rig: RigId = RIG.parse().unwrap();
    let other = RigId::random();
    let model = |patch: Value, rig: Option<RigId>, role: AgentRole| {
        let resolved = after(&[patch]).resolve(rig, None, API);
        resolved.model_for(role).to_owned()
    };
    let all = json!({
        "default_model": "town",
        "agent_models": {"polecat": "town-polecat", "mayor": "town-mayor"},
        "rig_overrides": {RIG: {"default_model": "rig", "agent_models": {"polecat": "rig-polecat"}}},
    });
    let role_only = json!({
        "agent_models": {"polecat": "town-polecat"},
        "rig_overrides": {RIG: {"agent_models": {"refinery": "rig-refinery"}}},
    });
    for (patch, rig, role, expected) in [
        (&all, Some(rig), AgentRole::Polecat, "rig-polecat"),
        (&all, Some(rig), AgentRole::Refinery, "rig"),
        (&all, Some(other), AgentRole::Polecat, "town-polecat"),
        (&all, Some(other), AgentRole::Witness, "town"),
        (&all, None, AgentRole::Mayor, "town-mayor"),
        (&role_only, Some(rig), AgentRole::Polecat, "town-polecat"),
        (&role_only, Some(rig), AgentRole::Refinery, "rig-refinery"),
    ] {
        assert_eq!(model(patch.clone(), rig, role), expected);
    }
    assert!(model(json!({}), None, AgentRole::Mayor).contains('/'));
}

#[test]
fn the_header_carries_everything_and_debug_nothing_secret() {
    let rig: RigId = RIG.parse().unwrap();
    let config = after(&[json!({
        "env_vars": {"A": "town", "B": "é\u{7f}\n\"", "X_TOKEN": "hush-hush-hush"},
        "rig_overrides": {RIG: {"env_vars": {"A": "rig"}}},
        "kilocode_token": "town-secret-token",
        "git_auth": {"github_token": "git-secret-token"},
        "agent_server": "acp",
        "acp": {"command": ["agent", "--proxy=http://u:secret-token@proxy"]},
        "permissions": "ask",
    })]);
    let resolved = config.resolve(Some(rig), Some("rig-secret-token"), API);
    assert_eq!(resolved.env_vars["A"], "rig");
    assert_eq!(resolved.kilocode_token.as_deref(), Some("rig-secret-token"));
    assert_eq!(resolved.agent_server, AgentServer::Acp);
    assert_eq!(resolved.acp.command[0], "agent");
    let header = resolved.to_header();
    assert!(!header.chars().any(char::is_control), "{header}");
    assert_eq!(
        ResolvedTownConfig::from_header(header.as_bytes()),
        Some(resolved.clone())
    );
    assert_eq!(ResolvedTownConfig::from_header(b"{}"), None);
    for text in [format!("{resolved:?}"), format!("{config:?}")] {
        assert!(
            !text.contains("secret-token") && !text.contains("hush-hush"),
            "{text}"
        );
    }
}

#[test]
fn times_have_defaults_and_an_order() {
    let default = TownConfig::default();
    assert_eq!(default.alarm_active().as_secs(), 15);
    assert_eq!(default.alarm_idle().as_secs(), 300);
    assert_eq!(default.sleep_after(), None, "the server's setting");
    let slow = after(&[json!({"alarm_interval_active": 600})]);
    assert_eq!(slow.alarm_idle(), slow.alarm_active());
}
