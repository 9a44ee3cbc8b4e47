//! Agents' events over HTTP.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::agents::acting_as;
use crate::agent_log::{EventView, NewEvent};
use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::Fields;
use crate::model::AgentId;
use crate::town::Error as TownError;

/// Events of one batch: one commit's worth.
const BATCH_LEN_MAX: usize = 1000;
/// Bytes of events in one answer. A page may be shorter than its limit for that; whoever pages goes
/// on behind the last id all the same.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of one event's data.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize)]
struct WireEvent<'a> {
    id: u64,
    agent_id: &'a str,
    event_type: &'a str,
    data: &'a RawValue,
    created_at: &'a str,
}

pub(in crate::http) async fn list(context: Context) -> Reply {
    let after = context.query.number("after_id", 0, 0..=u64::MAX - 1)?;
    let limit = context.query.number("limit", 100, 1..=1000)?;
    let (town, agent_id) = (context.town()?, context.agent_id()?);
    let log = town.agent_log(context.rig_id()?, agent_id).await?;
    let mut next = log.position().first_id.max(after + 1);
    let end = next.saturating_add(limit);
    let mut slices = Vec::new();
    let mut bytes = 0;
    while next < end && bytes < PAGE_BYTES_MAX {
        let read = log.read_from(next).await.map_err(TownError::from)?;
        let Some(last) = read.last() else { break };
        next = last.last_id() + 1;
        bytes += read.iter().map(|slice| slice.bytes().len()).sum::<usize>();
        slices.extend(read);
    }
    let id = agent_id.to_string();
    let views: Vec<EventView<'_>> = slices
        .iter()
        .flat_map(|slice| slice.frames())
        .filter_map(EventView::of_frame)
        .take_while(|event| event.id < end)
        .collect();
    let events: Vec<WireEvent<'_>> = views
        .iter()
        .map(|event| WireEvent {
            id: event.id,
            agent_id: &id,
            event_type: &event.event_type,
            data: event.data,
            created_at: &event.timestamp,
        })
        .collect();
    ok(events)
}

pub(in crate::http) async fn append(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let now = context.now();
    let (agent_id, event) = event(&mut fields, now)?;
    fields.finish()?;
    let agent_id = acting_as(&context, agent_id)?;
    let appended = context
        .town()?
        .append_events(context.rig_id()?, agent_id, vec![event])
        .await?;
    created(json!({"appended": true, "id": appended.last_id}))
}

pub(in crate::http) async fn append_batch(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let now = context.now();
    let mut events = Vec::new();
    let mut agents: Vec<Option<AgentId>> = Vec::new();
    for (index, mut part) in fields.objects("events").into_iter().enumerate() {
        let (agent_id, event) = event(&mut part, now)?;
        events.push(event);
        agents.push(agent_id);
        fields.absorb("events", index, part);
    }
    fields.finish()?;
    if events.is_empty() || events.len() > BATCH_LEN_MAX {
        let message = format!("must be 1 to {BATCH_LEN_MAX} events");
        return Err(ApiError::invalid_field("events", message));
    }
    if agents.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(ApiError::invalid_field(
            "events",
            "must all be of one agent",
        ));
    }
    let agent_id = acting_as(&context, agents.first().copied().flatten())?;
    let appended = context
        .town()?
        .append_events(context.rig_id()?, agent_id, events)
        .await?;
    created(json!({
        "appended": appended.count,
        "first_id": appended.first_id,
        "last_id": appended.last_id,
    }))
}

fn event(
    fields: &mut Fields<'_>,
    now: crate::model::Timestamp,
) -> Result<(Option<AgentId>, NewEvent), ApiError> {
    let agent_id = fields.required_id("agent_id");
    let event_type = fields.required_text("event_type", 1..=256);
    let data = fields.sized_json("data", EVENT_BYTES_MAX)?;
    Ok((
        agent_id,
        NewEvent {
            event_type,
            data: data.as_str().into(),
            timestamp: now,
            link: None,
        },
    ))
}
