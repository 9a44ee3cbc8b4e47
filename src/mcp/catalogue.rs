//! Every tool once: its name, what its description tells a model, its arguments, and who has it.
//! The JSON schemas and the check of arguments are both made from this table.

use std::fmt::Display;
use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::model::{AgentRole, BeadStatus, MailType, Priority};

use super::arguments::Arguments;
use super::call::ToolCall;

/// A tool as models see it.
pub(super) struct Entry {
    pub(super) name: &'static str,
    description: &'static str,
    roles: &'static [AgentRole],
    pub(super) arguments: &'static [Argument],
    reads_only: bool,
    /// Makes the call of arguments that were checked.
    pub(super) call: fn(&mut Arguments) -> ToolCall,
}

/// One argument of a tool.
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    description: &'static str,
}

/// What an argument may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text with something in it.
    Text,
    /// A bead's id.
    BeadId,
    /// The name of a bead's status.
    Status,
    /// The name of a priority.
    Priority,
    /// The name of a kind of mail that agents may send.
    MailType,
    /// Any JSON.
    Json,
}

const EVERYONE: &[AgentRole] = AgentRole::ALL;
const BRANCH_MAKERS: &[AgentRole] = &[AgentRole::Polecat, AgentRole::Refinery];
const MAYOR: &[AgentRole] = &[AgentRole::Mayor];
const REFINERY: &[AgentRole] = &[AgentRole::Refinery];
const WATCHERS: &[AgentRole] = &[AgentRole::Mayor, AgentRole::Witness];

