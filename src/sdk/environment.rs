//! The environment of an agent program: nothing of ours but what is named here.
//!
//! The variables are those that opencode and Kilo read. Kilo is a relative of opencode and has
//! the same ones under its own prefix.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Where programs are looked for if we were not told.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is particular to a program of the opencode family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// The program's name on `PATH`, its Basic auth user, and what it calls itself.
    pub(super) name: &'static str,
    prefix: &'static str,
    extra: &'static [(&'static str, &'static str)],
}

pub(super) const OPENCODE: Dialect = Dialect {
    name: "opencode",
    prefix: "OPENCODE",
    extra: &[],
};

pub(super) const KILO: Dialect = Dialect {
    name: "kilo",
    prefix: "KILO",
    extra: &[("KILO_TELEMETRY_LEVEL", "off")],
};

/// The program and its secrets, from which its environment is made.
pub(super) struct Setting<'a> {
    pub(super) dialect: Dialect,
    pub(super) home: &'a Path,
    pub(super) config: &'a serde_json::Value,
    pub(super) password: &'a str,
    pub(super) env: &'a BTreeMap<String, String>,
}

/// All variables of an agent program of the opencode family. Those that the owner added win over the
/// defaults, but not over what makes the server ours: home, config and password.
pub(super) fn environment(setting: &Setting<'_>) -> BTreeMap<OsString, OsString> {
    let prefix = setting.dialect.prefix;
    let mut defaults = vec![(OsString::from("npm_config_offline"), OsStr::new("true"))];
    // The server listens on loopback and finds nothing else out by itself.
    for name in [
        "DISABLE_MODELS_FETCH",
        "DISABLE_AUTOUPDATE",
        "DISABLE_LSP_DOWNLOAD",
    ] {
        defaults.push((format!("{prefix}_{name}").into(), OsStr::new("1")));
    }
    for (name, value) in setting.dialect.extra {
        defaults.push((OsString::from(name), OsStr::new(value)));
    }
    let mut variables = variables(setting.home, setting.env, &defaults);
    variables.insert(
        format!("{prefix}_CONFIG_CONTENT").into(),
        setting.config.to_string().into(),
    );
    variables.insert(
        format!("{prefix}_SERVER_PASSWORD").into(),
        setting.password.into(),
    );
    variables
}

/// All variables of an agent program of which nothing particular is known.
pub(super) fn plain_environment(
    home: &Path,
    env: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    variables(home, env, &[])
}

/// What every agent program needs, `defaults`, the owner's variables over them, and our home.
fn variables(
    home: &Path,
    env: &BTreeMap<String, String>,
    defaults: &[(OsString, &OsStr)],
) -> BTreeMap<OsString, OsString> {
    let mut variables = BTreeMap::from([
        (OsString::from("PATH"), search_path()),
        ("LANG".into(), "C.UTF-8".into()),
        ("TERM".into(), "dumb".into()),
    ]);
    variables.extend(
        defaults
            .iter()
            .map(|(name, value)| (name.clone(), OsString::from(value))),
    );
    variables.extend(
        env.iter()
            .map(|(name, value)| (name.into(), OsString::from(value))),
    );
    variables.insert("HOME".into(), home.into());
    variables
}

/// Our own `PATH`.
pub(super) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(dialect: Dialect, env: &[(&str, &str)], name: &str) -> Option<String> {
        let env = env
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let setting = Setting {
            dialect,
            home: Path::new("/home/of/the/agents"),
            config: &serde_json::json!({"model": "p/m"}),
            password: "secret",
            env: &env,
        };
        environment(&setting)
            .get(OsStr::new(name))
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[track_caller]
    fn check(dialect: Dialect, env: &[(&str, &str)], name: &str, expected: Option<&str>) {
        assert_eq!(value(dialect, env, name).as_deref(), expected);
    }

    #[test]
    fn each_dialect_has_its_prefix() {
        check(
            OPENCODE,
            &[],
            "OPENCODE_CONFIG_CONTENT",
            Some(r#"{"model":"p/m"}"#),
        );
        check(KILO, &[], "KILO_CONFIG_CONTENT", Some(r#"{"model":"p/m"}"#));
        check(KILO, &[], "OPENCODE_CONFIG_CONTENT", None);
        check(KILO, &[], "KILO_TELEMETRY_LEVEL", Some("off"));
        check(OPENCODE, &[], "OPENCODE_SERVER_PASSWORD", Some("secret"));
    }

    #[test]
    fn a_program_that_nobody_knows_gets_the_least() {
        let env = BTreeMap::from([("API_KEY".to_owned(), "k".to_owned())]);
        let variables = plain_environment(Path::new("/home"), &env);
        let names: Vec<_> = variables
            .keys()
            .map(|name| name.to_str().unwrap())
            .collect();
        assert_eq!(names, ["API_KEY", "HOME", "LANG", "PATH", "TERM"]);
    }

    #[test]
    fn nothing_of_ours_is_handed_on() {
        check(OPENCODE, &[], "CARGO_MANIFEST_DIR", None);
        check(OPENCODE, &[], "HOME", Some("/home/of/the/agents"));
    }

    #[test]
    fn the_owner_adds_but_does_not_take_over() {
        check(
            OPENCODE,
            &[("npm_config_offline", "false")],
            "npm_config_offline",
            Some("false"),
        );
        check(OPENCODE, &[("API_KEY", "k")], "API_KEY", Some("k"));
        check(
            OPENCODE,
            &[("HOME", "/root")],
            "HOME",
            Some("/home/of/the/agents"),
        );
        check(
            OPENCODE,
            &[("OPENCODE_SERVER_PASSWORD", "")],
            "OPENCODE_SERVER_PASSWORD",
            Some("secret"),
        );
    }
}
