//! What an agent's tools do: the same calls that the HTTP routes make.

use std::time::Duration;

use serde_json::{Value, json};

use crate::mcp::{AgentTools, ToolCall, ToolError};
use crate::model::{
    Agent, AgentId, Bead, BeadId, BeadStatus, Json, MailType, Priority, Rig, RigId,
};
use crate::town::{
    AgentDone, AgentFilter, BeadActor, BeadFilter, Error, Escalation, Judgement, NewMail, NewNudge,
    Page, Prime, SlingOrder, StatusChange, TownHandle, Verdict,
};

use super::wire::{
    WireAdvanced, WireAgent, WireBead, WireCurrentStep, WireMail, WirePrime, WireRig, WireSlung,
};

/// Rows shown to a model at once.
const LIST_MAX: usize = 100;

/// How long an agent's nudge is worth something.
pub(super) const NUDGE_TTL_DEFAULT: Duration = Duration::from_secs(600);

/// The tools of one town's agents.
pub(super) struct TownTools {
    pub(super) town: TownHandle,
}

impl AgentTools for TownTools {
    async fn call(&self, agent_id: AgentId, tool: ToolCall) -> Result<Value, ToolError> {
        let agent = self.town.any_agent(agent_id).await.map_err(problem)?;
        match agent.rig_id {
            Some(rig_id) => self.call_in_rig(&agent, rig_id, tool).await,
            None => self.call_in_town(&agent, tool).await,
        }
    }
}

impl TownTools {
    async fn call_in_rig(
        &self,
        agent: &Agent,
        rig_id: RigId,
        tool: ToolCall,
    ) -> Result<Value, ToolError> {
        let (town, agent_id) = (&self.town, agent.agent_id);
        match tool {
            ToolCall::Prime => {
                let prime = town.prime(rig_id, agent_id).await.map_err(problem)?;
                Ok(value(WirePrime::from(prime)))
            }
            ToolCall::Done {
                branch,
                pr_url,
                summary,
            } => {
                let done = AgentDone {
                    branch,
                    pr_url,
                    summary,
                };
                town.done(rig_id, agent_id, done).await.map_err(problem)?;
                Ok(
                    "Your branch is in the review queue and your hook is empty. You are finished: \
                    stop now."
                        .into(),
                )
            }
            ToolCall::BeadStatus { bead_id, status } => {
                let bead = match status {
                    None => town.bead(rig_id, bead_id).await,
                    Some(status) => {
                        let change = StatusChange {
                            status,
                            actor: BeadActor::Agent(agent_id),
                        };
                        town.set_bead_status(rig_id, bead_id, change).await
                    }
                };
                bead_value(bead)
            }
            ToolCall::BeadClose { bead_id } => {
                let bead_id = bead_id.or(agent.hook).ok_or_else(|| ToolError::Refused {
                    message: "your hook is empty; name the bead_id of the bead to close".to_owned(),
                })?;
                self.close(rig_id, bead_id, agent_id).await
            }
            ToolCall::MailCheck => {
                let mails = town.check_mail(rig_id, agent_id).await.map_err(problem)?;
                Ok(value(
                    mails.into_iter().map(WireMail::from).collect::<Vec<_>>(),
                ))
            }
            ToolCall::Checkpoint { data } => {
                let data = Json::from_valid(data.to_string());
                town.checkpoint(rig_id, agent_id, data)
                    .await
                    .map_err(problem)?;
                Ok("Saved; you will see it again after a restart.".into())
            }
            ToolCall::MoleculeCurrent => {
                let molecule = town.current_molecule(rig_id, agent_id).await;
                let step = molecule.map_err(problem)?.map(WireCurrentStep::from);
                Ok(value(step))
            }
            ToolCall::MoleculeAdvance { summary } => {
                let advanced = town.advance_molecule(rig_id, agent_id, summary).await;
                match advanced.map_err(problem)? {
                    Some(advanced) => Ok(value(WireAdvanced::from(advanced))),
                    None => Err(ToolError::Refused {
                        message: "the bead on your hook has no steps; there is nothing to advance"
                            .to_owned(),
                    }),
                }
            }
            ToolCall::Escalate {
                title,
                body,
                priority,
            } => {
                self.escalate(agent, Some(rig_id), title, body, priority)
                    .await
            }
            ToolCall::MailSend {
                to,
                subject,
                body,
                mail_type,
            } => {
                self.mail(agent, Some(rig_id), &to, (subject, body, mail_type))
                    .await
            }
            ToolCall::Nudge { to, message } => self.nudge(agent, Some(rig_id), &to, message).await,
            ToolCall::ReviewApprove { summary } => {
                town.judge_review(rig_id, agent_id, None, judged(Verdict::Approve, summary))
                    .await
                    .map_err(problem)?;
                Ok("Approved. Your hook is empty and you are finished: stop now.".into())
            }
            ToolCall::ReviewRequestChanges { changes } => {
                town.judge_review(
                    rig_id,
                    agent_id,
                    None,
                    judged(Verdict::RequestChanges, changes),
                )
                .await
                .map_err(problem)?;
                Ok("Sent back. Your hook is empty and you are finished: stop now.".into())
            }
            ToolCall::Sling { .. }
            | ToolCall::ListRigs
            | ToolCall::ListBeads { .. }
            | ToolCall::ListAgents { .. } => self.call_in_town(agent, tool).await,
        }
    }

