//! The part of a polecat: do the work on the hook, commit, push, say that it is done.

use std::path::Path;

use serde_json::json;

use super::casting::{Work, perform_all};
use super::player::{Failure, Player};
use super::script::{Script, Step};

/// Where a file goes that the bead does not name.
const FOLDER: &str = "docs";

/// What may stand before and after a file's name in a sentence.
const OPENING: [char; 5] = ['`', '"', '\'', '(', '['];
const CLOSING: [char; 11] = ['`', '"', '\'', ')', ']', '.', ',', ':', ';', '!', '?'];

/// How long a file's name made from a title may be.
const SLUG_MAX: usize = 60;

/// Does the whole work of a bead.
pub(super) async fn work(
    player: &mut Player<'_>,
    work: &Work,
    script: &Script,
) -> Result<(), Failure> {
    let path = file_for(work);
    let makes_something = script.steps.iter().any(|step| {
        matches!(
            step,
            Step::Write { .. } | Step::Append { .. } | Step::Git(_)
        )
    });
    player
        .think(&format!(
            "The bead is \"{}\". I look at what is there first.",
            work.title
        ))
        .await;
    player.say(&plan(&path, makes_something)).await;
    if script.steps.is_empty() || !makes_something {
        write_default(player, work, &path).await;
    }
    perform_all(player, &script.steps).await?;
    hand_in(player, work, script).await;
    Ok(())
}

/// Commits, pushes and says that the work is done, as far as the script allows.
pub(super) async fn hand_in(player: &mut Player<'_>, work: &Work, script: &Script) {
    if !commit(player, &work.title).await || script.no_push {
        return;
    }
    let Some(branch) = push(player).await else {
        return;
    };
    if !script.no_done {
        for _ in 0..work.steps_left {
            let input = json!({"summary": format!("Done as part of {}.", file_for(work))});
            player.call("molecule_advance", input).await;
        }
        let summary = format!("{}: committed and pushed on {branch}.", work.title);
        player
            .call("done", json!({"branch": branch, "summary": summary}))
            .await;
        player
            .say("The work is committed and pushed, and I have said that it is done.")
            .await;
    }
}

/// Commits and pushes whatever is there, as an agent does that is asked to.
pub(super) async fn save(player: &mut Player<'_>, script: &Script) {
    if commit(player, "Save the work in progress").await && !script.no_push {
        push(player).await;
    }
    player.say("Everything that I have is committed.").await;
}

fn plan(path: &str, directed: bool) -> String {
    let second = if directed {
        "Do what the bead directs.".to_owned()
    } else {
        format!("Write `{path}`.")
    };
    format!(
        "Here is my plan:\n\n1. Look at the repository.\n2. {second}\n3. Commit and push my \
         branch.\n4. Say that it is done.\n"
    )
}

async fn write_default(player: &mut Player<'_>, work: &Work, path: &str) {
    let listed = player.git(&arguments(&["ls-files"])).await;
    let present = Path::new(player.directory()).join(path).exists();
    if present {
        player.read(path).await;
        player
            .append(path, &format!("\n{}", content(work, path, &listed.output)))
            .await;
    } else {
        player
            .write(path, &content(work, path, &listed.output))
            .await;
    }
}

/// Commits all changes, if there are any. `false`: git refused, and the player has said so.
async fn commit(player: &mut Player<'_>, message: &str) -> bool {
    for command in [
        arguments(&["add", "-A"]),
        arguments(&["status", "--porcelain"]),
    ] {
        let outcome = player.git(&command).await;
        if !outcome.succeeded {
            give_up(player, "git can't look at the changes", &outcome.output).await;
            return false;
        }
        if command[0] == "status" && outcome.output.trim().is_empty() {
            return true;
        }
    }
    let committed = player.git(&arguments(&["commit", "-m", message])).await;
    if !committed.succeeded {
        give_up(player, "the commit failed", &committed.output).await;
    }
    committed.succeeded
}

/// Pushes the branch; its name, or `None` if that failed and the player has said so.
async fn push(player: &mut Player<'_>) -> Option<String> {
    let named = player
        .git(&arguments(&["rev-parse", "--abbrev-ref", "HEAD"]))
        .await;
    if !named.succeeded {
        give_up(player, "the branch has no name", &named.output).await;
        return None;
    }
    let pushed = player
        .git(&arguments(&["push", "-u", "origin", "HEAD"]))
        .await;
    if !pushed.succeeded {
        give_up(player, "the push failed", &pushed.output).await;
        return None;
    }
    Some(named.output.trim().to_owned())
}