/// Every tool, in the order in which models see them.
pub(super) const TOOLS: &[Entry] = &[
    Entry {
        name: "prime",
        description: "Tells you who you are, the bead (task) on your hook, your unread mail and the \
                      open beads of your rig. Call it first, and again whenever you are unsure what \
                      you should be doing. It hands your mail over: read it in the answer.",
        roles: EVERYONE,
        arguments: &[],
        reads_only: false,
        call: |_| ToolCall::Prime,
    },
    Entry {
        name: "done",
        description: "Says that the bead on your hook is finished. Commit everything and push your \
                      branch before you call it. Your branch then goes to the merge queue and your \
                      hook becomes free; do not merge it yourself. After this call, stop working.",
        roles: BRANCH_MAKERS,
        arguments: &[
            required(
                "branch",
                Kind::Text,
                "The branch you pushed, for example from `git branch --show-current`",
            ),
            optional(
                "summary",
                Kind::Text,
                "What you changed and how you checked it, in a few sentences",
            ),
            optional(
                "pr_url",
                Kind::Text,
                "The address of a pull request, if you opened one",
            ),
        ],
        reads_only: false,
        call: |given| ToolCall::Done {
            branch: given.text("branch"),
            pr_url: given.text_if_any("pr_url"),
            summary: given.text_if_any("summary"),
        },
    },
    Entry {
        name: "bead_status",
        description: "Shows a bead, or changes its status if you give one. Closed and failed beads \
                      can't be changed. To finish the bead on your own hook, call `done` if you have \
                      that tool.",
        roles: EVERYONE,
        arguments: &[
            required("bead_id", Kind::BeadId, "The bead's id"),
            optional(
                "status",
                Kind::Status,
                "The new status; leave it out to only look",
            ),
        ],
        reads_only: false,
        call: |given| ToolCall::BeadStatus {
            bead_id: given.bead("bead_id"),
            status: given.status_if_any("status"),
        },
    },
    Entry {
        name: "bead_close",
        description: "Closes a bead for which nothing has to be merged, for example a question you \
                      answered or work that turned out to be done already. Work on a branch is \
                      closed by its merge, not by this tool.",
        roles: EVERYONE,
        arguments: &[optional(
            "bead_id",
            Kind::BeadId,
            "The bead's id; leave it out for the bead on your hook",
        )],
        reads_only: false,
        call: |given| ToolCall::BeadClose {
            bead_id: given.bead_if_any("bead_id"),
        },
    },
    Entry {
        name: "mail_send",
        description: "Sends a message to another agent of your town. It is delivered when that agent \
                      next checks its mail, so do not wait for an answer. To reach a person, use \
                      `escalate`.",
        roles: EVERYONE,
        arguments: &[
            required(
                "to",
                Kind::Text,
                "The receiver's name, identity or id; `mayor` reaches the coordinator",
            ),
            required("subject", Kind::Text, "One line"),
            required(
                "body",
                Kind::Text,
                "The message, with everything the receiver needs to act on it",
            ),
            optional(
                "type",
                Kind::MailType,
                "`HELP` calls a person as well; `HANDOFF` is kept for the receiver's next session, \
                 and you may be the receiver yourself; `message` if left out",
            ),
        ],
        reads_only: false,
        call: |given| ToolCall::MailSend {
            to: given.text("to"),
            subject: given.text("subject"),
            body: given.text("body"),
            mail_type: given.mail_type("type"),
        },
    },
    Entry {
        name: "mail_check",
        description: "Hands you your unread mail. Each mail is handed over once.",
        roles: EVERYONE,
        arguments: &[],
        reads_only: false,
        call: |_| ToolCall::MailCheck,
    },
    Entry {
        name: "review_approve",
        description: "Says that the branch under review, the merge request on your hook, may be \
                      merged. The town then runs its gates, merges it and proves it; do not merge it \
                      yourself. After this call, stop working.",
        roles: REFINERY,
        arguments: &[required(
            "summary",
            Kind::Text,
            "What you looked at and ran, in a few sentences",
        )],
        reads_only: false,
        call: |given| ToolCall::ReviewApprove {
            summary: given.text("summary"),
        },
    },
    Entry {
        name: "review_request_changes",
        description: "Sends the branch under review, the merge request on your hook, back to a \
                      polecat, who sees nothing but your words and the branch. After this call, stop \
                      working; you see the branch again when it is mended.",
        roles: REFINERY,
        arguments: &[required(
            "changes",
            Kind::Text,
            "For each point: file and line, what is wrong, what you expect instead",
        )],
        reads_only: false,
        call: |given| ToolCall::ReviewRequestChanges {
            changes: given.text("changes"),
        },
    },
    Entry {
        name: "nudge",
        description: "Says a word to an agent when its present turn ends. It is dropped if ten \
                      minutes pass before that, or if the agent has something else on its hook by \
                      then; what must arrive in any case is a mail.",
        roles: WATCHERS,
        arguments: &[
            required("to", Kind::Text, "The receiver's name, identity or id"),
            required("message", Kind::Text, "What the agent is to hear"),
        ],
        reads_only: false,
        call: |given| ToolCall::Nudge {
            to: given.text("to"),
            message: given.text("message"),
        },
    },
    Entry {
        name: "escalate",
        description: "Asks a person for help. Use it when you can't go on: a decision that is not \
                      yours, missing access, a task that contradicts itself, a danger. Say what you \
                      tried and what you need. Then go on with whatever does not depend on it.",
        roles: EVERYONE,
        arguments: &[
            required("title", Kind::Text, "The problem in one line"),
            optional(
                "body",
                Kind::Text,
                "What happened, what you tried, what you need and from whom",
            ),
            optional(
                "priority",
                Kind::Priority,
                "How much it matters; medium if left out",
            ),
        ],
        reads_only: false,
        call: |given| ToolCall::Escalate {
            title: given.text("title"),
            body: given.text_if_any("body"),
            priority: given.priority_if_any("priority"),
        },
    },
    Entry {
        name: "checkpoint",
        description: "Saves what you would need to go on if you were restarted now: decisions, what \
                      is finished, what comes next. It replaces your last checkpoint and is shown to \
                      you after a restart. Call it after each larger step.",
        roles: EVERYONE,
        arguments: &[required(
            "data",
            Kind::Json,
            "Any JSON, for example {\"finished\": [...], \"next\": \"...\"}",
        )],
        reads_only: false,
        call: |given| ToolCall::Checkpoint {
            data: given.json("data"),
        },
    },
    Entry {
        name: "molecule_current",
        description: "Shows the step that comes next, if the bead on your hook has a molecule: steps \
                      to be done in order. `null` means that it has none.",
        roles: BRANCH_MAKERS,
        arguments: &[],
        reads_only: true,
        call: |_| ToolCall::MoleculeCurrent,
    },
    Entry {
        name: "molecule_advance",
        description: "Says that the present step of your bead's molecule is done and shows the next \
                      one. Call it after each step, never ahead of the work: `done` is refused until \
                      the last step is done.",
        roles: BRANCH_MAKERS,
        arguments: &[required(
            "summary",
            Kind::Text,
            "What you did in this step and how you checked it, in a sentence or two",
        )],
        reads_only: false,
        call: |given| ToolCall::MoleculeAdvance {
            summary: given.text("summary"),
        },
    },
    Entry {
        name: "sling",
        description: "Gives work to a polecat (worker): makes a bead in a rig and puts it on the hook \
                      of a free polecat, or a new one. The polecat sees only the title and the body, \
                      so write everything it must know, and one task per bead.",
        roles: MAYOR,
        arguments: &[
            required(
                "rig",
                Kind::Text,
                "The rig's name or id; `list_rigs` shows them",
            ),
            required("title", Kind::Text, "The task in one line"),
            optional(
                "body",
                Kind::Text,
                "The whole task: what, where, why, and how one sees that it is finished",
            ),
            optional(
                "priority",
                Kind::Priority,
                "How much it matters; medium if left out",
            ),
        ],
        reads_only: false,
        call: |given| ToolCall::Sling {
            rig: given.text("rig"),
            title: given.text("title"),
            body: given.text_if_any("body"),
            priority: given.priority_if_any("priority"),
        },
    },
    Entry {
        name: "list_rigs",
        description: "Lists the rigs (git repositories) of your town.",
        roles: MAYOR,
        arguments: &[],
        reads_only: true,
        call: |_| ToolCall::ListRigs,
    },
    Entry {
        name: "list_beads",
        description: "Lists beads, newest first, with their status and who works on them.",
        roles: MAYOR,
        arguments: &[
            optional("rig", Kind::Text, "Only of this rig, by name or id"),
            optional("status", Kind::Status, "Only with this status"),
        ],
        reads_only: true,
        call: |given| ToolCall::ListBeads {
            rig: given.text_if_any("rig"),
            status: given.status_if_any("status"),
        },
    },
    Entry {
        name: "list_agents",
        description: "Lists agents with their role, what they are doing and the bead on their hook.",
        roles: MAYOR,
        arguments: &[optional(
            "rig",
            Kind::Text,
            "Only of this rig, by name or id",
        )],
        reads_only: true,
        call: |given| ToolCall::ListAgents {
            rig: given.text_if_any("rig"),
        },
    },
];

