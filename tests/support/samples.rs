//! The recorded exchanges with the system whose clients must keep working.

use serde_json::Value;

use super::world::Ids;

/// One successful exchange.
pub(crate) struct Sample {
    pub(crate) method: String,
    /// As our route table writes it.
    pub(crate) path: String,
    /// With its question mark, or empty.
    pub(crate) query: String,
    pub(crate) request: Value,
    pub(crate) status: u16,
    pub(crate) response: Value,
}

/// All of them.
pub(crate) fn all() -> Vec<Sample> {
    include_str!("../fixtures/api-samples.jsonl")
        .lines()
        .map(|line| {
            let mut sample: Value = serde_json::from_str(line).unwrap();
            let (method, route) = sample["route"].as_str().unwrap().split_once(' ').unwrap();
            let (_, query) = sample["path"]
                .as_str()
                .unwrap()
                .split_once('?')
                .unwrap_or_default();
            Sample {
                method: method.to_owned(),
                path: route.replace("Id}", "}"),
                query: if query.is_empty() {
                    String::new()
                } else {
                    format!("?{query}")
                },
                status: u16::try_from(sample["status"].as_u64().unwrap()).unwrap(),
                request: sample["request"].take(),
                response: sample["response"].take(),
            }
        })
        .collect()
}

/// A recorded body with ids that exist here and names that don't.
pub(crate) fn with_ids(mut request: Value, ids: &Ids) -> Value {
    let Some(fields) = request.as_object_mut() else {
        return request;
    };
    for (name, value) in fields {
        let id = match name.as_str() {
            "town_id" => &ids.town,
            "agent_id" | "from_agent_id" => &ids.agent,
            "to_agent_id" => &ids.other_agent,
            "bead_id" => &ids.bead,
            "identity" => &ids.fresh,
            "name" if value == "ag" => &ids.fresh,
            _ => continue,
        };
        *value = id.as_str().into();
    }
    request
}
