//! Everything that the reconciler can want done.

use serde::{Deserialize, Serialize};

use crate::container::protocol::text;
use crate::model::{AgentId, AskId, BeadId};

/// Something to be done; a closed list, carried out by the actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub(in crate::town) enum Action {
    /// The container is needed.
    WakeContainer,
    /// The container that runs is needed.
    KeepContainer,
    /// The container that runs is not needed any more.
    NoteIdleContainer,
    /// The container has not been needed for long.
    DrainContainer,
    /// Put a slung bead that waits on a polecat's hook.
    Assign {
        #[serde(with = "text")]
        bead_id: BeadId,
    },
    /// Start an agent that has work, to see whether things work again.
    Probe {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Ask a silent agent whether it still works.
    CheckAgent {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// An agent stayed silent after it was asked: call a person.
    StallAgent {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Tell people that the day's budget is used up.
    TellBudget,
    /// The budget holds nothing any more.
    FreeBudget,
    /// Start an agent that has work.
    Dispatch {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Stop what runs for an agent that has no such work any more.
    StopLeftover {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Hand people's messages to the mayor's session.
    TellMayor {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Put a merge request on the refinery's hook.
    Review {
        #[serde(with = "text")]
        entry_id: BeadId,
    },
    /// Leave a merge request to a person's approval.
    AwaitPerson {
        #[serde(with = "text")]
        entry_id: BeadId,
    },
    /// Give a branch that must be mended to a polecat.
    Rework {
        #[serde(with = "text")]
        entry_id: BeadId,
    },
    /// Drop the nudges to an agent that came too late.
    DropNudges {
        #[serde(with = "text")]
        agent_id: AgentId,
    },
    /// Merge a branch.
    Merge {
        #[serde(with = "text")]
        entry_id: BeadId,
    },
    /// Land a convoy whose beads are all closed.
    LandConvoy {
        #[serde(with = "text")]
        convoy_id: BeadId,
    },
    /// Put a merge that seems lost back into the queue.
    RequeueStuck {
        #[serde(with = "text")]
        entry_id: BeadId,
    },
    /// Call people, for nobody answers an ask.
    EscalateAsk {
        #[serde(with = "text")]
        ask_id: AskId,
    },
    /// Raise an escalation again that nobody takes up.
    RaiseAgain {
        #[serde(with = "text")]
        bead_id: BeadId,
    },
    /// Run the notification hook for an escalation.
    Notify {
        #[serde(with = "text")]
        bead_id: BeadId,
    },
}
