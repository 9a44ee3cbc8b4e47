//! Who plays what: from a message, the tool server and the directory to a script.

use std::path::Path;

use serde_json::{Value, json};

use super::player::{Failure, Player};
use super::script::{Script, Step};
use super::stage::UserMessage;
use super::{mending, polecat, refinery};

/// The tool by which an agent learns who it is and what is on its hook.
const PRIME: &str = "prime";

/// How much of a message is repeated in an answer.
const QUOTE_MAX: usize = 200;

/// The piece of work that an agent has on its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) title: String,
    pub(super) body: String,
    /// Steps of its molecule that are not done yet.
    pub(super) steps_left: u64,
}

/// What an agent knows when it begins a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brief {
    is_polecat: bool,
    /// For the refinery: how often the branch on its hook was sent back before.
    reworks: Option<usize>,
    work: Option<Work>,
}

/// Plays one message.
pub(super) async fn play(player: &mut Player<'_>, message: &UserMessage) -> Result<(), Failure> {
    let script = Script::parse(&message.text).map_err(Failure::Model)?;
    let brief = match brief(player, message).await {
        Ok(brief) => brief,
        Err(reason) => {
            player
                .say(&format!("I could not look at my work: {reason}"))
                .await;
            player.finish().await;
            return Ok(());
        }
    };
    match &brief {
        Brief {
            reworks: Some(reworks),
            work: Some(work),
            ..
        } => refinery::review(player, work, &script, *reworks).await?,
        Brief {
            is_polecat: true,
            work: Some(work),
            ..
        } if is_about(&message.text, work) => {
            let script = directed(script, &work.body)?;
            if mending::is_asked_for(&message.text) {
                mending::mend(player, work, &script, &message.text).await?;
            } else {
                polecat::work(player, work, &script).await?;
            }
        }
        Brief {
            is_polecat: true, ..
        } => {
            perform_all(player, &script.steps).await?;
            polecat::save(player, &script).await;
        }
        Brief {
            is_polecat: false, ..
        } => {
            let directed = !script.is_empty();
            perform_all(player, &script.steps).await?;
            if !directed {
                player.say(&polite_answer(&message.text)).await;
            }
        }
    }
    player.finish().await;
    Ok(())
}

pub(super) async fn perform_all(player: &mut Player<'_>, steps: &[Step]) -> Result<(), Failure> {
    for step in steps {
        player.step(step).await?;
    }
    Ok(())
}

/// Asks the tool server, or without one guesses from the message.
async fn brief(player: &mut Player<'_>, message: &UserMessage) -> Result<Brief, String> {
    if !player.has_tool(PRIME) {
        let in_repository = Path::new(player.directory()).join(".git").exists();
        let is_polecat = in_repository && !message.system.to_lowercase().contains("mayor");
        return Ok(Brief {
            is_polecat,
            reworks: None,
            work: Some(work_in_text(&message.text)),
        });
    }
    let primed = player.call(PRIME, json!({})).await;
    if !primed.succeeded {
        return Err(primed.output);
    }
    match serde_json::from_str(&primed.output) {
        Ok(primed) => Ok(brief_from(&primed)),
        Err(_) => Err("what prime says is no JSON".to_owned()),
    }
}

fn brief_from(primed: &Value) -> Brief {
    let bead = &primed["hooked_bead"];
    let work = bead["title"].as_str().map(|title| Work {
        title: title.to_owned(),
        body: bead["body"].as_str().unwrap_or_default().to_owned(),
        steps_left: steps_left(&primed["molecule"]),
    });
    let role = &primed["agent"]["role"];
    let reworks = bead["metadata"]["reworks"].as_u64();
    Brief {
        is_polecat: role == "polecat",
        reworks: reworks
            .filter(|_| role == "refinery" && bead["type"] == "merge_request")
            .and_then(|reworks| usize::try_from(reworks).ok()),
        work,
    }
}

fn steps_left(molecule: &Value) -> u64 {
    let number = |name: &str| molecule[name].as_u64().unwrap_or(0);
    number("totalSteps").saturating_sub(number("currentStep"))
}

fn work_in_text(text: &str) -> Work {
    let mut lines = text.lines();
    let title = lines
        .find(|line| !line.trim().is_empty())
        .unwrap_or("Untitled work");
    let body: Vec<_> = lines.collect();
    Work {
        title: title.trim_start_matches(['#', ' ']).to_owned(),
        body: body.join("\n"),
        steps_left: 0,
    }
}

/// Whether a message hands this work out, rather than asks something while it is on the hook.
fn is_about(text: &str, work: &Work) -> bool {
    text.contains(work.title.trim())
}

/// A message without directives is directed by the bead's body.
fn directed(script: Script, body: &str) -> Result<Script, Failure> {
    if script.is_empty() {
        Script::parse(body).map_err(Failure::Model)
    } else {
        Ok(script)
    }
}

fn polite_answer(text: &str) -> String {
    let quoted: String = text.trim().chars().take(QUOTE_MAX).collect();
    format!(
        "Thank you for your message. You wrote: \"{quoted}\"\n\nThis is a rehearsal, so no model \
         thinks about it; but I have read it, and everything else here is real."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prime_tells_the_part_and_the_work() {
        let primed = json!({
            "agent": {"role": "polecat"},
            "hooked_bead": {"title": "Greet", "body": null},
        });
        let work = Some(Work {
            title: "Greet".to_owned(),
            body: String::new(),
            steps_left: 0,
        });
        assert_eq!(
            brief_from(&primed),
            Brief {
                is_polecat: true,
                reworks: None,
                work
            }
        );
        let molecule = json!({"currentStep": 1, "totalSteps": 3});
        let primed = json!({
            "agent": {"role": "polecat"}, "molecule": molecule,
            "hooked_bead": {"title": "Greet", "body": null},
        });
        assert_eq!(brief_from(&primed).work.unwrap().steps_left, 2);
        let primed = json!({"agent": {"role": "mayor"}, "hooked_bead": null});
        assert_eq!(
            brief_from(&primed),
            Brief {
                is_polecat: false,
                reworks: None,
                work: None
            }
        );
        let primed = json!({
            "agent": {"role": "refinery"},
            "hooked_bead": {"title": "Review: x", "type": "merge_request", "metadata": {"reworks": 2}},
        });
        assert_eq!(brief_from(&primed).reworks, Some(2));
    }

    #[test]
    fn without_a_tool_server_the_first_line_is_the_title() {
        let work = work_in_text("\n# Greet people\n\nIn docs.\n");
        assert_eq!(
            work,
            Work {
                title: "Greet people".into(),
                body: "\nIn docs.".into(),
                steps_left: 0,
            }
        );
    }

    #[test]
    fn a_message_directs_before_the_bead_does() {
        let from_message = Script::parse("rehearse: hang").unwrap();
        assert_eq!(
            directed(from_message.clone(), "rehearse: crash").unwrap(),
            from_message
        );
        assert!(directed(Script::default(), "rehearse: nonsense").is_err());
    }
}
