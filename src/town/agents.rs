//! Transitions of agents and their hooks.

use serde_json::{Value, json};

use crate::container::protocol::{AgentSetback, SetbackCause};
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, BeadId, BeadStatus, BeadType, Dispatch, Json, MailType,
    ReviewStatus, RigId,
};
use crate::storage::CountedKey;

use super::command::{AgentDone, CompletedStatus, Judgement, NewAgent, NewReview, Prime, Verdict};
use super::draft::{Draft, Fact};
use super::effects::Effect;
use super::refusal::{Error, Refusal};
use super::reviews;
use super::{asks, beads};
use super::{bead_lists, breaker, dispatch, mail, molecules, names, patrol, refinery, removals};

/// Open beads shown to an agent that primes: enough to choose from, little enough to read.
const PRIME_OPEN_BEADS_MAX: usize = 50;

pub(super) fn fact_of(agent: &Agent) -> Fact {
    Fact {
        agent_id: Some(agent.agent_id),
        rig_id: agent.rig_id,
        bead_id: agent.hook,
        ..Fact::default()
    }
}

/// Records a fact about an agent, with its rig and the bead on its hook.
pub(super) fn record(draft: &mut Draft<'_>, event_type: &str, agent: &Agent, metadata: Value) {
    draft.fact(
        event_type,
        Fact {
            metadata,
            ..fact_of(agent)
        },
    );
}

pub(super) fn create(draft: &mut Draft<'_>, rig_id: RigId, new: NewAgent) -> Result<Agent, Error> {
    draft.rig(rig_id)?;
    let is_single = matches!(new.role, AgentRole::Refinery | AgentRole::Witness);
    if is_single
        && draft
            .agents_of(rig_id)?
            .iter()
            .any(|agent| agent.role == new.role)
    {
        return Err(Refusal::RoleTaken(new.role.as_str()).into());
    }
    if new.role == AgentRole::Mayor && draft.mayor()?.is_some() {
        return Err(Refusal::RoleTaken(AgentRole::Mayor.as_str()).into());
    }
    insert(draft, Some(rig_id), new)
}

fn insert(draft: &mut Draft<'_>, rig_id: Option<RigId>, new: NewAgent) -> Result<Agent, Error> {
    if draft.agent_name_taken(&new.name)? {
        return Err(Refusal::AgentNameTaken(new.name).into());
    }
    if draft.identity_taken(&new.identity)? {
        return Err(Refusal::IdentityTaken(new.identity).into());
    }
    let agent = Agent {
        agent_id: AgentId::random(),
        seq: draft.next_seq()?,
        rig_id,
        role: new.role,
        name: new.name,
        identity: new.identity,
        status: AgentStatus::Idle,
        hook: None,
        dispatch: Dispatch::default(),
        last_activity_at: None,
        checkpoint: None,
        created_at: draft.now,
    };
    let metadata = json!({"name": agent.name, "role": agent.role.as_str()});
    record(draft, "agent.created", &agent, metadata);
    draft.set_agent(agent.clone())?;
    Ok(agent)
}

/// An idle polecat without a hook, or a new one; the one refinery or witness; the one mayor.
pub(super) fn get_or_create(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    role: AgentRole,
) -> Result<Agent, Error> {
    draft.rig(rig_id)?;
    if role == AgentRole::Mayor {
        return mayor(draft);
    }
    let of_role: Vec<Agent> = draft
        .agents_of(rig_id)?
        .into_iter()
        .filter(|agent| agent.role == role)
        .collect();
    let free = of_role
        .iter()
        .find(|agent| role != AgentRole::Polecat || is_free(agent));
    if let Some(agent) = free {
        return Ok(agent.clone());
    }
    if role == AgentRole::Polecat {
        let limit = draft.config()?.max_polecats(rig_id);
        if of_role.len() >= limit as usize {
            return Err(Refusal::TooManyPolecats(limit).into());
        }
    }
    let name = match role {
        AgentRole::Polecat => {
            // The worktree that a deleted agent of that name left is still to be archived.
            let left = removals::names(draft)?;
            names::first_free(|name| {
                Ok::<_, Error>(
                    left.iter().any(|left| left == name) || draft.agent_name_taken(name)?,
                )
            })?
        }
        other => format!("{other}-{}", rig_id.short()),
    };
    let identity = format!("{name}-{role}-{}@{}", rig_id.short(), draft.town_id.short());
    insert(
        draft,
        Some(rig_id),
        NewAgent {
            role,
            name,
            identity,
        },
    )
}

