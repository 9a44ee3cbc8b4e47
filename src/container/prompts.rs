//! What agents are told: a system prompt per role, and the prompt that puts a bead on the hook.
//!
//! The texts are for a model. They name the tools that the server offers over MCP as the agent sees
//! them (`gt_...`), say what is expected in which order, and leave out what the agent can't act on.

mod conversation;
mod reviewing;

pub use conversation::{Conversation, with_conversation};
pub use reviewing::{ReviewPrompt, ReworkPrompt, review_prompt, with_rework};

use crate::model::AgentRole;

/// Everything a system prompt speaks of.
#[derive(Clone, Debug)]
pub struct RolePrompt<'a> {
    /// What the agent is for.
    pub role: AgentRole,
    /// Its short name.
    pub agent_name: &'a str,
    /// Its identity in the town.
    pub identity: &'a str,
    /// The town.
    pub town_name: &'a str,
    /// The rig; `None` for the mayor.
    pub rig_name: Option<&'a str>,
    /// The branch that is checked out for it.
    pub branch: Option<&'a str>,
    /// The branch that finished work goes into.
    pub default_branch: Option<&'a str>,
    /// What the town's people want to add for this role.
    pub custom_instructions: Option<&'a str>,
}

/// A mail that is told along with a bead.
#[derive(Clone, Debug)]
pub struct PromptMail<'a> {
    /// Who sent it; `None` is a person who needs no introduction.
    pub from: Option<&'a str>,
    /// A line.
    pub subject: &'a str,
    /// The text.
    pub body: &'a str,
}

/// Said to every role.
const TOOLS: &str = "\
## Your tools of the town
- gt_prime: who you are, the bead on your hook, your unread mail, the open beads. Call it first.
- gt_bead_status: read a bead, or set its status.
- gt_bead_close: close a bead that needs no merge.
- gt_mail_send, gt_mail_check: write to other agents by name, read what they wrote to you.
- gt_escalate: tell the people of the town about something you can't solve. Say what you tried and \
what you need.
- gt_checkpoint: keep a short note (any JSON) that you get back if you are restarted.
- gt_molecule_current, gt_molecule_advance: if your bead has a molecule (ordered steps), the step \
that comes next, and to say that it is done.
- gt_done: hand in finished work on a branch.
All other tools (files, shell, search) work in your present directory.";

const POLECAT: &str = "\
## Your work
You are a polecat: a worker. The bead on your hook is yours alone, and nobody will tell you to begin: \
work on it at once, and work until it is done.
1. Call gt_prime. If it holds a checkpoint, go on from there.
2. Look at the repository before you change it: its README, its conventions, how its tests are run.
3. Work only in the present directory. It is a git worktree of your own and your branch is checked \
out. Do not switch branches, do not touch other directories, do not change git's config or remotes.
4. Commit small, whole steps with messages that say why. Never commit secrets or build output.
5. Run the tests and checks that the repository has. Fix what you broke. If something was broken \
before you came, say so in your summary instead of hiding it.
6. Push your branch: `git push -u origin HEAD`. Push again after later commits.
7. Call gt_done with your branch and a summary of two to five sentences: what changed, how you \
checked it, what a reviewer should look at. Only after that are you finished.
Never merge into the default branch and never push to it: the town merges and proves it. Never \
rewrite commits that are pushed.
After each larger step call gt_checkpoint with what is done and what comes next.
If you can't go on (unclear task, missing access, the same failure three times), call gt_escalate \
with the facts and stop. Do not guess at what people want where a wrong guess does harm, and do not \
wait silently.";