    async fn call_in_town(&self, agent: &Agent, tool: ToolCall) -> Result<Value, ToolError> {
        let town = &self.town;
        match tool {
            ToolCall::Sling {
                rig,
                title,
                body,
                priority,
            } => {
                let rig = self.rig(&rig).await?;
                let order = SlingOrder {
                    title,
                    body,
                    priority: priority.unwrap_or(Priority::Medium),
                    metadata: Json::empty_object(),
                    created_by: Some(agent.agent_id.to_string()),
                };
                let slung = town.sling(rig.rig_id, order).await.map_err(problem)?;
                Ok(value(WireSlung::from(slung)))
            }
            ToolCall::ListRigs => {
                let rigs = town.rigs().await.map_err(problem)?;
                Ok(value(
                    rigs.into_iter().map(WireRig::from).collect::<Vec<_>>(),
                ))
            }
            ToolCall::ListBeads { rig, status } => {
                let mut beads = Vec::new();
                for rig in self.rigs(rig.as_deref()).await? {
                    let filter = BeadFilter {
                        status,
                        ..BeadFilter::default()
                    };
                    let page = Page {
                        limit: LIST_MAX,
                        offset: 0,
                    };
                    let of_rig = town
                        .beads(rig.rig_id, filter, page)
                        .await
                        .map_err(problem)?;
                    beads.extend(of_rig.into_iter().map(WireBead::from));
                }
                Ok(value(beads))
            }
            ToolCall::ListAgents { rig } => {
                let mut agents = Vec::new();
                for rig in self.rigs(rig.as_deref()).await? {
                    let filter = AgentFilter::default();
                    let of_rig = town.agents(rig.rig_id, filter).await.map_err(problem)?;
                    agents.extend(of_rig.into_iter().map(WireAgent::from));
                }
                Ok(value(agents))
            }
            ToolCall::Escalate {
                title,
                body,
                priority,
            } => self.escalate(agent, None, title, body, priority).await,
            ToolCall::MailSend {
                to,
                subject,
                body,
                mail_type,
            } => {
                self.mail(agent, None, &to, (subject, body, mail_type))
                    .await
            }
            ToolCall::Nudge { to, message } => self.nudge(agent, None, &to, message).await,
            // Mail comes to the mayor as messages, and it has no hook.
            ToolCall::Prime => Ok(value(WirePrime::from(Prime {
                agent: agent.clone(),
                hooked_bead: None,
                molecule: None,
                undelivered_mail: Vec::new(),
                open_beads: Vec::new(),
            }))),
            ToolCall::MailCheck => Ok(json!([])),
            ToolCall::ReviewApprove { .. }
            | ToolCall::ReviewRequestChanges { .. }
            | ToolCall::Done { .. }
            | ToolCall::BeadStatus { .. }
            | ToolCall::BeadClose { .. }
            | ToolCall::MoleculeCurrent
            | ToolCall::MoleculeAdvance { .. }
            | ToolCall::Checkpoint { .. } => Err(ToolError::Refused {
                message: "this tool needs a rig, and you work for the whole town".to_owned(),
            }),
        }
    }

