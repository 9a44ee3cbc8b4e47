//! Reads. They go straight to the tree and wait for no write; before they answer, what they may
//! have seen is durable (see `Tree::settled`).

use crate::config::{ResolvedTownConfig, TownConfig};
use crate::model::{
    Agent, AgentId, AgentRole, AgentStatus, Ask, Bead, BeadId, BeadStatus, BeadType, Mail, Review,
    ReviewStatus, Rig, RigId,
};
use crate::storage::{
    self, AgentByRig, AgentByRole, AgentKey, BeadByStatus, BeadByTown, BeadKey, ConfigKey,
    MailBySender, MailKey, MailUndelivered, ReviewByStatus, ReviewKey, RigKey, Tree,
};

use super::asks;

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// At most this many.
    pub limit: usize,
    /// After so many.
    pub offset: usize,
}

/// Which agents of a rig are wanted; all conditions hold.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Only of this role.
    pub role: Option<AgentRole>,
    /// Only of this status.
    pub status: Option<AgentStatus>,
}

pub(super) fn config(tree: &Tree) -> Result<TownConfig, super::Error> {
    Ok(config_row(tree)?)
}

/// The town's config; the empty one if none was ever set.
pub(super) fn config_row(tree: &Tree) -> Result<TownConfig, storage::Error> {
    let Some(text) = tree.get(&ConfigKey {})? else {
        return Ok(TownConfig::default());
    };
    TownConfig::from_json(&text.value).ok_or(storage::Error::Damaged {
        what: "town config",
        detail: "not a config document".to_owned(),
    })
}

pub(super) fn rigs(tree: &Tree) -> Result<Vec<Rig>, storage::Error> {
    let mut rigs = tree
        .scan(&RigKey::all())
        .map(|row| row.map(|(_, rig)| rig))
        .collect::<Result<Vec<_>, _>>()?;
    // Keys are random: the newest first needs a sort, and a town has few rigs.
    rigs.sort_by_key(|rig| (std::cmp::Reverse(rig.created_at), rig.rig_id));
    Ok(rigs)
}

/// Escalations of the whole town, newest first; with `acknowledged` only those that a person has
/// or has not taken up.
pub(super) fn escalations(
    tree: &Tree,
    acknowledged: Option<bool>,
    page: Page,
) -> Result<Vec<Bead>, storage::Error> {
    // Those that nobody took up are open, and few.
    let ids: Box<dyn Iterator<Item = Result<BeadId, storage::Error>>> = match acknowledged {
        Some(false) => Box::new(
            tree.scan(&BeadByStatus::of_status(BeadStatus::Open))
                .rev()
                .map(|row| Ok(row?.1.id)),
        ),
        _ => Box::new(tree.scan(&BeadByTown::all()).rev().map(|row| Ok(row?.1.id))),
    };
    let beads = ids.filter_map(|id| {
        id.and_then(|bead_id| tree.get(&BeadKey { bead_id }))
            .transpose()
    });
    let wanted = beads.filter(|bead| {
        bead.as_ref().map_or(true, |bead| {
            bead.bead_type == BeadType::Escalation
                && acknowledged.is_none_or(|wanted| wanted == (bead.status != BeadStatus::Open))
        })
    });
    wanted.skip(page.offset).take(page.limit).collect()
}

pub(super) fn bead(
    tree: &Tree,
    rig_id: RigId,
    bead_id: BeadId,
) -> Result<Option<Bead>, storage::Error> {
    Ok(tree
        .get(&BeadKey { bead_id })?
        .filter(|bead| bead.rig_id == Some(rig_id)))
}

/// Agents of a rig, oldest first.
pub(super) fn agents(
    tree: &Tree,
    rig_id: RigId,
    filter: &AgentFilter,
) -> Result<Vec<Agent>, storage::Error> {
    let mut agents = Vec::new();
    for row in tree.scan(&AgentByRig::of_rig(rig_id)) {
        let agent = tree.get(&AgentKey {
            agent_id: row?.1.id,
        })?;
        agents.extend(agent.filter(|agent| {
            filter.role.is_none_or(|role| agent.role == role)
                && filter.status.is_none_or(|status| agent.status == status)
        }));
    }
    Ok(agents)
}

pub(super) fn agent(
    tree: &Tree,
    rig_id: RigId,
    agent_id: AgentId,
) -> Result<Option<Agent>, storage::Error> {
    Ok(tree
        .get(&AgentKey { agent_id })?
        .filter(|agent| agent.rig_id == Some(rig_id)))
}

pub(super) fn all_agents(tree: &Tree) -> Result<Vec<Agent>, storage::Error> {
    tree.scan(&AgentKey::all())
        .map(|row| row.map(|(_, agent)| agent))
        .collect()
}

pub(super) fn mayor(tree: &Tree) -> Result<Option<Agent>, storage::Error> {
    let first = tree.scan(&AgentByRole::of_role(AgentRole::Mayor)).next();
    match first.transpose()? {
        Some((_, to)) => tree.get(&AgentKey { agent_id: to.id }),
        None => Ok(None),
    }
}

