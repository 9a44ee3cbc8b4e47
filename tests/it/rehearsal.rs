//! The rehearsal through the client that drives the real agent servers.

use std::path::Path;
use std::time::Duration;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::{AgentServer, AgentServerKind, PermissionReply, Prompt, SessionId};
use serde_json::{Value, json};

use crate::support::agent_server::{self, Listener, prompt};
use crate::support::repository::Repository;
use crate::support::tool_server::ToolServer;

/// A rehearsal in a repository, with a session and somebody who listens.
struct Rehearsed {
    lifecycle: Lifecycle,
    repository: Repository,
    server: AgentServer,
    listener: Listener,
    session: SessionId,
}

impl Rehearsed {
    async fn new(pace_ms: u64) -> Self {
        let lifecycle = Lifecycle::new();
        let repository = Repository::new();
        let config = json!({"rehearsal": {"pace_ms": pace_ms}});
        let kind = AgentServerKind::Rehearsal;
        let (home, work) = (repository.home(), repository.work());
        let server = agent_server::start(kind, home, &work, config, &lifecycle).await;
        let listener = Listener::subscribe(&server).await;
        let session = server
            .client()
            .session()
            .create(&work, "A rehearsal")
            .await
            .unwrap();
        Self {
            lifecycle,
            repository,
            server,
            listener,
            session,
        }
    }

    async fn with_tools(tools: &ToolServer, rehearsed: Self) -> Self {
        let work = rehearsed.repository.work();
        rehearsed
            .server
            .client()
            .add_mcp(&work, &tools.registration())
            .await
            .unwrap();
        rehearsed
    }

    async fn prompt(&self, text: &str) {
        let work = self.repository.work();
        self.server
            .client()
            .session()
            .prompt(&work, &self.session, &prompt(text))
            .await
            .unwrap();
    }

    async fn turn(&mut self, text: &str) {
        self.prompt(text).await;
        self.listener.hear_idle(&self.session).await;
    }

    /// All text that was streamed.
    fn said(&self) -> String {
        let deltas = self.listener.of_type("message.part.delta");
        deltas
            .iter()
            .map(|delta| delta["delta"].as_str().unwrap())
            .collect()
    }

    fn error(&self) -> Option<Value> {
        self.listener.of_type("session.error").pop()
    }
}

#[tokio::test]
async fn a_polecat_does_the_bead_on_its_hook() {
    let mut rehearsed = Rehearsed::new(0).await;
    let title = "Explain how to greet";
    let tools = ToolServer::with_bead(&rehearsed.lifecycle, title, "Be warm.").await;
    rehearsed = Rehearsed::with_tools(&tools, rehearsed).await;
    rehearsed.turn(&format!("Your work: {title}")).await;
    assert_eq!(tools.called(), ["prime", "done"]);
    assert_eq!(tools.arguments("done").unwrap()["branch"], "work");
    let text = rehearsed
        .repository
        .pushed("work", "docs/explain-how-to-greet.md");
    assert!(
        text.starts_with("# Explain how to greet\n\nBe warm.\n"),
        "{text}"
    );
    assert!(rehearsed.said().contains("Here is my plan"));
    assert!(rehearsed.error().is_none());
}

