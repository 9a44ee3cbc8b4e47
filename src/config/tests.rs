use std::path::PathBuf;
use std::time::Duration;

use super::{
    CONFIG_FILE_ENV, Error, FileChoice, Isolation, Layers, SETTINGS, Setting, SettingKind,
    Settings, Source,
};

/// The layers below the flags, as a test writes them.
#[derive(Default)]
struct Given<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a str)],
}

fn setting(key: &str) -> &'static Setting {
    let found = SETTINGS.iter().find(|setting| setting.key == key);
    found.expect("a setting's key")
}

fn layers(given: &Given<'_>) -> Result<Layers, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gastownd.toml");
    std::fs::write(&path, given.file).unwrap();
    let environment = given.environment.iter();
    let flags = given.flags.iter();
    Layers::gather(
        FileChoice::Named(path),
        environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        flags.map(|(key, value)| (setting(key), (*value).to_owned())),
    )
}

fn settings(given: &Given<'_>) -> Result<Settings, Error> {
    Settings::from_layers(&layers(given)?)
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let settings = Settings::for_data_dir("/x");
    assert_eq!(settings.data_dir, PathBuf::from("/x"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(settings.isolation, Isolation::Bubblewrap);
    assert!(!settings.no_auth && !settings.allow_local_repos && !settings.allow_http_repos);
    assert_eq!((settings.public_url, settings.agent_program), (None, None));
    assert_eq!(settings.container.linger, Duration::from_secs(600));
    assert_eq!(settings.storage.cache, 32 << 20);
    assert_eq!(settings.dispatch.backoff_min, Duration::from_secs(30));
    assert_eq!(settings.dispatch.backoff_max, Duration::from_secs(600));
    assert_eq!(settings.dispatch.attempts_max, 5);
    assert_eq!(settings.http.body_max, 1 << 20);
    assert_eq!(settings.shutdown_grace, Duration::from_secs(10));
    assert_eq!(settings.retention.days, 7);
    assert_eq!(settings.asks.escalate_after, Duration::from_secs(300));
    assert_eq!(settings.notify_command, None);
}

#[test]
fn the_three_names_of_a_setting_follow_one_pattern() {
    for setting in SETTINGS {
        assert_eq!(setting.flag, setting.key.replace(['.', '_'], "-"));
        let env = setting.key.replace('.', "_").to_ascii_uppercase();
        assert_eq!(setting.env, format!("GASTOWND_{env}"));
        assert_ne!(setting.env, CONFIG_FILE_ENV);
        assert!(!setting.help.ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn every_setting_is_read_and_checked() {
    for setting in SETTINGS {
        // NUL is wrong for each of them but paths, which are only opened later.
        let (flags, part) = match setting.key {
            "data_dir" => ([(setting.key, "")], "must be a path"),
            "agent_program" | "notify_command" | "reconcile_record" => continue,
            _ => ([(setting.key, "\0")], "must"),
        };
        let given = Given {
            flags: &flags,
            ..Given::default()
        };
        let error = settings(&given).expect_err(setting.key).to_string();
        assert!(
            error.contains(setting.key) && error.contains(part),
            "{error}"
        );
        assert!(error.contains(&format!("--{}", setting.flag)), "{error}");
    }
}

#[test]
fn each_layer_covers_the_one_below() {
    let file = "log = \"warn\"\nlisten = \"127.0.0.1:1\"\n[dispatch]\nattempts_max = 3\n";
    let environment = [
        ("GASTOWND_LISTEN", "127.0.0.1:2"),
        ("GASTOWND_DATA_DIR", "/env"),
        ("GASTOWND_LOG", ""),
        ("GASTOWND_SERVICE_HOST", "10.0.0.1"),
        ("OTHER", "x"),
    ];
    let layers = layers(&Given {
        file,
        environment: &environment,
        flags: &[("data_dir", "/flag")],
    })
    .unwrap();
    let source = |key| layers.get(setting(key)).1;
    assert!(matches!(source("log"), Source::File(_)));
    assert_eq!(source("listen"), Source::Environment("GASTOWND_LISTEN"));
    assert_eq!(source("data_dir"), Source::Flag("data-dir"));
    assert_eq!(source("isolation"), Source::Default);
    assert_eq!(layers.unknown_env(), ["GASTOWND_SERVICE_HOST"]);
    let settings = Settings::from_layers(&layers).unwrap();
    assert_eq!(settings.log, "warn");
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.data_dir, PathBuf::from("/flag"));
    assert_eq!(settings.dispatch.attempts_max, 3);
}

#[test]
fn every_key_of_the_file_is_accepted_in_its_table() {
    let mut file = toml::Table::new();
    for setting in SETTINGS
        .iter()
        .filter(|setting| !setting.default.is_empty())
    {
        let value = match setting.kind {
            SettingKind::Switch => toml::Value::Boolean(false),
            SettingKind::Value(_) => toml::Value::String(setting.default.to_owned()),
        };
        match setting.key.split_once('.') {
            None => file.insert(setting.key.to_owned(), value),
            Some((table, name)) => file
                .entry(table)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .unwrap()
                .insert(name.to_owned(), value),
        };
    }
    let settings = settings(&Given {
        file: &file.to_string(),
        ..Given::default()
    });
    let expected = Settings::for_data_dir("/var/lib/gastownd");
    assert_eq!(settings.unwrap(), expected);
}

#[test]
fn a_wrong_file_is_explained() {
    for (file, parts) in [
        ("lissten = \"x\"", vec!["unknown key `lissten`", "`listen`"]),
        (
            "[container]\nlingr = \"1m\"",
            vec!["`container.lingr`", "`container.linger`"],
        ),
        ("linger = \"1m\"", vec!["`linger`", "`container.linger`"]),
        ("[zebra]\nx = 1", vec!["unknown key `zebra`", "nearest"]),
        (
            "listen = 1.5",
            vec!["`listen`", "must not be of type float"],
        ),
        ("listen = [\"x\"]", vec!["`listen`", "type array"]),
        ("\nlisten = ", vec!["line 2"]),
        (
            "[container]\nlinger = 10",
            vec!["`container.linger`", "must be a duration"],
        ),
        ("container = 7", vec!["unknown key `container`"]),
    ] {
        let error = settings(&Given {
            file,
            ..Given::default()
        });
        let text = error.expect_err(file).to_string();
        assert!(text.contains("gastownd.toml"), "{text}");
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
    let missing = Layers::gather(FileChoice::Named("/nonexistent/x.toml".into()), [], []);
    assert!(matches!(missing, Err(Error::FileUnreadable { .. })));
    let by_environment = [(CONFIG_FILE_ENV.to_owned(), "/nonexistent/y.toml".to_owned())];
    let missing = Layers::gather(FileChoice::Usual, by_environment, []).expect_err("no such file");
    assert!(missing.to_string().contains("/nonexistent/y.toml"));
}

#[test]
fn values_are_checked_one_by_one_and_together() {
    for (flags, outcome) in [
        (vec![("listen", "localhost:0")], Ok(())),
        (vec![("listen", "[::1]:0"), ("no_auth", "true")], Ok(())),
        (vec![("listen", "0.0.0.0:80")], Ok(())),
        (
            vec![("listen", "0.0.0.0:80"), ("no_auth", "true")],
            Err("loopback"),
        ),
        (vec![("listen", "8787")], Err("an address and a port")),
        (vec![("no_auth", "maybe")], Err("true or false")),
        (vec![("isolation", "docker")], Err("bubblewrap or none")),
        (vec![("log", "gastownd=loud")], Err("must be a level")),
        (vec![("public_url", "https://town.example.org/")], Ok(())),
        (
            vec![("public_url", "town.example.org")],
            Err("must be like https"),
        ),
        (
            vec![("public_url", "https://u:p@town.example.org")],
            Err("without user"),
        ),
        (vec![("storage.cache", "1MiB")], Err("from 4MiB to 64GiB")),
        (vec![("http.connections_max", "7")], Err("from 8 to")),
        (vec![("shutdown_grace", "5m")], Err("from 100ms to")),
        (
            vec![("dispatch.backoff_min", "20m")],
            Err("longer than dispatch.backoff_max"),
        ),
        (
            vec![
                ("dispatch.backoff_min", "20m"),
                ("dispatch.backoff_max", "1h"),
            ],
            Ok(()),
        ),
    ] {
        let found = settings(&Given {
            flags: &flags,
            ..Given::default()
        });
        match (found, outcome) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error} lacks {part:?}");
            }
            (found, _) => panic!("{flags:?}: {found:?}"),
        }
    }
}

#[test]
fn paths_and_addresses_are_made_whole() {
    let flags = [
        ("data_dir", "some/where"),
        ("public_url", "https://town.example.org/base/"),
        ("agent_program", "bin/opencode"),
    ];
    let settings = settings(&Given {
        flags: &flags,
        ..Given::default()
    })
    .unwrap();
    assert!(settings.data_dir.is_absolute() && settings.data_dir.ends_with("some/where"));
    assert!(settings.agent_program.unwrap().is_absolute());
    assert_eq!(
        settings.public_url.unwrap(),
        "https://town.example.org/base"
    );
}