/// Tells the people who can help.
pub(super) async fn give_up(player: &mut Player<'_>, what: &str, output: &str) {
    if player.has_tool("escalate") {
        let body = format!("{what}:\n\n{output}");
        let input = json!({"title": format!("I can't go on: {what}"), "body": body});
        player.call("escalate", input).await;
    }
    player
        .say(&format!("I can't go on: {what}. {output}"))
        .await;
}

pub(super) fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The file that the bead names, or one named from its title.
fn file_for(work: &Work) -> String {
    let named = |text: &str| {
        text.split_whitespace()
            .map(|word| word.trim_start_matches(OPENING).trim_end_matches(CLOSING))
            .find(|word| is_file_name(word))
            .map(ToOwned::to_owned)
    };
    named(&work.title)
        .or_else(|| named(&work.body))
        .unwrap_or_else(|| format!("{FOLDER}/{}.md", slug(&work.title)))
}

/// A relative path that ends in a short extension, as `docs/guide.md`.
fn is_file_name(word: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
    let Some((stem, extension)) = word.rsplit_once('.') else {
        return false;
    };
    word.chars().all(plain)
        && !word.starts_with('/')
        && !word.contains("..")
        && !word.contains("//")
        // Shorter ones are abbreviations, as "e.g".
        && stem.len() > 1
        && !stem.ends_with('/')
        && (1..=4).contains(&extension.len())
        && extension
            .chars()
            .all(|character| character.is_ascii_lowercase())
}

fn slug(title: &str) -> String {
    let mut slug = String::new();
    for character in title.to_lowercase().chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    let slug = slug.trim_matches('-');
    if slug.is_empty() {
        "note".to_owned()
    } else {
        slug.to_owned()
    }
}

/// The file's text: what the bead says, and what is in the repository, in the file's own syntax.
fn content(work: &Work, path: &str, listed: &str) -> String {
    let body = match work.body.trim() {
        "" => "This file was asked for without further words.",
        body => body,
    };
    let files: Vec<_> = listed.lines().take(20).collect();
    let extension = path.rsplit('.').next().unwrap_or_default();
    let comment = match extension {
        "md" => {
            let files: String = files.iter().map(|file| format!("- `{file}`\n")).collect();
            return format!(
                "# {}\n\n{body}\n\n## What was there when this was written\n\n{files}",
                work.title
            );
        }
        "rs" | "js" | "ts" | "c" | "h" | "go" | "java" => "// ",
        "sh" | "py" | "rb" | "toml" | "yml" | "yaml" => "# ",
        _ => "",
    };
    let lines = [work.title.as_str(), ""].into_iter().chain(body.lines());
    lines
        .map(|line| format!("{comment}{line}").trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled(title: &str, body: &str) -> Work {
        Work {
            title: title.to_owned(),
            body: body.to_owned(),
            steps_left: 0,
        }
    }

    #[track_caller]
    fn check(title: &str, body: &str, path: &str) {
        assert_eq!(file_for(&titled(title, body)), path);
    }

    #[test]
    fn the_file_is_the_one_that_is_named() {
        check("Add `docs/guide.md`, please", "", "docs/guide.md");
        check("Greet people", "Put it into hello.txt.", "hello.txt");
        check(
            "Greet people: e.g. all!",
            "",
            "docs/greet-people-e-g-all.md",
        );
        check(
            "Read http://example.org/a.md",
            "",
            "docs/read-http-example-org-a-md.md",
        );
        check("Change ../../etc/x.md", "", "docs/change-etc-x-md.md");
        check("Change /etc/x.md", "", "docs/change-etc-x-md.md");
        check("???", "", "docs/note.md");
    }

    #[test]
    fn the_content_says_what_was_asked() {
        let text = content(
            &titled("Greet", "Say hello."),
            "docs/greet.md",
            "README.md\n",
        );
        assert!(text.starts_with("# Greet\n\nSay hello.\n"));
        assert!(text.contains("- `README.md`"));
        assert_eq!(
            content(&titled("Greet", "a\nb"), "x.py", ""),
            "# Greet\n#\n# a\n# b\n"
        );
    }
}