/// An ask, and who asks it.
#[derive(Clone, Debug)]
pub struct AskView {
    /// The ask.
    pub ask: Ask,
    /// Who asks.
    pub agent: Agent,
}

/// What agents ask, oldest first.
pub(super) fn asks(
    tree: &Tree,
    agent_id: Option<AgentId>,
    page: Page,
) -> Result<Vec<AskView>, storage::Error> {
    let asks = match agent_id {
        Some(agent_id) => asks::of_agent(tree, agent_id)?,
        None => asks::all(tree)?,
    };
    let views = asks
        .into_iter()
        .filter_map(|ask| view(tree, ask).transpose());
    views.skip(page.offset).take(page.limit).collect()
}

/// `None` if the agent was removed in this moment.
fn view(tree: &Tree, ask: Ask) -> Result<Option<AskView>, storage::Error> {
    let agent_id = ask.agent_id;
    let agent = tree.get(&AgentKey { agent_id })?;
    Ok(agent.map(|agent| AskView { ask, agent }))
}

/// The newest config, resolved for a rig.
pub(super) fn resolved_config(
    tree: &Tree,
    rig_id: Option<RigId>,
    api_url: &str,
) -> Result<ResolvedTownConfig, storage::Error> {
    let rig = match rig_id {
        Some(rig_id) => tree.get(&RigKey { rig_id })?,
        None => None,
    };
    let token = rig.as_ref().and_then(|rig| rig.kilocode_token.as_deref());
    Ok(config_row(tree)?.resolve(rig_id, token, api_url))
}

/// Merge requests of a rig, newest first: of one status, or all that are not finished.
pub(super) fn reviews(
    tree: &Tree,
    rig_id: RigId,
    status: Option<ReviewStatus>,
    page: Page,
) -> Result<Vec<Review>, storage::Error> {
    let of_status = |status: ReviewStatus| {
        let entries = tree.scan(&ReviewByStatus::of_status(status)).rev();
        let reviews = entries.filter_map(|row| {
            row.and_then(|(_, entry)| tree.get(&ReviewKey { entry_id: entry.id }))
                .transpose()
        });
        reviews.filter(move |review| {
            review
                .as_ref()
                .map_or(true, |review| review.rig_id == rig_id)
        })
    };
    if let Some(status) = status {
        return of_status(status)
            .skip(page.offset)
            .take(page.limit)
            .collect();
    }
    let unfinished = ReviewStatus::UNFINISHED.iter().copied();
    let mut reviews: Vec<Review> = unfinished.flat_map(of_status).collect::<Result<_, _>>()?;
    reviews.sort_by_key(|review| std::cmp::Reverse(review.seq));
    Ok(reviews
        .into_iter()
        .skip(page.offset)
        .take(page.limit)
        .collect())
}

/// The mail that waits for an agent, oldest first.
pub(super) fn undelivered(tree: &Tree, agent_id: AgentId) -> Result<Vec<Mail>, storage::Error> {
    let mut mails = Vec::new();
    for row in tree.scan(&MailUndelivered::to(agent_id)) {
        let (MailUndelivered { to_agent_id, seq }, _) = row?;
        mails.extend(tree.get(&MailKey { to_agent_id, seq })?);
    }
    Ok(mails)
}

/// How much mail waits for an agent; counts no further than `max`.
pub(super) fn undelivered_count(
    tree: &Tree,
    agent_id: AgentId,
    max: usize,
) -> Result<usize, storage::Error> {
    let waiting = tree.scan(&MailUndelivered::to(agent_id)).take(max);
    waiting.map(|row| row.map(|_| 1)).sum()
}

/// Everything an agent has sent and received, newest first. A mail to itself stands there once.
pub(super) fn mailbox(
    tree: &Tree,
    agent_id: AgentId,
    page: Page,
) -> Result<Vec<Mail>, storage::Error> {
    let received = tree.scan(&MailKey::to(agent_id)).rev();
    let mut received = received.map(|row| row.map(|(key, _)| key)).peekable();
    let sent = tree.scan(&MailBySender::from(agent_id)).rev();
    let mut sent = sent
        .map(|row| {
            row.map(|(key, to)| MailKey {
                to_agent_id: to.id,
                seq: key.seq,
            })
        })
        .peekable();
    let mut newest = std::iter::from_fn(move || {
        let seq = |key: Option<&Result<MailKey, storage::Error>>| match key {
            None => 0,
            // An error comes first, so that it is seen.
            Some(Err(_)) => u64::MAX,
            Some(Ok(key)) => key.seq + 1,
        };
        let (ours, theirs) = (seq(sent.peek()), seq(received.peek()));
        if ours == theirs {
            sent.next();
        }
        if ours > theirs {
            sent.next()
        } else {
            received.next()
        }
    });
    let mut mails = Vec::new();
    for key in newest.by_ref().skip(page.offset).take(page.limit) {
        mails.extend(tree.get(&key?)?);
    }
    Ok(mails)
}
