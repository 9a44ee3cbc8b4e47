//! The nouns on the wire. Field names, nesting and types are the contract.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::{Agent, Bead, BeadStatus, Json, Mail, Rig, Timestamp, Town};
use crate::town::{MayorSession, Prime, Slung};

use super::work::WireCurrentStep;

/// Whatever prints as its name on the wire.
pub(super) struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

pub(super) fn text<T: std::fmt::Display>(value: T) -> Text<T> {
    Text(value)
}

pub(super) fn texts<T: std::fmt::Display>(value: Option<T>) -> Option<Text<T>> {
    value.map(Text)
}

/// JSON that a client gave, as it gave it.
pub(super) fn raw(json: &Json) -> Box<RawValue> {
    RawValue::from_string(json.as_str().to_owned()).unwrap_or_else(|_| {
        // A stored row that is not JSON any more must not make the answer invalid as well.
        RawValue::from_string("null".to_owned()).expect("null is JSON")
    })
}

#[derive(Serialize)]
pub(in crate::http) struct WireTown {
    id: Text<crate::model::TownId>,
    name: String,
    owner_user_id: String,
    paused: bool,
    created_at: Text<Timestamp>,
    updated_at: Text<Timestamp>,
}

impl From<Town> for WireTown {
    fn from(town: Town) -> Self {
        Self {
            id: text(town.town_id),
            name: town.name,
            owner_user_id: town.owner_user_id.as_str().to_owned(),
            paused: town.paused,
            created_at: text(town.created_at),
            updated_at: text(town.updated_at),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireRig {
    id: Text<crate::model::RigId>,
    town_id: Text<crate::model::TownId>,
    name: String,
    git_url: String,
    default_branch: String,
    platform_integration_id: Option<String>,
    paused: bool,
    created_at: Text<Timestamp>,
    updated_at: Text<Timestamp>,
}

impl From<Rig> for WireRig {
    fn from(rig: Rig) -> Self {
        Self {
            id: text(rig.rig_id),
            town_id: text(rig.town_id),
            name: rig.name,
            git_url: rig.git_url,
            default_branch: rig.default_branch,
            platform_integration_id: rig.platform_integration_id,
            paused: rig.paused,
            created_at: text(rig.created_at),
            updated_at: text(rig.updated_at),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireBead {
    bead_id: Text<crate::model::BeadId>,
    id: Text<crate::model::BeadId>,
    #[serde(rename = "type")]
    bead_type: &'static str,
    status: &'static str,
    title: String,
    body: Option<String>,
    rig_id: Option<Text<crate::model::RigId>>,
    parent_bead_id: Option<Text<crate::model::BeadId>>,
    assignee_agent_bead_id: Option<Text<crate::model::AgentId>>,
    priority: &'static str,
    labels: Vec<String>,
    metadata: Box<RawValue>,
    created_by: Option<String>,
    failure_reason: Option<String>,
    convoy_id: Option<Text<crate::model::BeadId>>,
    molecule_id: Option<Text<crate::model::MoleculeId>>,
    depends_on: Vec<Text<crate::model::BeadId>>,
    /// Whether something that it needs first is left to do.
    blocked: bool,
    /// Whether it was slung and waits until a polecat is free.
    queued: bool,
    created_at: Text<Timestamp>,
    updated_at: Text<Timestamp>,
    closed_at: Option<Text<Timestamp>>,
}

impl From<Bead> for WireBead {
    fn from(bead: Bead) -> Self {
        Self {
            blocked: !bead.is_ready(),
            queued: bead.slung
                && bead.status == BeadStatus::Open
                && bead.assignee_agent_id.is_none(),
            bead_id: text(bead.bead_id),
            id: text(bead.bead_id),
            bead_type: bead.bead_type.as_str(),
            status: bead.status.as_str(),
            title: bead.title,
            body: bead.body,
            rig_id: texts(bead.rig_id),
            parent_bead_id: texts(bead.parent_bead_id),
            assignee_agent_bead_id: texts(bead.assignee_agent_id),
            convoy_id: texts(bead.convoy_id),
            molecule_id: texts(bead.molecule_id),
            depends_on: (bead.dependencies.iter())
                .map(|to| text(to.on_bead_id))
                .collect(),
            priority: bead.priority.as_str(),
            labels: bead.labels,
            metadata: raw(&bead.metadata),
            created_by: bead.created_by,
            failure_reason: bead.failure,
            created_at: text(bead.created_at),
            updated_at: text(bead.updated_at),
            closed_at: texts(bead.closed_at),
        }
    }
}

/// An escalation is a bead; acknowledged is one that a person has taken up.
#[derive(Serialize)]
pub(in crate::http) struct WireEscalation {
    #[serde(flatten)]
    bead: WireBead,
    acknowledged: bool,
}

impl From<Bead> for WireEscalation {
    fn from(bead: Bead) -> Self {
        Self {
            acknowledged: bead.status != BeadStatus::Open,
            bead: bead.into(),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireAgent {
    id: Text<crate::model::AgentId>,
    rig_id: Option<Text<crate::model::RigId>>,
    role: &'static str,
    name: String,
    identity: String,
    status: &'static str,
    current_hook_bead_id: Option<Text<crate::model::BeadId>>,
    dispatch_attempts: u32,
    last_error: Option<String>,
    last_activity_at: Option<Text<Timestamp>>,
    checkpoint: Option<Box<RawValue>>,
    created_at: Text<Timestamp>,
}

impl From<Agent> for WireAgent {
    fn from(agent: Agent) -> Self {
        Self {
            id: text(agent.agent_id),
            rig_id: texts(agent.rig_id),
            role: agent.role.as_str(),
            name: agent.name,
            identity: agent.identity,
            status: agent.status.as_str(),
            current_hook_bead_id: texts(agent.hook),
            dispatch_attempts: agent.dispatch.attempts,
            last_error: agent.dispatch.last_error,
            last_activity_at: texts(agent.last_activity_at),
            checkpoint: agent.checkpoint.as_ref().map(raw),
            created_at: text(agent.created_at),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireMail {
    id: Text<crate::model::MailId>,
    from_agent_id: String,
    to_agent_id: Text<crate::model::AgentId>,
    subject: String,
    body: String,
    delivered: bool,
    created_at: Text<Timestamp>,
    delivered_at: Option<Text<Timestamp>>,
    mail_type: &'static str,
    expires_at: Option<Text<Timestamp>>,
    dropped: Option<String>,
}

impl From<Mail> for WireMail {
    fn from(mail: Mail) -> Self {
        Self {
            id: text(mail.mail_id),
            from_agent_id: mail.from_agent_id,
            to_agent_id: text(mail.to_agent_id),
            subject: mail.subject,
            body: mail.body,
            delivered: mail.delivered_at.is_some(),
            created_at: text(mail.created_at),
            delivered_at: texts(mail.delivered_at),
            mail_type: mail.mail_type.as_str(),
            expires_at: texts(mail.expires_at),
            dropped: mail.dropped,
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WirePrime {
    agent: WireAgent,
    hooked_bead: Option<WireBead>,
    molecule: Option<WireCurrentStep>,
    undelivered_mail: Vec<WireMail>,
    open_beads: Vec<WireBead>,
}

impl From<Prime> for WirePrime {
    fn from(prime: Prime) -> Self {
        Self {
            agent: prime.agent.into(),
            hooked_bead: prime.hooked_bead.map(Into::into),
            molecule: prime.molecule.map(Into::into),
            undelivered_mail: prime.undelivered_mail.into_iter().map(Into::into).collect(),
            open_beads: prime.open_beads.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireSlung {
    bead: WireBead,
    agent: Option<WireAgent>,
}

impl From<Slung> for WireSlung {
    fn from(slung: Slung) -> Self {
        Self {
            bead: slung.bead.into(),
            agent: slung.agent.map(Into::into),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct WireMayorSession {
    agent_id: Text<crate::model::AgentId>,
    session_status: &'static str,
}

impl From<MayorSession> for WireMayorSession {
    fn from(session: MayorSession) -> Self {
        Self {
            agent_id: text(session.agent_id),
            session_status: session.status.as_str(),
        }
    }
}
