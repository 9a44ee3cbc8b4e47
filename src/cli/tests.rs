use std::error::Error as _;
use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use super::arguments::{Arguments, Command, ConfigAction};
use super::config_command::shown;
use super::{Error, run};
use crate::config::{FileChoice, Layers, SETTINGS, Settings};

fn parse(line: &str) -> Result<Command, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
}

fn run_line(line: &str) -> Result<u8, Error> {
    run(line.split(' ').map(OsString::from))
}

/// The help of a command, long or short.
fn help(command: &str, flag: &str) -> String {
    parse(&format!("gastownd {command} {flag}"))
        .expect_err("help is an answer of its own")
        .to_string()
}

#[test]
fn the_commands_are_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_setting_has_a_flag_and_stands_in_the_help() {
    let flags: Vec<String> = SETTINGS
        .iter()
        .map(|setting| format!("--{}={}", setting.flag, "x"))
        .collect();
    let line = format!("gastownd config show {}", flags.join(" "));
    assert!(matches!(parse(&line), Ok(Command::Config { .. })));
    let help = help("config show", "--help");
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        assert!(words.contains(&format!("--{}", setting.flag)), "{help}");
        assert!(words.contains(setting.help), "{} in {help}", setting.key);
        assert!(words.contains(&format!("[env: {}]", setting.env)), "{help}");
    }
}

#[test]
fn help_shows_examples_and_hides_what_is_not_for_people() {
    let help_of_all = help("", "--help");
    for part in ["serve", "demo", "config", "Examples:", "gastownd demo"] {
        assert!(help_of_all.contains(part), "{help_of_all}");
    }
    for hidden in ["guard", "git-credential", "container"] {
        assert!(!help_of_all.contains(hidden), "{help_of_all}");
    }
}

#[test]
fn a_switch_needs_no_value_and_takes_one() {
    for (flags, expected) in [
        ("--no-auth", true),
        ("--no-auth=true", true),
        ("--no-auth=false", false),
    ] {
        let line = format!("gastownd config check {flags}");
        let Ok(Command::Config {
            action: ConfigAction::Check(flags),
        }) = parse(&line)
        else {
            panic!("{line} is config check");
        };
        let settings = Settings::from_layers(&flags.over([]).unwrap()).unwrap();
        assert_eq!(settings.no_auth, expected);
    }
}

#[test]
fn the_guard_gets_its_arguments_as_they_are() {
    for (line, expected) in [
        (
            "gastownd guard -- prog --help -x",
            vec!["prog", "--help", "-x"],
        ),
        (
            "gastownd guard --inner -- prog -- y",
            vec!["--inner", "--", "prog", "--", "y"],
        ),
        (
            "gastownd guard --program-of=7 -- prog",
            vec!["--program-of=7", "--", "prog"],
        ),
    ] {
        let Ok(Command::Guard { arguments }) = parse(line) else {
            panic!("{line} is guard");
        };
        assert_eq!(arguments, expected, "{line}");
    }
    assert!(parse("gastownd guard").is_err());
}

#[test]
fn what_the_server_starts_is_understood() {
    let line = "gastownd container --town-id 3c10b059-4b96-4f83-b6aa-67b274ccf172 \
                --socket /run/s --workspace /w --linger 90s --allow-local-repos \
                --memory-max 1000000000 --processes-max 100 --open-files-max 2000 \
                --recycle-above 500000000 --hung-after 90s --model-wait 5m";
    let Ok(Command::Container(arguments)) = parse(line) else {
        panic!("{line} is container");
    };
    assert_eq!(arguments.linger.as_secs(), 90);
    assert_eq!(arguments.memory_max, 1_000_000_000);
    assert!(arguments.allow_local_repos && arguments.guard.is_none());
    assert!(parse("gastownd container --town-id x --socket /s --workspace /w").is_err());
    let Ok(Command::GitCredential { arguments }) = parse("gastownd git-credential get") else {
        panic!("git's question");
    };
    assert_eq!(arguments, ["get"]);
}

#[test]
fn exit_codes_tell_whose_mistake_it_is() {
    for (line, code) in [
        ("gastownd --version", 0),
        ("gastownd", 2),
        ("gastownd sevre", 2),
        ("gastownd config --no-such-flag", 2),
        ("gastownd config check --listen 0.0.0.0:80 --no-auth", 2),
        (
            "gastownd config check --config /nonexistent/gastownd.toml",
            2,
        ),
    ] {
        let error = run_line(line).expect_err(line);
        assert_eq!(error.exit_code(), code, "{line}: {error}");
    }
    let missing = run_line("gastownd config show --config /nonexistent/x").expect_err("no file");
    assert_eq!(missing.to_string(), "read the config file /nonexistent/x");
    assert!(
        missing.source().is_some(),
        "the cause is kept for the chain"
    );
}

#[test]
fn what_config_show_prints_is_a_config_file() {
    let flags = SETTINGS
        .iter()
        .filter(|setting| setting.key == "agent_program" || setting.key == "storage.cache")
        .map(|setting| match setting.key {
            "storage.cache" => (setting, "64MiB".to_owned()),
            _ => (setting, "/opt/a \"b\"\\c".to_owned()),
        });
    let layers = Layers::gather(FileChoice::None, [], flags).unwrap();
    let text = shown(&layers);
    assert!(text.contains("# --storage-cache"), "{text}");
    assert!(text.contains("# public_url is not set"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shown.toml");
    std::fs::write(&path, &text).unwrap();
    let again = Layers::gather(FileChoice::Named(path), [], []).unwrap();
    assert_eq!(
        Settings::from_layers(&again).unwrap(),
        Settings::from_layers(&layers).unwrap()
    );
}
