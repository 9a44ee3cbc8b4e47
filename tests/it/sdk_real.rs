//! The real opencode and the real Kilo, driven by a scripted model through the typed client.
//!
//! They need the programs that `tests/agents/install` fetches, and fail without them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gastownd::lifecycle::Lifecycle;
use gastownd::sdk::{
    AgentServer, AgentServerKind, AgentServerOptions, Error, PermissionReply, SessionId,
    create_agent_server,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::support::agent_server::{self, Listener, prompt};
use crate::support::mark::Mark;
use crate::support::repository::Repository;
use crate::support::scripted_model::{self, ScriptedModel};
use crate::support::tool_server::ToolServer;

/// How many programs run at once: each wants a core for itself while it starts.
static PLACES: Semaphore = Semaphore::const_new(2);

/// How long the program may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A real agent program at work in a repository.
struct Real {
    lifecycle: Lifecycle,
    repository: Repository,
    model: ScriptedModel,
    mark: Mark,
    server: AgentServer,
    listener: Listener,
    session: SessionId,
    _place: SemaphorePermit<'static>,
}

impl Real {
    async fn new(kind: AgentServerKind) -> Self {
        Self::with_config(kind, |_| {}).await
    }

    async fn with_config(kind: AgentServerKind, change: impl FnOnce(&mut Value)) -> Self {
        let place = PLACES.acquire().await.unwrap();
        let lifecycle = Lifecycle::new();
        let model = ScriptedModel::start(&lifecycle).await;
        let repository = Repository::new();
        let mut config = model.config();
        change(&mut config);
        let work = repository.work();
        let mark = Mark::new();
        let options = marked(&mark, kind, &repository, config);
        let server = create_agent_server(options, &lifecycle).await.unwrap();
        let listener = Listener::subscribe(&server).await;
        let session = server
            .client()
            .session()
            .create(&work, "Real")
            .await
            .unwrap();
        Self {
            lifecycle,
            repository,
            model,
            mark,
            server,
            listener,
            session,
            _place: place,
        }
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

    async fn hear(&mut self, wanted: &str) -> Value {
        let session = self.session.clone();
        self.listener
            .hear(&session, wanted, |event_type, _| event_type == wanted)
            .await
    }

    async fn messages(&self) -> String {
        let work = self.repository.work();
        let messages = self
            .server
            .client()
            .session()
            .messages(&work, &self.session)
            .await;
        messages
            .unwrap()
            .iter()
            .map(|message| message.get())
            .collect()
    }

    /// Listens until the turn that failed or was aborted is over: it is idle twice.
    async fn hear_idle_twice(&mut self) {
        self.hear("session.idle").await;
        self.hear("session.idle").await;
    }

    /// Ends the server and starts it again in the same home.
    async fn restart(&mut self, kind: AgentServerKind) {
        self.server.stop(GRACE).await;
        self.mark
            .wait_until("nothing is left", |running| running.is_empty());
        let options = marked(&self.mark, kind, &self.repository, self.model.config());
        self.server = create_agent_server(options, &self.lifecycle).await.unwrap();
        self.listener = Listener::subscribe(&self.server).await;
    }

    async fn abort(&self) {
        let work = self.repository.work();
        self.server
            .client()
            .session()
            .abort(&work, &self.session)
            .await
            .unwrap();
    }

    async fn end(self) {
        assert!(
            self.mark.processes().len() >= 3,
            "two guards and the program"
        );
        self.server.stop(GRACE).await;
        self.mark
            .wait_until("nothing is left", |running| running.is_empty());
        self.server.stop(GRACE).await;
        assert!(self.server.client().health().await.is_err());
    }
}

/// Options whose every process bears the mark.
fn marked(
    mark: &Mark,
    kind: AgentServerKind,
    repository: &Repository,
    config: Value,
) -> AgentServerOptions {
    let mut options = agent_server::options(kind, repository.home(), &repository.work(), config);
    let (name, value) = mark.pair();
    options.env.insert(name.to_owned(), value.to_owned());
    options
}

async fn does_a_bead_with_its_tools(kind: AgentServerKind) {
    let mut real = Real::new(kind).await;
    let tools = ToolServer::with_bead(&real.lifecycle, "Greet people", "").await;
    let work = real.repository.work();
    real.server
        .client()
        .add_mcp(&work, &tools.registration())
        .await
        .unwrap();
    // Tools are for the sessions that begin after them.
    let sessions = real.server.client().session();
    real.session = sessions.create(&work, "Real").await.unwrap();
    real.prompt("Do your work. SCENARIO:polecat").await;
    real.hear("session.idle").await;
    assert_eq!(tools.called(), ["prime", "done"]);
    assert_eq!(tools.arguments("done").unwrap()["branch"], "work");
    assert_eq!(
        real.repository.pushed("work", "docs/greeting.md"),
        "# Hello\n\nWelcome.\n"
    );
    assert!(real.listener.of_type("session.error").is_empty());
    assert!(!real.listener.of_type("message.part.delta").is_empty());
    assert!(
        real.listener
            .heard
            .iter()
            .all(|event| event.event_type != "sync")
    );
    let parts = real.listener.of_type("message.part.updated");
    assert!(
        parts
            .iter()
            .any(|part| part["part"]["text"] == "The scenario polecat is over.")
    );
    real.end().await;
}

async fn is_aborted_and_goes_on(kind: AgentServerKind) {
    let mut real = Real::new(kind).await;
    real.prompt("SCENARIO:slow").await;
    real.hear("message.part.delta").await;
    let (work, session) = (real.repository.work(), real.session.clone());
    real.server
        .client()
        .session()
        .abort(&work, &session)
        .await
        .unwrap();
    real.hear("session.idle").await;
    let error = real.listener.of_type("session.error").pop().unwrap();
    assert_eq!(error["error"]["name"], "MessageAbortedError");
    real.prompt("SCENARIO:say").await;
    let (work, session) = (real.repository.work(), real.session.clone());
    real.listener
        .hear(&session, "the last message", |event_type, properties| {
            event_type == "message.part.updated"
                && properties["part"]["text"] == "The scenario say is over."
        })
        .await;
    let sessions = real.server.client().session();
    assert!(sessions.resume(&work, &session).await.unwrap());
    assert!(
        !sessions
            .resume(&work, &SessionId::new("ses_none"))
            .await
            .unwrap()
    );
    real.end().await;
}

async fn asks_and_is_answered(kind: AgentServerKind) {
    let mut real = Real::with_config(kind, |config| {
        config["permission"] = json!({"*": "allow", "bash": "ask"});
    })
    .await;
    let work = real.repository.work();
    let client = real.server.client().clone();
    real.prompt("SCENARIO:bash").await;
    let asked = real.hear("permission.asked").await;
    let ask_id = asked["id"].as_str().unwrap();
    client
        .reply_permission(&work, ask_id, PermissionReply::Once)
        .await
        .unwrap();
    real.hear("session.idle").await;
    assert!(work.join("asked.txt").exists());
    std::fs::remove_file(work.join("asked.txt")).unwrap();
    real.prompt("SCENARIO:bash").await;
    let asked = real.hear("permission.asked").await;
    let ask_id = asked["id"].as_str().unwrap();
    client
        .reply_permission(&work, ask_id, PermissionReply::Reject)
        .await
        .unwrap();
    real.hear("session.idle").await;
    assert!(!work.join("asked.txt").exists());
    let again = client
        .reply_permission(&work, ask_id, PermissionReply::Once)
        .await;
    assert!(matches!(again, Err(Error::Refused { .. })), "{again:?}");
    real.prompt("SCENARIO:ask").await;
    let asked = real.hear("question.asked").await;
    let answers = [vec!["Blue".to_owned()]];
    client
        .reply_question(&work, asked["id"].as_str().unwrap(), &answers)
        .await
        .unwrap();
    real.hear("session.idle").await;
    assert!(real.messages().await.contains("Blue"));
    real.end().await;
}

/// A refusal ends the turn at once; a broken model is asked again, until that is aborted.
async fn tells_when_the_model_fails(kind: AgentServerKind) {
    let mut real = Real::new(kind).await;
    real.prompt("SCENARIO:refuse401").await;
    let error = real.hear("session.error").await;
    assert!(
        error["error"]["data"]["message"]
            .as_str()
            .unwrap()
            .contains("401"),
        "{error}"
    );
    real.hear_idle_twice().await;
    assert_eq!(real.model.asked_for("refuse401"), 1);
    let session = real.session.clone();
    real.prompt("SCENARIO:refuse500").await;
    real.listener
        .hear(&session, "a second attempt", |_, properties| {
            properties["status"]["attempt"] == 2
        })
        .await;
    real.abort().await;
    real.hear("session.idle").await;
    real.end().await;
}

/// A model that stops in the middle: told as a new attempt, or by Kilo as an error or as being offline. One
/// that says nothing more can be aborted.
async fn tells_when_the_model_breaks_off(kind: AgentServerKind) {
    let mut real = Real::new(kind).await;
    real.prompt("SCENARIO:close").await;
    let session = real.session.clone();
    let told = real
        .listener
        .hear(
            &session,
            "a new attempt or an error",
            |event_type, properties| {
                let status = &properties["status"]["type"];
                event_type == "session.error" || status == "retry" || status == "offline"
            },
        )
        .await;
    if told["error"].is_object() {
        real.hear_idle_twice().await;
    } else {
        real.abort().await;
        real.hear("session.idle").await;
    }
    real.prompt("SCENARIO:stall").await;
    real.hear("message.part.delta").await;
    real.abort().await;
    real.hear("session.idle").await;
    real.end().await;
}

/// What a server knew is there when it is started again, and the conversation goes on.
async fn resumes_its_session(kind: AgentServerKind) {
    let mut real = Real::new(kind).await;
    real.prompt("SCENARIO:say").await;
    real.hear("session.idle").await;
    real.restart(kind).await;
    let (work, session) = (real.repository.work(), real.session.clone());
    assert!(
        real.server
            .client()
            .session()
            .resume(&work, &session)
            .await
            .unwrap()
    );
    real.prompt("SCENARIO:say").await;
    real.hear("session.idle").await;
    let over = "The scenario say is over.";
    assert_eq!(real.messages().await.matches(over).count(), 2);
    real.end().await;
}

/// Nobody listens where the model should be: opencode tries again by itself.
#[tokio::test]
async fn opencode_tries_again_when_the_model_is_not_there() {
    let mut real = Real::with_config(AgentServerKind::Opencode, model_is_not_there).await;
    real.prompt("SCENARIO:say").await;
    let session = real.session.clone();
    let told = real
        .listener
        .hear(&session, "a second attempt", |_, properties| {
            properties["status"]["attempt"] == 2
        })
        .await;
    assert_eq!(told["status"]["type"], "retry");
    real.abort().await;
    real.hear("session.idle").await;
    real.end().await;
}

/// Kilo waits to be told that it may try again.
#[tokio::test]
async fn kilo_asks_when_the_model_is_not_there() {
    let mut real = Real::with_config(AgentServerKind::Kilo, model_is_not_there).await;
    real.prompt("SCENARIO:say").await;
    let asked = real.hear("session.network.asked").await;
    let (client, work) = (real.server.client().clone(), real.repository.work());
    client
        .retry_network(&work, asked["id"].as_str().unwrap())
        .await
        .unwrap();
    let again = real.hear("session.network.asked").await;
    assert_ne!(again["id"], asked["id"]);
    real.abort().await;
    real.hear("session.idle").await;
    real.end().await;
}

fn model_is_not_there(config: &mut Value) {
    // The port of a service that nobody runs any more.
    *config = scripted_model::config(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
}

#[tokio::test]
async fn opencode_does_a_bead_with_its_tools() {
    does_a_bead_with_its_tools(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_does_a_bead_with_its_tools() {
    does_a_bead_with_its_tools(AgentServerKind::Kilo).await;
}

#[tokio::test]
async fn an_agent_of_acp_does_a_bead_with_its_tools() {
    does_a_bead_with_its_tools(AgentServerKind::Acp).await;
}

#[tokio::test]
async fn opencode_is_aborted_and_goes_on() {
    is_aborted_and_goes_on(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_is_aborted_and_goes_on() {
    is_aborted_and_goes_on(AgentServerKind::Kilo).await;
}

#[tokio::test]
async fn an_agent_of_acp_is_aborted_and_goes_on() {
    is_aborted_and_goes_on(AgentServerKind::Acp).await;
}

#[tokio::test]
async fn opencode_asks_and_is_answered() {
    asks_and_is_answered(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_asks_and_is_answered() {
    asks_and_is_answered(AgentServerKind::Kilo).await;
}

#[tokio::test]
async fn opencode_tells_when_the_model_fails() {
    tells_when_the_model_fails(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_tells_when_the_model_fails() {
    tells_when_the_model_fails(AgentServerKind::Kilo).await;
}

#[tokio::test]
async fn opencode_tells_when_the_model_breaks_off() {
    tells_when_the_model_breaks_off(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn opencode_resumes_its_session() {
    resumes_its_session(AgentServerKind::Opencode).await;
}

#[tokio::test]
async fn kilo_tells_when_the_model_breaks_off() {
    tells_when_the_model_breaks_off(AgentServerKind::Kilo).await;
}

#[tokio::test]
async fn kilo_resumes_its_session() {
    resumes_its_session(AgentServerKind::Kilo).await;
}