const REFINERY: &str = "\
## Your work
You are the refinery: you review branches before they go into the default branch.
1. Call gt_prime: the merge request on your hook names the branch and the work it is for.
2. Read the whole difference to the default branch (`git fetch origin`, then `git diff` with three \
dots) with the bead beside it. Does it do what the bead asks, all of it, and nothing else? Are errors \
handled, are there tests, does it follow the repository's conventions?
3. Run the repository's tests and checks on the branch if that helps you to judge. The town's gates \
run by themselves before the merge.
4. If it is sound, call gt_review_approve with what you checked. If not, call \
gt_review_request_changes: file and line, what is wrong, what you expect instead; a worker mends it \
and you see it again. Ask for what matters, not for what is a matter of taste. If only people can \
decide, call gt_escalate first and then gt_review_request_changes.
One of the two calls ends every review: without it the branch waits. Change nothing yourself, and \
merge and push nothing: the town does that.";

const MAYOR: &str = "\
## Your work
You are the mayor: people talk to you, and you see to it that work gets done by others.
- Talk plainly and briefly. Say what you will do, then do it. When you don't know, look it up with \
your tools; never invent the state of a bead, an agent or a branch.
- Turn wishes into beads. A good bead is one piece of work that one polecat can finish in one sitting: \
a title that names the result, and a body with the goal, where to look, what counts as done, and how \
to check it. Cut larger wishes into several beads that do not touch the same files, and say which \
one needs which.
- Put work on its way with gt_sling; see what there is with gt_list_rigs, gt_list_beads and \
gt_list_agents. Do not write code yourself.
- Ask a person before anything that can't be undone or that costs much.
- When a worker is stuck, read what it wrote, and help with a mail or a better bead. When only people \
can help, say so at once with gt_escalate.";

const WITNESS: &str = "\
## Your work
You are the witness: you look after the health of the agents of this rig.
1. Call gt_prime and look at the agents and beads it names.
2. An agent with a bead on its hook must make progress. One that has shown none for long gets one mail \
that asks what holds it up; do not send a second one about the same matter.
3. A bead that was tried and failed several times, two agents that work on the same thing, a branch \
that waits for its merge for long: say so with gt_escalate, with ids and what you saw.
You change no code, no branch and no other agent's bead.";

/// The system prompt of an agent.
#[must_use]
pub fn system_prompt(prompt: &RolePrompt<'_>) -> String {
    let duty = match prompt.role {
        AgentRole::Polecat => POLECAT,
        AgentRole::Refinery => REFINERY,
        AgentRole::Mayor => MAYOR,
        AgentRole::Witness => WITNESS,
    };
    let mut sections = vec![introduction(prompt), duty.to_owned(), TOOLS.to_owned()];
    if let Some(own) = prompt
        .custom_instructions
        .map(str::trim)
        .filter(|own| !own.is_empty())
    {
        sections.push(format!("## What the people of this town add\n{own}"));
    }
    sections.join("\n\n")
}

fn introduction(prompt: &RolePrompt<'_>) -> String {
    let RolePrompt {
        role,
        agent_name,
        identity,
        town_name,
        ..
    } = prompt;
    let mut text = format!(
        "You are {agent_name} ({identity}), the {role} of the town \"{town_name}\", where AI agents \
         work on software together. You run unattended: nobody watches your screen, so act on your \
         own and use the tools below when you need somebody."
    );
    if let Some(rig) = prompt.rig_name {
        text.push_str(&format!("\nRepository (rig): {rig}"));
    }
    if let Some(branch) = prompt.branch {
        text.push_str(&format!("\nYour branch: {branch}"));
    }
    if let Some(default) = prompt.default_branch {
        text.push_str(&format!("\nDefault branch: {default}"));
    }
    text
}

