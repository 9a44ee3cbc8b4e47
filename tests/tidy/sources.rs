//! The repository's files, as git lists them and as the rules read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Source {
    pub(crate) path: String,
    text: String,
}

impl Source {
    pub(crate) fn room(&self) -> String {
        let inside = self.path.trim_start_matches("src/");
        inside
            .split('/')
            .next()
            .unwrap_or(inside)
            .trim_end_matches(".rs")
            .to_owned()
    }

    /// How many `super::` lead from here to the crate's root.
    pub(crate) fn module_depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        match inside {
            "lib" | "main" => usize::MAX / 16,
            _ => inside.trim_end_matches("/mod").split('/').count(),
        }
    }

    /// The numbered lines of code: without comments, and without tests at the end of the file.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, String)> {
        let code = self
            .text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or("");
        code.lines()
            .map(|line| match line.find("//") {
                Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
                _ => line.to_owned(),
            })
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

pub(crate) fn product_sources() -> Vec<Source> {
    let sources: Vec<_> = tracked()
        .into_iter()
        .filter(|path| path.starts_with("src/") && path.ends_with(".rs") && !is_test_file(path))
        .map(|path| Source {
            text: read(&path),
            path,
        })
        .collect();
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

/// Whether the line uses `name` as a whole path segment or call.
pub(crate) fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        let inside =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        let call = name.contains("::") && after == Some('(');
        let path = !name.contains("::") && line[at + name.len()..].starts_with("::");
        !inside(before) && (call || path)
    })
}

/// Every file that git knows, by its path from the repository's root.
pub(crate) fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .split_terminator('\0')
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
pub(crate) fn assert_none(wrong: &[String], what: &str) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}