const fn required(name: &'static str, kind: Kind, description: &'static str) -> Argument {
    Argument {
        name,
        kind,
        required: true,
        description,
    }
}

const fn optional(name: &'static str, kind: Kind, description: &'static str) -> Argument {
    Argument {
        name,
        kind,
        required: false,
        description,
    }
}

/// The tools of that role.
pub(super) fn of_role(role: AgentRole) -> impl Iterator<Item = &'static Entry> {
    TOOLS.iter().filter(move |tool| tool.roles.contains(&role))
}

impl Entry {
    /// The tool as the protocol describes it.
    pub(super) fn described(&self) -> Tool {
        let annotations = ToolAnnotations::new()
            .read_only(self.reads_only)
            .destructive(false)
            .open_world(false);
        Tool::new(self.name, self.description, Arc::new(self.schema()))
            .with_annotations(annotations)
    }

    fn schema(&self) -> JsonObject {
        let properties: JsonObject = self
            .arguments
            .iter()
            .map(|argument| (argument.name.to_owned(), argument.schema()))
            .collect();
        let required: Vec<&str> = self
            .arguments
            .iter()
            .filter(|argument| argument.required)
            .map(|argument| argument.name)
            .collect();
        let mut schema = JsonObject::new();
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema.insert("required".to_owned(), json!(required));
        schema.insert("additionalProperties".to_owned(), json!(false));
        schema
    }
}

impl Argument {
    fn schema(&self) -> Value {
        let description = self.description;
        match self.kind {
            Kind::Text => json!({"type": "string", "minLength": 1, "description": description}),
            Kind::BeadId => {
                json!({"type": "string", "format": "uuid", "description": description})
            }
            Kind::Status => {
                json!({"type": "string", "enum": names(BeadStatus::ALL), "description": description})
            }
            Kind::Priority => {
                json!({"type": "string", "enum": names(Priority::ALL), "description": description})
            }
            Kind::MailType => {
                json!({"type": "string", "enum": names(MailType::FREE), "description": description})
            }
            // Anything is accepted, but some models' providers refuse a property without a type.
            Kind::Json => json!({"type": "object", "description": description}),
        }
    }
}

pub(super) fn names<T: Display>(variants: &[T]) -> Vec<String> {
    variants.iter().map(T::to_string).collect()
}
