//! Rules of the house that no compiler checks, read off the sources themselves.
//!
//! The rules are those of `src/ARCHITECTURE.md`. A rule that is in the way is changed there and here
//! in one commit; a single exception stands beside its rule with the reason.
#![expect(
    clippy::unwrap_used,
    reason = "a panic that names its line is how a test fails"
)]

#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::fs;

use sources::{Source, assert_none, is_test_file, names, product_sources, read, root, tracked};

/// Ground: may be used by every room and uses no room.
const GROUND: &[&str] = &["model", "clock", "lifecycle", "telemetry", "config"];

/// Each room with the rooms below it that it may use, ground aside.
const ROOMS: &[(&str, &[&str])] = &[
    ("storage", &[]),
    ("agent_log", &["storage"]),
    ("stream", &["agent_log", "storage"]),
    ("sdk", &[]),
    ("container", &["sdk", "stream", "agent_log", "storage"]),
    ("notify", &[]),
    (
        "town",
        &["container", "notify", "stream", "agent_log", "storage"],
    ),
    ("dashboard", &[]),
    ("mcp", &["town", "stream", "agent_log"]),
    (
        "http",
        &[
            "dashboard",
            "mcp",
            "town",
            "container",
            "stream",
            "agent_log",
            "storage",
        ],
    ),
    // Assembly: the one file that knows every room.
    (
        "server",
        &[
            "http",
            "mcp",
            "town",
            "notify",
            "container",
            "stream",
            "agent_log",
            "storage",
        ],
    ),
    // `town` for the demo, which gives its work as a person would; `sdk` for the hidden subcommand
    // `guard`, which is a body of its own.
    ("cli", &["server", "town", "container", "storage", "sdk"]),
];

/// What only the named places may say: libraries and calls with one door.
const DOORS: &[(&str, &[&str])] = &[
    ("sled", &["storage"]),
    ("bincode", &["storage"]),
    ("hyper", &["http", "mcp", "sdk", "container"]),
    ("hyper_util", &["http", "mcp", "sdk", "container"]),
    ("fastwebsockets", &["stream", "http", "container"]),
    ("sse_stream", &["sdk"]),
    ("rmcp", &["mcp"]),
    ("agent_client_protocol", &["sdk"]),
    ("clap", &["cli"]),
    ("Command::new", &["container", "notify", "sdk"]),
    ("tokio::spawn", &["lifecycle"]),
    ("task::spawn", &["lifecycle"]),
    ("SystemTime::now", &["clock"]),
    ("process::exit", &["main"]),
];

/// Past this a file has a seam that nobody looked for.
const FILE_LINES_MAX: usize = 600;

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "benches",
    "fuzz",
    "packaging",
    "src",
    "tests",
];

#[test]
fn arrows_between_rooms_point_down() {
    let mut wrong = Vec::new();
    for source in product_sources() {
        let from = source.room();
        for (number, line) in source.lines() {
            for to in rooms_named_in(&line) {
                if !may_use(&from, &to) {
                    wrong.push(format!("{}:{number}: {from} uses {to}", source.path));
                }
            }
        }
        let depth = source.module_depth();
        for (number, line) in source.lines() {
            if line.matches("super::").count() >= depth && line.contains(&"super::".repeat(depth)) {
                let path = &source.path;
                wrong.push(format!(
                    "{path}:{number}: leaves its room by super::, use crate::"
                ));
            }
        }
    }
    assert_none(&wrong, "arrows that point up or sideways");
}

#[test]
fn every_room_is_known() {
    let known: BTreeSet<&str> = ROOMS
        .iter()
        .map(|(room, _)| *room)
        .chain(GROUND.iter().copied())
        .collect();
    let wrong: Vec<_> = product_sources()
        .iter()
        .map(Source::room)
        .filter(|room| !known.contains(room.as_str()) && room != "main" && room != "lib")
        .collect();
    assert_none(&wrong, "rooms without a place in the table of this file");
}

#[test]
fn each_library_has_one_door() {
    let mut wrong = Vec::new();
    for source in product_sources() {
        let room = source.room();
        for (number, line) in source.lines() {
            for (name, doors) in DOORS {
                if names(&line, name) && !doors.contains(&room.as_str()) {
                    wrong.push(format!(
                        "{}:{number}: {name} belongs in {doors:?}",
                        source.path
                    ));
                }
            }
        }
    }
    assert_none(&wrong, "libraries used outside their door");
}

#[test]
fn files_are_documented_and_of_a_readable_size() {
    let mut wrong = Vec::new();
    for path in tracked() {
        let Some(kind) = path
            .rsplit('.')
            .next()
            .filter(|kind| ["rs", "js", "css"].contains(kind))
        else {
            continue;
        };
        let text = read(&path);
        let count = text.lines().count();
        if count > FILE_LINES_MAX {
            wrong.push(format!("{path}: {count} lines, look for a seam"));
        }
        let documented = match kind {
            "rs" => text.starts_with("//!") || text.starts_with("#![doc") || is_test_file(&path),
            "js" => text.starts_with("//"),
            _ => text.starts_with("/*"),
        };
        if !documented {
            wrong.push(format!("{path}: begins without saying what it is for"));
        }
    }
    assert_none(&wrong, "files");
}