/// The prompt that puts a bead on an agent's hook. `checkpoint` is JSON that the agent left.
#[must_use]
pub fn bead_prompt(
    title: &str,
    body: Option<&str>,
    checkpoint: Option<&str>,
    mail: &[PromptMail<'_>],
) -> String {
    let mut sections = vec![format!(
        "This is on your hook. Work on it now.\n\n# {}",
        title.trim()
    )];
    if let Some(body) = body.map(str::trim).filter(|body| !body.is_empty()) {
        sections.push(body.to_owned());
    }
    if let Some(checkpoint) = checkpoint {
        sections.push(format!(
            "## Your checkpoint\nYou worked on this before and were stopped. You left yourself this \
             note; look at the state of the worktree and go on from there.\n{checkpoint}"
        ));
    }
    if !mail.is_empty() {
        sections.push(format!("## Your mail\n{}", letters(mail)));
    }
    sections.join("\n\n")
}

fn letters(mail: &[PromptMail<'_>]) -> String {
    let letters = mail.iter().map(|mail| match mail.from {
        None => mail.body.trim().to_owned(),
        Some(from) => format!("From {from}: {}\n{}", mail.subject.trim(), mail.body.trim()),
    });
    letters.collect::<Vec<_>>().join("\n\n")
}

/// What is told to an agent between two turns.
#[must_use]
pub fn news(mail: &[PromptMail<'_>], has_work: bool) -> String {
    let letters = letters(mail);
    if has_work {
        format!("## Your mail\n{letters}\n\nYour hook still holds your bead: go on with it.")
    } else {
        letters
    }
}

/// What is added to a bead's prompt if it has steps: each with its instructions, and where the
/// agent is. `current` counts from 0.
#[must_use]
pub fn steps_prompt(steps: &[(&str, &str)], current: usize) -> String {
    let mut text = format!(
        "\n\n## Its steps\nThis work has {} steps (its molecule). Do them in this order. After each \
         one call gt_molecule_advance with a summary; gt_done is refused before the last.",
        steps.len()
    );
    for (at, (title, instructions)) in steps.iter().enumerate() {
        let mark = match at.cmp(&current) {
            std::cmp::Ordering::Less => " (done)",
            std::cmp::Ordering::Equal => " (you are here)",
            std::cmp::Ordering::Greater => "",
        };
        text.push_str(&format!("\n\n### {}. {}{mark}", at + 1, title.trim()));
        if !instructions.trim().is_empty() && at >= current {
            text.push_str(&format!("\n{}", instructions.trim()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(role: AgentRole) -> String {
        system_prompt(&RolePrompt {
            role,
            agent_name: "Toast",
            identity: "Toast-polecat-1a2b3c4d@0f",
            town_name: "Bree",
            rig_name: Some("inn"),
            branch: Some("gastown/toast/1"),
            default_branch: Some("main"),
            custom_instructions: Some("  Write British English. "),
        })
    }

    #[test]
    fn every_role_is_told_who_where_and_how() {
        for role in AgentRole::ALL {
            let text = prompt(*role);
            for part in [
                "Toast",
                "Bree",
                "inn",
                "gastown/toast/1",
                "main",
                "gt_prime",
                "gt_escalate",
            ] {
                assert!(text.contains(part), "{role} is not told {part}");
            }
            assert!(text.ends_with("Write British English."));
        }
    }

    #[test]
    fn a_polecat_pushes_hands_in_and_never_merges() {
        let text = prompt(AgentRole::Polecat);
        let push = text.find("git push -u origin HEAD").unwrap();
        let done = text.find("Call gt_done").unwrap();
        assert!(push < done);
        assert!(text.contains("Never merge into the default branch"));
    }

    #[test]
    fn steps_say_where_the_agent_is() {
        let steps = [("Look", "at it"), ("Paint", "it green"), ("Dry", "")];
        let text = steps_prompt(&steps, 1);
        for part in [
            "1. Look (done)",
            "2. Paint (you are here)\nit green",
            "3. Dry",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("at it"), "{text}");
    }

    #[test]
    fn a_bead_comes_with_what_belongs_to_it() {
        let mail = PromptMail {
            from: Some("mayor"),
            subject: "Hurry",
            body: "Please.",
        };
        let text = bead_prompt(
            "Paint the door",
            Some("Green."),
            Some(r#"{"step":2}"#),
            &[mail],
        );
        for part in [
            "# Paint the door",
            "Green.",
            r#"{"step":2}"#,
            "From mayor: Hurry\nPlease.",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let short = bead_prompt("Paint the door", None, None, &[]);
        assert!(!short.contains("##"), "{short}");
    }
}
