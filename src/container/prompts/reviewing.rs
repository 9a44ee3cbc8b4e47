//! The prompts of a review: the branch that the refinery looks at, and what a polecat must mend.

/// Everything a review's prompt speaks of.
#[derive(Clone, Debug)]
pub struct ReviewPrompt<'a> {
    /// The branch.
    pub branch: &'a str,
    /// The commit that is to be approved.
    pub head: Option<&'a str>,
    /// What it is to be merged into.
    pub target: &'a str,
    /// The work's title.
    pub title: &'a str,
    /// The work's text.
    pub body: Option<&'a str>,
    /// What its author says of it.
    pub summary: Option<&'a str>,
    /// A pull request on a hosting platform.
    pub pr_url: Option<&'a str>,
    /// Commands that run by themselves before the merge.
    pub gates: &'a [String],
    /// How often it was sent back already.
    pub reworks: u32,
}

/// What a polecat is told whose branch was sent back.
#[derive(Clone, Debug)]
pub struct ReworkPrompt<'a> {
    /// The branch.
    pub branch: &'a str,
    /// Whether it is the branch that is checked out.
    pub is_own: bool,
    /// What it is to be merged into.
    pub target: &'a str,
    /// What is wrong with it.
    pub what: &'a str,
    /// Which time this is.
    pub round: u32,
    /// How often it may be.
    pub rounds_max: u32,
}

/// The prompt that puts a merge request on the refinery's hook.
#[must_use]
pub fn review_prompt(prompt: &ReviewPrompt<'_>) -> String {
    let ReviewPrompt { branch, target, .. } = prompt;
    let at = prompt
        .head
        .map_or_else(|| format!("origin/{branch}"), str::to_owned);
    let mut sections = vec![format!(
        "This merge request is on your hook. Review it now.\n\n# Review of {branch}\n\
         It is to be merged into {target}. Look at it with `git fetch origin` and \
         `git diff origin/{target}...{at}`."
    )];
    if let Some(head) = prompt.head {
        sections.push(format!(
            "Your verdict is about commit {head}. What is pushed after it needs another one."
        ));
    }
    if prompt.reworks > 0 {
        sections.push(format!(
            "It was sent back {} times and mended. Look first at whether what was wrong is right now.",
            prompt.reworks
        ));
    }
    if let Some(pr_url) = prompt.pr_url {
        sections.push(format!("Its pull request: {pr_url}"));
    }
    let body = prompt.body.map_or("", str::trim);
    sections.push(format!(
        "## The work that it was made for\n{}\n\n{body}",
        prompt.title.trim()
    ));
    if let Some(summary) = given(prompt.summary) {
        sections.push(format!("## What its author says\n{summary}"));
    }
    if !prompt.gates.is_empty() {
        let gates: String = prompt
            .gates
            .iter()
            .map(|gate| format!("- `{gate}`\n"))
            .collect();
        sections.push(format!(
            "## Gates that run before the merge by themselves\n{gates}"
        ));
    }
    sections.push(
        "Call gt_review_approve or gt_review_request_changes when you have come to a verdict."
            .to_owned(),
    );
    sections.join("\n\n")
}

/// A bead's prompt with what must be mended first.
#[must_use]
pub fn with_rework(bead_prompt: &str, rework: &ReworkPrompt<'_>) -> String {
    let ReworkPrompt {
        branch,
        target,
        what,
        round,
        rounds_max,
        ..
    } = rework;
    let begin = if rework.is_own {
        format!("Your branch {branch} is checked out.")
    } else {
        format!(
            "Somebody else began this on branch {branch}: begin with `git fetch origin` and \
             `git merge origin/{branch}`."
        )
    };
    format!(
        "{bead_prompt}\n\n## Rework {round} of {rounds_max}\n\
         This work was handed in, but the branch could not be merged into {target}. Mend it:\n\n\
         {}\n\n\
         {begin} Bring in what {target} has now with `git fetch origin` and \
         `git merge origin/{target}`; solve every conflict so that both sides keep their meaning. \
         Then mend what is named above, run the checks, commit, push, and call gt_done again. \
         Do not begin anew and do not rewrite commits that are pushed.",
        what.trim()
    )
}

fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_names_the_branch_the_work_and_the_verdicts() {
        let gates = ["make check".to_owned()];
        let text = review_prompt(&ReviewPrompt {
            head: Some("c0ffee"),
            branch: "gt/toast-1",
            target: "main",
            title: "Paint the door",
            body: Some("Green."),
            summary: Some("It is green now."),
            pr_url: Some("https://git.example/pull/3"),
            gates: &gates,
            reworks: 1,
        });
        for part in [
            "origin/main...c0ffee",
            "about commit c0ffee",
            "Paint the door\n\nGreen.",
            "It is green now.",
            "pull/3",
            "`make check`",
            "sent back 1 times",
            "gt_review_approve",
            "gt_review_request_changes",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_rework_says_what_is_wrong_and_where_to_begin() {
        let rework = |is_own| {
            with_rework(
                "# Paint the door",
                &ReworkPrompt {
                    branch: "gt/toast-1",
                    is_own,
                    target: "trunk",
                    what: "door.txt conflicts",
                    round: 2,
                    rounds_max: 3,
                },
            )
        };
        for own in [true, false] {
            let text = rework(own);
            for part in [
                "Rework 2 of 3",
                "door.txt conflicts",
                "git merge origin/trunk",
                "gt_done",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(text.contains("git merge origin/gt/toast-1"), !own);
        }
    }
}