/// Free for new work: nothing on its hook and nothing running for it.
pub(super) fn is_free(agent: &Agent) -> bool {
    agent.status == AgentStatus::Idle
        && agent.hook.is_none()
        && agent.dispatch.requested_at.is_none()
}

/// The town's mayor, made if there is none.
pub(super) fn mayor(draft: &mut Draft<'_>) -> Result<Agent, Error> {
    if let Some(mayor) = draft.mayor()? {
        return Ok(mayor);
    }
    let mut name = AgentRole::Mayor.to_string();
    if draft.agent_name_taken(&name)? {
        name = format!("{name}-{}", draft.town_id.short());
    }
    let identity = format!("{name}@{}", draft.town_id.short());
    insert(
        draft,
        None,
        NewAgent {
            role: AgentRole::Mayor,
            name,
            identity,
        },
    )
}

/// Removes an agent. Only its in-progress bead is reopened; closed beads and mail it sent stay.
pub(super) fn delete(draft: &mut Draft<'_>, rig_id: RigId, agent_id: AgentId) -> Result<(), Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    remove(draft, &agent)
}

/// The same for an agent of any rig or none.
pub(super) fn remove(draft: &mut Draft<'_>, agent: &Agent) -> Result<(), Error> {
    let agent_id = agent.agent_id;
    if let (Some(rig_id), Some(bead_id)) = (agent.rig_id, agent.hook) {
        let slung = draft.find_bead(bead_id)?.is_some_and(|bead| bead.slung);
        unhook(draft, rig_id, agent_id)?;
        // The town gave it the work, so the town finds another polecat.
        if let Some(mut bead) = draft.find_bead(bead_id)? {
            bead.slung = slung;
            draft.set_bead(bead)?;
        }
    }
    asks::forget(draft, agent_id)?;
    for mut bead in draft.beads_of_agent(agent_id)? {
        // A bead that waits for its merge goes on without its author.
        bead.assignee_agent_id = None;
        draft.set_bead(bead)?;
    }
    draft.remove_mail_of(agent_id)?;
    draft.remove(&CountedKey { agent_id });
    draft.remove_agent(agent_id)?;
    removals::left_by(draft, agent);
    let metadata = json!({"name": agent.name});
    draft.fact(
        "agent.deleted",
        Fact {
            metadata,
            bead_id: None,
            ..fact_of(agent)
        },
    );
    Ok(())
}

pub(super) fn hook(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    bead_id: BeadId,
) -> Result<(), Error> {
    let mut agent = draft.agent_of(rig_id, agent_id)?;
    let mut bead = draft.bead_of(rig_id, bead_id)?;
    match agent.hook {
        Some(hooked) if hooked == bead_id => return Ok(()),
        Some(hooked) => return Err(Refusal::AgentHooked(agent_id, hooked).into()),
        None => {}
    }
    if bead.status.is_terminal() {
        return Err(Refusal::BeadTerminal(bead_id, bead.status.as_str()).into());
    }
    if let Some(holder) = beads::holder(draft, &bead)? {
        return Err(Refusal::BeadHooked(bead_id, holder).into());
    }
    match reviews::unfinished(draft, bead_id)? {
        // What must be mended was begun before it was blocked.
        Some(review) if review.status == ReviewStatus::Rework => {}
        Some(review) => return Err(Refusal::BeadInReview(bead_id, review.entry_id).into()),
        None if !bead.is_ready() => {
            return Err(Refusal::BeadBlocked(bead_id, bead.blockers_open).into());
        }
        None => {}
    }
    if bead.bead_type == BeadType::MergeRequest {
        refinery::hooked(draft, agent_id, bead_id)?;
    }
    agent.hook = Some(bead_id);
    // What ran for the former hook may still be ending; the next try waits for that.
    agent.dispatch.attempts = 0;
    agent.dispatch.reminders = 0;
    agent.dispatch.due_at = draft.now;
    agent.dispatch.last_error = None;
    agent.dispatch.given_up = None;
    agent.last_activity_at = Some(draft.now);
    if bead.assignee_agent_id != Some(agent_id) {
        draft.fact(
            "bead.assigned",
            Fact {
                old_value: bead.assignee_agent_id.map(|id| id.to_string()),
                new_value: Some(agent_id.to_string()),
                ..fact_of(&agent)
            },
        );
    }
    bead.assignee_agent_id = Some(agent_id);
    bead.updated_at = draft.now;
    draft.fact(
        "bead.hooked",
        Fact {
            new_value: Some(agent_id.to_string()),
            ..fact_of(&agent)
        },
    );
    draft.set_agent(agent)?;
    if bead.status == BeadStatus::Open {
        beads::change_status(
            draft,
            bead,
            BeadStatus::InProgress,
            Some(agent_id.to_string()),
        )
    } else {
        draft.set_bead(bead)
    }
}

