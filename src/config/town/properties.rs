//! What holds for every patch.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::TownConfig;

const RIG: &str = "3c10b059-4b96-4f83-b6aa-67b274ccf172";

fn after(patch: &Value) -> TownConfig {
    TownConfig::default().patched(patch).expect("a sound patch")
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9é_-]{1,20}", Just("u://a:b@c".to_owned())]
}

/// Provider config as odd as JSON allows, without nulls (a merge patch can't store them) and
/// without text that is itself a mask.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any_text().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let name = prop_oneof![
            Just("apiKey"),
            Just("headers"),
            Just("options"),
            Just("token"),
            Just("a"),
            Just("b"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    })
}

fn any_patch() -> impl Strategy<Value = Value> {
    let vars = || prop::collection::btree_map("[A-Z_]{1,3}(_KEY|_TOKEN)?", any_text(), 0..4);
    let providers = prop::collection::btree_map(
        "[a-z]{1,2}",
        prop::collection::btree_map("[a-zA-Z]{1,6}|apiKey|keys", any_json(), 0..4),
        0..3,
    );
    (vars(), vars(), providers, prop::option::of(any_text())).prop_map(
        |(town, rig, providers, token)| {
            let mut patch = json!({
                "env_vars": town,
                "rig_overrides": {RIG: {"env_vars": rig}},
                "providers": providers,
            });
            if let Some(token) = token {
                patch["kilocode_token"] = json!(token);
                patch["git_auth"] = json!({"github_token": token});
            }
            patch
        },
    )
}

proptest! {
    #[test]
    fn what_is_shown_can_be_sent_back(patch in any_patch()) {
        let config = after(&patch);
        prop_assert_eq!(config.patched(&config.masked()), Ok(config.clone()));
    }

    #[test]
    fn what_is_stored_is_read_again(patch in any_patch()) {
        let config = after(&patch);
        prop_assert_eq!(TownConfig::from_json(&config.to_json()), Some(config.clone()));
        prop_assert_eq!(config.patched(&json!({})), Ok(config));
    }

    #[test]
    fn no_patch_panics(patch in any_json()) {
        let _ = TownConfig::default().patched(&patch);
        let _ = TownConfig::default().patched(&json!({"env_vars": patch, "providers": patch}));
    }
}
