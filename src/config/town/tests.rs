use super::TownConfig;

#[test]
fn nothing_set() {
    let shown = TownConfig::default().masked();
    assert_eq!(shown, serde_json::json!({"env_vars": {}, "git_auth": {}}));
}
