//! The part of a polecat whose branch was sent back: bring in what the target has now, mend, hand in.

use super::casting::{Work, perform_all};
use super::player::{Failure, Player};
use super::polecat::{arguments, give_up, hand_in};
use super::script::Script;

/// What the prompt's part about it begins with.
const HEADING: &str = "## Rework ";

/// How the prompt names what is to be merged, up to the branch.
const MERGE: &str = "`git merge origin/";

/// Whether a prompt asks for it.
pub(super) fn is_asked_for(prompt: &str) -> bool {
    prompt.contains(HEADING)
}

/// Does what the prompt and the script say. Where both sides changed the same lines it keeps its
/// own, as nobody here knows better.
pub(super) async fn mend(
    player: &mut Player<'_>,
    work: &Work,
    script: &Script,
    prompt: &str,
) -> Result<(), Failure> {
    player
        .think(&format!(
            "\"{}\" came back. I see what is wrong.",
            work.title
        ))
        .await;
    player
        .say("I bring in what is there now, mend my branch and hand it in again.")
        .await;
    player.git(&arguments(&["fetch", "origin"])).await;
    for branch in named_branches(prompt) {
        let merge = format!("origin/{branch}");
        let command = ["merge", "--no-edit", "--strategy-option=ours", &merge];
        let merged = player.git(&arguments(&command)).await;
        if !merged.succeeded {
            give_up(player, "the merge failed", &merged.output).await;
            return Ok(());
        }
    }
    perform_all(player, &script.rework).await?;
    hand_in(player, work, script).await;
    Ok(())
}

/// The branches that the prompt says to merge, in its order.
fn named_branches(prompt: &str) -> Vec<&str> {
    let part = prompt.rsplit_once(HEADING).map_or("", |(_, part)| part);
    let named = part.split(MERGE).skip(1);
    named
        .filter_map(|rest| rest.split_once('`').map(|(branch, _)| branch))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_names_what_to_merge() {
        let prompt = "# Greet\n`git merge origin/no`\n\n## Rework 1 of 3\nFirst \
                      `git merge origin/gt/toast-1`, then `git merge origin/main`.";
        assert!(is_asked_for(prompt));
        assert_eq!(named_branches(prompt), ["gt/toast-1", "main"]);
        assert!(!is_asked_for("# Greet"));
    }
}