#[tokio::test]
async fn the_events_are_those_of_the_real_ones() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed
        .turn("Greet\nrehearse: say Hello there\nrehearse: write a.md <<one")
        .await;
    let heard = &rehearsed.listener.heard;
    for expected in [
        "session.created",
        "session.updated",
        "message.updated",
        "message.part.updated",
        "session.status",
        "message.part.delta",
        "file.edited",
        "session.idle",
    ] {
        assert!(
            heard.iter().any(|event| event.event_type == expected),
            "no {expected}"
        );
    }
    assert!(
        heard.iter().all(|event| event.event_type != "sync"),
        "copies are dropped"
    );
    let work = rehearsed.repository.work();
    assert!(heard.iter().all(|event| {
        event.event_type.starts_with("server.")
            || event.directory.as_deref().map(Path::new) == Some(&work)
    }));
    let states: Vec<_> = rehearsed
        .listener
        .of_type("message.part.updated")
        .into_iter()
        .filter(|update| update["part"]["tool"] == "write")
        .map(|update| update["part"]["state"]["status"].clone())
        .collect();
    assert_eq!(states, ["pending", "running", "completed"]);
    let used = rehearsed.listener.of_type("message.updated").pop().unwrap();
    assert!(used["info"]["cost"].as_f64().unwrap() > 0.0);
    assert!(used["info"]["tokens"]["total"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_messages_are_kept() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed.turn("Greet\nrehearse: say Hello there").await;
    let (work, session) = (rehearsed.repository.work(), rehearsed.session.clone());
    let sessions = rehearsed.server.client().session();
    let messages = sessions.messages(&work, &session).await.unwrap();
    let first: Value = serde_json::from_str(messages[0].get()).unwrap();
    assert_eq!(first["info"]["role"], "user");
    let all = messages
        .iter()
        .map(|message| message.get())
        .collect::<String>();
    assert!(all.contains("Hello there") && all.contains("git push -u origin HEAD"));
    assert!(sessions.resume(&work, &session).await.unwrap());
    assert!(
        !sessions
            .resume(&work, &SessionId::new("ses_none"))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn an_abort_ends_the_turn_and_the_session_goes_on() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed.prompt("Greet\nrehearse: hang").await;
    let session = rehearsed.session.clone();
    rehearsed
        .listener
        .hear(&session, "work", |event_type, _| {
            event_type == "message.part.delta"
        })
        .await;
    let work = rehearsed.repository.work();
    rehearsed
        .server
        .client()
        .session()
        .abort(&work, &session)
        .await
        .unwrap();
    rehearsed.listener.hear_idle(&session).await;
    rehearsed.listener.hear_idle(&session).await;
    assert_eq!(
        rehearsed.error().unwrap()["error"]["name"],
        "MessageAbortedError"
    );
    rehearsed.turn("Greet\nrehearse: say I am back").await;
    assert!(rehearsed.said().contains("I am back"));
}

#[tokio::test]
async fn asks_wait_for_their_answers() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed
        .prompt("Greet\nrehearse: ask question Which? | Red | Blue\nrehearse: ask permission rm x")
        .await;
    let session = rehearsed.session.clone();
    let asked = rehearsed
        .listener
        .hear(&session, "a question", |event_type, _| {
            event_type == "question.asked"
        })
        .await;
    assert_eq!(asked["questions"][0]["options"][1]["label"], "Blue");
    let (client, work) = (
        rehearsed.server.client().clone(),
        rehearsed.repository.work(),
    );
    let answers = [vec!["Blue".to_owned()]];
    client
        .reply_question(&work, asked["id"].as_str().unwrap(), &answers)
        .await
        .unwrap();
    let asked = rehearsed
        .listener
        .hear(&session, "a permission", |event_type, _| {
            event_type == "permission.asked"
        })
        .await;
    let ask_id = asked["id"].as_str().unwrap();
    client
        .reply_permission(&work, ask_id, PermissionReply::Once)
        .await
        .unwrap();
    rehearsed.listener.hear_idle(&session).await;
    assert!(rehearsed.error().is_none());
    let again = client
        .reply_permission(&work, ask_id, PermissionReply::Once)
        .await;
    assert!(again.unwrap_err().to_string().contains("nobody asks that"));
}

#[tokio::test]
async fn a_rejected_permission_fails_the_turn() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed
        .prompt("Greet\nrehearse: ask permission rm x")
        .await;
    let session = rehearsed.session.clone();
    let asked = rehearsed
        .listener
        .hear(&session, "a permission", |event_type, _| {
            event_type == "permission.asked"
        })
        .await;
    let (client, work) = (rehearsed.server.client(), rehearsed.repository.work());
    let ask_id = asked["id"].as_str().unwrap();
    client
        .reply_permission(&work, ask_id, PermissionReply::Reject)
        .await
        .unwrap();
    rehearsed.listener.hear_idle(&session).await;
    assert!(rehearsed.error().is_some());
    assert!(!rehearsed.repository.has_branch("work"));
}

