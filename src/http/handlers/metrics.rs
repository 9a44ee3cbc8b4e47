//! Numbers for Prometheus.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::http::context::{Context, Reply};
use crate::http::requests;
use crate::model::AgentStatus;
use crate::telemetry::metrics::Exposition;
use crate::town::{Error, Towns};

/// The version of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

pub(in crate::http) async fn scrape(context: Context) -> Reply {
    let mut out = Exposition::default();
    requests::write(&mut out);
    out.process();
    towns(&mut out, &context.state()?.towns).await?;
    let mut response = Response::new(Full::new(Bytes::from(out.into_text())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    Ok(response)
}

/// How all towns are, counted now: this is asked for every few seconds at most.
async fn towns(out: &mut Exposition, towns: &Towns) -> Result<(), Error> {
    let (mut count, mut containers) = (0, 0);
    let mut agents: BTreeMap<AgentStatus, u64> =
        AgentStatus::ALL.iter().map(|status| (*status, 0)).collect();
    for town in towns.handles() {
        count += 1;
        containers += u64::from(town.container().is_up());
        for agent in town.all_agents().await? {
            *agents.entry(agent.status).or_default() += 1;
        }
    }
    out.single("gastownd_towns", "gauge", "Towns.", count);
    let up = "Containers whose link is up.";
    out.single("gastownd_containers_up", "gauge", up, containers);
    let name = "gastownd_agents";
    out.metric(name, "gauge", "Agents of all towns, by status.");
    for (status, count) in agents {
        out.sample(name, &[("status", status.as_str())], count);
    }
    Ok(())
}
