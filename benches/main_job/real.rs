//! Sling to the first event of a real opencode, its server warm, beside what opencode alone needs for
//! the same: a session and a prompt.

use std::time::{Duration, Instant};

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::AgentServerKind;
use serde_json::{Value, json};

use super::support::agent_server::{self, Listener, prompt};
use super::support::repository::Repository;
use super::support::scripted_model::{MODEL, PROVIDER, ScriptedModel};
use super::support::server::{Server, Stream};
use super::{Samples, polecat, row};

/// What each bead and each prompt says.
const TASK: &str = "Say something. SCENARIO:say";

/// Events of the container itself, which are none of the agent's.
const OURS: &str = "agent.";

pub(super) async fn slings(rounds: usize) {
    let lifecycle = Lifecycle::new();
    let model = ScriptedModel::start(&lifecycle).await;
    let repository = Repository::new();
    let kind = AgentServerKind::Opencode;
    let program = agent_server::program(kind).unwrap();
    let server = Server::start(&["--agent-program", &program.to_string_lossy()]);
    let providers = model.config()["provider"].take();
    let town = server
        .town(json!({
            "agent_server": kind.as_str(), "providers": providers,
            "default_model": format!("{PROVIDER}/{MODEL}"),
            "small_model": format!("{PROVIDER}/{MODEL}"),
        }))
        .await;
    let (rig, agent_id, mut stream) = polecat(&server, &town, &repository).await;

    // The first one starts the agent server and is not counted.
    first_event(&server, &rig, &agent_id, &mut stream).await;
    let (mut ours, mut share) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let (started, heard) = first_event(&server, &rig, &agent_id, &mut stream).await;
        share.push(started);
        ours.push(heard);
    }
    let floor = alone(&repository, &model, &lifecycle, rounds).await;
    row(
        "sling to the first event, warm opencode",
        &ours.summary(),
        "1500 ms",
        &format!("opencode alone {}", floor.summary()),
    );
    row(
        "of that until the agent's session is there",
        &share.summary(),
        "",
        "worktree, tools, session",
    );
    lifecycle.stop();
}

/// Slings a bead and waits until the agent's session is there and until it shows the first event of
/// its own; then takes the work away.
async fn first_event(
    server: &Server,
    rig: &str,
    agent_id: &str,
    stream: &mut Stream,
) -> (Duration, Duration) {
    let begin = Instant::now();
    let order = json!({"title": "Note the tides", "body": TASK});
    let slung = server.post(&format!("{rig}/sling"), order).await;
    assert_eq!(slung["agent"]["id"], agent_id);
    let mut started = None;
    let heard = loop {
        let event = stream.event().await.unwrap();
        let what = event["type"].as_str().unwrap();
        if what == "agent.started" {
            started = Some(begin.elapsed());
        } else if started.is_some() && !what.starts_with(OURS) {
            break begin.elapsed();
        }
    };
    let agent = format!("{rig}/agents/{agent_id}");
    server.post(&format!("{agent}/stop"), json!({})).await;
    while stream.event().await.unwrap()["type"] != "agent.exited" {}
    let is_free = |agent: &Value| agent["status"] == "idle";
    server.until("the polecat is free", &agent, is_free).await;
    (started.unwrap_or_default(), heard)
}

/// The same program without us: a session, a prompt, and the first event of that session behind it.
async fn alone(
    repository: &Repository,
    model: &ScriptedModel,
    lifecycle: &Lifecycle,
    rounds: usize,
) -> Samples {
    let home = tempfile::tempdir().unwrap();
    let work = repository.work();
    let kind = AgentServerKind::Opencode;
    let home_folder = home.path().to_owned();
    let server = agent_server::start(kind, home_folder, &work, model.config(), lifecycle).await;
    let mut listener = Listener::subscribe(&server).await;
    let mut samples = Samples::default();
    for round in 0..=rounds {
        let begin = Instant::now();
        let sessions = server.client().session();
        let session = sessions.create(&work, "Alone").await.unwrap();
        let prompt = prompt(TASK);
        let prompted = sessions.prompt(&work, &session, &prompt);
        let heard = listener.hear(&session, "an event of its turn", |what, _| {
            !what.starts_with("session.created") && !what.starts_with("session.updated")
        });
        let (prompted, _) = tokio::join!(prompted, heard);
        prompted.unwrap();
        // The first one warms it.
        if round > 0 {
            samples.push(begin.elapsed());
        }
        listener.hear_idle(&session).await;
    }
    server.stop(Duration::from_secs(5)).await;
    samples
}
