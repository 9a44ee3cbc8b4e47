//! The licence of every dependency that ships is one that `packaging/deny.toml` allows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::sources::{assert_none, read, root};

#[test]
fn licences_of_dependencies_are_allowed() {
    let deny: toml::Table = read("packaging/deny.toml").parse().unwrap();
    let allowed: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version=1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shipped = shipped(&metadata["resolve"]);
    assert!(shipped.len() > 50, "the dependencies were not found");
    let wrong: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| shipped.contains(package["id"].as_str().unwrap()))
        .filter(|package| !licence_holds(package["license"].as_str().unwrap_or(""), &allowed))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert_none(&wrong, "licences that packaging/deny.toml does not allow");
}

/// The packages that end up in the program: what only tests and benchmarks use is handed to nobody.
fn shipped(resolve: &serde_json::Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &serde_json::Value> = resolve["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let mut found = BTreeSet::new();
    let mut next = vec![resolve["root"].as_str().unwrap()];
    while let Some(id) = next.pop() {
        if found.insert(id) {
            let depends = nodes[id]["deps"].as_array().unwrap().iter();
            next.extend(
                depends
                    .filter(|on| {
                        let kinds = on["dep_kinds"].as_array().unwrap();
                        kinds.iter().any(|kind| kind["kind"] != "dev")
                    })
                    .map(|on| on["pkg"].as_str().unwrap()),
            );
        }
    }
    found
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from([
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "Zlib",
    ]);
    for (expression, holds) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("(GPL-2.0 OR GPL-3.0) AND Zlib", false),
        ("GPL-2.0 OR Zlib AND MIT", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("MIT WITH LLVM-exception", false),
    ] {
        assert_eq!(licence_holds(expression, &allowed), holds, "{expression}");
    }
}

/// Whether an SPDX expression can be met with the allowed licences; AND binds closer than OR.
fn licence_holds(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let holds = either(&mut words, allowed);
    holds && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        holds |= both(words, allowed);
    }
    holds
}

fn both(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut holds = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        holds &= one(words, allowed);
    }
    holds
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let Some(word) = words.next() else {
        return false;
    };
    if word == "(" {
        let holds = either(words, allowed);
        return words.next() == Some(")") && holds;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(format!("{word} WITH {exception}").as_str()),
        None => allowed.contains(word),
    }
}