    async fn close(
        &self,
        rig_id: RigId,
        bead_id: BeadId,
        agent_id: AgentId,
    ) -> Result<Value, ToolError> {
        let actor = BeadActor::Agent(agent_id);
        let change = StatusChange {
            status: BeadStatus::Closed,
            actor,
        };
        bead_value(self.town.set_bead_status(rig_id, bead_id, change).await)
    }

    async fn escalate(
        &self,
        agent: &Agent,
        rig_id: Option<RigId>,
        title: String,
        body: Option<String>,
        priority: Option<Priority>,
    ) -> Result<Value, ToolError> {
        let escalation = Escalation {
            matter: Some(format!("agent:{}:{title}", agent.agent_id)),
            title,
            body,
            priority: priority.unwrap_or(Priority::Medium),
            metadata: Json::from_valid(json!({"agent_id": agent.agent_id.to_string()}).to_string()),
            created_by: Some(agent.agent_id.to_string()),
        };
        bead_value(self.town.escalate(rig_id, escalation).await)
    }

    async fn mail(
        &self,
        agent: &Agent,
        rig_id: Option<RigId>,
        to: &str,
        (subject, body, mail_type): (String, String, MailType),
    ) -> Result<Value, ToolError> {
        let receiver = self.receiver(to).await?;
        let new = NewMail {
            from_agent_id: agent.agent_id.to_string(),
            to_agent_id: receiver.agent_id,
            subject,
            body,
            mail_type,
        };
        self.town.send_mail(rig_id, new).await.map_err(problem)?;
        Ok(format!("Sent to {}.", receiver.name).into())
    }

    async fn nudge(
        &self,
        agent: &Agent,
        rig_id: Option<RigId>,
        to: &str,
        message: String,
    ) -> Result<Value, ToolError> {
        let receiver = self.receiver(to).await?;
        let new = NewNudge {
            from_agent_id: agent.agent_id.to_string(),
            message,
            time_to_live: NUDGE_TTL_DEFAULT,
        };
        self.town
            .nudge(receiver.rig_id.and(rig_id), receiver.agent_id, new)
            .await
            .map_err(problem)?;
        Ok(format!("{} hears it when its turn ends.", receiver.name).into())
    }

    /// An agent by its id, name or identity.
    async fn receiver(&self, to: &str) -> Result<Agent, ToolError> {
        let agents = self.town.all_agents().await.map_err(problem)?;
        let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
        let receiver = agents.into_iter().find(|other| {
            other.agent_id.to_string() == to
                || other.identity == to
                || other.name.eq_ignore_ascii_case(to)
        });
        receiver.ok_or_else(|| ToolError::Refused {
            message: format!("there is no agent {to:?}; there are: {}", names.join(", ")),
        })
    }

    async fn rigs(&self, wanted: Option<&str>) -> Result<Vec<Rig>, ToolError> {
        match wanted {
            Some(wanted) => Ok(vec![self.rig(wanted).await?]),
            None => self.town.rigs().await.map_err(problem),
        }
    }

    /// A rig by its id or name.
    async fn rig(&self, wanted: &str) -> Result<Rig, ToolError> {
        let rigs = self.town.rigs().await.map_err(problem)?;
        let names: Vec<String> = rigs.iter().map(|rig| rig.name.clone()).collect();
        rigs.into_iter()
            .find(|rig| rig.rig_id.to_string() == wanted || rig.name == wanted)
            .ok_or_else(|| ToolError::Refused {
                message: format!(
                    "there is no rig {wanted:?}; there are: {}",
                    names.join(", ")
                ),
            })
    }
}

fn bead_value(bead: Result<Bead, Error>) -> Result<Value, ToolError> {
    Ok(value(WireBead::from(bead.map_err(problem)?)))
}

fn value(wire: impl serde::Serialize) -> Value {
    serde_json::to_value(wire).expect("wire types hold only what JSON can hold")
}

/// What went wrong, for a model.
fn problem(error: Error) -> ToolError {
    match error {
        Error::Refused(refusal) => ToolError::Refused {
            message: refusal.to_string(),
        },
        other => {
            tracing::warn!(error = %other, "an agent's tool could not be carried out");
            ToolError::Unavailable {
                message: other.to_string(),
            }
        }
    }
}

fn judged(verdict: Verdict, text: String) -> Judgement {
    Judgement {
        verdict,
        text,
        head_sha: None,
    }
}