#[tokio::test]
async fn failures_of_the_model_are_told() {
    let mut rehearsed = Rehearsed::new(0).await;
    let session = rehearsed.session.clone();
    for (directive, expected) in [
        ("error no credit left", "no credit left"),
        ("dance", "dance"),
    ] {
        rehearsed
            .prompt(&format!("Greet\nrehearse: {directive}"))
            .await;
        let told = rehearsed
            .listener
            .hear(&session, expected, |event_type, _| {
                event_type == "session.error"
            })
            .await;
        let message = told["error"]["data"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn attempts_to_reach_the_model_are_told() {
    let mut rehearsed = Rehearsed::new(0).await;
    rehearsed
        .prompt("Greet\nrehearse: retry no route to the model")
        .await;
    let session = rehearsed.session.clone();
    rehearsed
        .listener
        .hear(&session, "a third attempt", |_, properties| {
            properties["status"]["attempt"] == 3
        })
        .await;
}

#[tokio::test]
async fn a_refused_push_is_escalated_and_not_called_done() {
    let mut rehearsed = Rehearsed::new(0).await;
    let tools = ToolServer::with_bead(&rehearsed.lifecycle, "Greet", "").await;
    rehearsed = Rehearsed::with_tools(&tools, rehearsed).await;
    rehearsed.repository.refuse_pushes("main is frozen");
    rehearsed.turn("Greet").await;
    assert_eq!(tools.called(), ["prime", "escalate"]);
    let body = tools.arguments("escalate").unwrap()["body"].clone();
    assert!(body.as_str().unwrap().contains("main is frozen"));
}

#[tokio::test]
async fn endings_can_be_left_out() {
    let mut rehearsed = Rehearsed::new(0).await;
    let body = "rehearse: run git config user.name Me\nrehearse: write a.md <<a\nrehearse: no-done";
    let tools = ToolServer::with_bead(&rehearsed.lifecycle, "Greet", body).await;
    rehearsed = Rehearsed::with_tools(&tools, rehearsed).await;
    rehearsed.turn("Greet").await;
    assert_eq!(tools.called(), ["prime"]);
    assert_eq!(rehearsed.repository.pushed("work", "a.md"), "a\n");
}

#[tokio::test]
async fn a_message_beside_the_work_saves_it() {
    let mut rehearsed = Rehearsed::new(0).await;
    let tools = ToolServer::with_bead(&rehearsed.lifecycle, "Greet", "").await;
    rehearsed = Rehearsed::with_tools(&tools, rehearsed).await;
    std::fs::write(rehearsed.repository.work().join("half.md"), "half\n").unwrap();
    rehearsed
        .turn("Please commit and push what you have.")
        .await;
    assert_eq!(tools.called(), ["prime"]);
    assert_eq!(rehearsed.repository.pushed("work", "half.md"), "half\n");
}

#[tokio::test]
async fn the_mayor_answers() {
    let mut rehearsed = Rehearsed::new(0).await;
    let tools = ToolServer::with_mayor(&rehearsed.lifecycle).await;
    rehearsed = Rehearsed::with_tools(&tools, rehearsed).await;
    rehearsed.turn("How is the town?").await;
    assert!(rehearsed.said().contains("You wrote: \"How is the town?\""));
}

#[tokio::test]
async fn messages_wait_while_the_session_is_busy() {
    let mut rehearsed = Rehearsed::new(0).await;
    let work = rehearsed.repository.work();
    let message = |text: &str| Prompt {
        system: Some("You are the mayor.".to_owned()),
        ..prompt(text)
    };
    let sessions = rehearsed.server.client().session();
    sessions
        .prompt(
            &work,
            &rehearsed.session,
            &message("rehearse: slow 1ms\nrehearse: say one two three"),
        )
        .await
        .unwrap();
    sessions
        .prompt(&work, &rehearsed.session, &message("rehearse: say four"))
        .await
        .unwrap();
    rehearsed.listener.hear_idle(&rehearsed.session).await;
    rehearsed.listener.hear_idle(&rehearsed.session).await;
    assert_eq!(rehearsed.said(), "one two threefour");
}

#[tokio::test]
async fn a_crash_ends_the_server_and_its_streams() {
    let rehearsed = Rehearsed::new(0).await;
    rehearsed.prompt("Greet\nrehearse: crash").await;
    let exit = rehearsed.server.exited().await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.output.contains("crash"));
    let session = rehearsed.session.clone();
    let work = rehearsed.repository.work();
    let refused = rehearsed
        .server
        .client()
        .session()
        .resume(&work, &session)
        .await;
    assert!(refused.is_err());
    rehearsed.server.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_tool_server_that_does_not_answer_is_an_error() {
    let rehearsed = Rehearsed::new(0).await;
    let tools = ToolServer::with_mayor(&rehearsed.lifecycle).await;
    let work = rehearsed.repository.work();
    let mut wrong = tools.registration();
    wrong.bearer_token = "somebody else's".to_owned();
    let error = rehearsed
        .server
        .client()
        .add_mcp(&work, &wrong)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}