#[test]
fn no_test_is_switched_off() {
    let mark = concat!("#[", "ignore");
    let wrong: Vec<_> = tracked()
        .into_iter()
        .filter(|path| path.ends_with(".rs") && read(path).contains(mark))
        .collect();
    assert_none(&wrong, "ignored tests");
}

#[test]
fn the_top_level_is_fixed() {
    let entries: BTreeSet<String> = tracked()
        .iter()
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(&entry.as_str()))
        .collect();
    assert_none(&Vec::from_iter(entries), "entries at the top level");
}

/// The sources name no package registry's host (the tools know them) and no path of somebody's
/// machine. The words are put together here so that this file passes its own test.
#[test]
fn sources_name_no_registry_and_no_private_path() {
    let hosts = [
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("deb.debian", ".org"),
    ];
    let folder = concat!("/wo", "rk/");
    let mut wrong = Vec::new();
    for path in tracked().into_iter().filter(|path| path != "Cargo.lock") {
        let bytes = fs::read(root().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            let private = line.match_indices(folder).any(|(at, _)| {
                !line[..at]
                    .ends_with(|before: char| before.is_alphanumeric() || ".}>-_".contains(before))
            });
            if private || hosts.iter().any(|host| line.contains(host)) {
                wrong.push(format!("{path}:{}: {line:.120}", number + 1));
            }
        }
    }
    assert_none(&wrong, "names of this or that machine");
}

#[test]
fn the_packaged_config_names_every_setting_with_its_default() {
    let text = read("packaging/gastownd.toml");
    // An optional setting's line shows an example, so only its key is compared.
    let file = text.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let file: toml::Table = file
        .parse()
        .expect("with its comment marks removed it is TOML");
    let mut left: BTreeSet<String> = BTreeSet::new();
    for (key, value) in &file {
        match value.as_table() {
            Some(table) => left.extend(table.keys().map(|inner| format!("{key}.{inner}"))),
            None => {
                left.insert(key.clone());
            }
        }
    }
    for setting in gastownd::config::SETTINGS {
        assert!(
            left.remove(setting.key),
            "{} is not in the packaged file",
            setting.key
        );
        let value = setting
            .key
            .split('.')
            .try_fold(&toml::Value::Table(file.clone()), |table, name| {
                table.get(name)
            })
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            });
        let default = setting.default;
        assert!(
            default.is_empty() || value.as_deref() == Some(default),
            "{}: the file says {value:?}, the default is {default}",
            setting.key
        );
    }
    assert_none(
        &Vec::from_iter(left),
        "keys of the packaged file that are no settings",
    );
}

#[test]
fn the_rules_see_what_they_forbid() {
    for (line, rooms) in [
        ("use crate::town::Handle;", vec!["town"]),
        (
            "use crate::{clock::Clock, storage::{self, Tree}};",
            vec!["clock", "storage"],
        ),
        ("let x = crate::http::route();", vec!["http"]),
        ("use crate::Unrelated;", vec![]),
    ] {
        assert_eq!(rooms_named_in(line), rooms, "{line}");
    }
    assert!(may_use("town", "storage") && may_use("town", "clock") && may_use("town", "town"));
    assert!(!may_use("storage", "town") && !may_use("town", "sdk") && !may_use("model", "storage"));
    for (line, name, said) in [
        ("let db = sled::Config::new();", "sled", true),
        ("let assembled = 1;", "sled", false),
        (
            "tokio::process::Command::new(program)",
            "Command::new",
            true,
        ),
        ("Command::news()", "Command::new", false),
        ("tokio::spawn(async {})", "tokio::spawn", true),
        ("tokio::task::spawn_blocking(work)", "task::spawn", false),
    ] {
        assert_eq!(names(line, name), said, "{name} in {line}");
    }
}

fn may_use(from: &str, to: &str) -> bool {
    if from == to || from == "lib" || GROUND.contains(&to) {
        return true;
    }
    if from == "main" {
        return to == "cli";
    }
    ROOMS
        .iter()
        .any(|(room, below)| *room == from && below.contains(&to))
}

/// The rooms that a line names by `crate::room` or `crate::{room, other::Thing}`.
fn rooms_named_in(line: &str) -> Vec<String> {
    let is_room = |word: &String| {
        ROOMS.iter().any(|(room, _)| room == word) || GROUND.contains(&word.as_str())
    };
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = Vec::new();
    for (at, mark) in line.match_indices("crate::") {
        let rest = &line[at + mark.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group.split([',', '{']).map(word)),
            None => found.push(word(rest)),
        }
    }
    found.retain(is_room);
    found
}

fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && rest.contains('=') => rest,
        _ => line,
    }
}