/// Takes the bead off the hook and gives it back: an in-progress one becomes open again.
pub(super) fn unhook(draft: &mut Draft<'_>, rig_id: RigId, agent_id: AgentId) -> Result<(), Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    let Some(bead_id) = agent.hook else {
        return Ok(());
    };
    release(draft, agent_id)?;
    draft.effect(Effect::StopAgent(agent_id));
    refinery::unhooked(draft, bead_id)?;
    reviews::abandon_rework(draft, bead_id)?;
    if let Some(mut bead) = draft.find_bead(bead_id)? {
        bead.assignee_agent_id = None;
        if bead.status == BeadStatus::InProgress {
            beads::change_status(draft, bead, BeadStatus::Open, None)?;
        } else {
            draft.set_bead(bead)?;
        }
    }
    Ok(())
}

/// Empties an agent's hook and leaves the bead as it is.
pub(super) fn release(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let mut agent = draft.agent(agent_id)?;
    if agent.hook.is_none() {
        return Ok(());
    }
    draft.fact(
        "bead.unhooked",
        Fact {
            old_value: Some(agent_id.to_string()),
            ..fact_of(&agent)
        },
    );
    agent.hook = None;
    agent.dispatch.attempts = 0;
    agent.dispatch.reminders = 0;
    if agent.dispatch.requested_at.is_some() {
        // Its stop is asked for by whoever takes the work away, and again after this time.
        agent.dispatch.due_at = draft.now.after(dispatch::LEFTOVER_PAUSE);
    }
    set_status(draft, agent, AgentStatus::Idle, None)
}

/// Stores `agent` with its new status and says so if it changed.
pub(super) fn set_status(
    draft: &mut Draft<'_>,
    mut agent: Agent,
    status: AgentStatus,
    reason: Option<&str>,
) -> Result<(), Error> {
    let old = std::mem::replace(&mut agent.status, status);
    if old == AgentStatus::Stalled && status != old {
        patrol::is_well(draft, agent.agent_id)?;
    }
    if old != status {
        draft.fact(
            "agent.status_changed",
            Fact {
                old_value: Some(old.to_string()),
                new_value: Some(status.to_string()),
                metadata: reason.map_or(Value::Null, |reason| json!({"reason": reason})),
                ..fact_of(&agent)
            },
        );
    }
    draft.set_agent(agent)
}

pub(super) fn prime(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
) -> Result<Prime, Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    let hooked_bead = match agent.hook {
        Some(bead_id) => draft.find_bead(bead_id)?,
        None => None,
    };
    let molecule = match &hooked_bead {
        Some(bead) => molecules::of_bead(draft, bead)?,
        None => None,
    };
    let mut open_beads = Vec::new();
    for row in bead_lists::open_of_rig(draft.tree, rig_id) {
        if open_beads.len() >= PRIME_OPEN_BEADS_MAX {
            break;
        }
        let bead = draft.find_bead(row?)?;
        open_beads.extend(bead.filter(|bead| bead.status == BeadStatus::Open));
    }
    let undelivered_mail = mail::deliver(draft, agent_id)?;
    touch(draft, agent_id)?;
    Ok(Prime {
        agent: draft.agent(agent_id)?,
        hooked_bead,
        molecule,
        undelivered_mail,
        open_beads,
    })
}

/// The agent's work is on a branch: it goes to the review queue and the hook is free again.
pub(super) fn done(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    done: AgentDone,
) -> Result<(), Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    let Some(bead_id) = agent.hook else {
        return Err(Refusal::HookEmpty(agent_id).into());
    };
    if draft.find_review(bead_id)?.is_some() {
        // A reviewer that is done has found nothing to be changed.
        let judgement = Judgement {
            verdict: Verdict::Approve,
            text: done.summary.unwrap_or_default(),
            head_sha: None,
        };
        return refinery::judge(draft, rig_id, agent_id, None, judgement);
    }
    molecules::refuse_unfinished(draft, bead_id)?;
    let metadata = json!({"branch": done.branch, "summary": done.summary});
    record(draft, "agent.done", &agent, metadata);
    release(draft, agent_id)?;
    let mut agent = draft.agent(agent_id)?;
    agent.dispatch.last_error = None;
    draft.set_agent(agent.clone())?;
    dispatch::works_again(draft, rig_id)?;
    breaker::worked(draft, agent_id)?;
    let AgentDone {
        branch,
        pr_url,
        summary,
    } = done;
    reviews::submit(
        draft,
        rig_id,
        NewReview {
            agent_id,
            bead_id,
            branch,
            pr_url,
            summary,
        },
    )?;
    if let Some(witness) = of_role(draft, rig_id, AgentRole::Witness)? {
        let (subject, body) = (
            format!("{} has handed in its work", agent.name),
            format!("bead {bead_id}"),
        );
        mail::send_system(
            draft,
            witness.agent_id,
            MailType::PolecatDone,
            subject,
            body,
        )?;
    }
    draft.effect(Effect::StopAgent(agent_id));
    Ok(())
}

/// The one agent of that role in the rig, if there is one.
fn of_role(draft: &mut Draft<'_>, rig_id: RigId, role: AgentRole) -> Result<Option<Agent>, Error> {
    let agents = draft.agents_of(rig_id)?;
    Ok(agents.into_iter().find(|agent| agent.role == role))
}

/// An agent of an older client says that its run is over.
pub(super) fn completed(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    status: CompletedStatus,
    reason: Option<String>,
) -> Result<(), Error> {
    let agent = draft.agent_of(rig_id, agent_id)?;
    let metadata = json!({"status": status.as_str(), "reason": reason});
    record(draft, "agent.completed", &agent, metadata);
    let Some(bead_id) = agent.hook else {
        return set_status(draft, agent, AgentStatus::Idle, None);
    };
    if draft.find_review(bead_id)?.is_some() {
        let reason = reason.unwrap_or_else(|| "its run ended without a verdict".to_owned());
        return refinery::gave_up(draft, bead_id, &reason);
    }
    let by = Some(agent_id.to_string());
    match status {
        CompletedStatus::Completed => beads::finish(draft, bead_id, BeadStatus::Closed, None, by),
        CompletedStatus::Failed => {
            let reason = reason.unwrap_or_else(|| "the agent gave up without a reason".to_owned());
            beads::finish(draft, bead_id, BeadStatus::Failed, Some(reason), by)
        }
    }
}

pub(super) fn checkpoint(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
    data: Json,
) -> Result<(), Error> {
    let mut agent = draft.agent_of(rig_id, agent_id)?;
    agent.checkpoint = Some(data);
    agent.last_activity_at = Some(draft.now);
    draft.set_agent(agent)
}

pub(super) fn heartbeat(
    draft: &mut Draft<'_>,
    rig_id: RigId,
    agent_id: AgentId,
) -> Result<(), Error> {
    draft.agent_of(rig_id, agent_id)?;
    touch(draft, agent_id)
}

/// The agent's commands used more than its container may, and were ended. It goes on.
pub(super) fn limited(draft: &mut Draft<'_>, agent_id: AgentId, reason: &str) -> Result<(), Error> {
    if let Some(agent) = draft.find_agent(agent_id)? {
        record(draft, "agent.limited", &agent, json!({"reason": reason}));
    }
    Ok(())
}

/// Something went wrong around an agent, which goes on. A model that does not answer stands at the
/// agent until it does.
pub(super) fn setback(
    draft: &mut Draft<'_>,
    agent_id: AgentId,
    setback: &AgentSetback,
) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    let mut metadata = json!({"cause": setback.cause.as_str(), "reason": setback.reason});
    if let Some(retry_at) = setback.retry_at {
        metadata["retry_at"] = json!(retry_at.to_string());
    }
    record(draft, "agent.setback", &agent, metadata);
    if setback.cause == SetbackCause::Model {
        agent.dispatch.last_error = Some(setback.reason.clone());
    }
    draft.set_agent(agent)
}

/// The agent's model answers again.
pub(super) fn recovered(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    record(draft, "agent.recovered", &agent, json!({}));
    agent.dispatch.last_error = None;
    draft.set_agent(agent)
}

/// Notes that an agent has shown life.
pub(super) fn touch(draft: &mut Draft<'_>, agent_id: AgentId) -> Result<(), Error> {
    let Some(mut agent) = draft.find_agent(agent_id)? else {
        return Ok(());
    };
    agent.last_activity_at = Some(draft.now);
    if agent.status == AgentStatus::Stalled {
        return set_status(draft, agent, AgentStatus::Working, None);
    }
    draft.set_agent(agent)
}
