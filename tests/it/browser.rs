//! The page in a real browser: Chromium, driven through ChromeDriver, on the demo's town.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::case::{Case, ONE_TRY, rehearsal};
use crate::support::program::Program;

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn shows_the_demo_from_the_first_word_to_the_last_merge() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = Program::start(
        Command::new(env!("CARGO_BIN_EXE_gastownd"))
            .args(["demo", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path()),
    );
    let page = format!("http://{}", demo.told_after("http://").trim());
    let browser = Browser::start().await;
    browser.client.goto(&page).await.unwrap();

    browser
        .until(
            "the page is live",
            r#"
        return document.getElementById("link").dataset.state === "connected";
    "#,
        )
        .await;
    browser
        .until(
            "a polecat's words appear",
            r#"
        return [...document.querySelectorAll(".agent")].some((agent) =>
            agent.querySelector(".role").textContent === "polecat" &&
            agent.querySelector(".entry.text")?.textContent.length > 20);
    "#,
        )
        .await;
    browser
        .until(
            "a tool call appears",
            r#"
        return document.querySelector(".entry.tool[data-status=completed]") !== null;
    "#,
        )
        .await;
    browser
        .until(
            "three beads are closed",
            r#"
        return document.querySelectorAll(".bead[data-status=closed]").length === 3;
    "#,
        )
        .await;
    let trouble = browser
        .evaluate("return [...document.querySelectorAll('#attention-list li')].map((li) => li.textContent);")
        .await;
    assert_eq!(trouble, json!([]), "nothing needs a person");

    // What a person types reaches the town, and its answer comes back by itself.
    let title = browser
        .client
        .find(Locator::Css("#sling [name=title]"))
        .await
        .unwrap();
    title.send_keys("One more thing").await.unwrap();
    browser
        .client
        .find(Locator::Css("#sling [type=submit]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser
        .until(
            "the slung bead is done",
            r#"
        return [...document.querySelectorAll(".bead[data-status=closed] .card-title")]
            .some((title) => title.textContent === "One more thing");
    "#,
        )
        .await;

    browser.end().await;
    assert!(demo.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_agents_and_takes_up_an_escalation() {
    let mut case = Case::rehearsed(ONE_TRY).await;
    let body = json!({"title": "The disk is nearly full", "priority": "low"});
    let escalations = format!("{}/escalations", case.rig);
    let escalation = case.server.post(&escalations, body).await;
    let asking =
        "rehearse: ask question Which colour? | Red | Blue\nrehearse: ask permission ls -l";
    let bead = case.sling("Paint the bridge", asking).await;
    let browser = Browser::start().await;
    let page = format!("http://{}/", case.server.address());
    browser.client.goto(&page).await.unwrap();

    let click = async |css: &str| {
        let found = browser.client.find(Locator::Css(css)).await.unwrap();
        found.click().await.unwrap();
    };
    browser
        .until(
            "the question is shown with its options",
            r#"
        return [...document.querySelectorAll(".ask[data-kind=question] .choice input")]
            .map((input) => input.value).join() === "Red,Blue";
    "#,
        )
        .await;
    click(".ask[data-kind=question] input[value=Blue]").await;
    click(".ask[data-kind=question] [type=submit]").await;
    browser
        .until(
            "the request for permission is shown",
            r#"
        return document.querySelector(".ask[data-kind=permission] .wanted")?.textContent
            .includes("ls -l") === true;
    "#,
        )
        .await;
    click(".ask[data-kind=permission] .row button").await;
    case.expect_closed(&bead).await;
    browser
        .until(
            "nothing is asked any more",
            r#"return document.getElementById("asks").hidden;"#,
        )
        .await;
    let events = format!("{}/agents/{}/events?limit=1000", case.rig, bead.agent_id);
    let events = case.server.get(&events).await.to_string();
    assert!(events.contains("Blue"), "the agent was told");

    click("#attention-list li[data-kind=escalation] button.small").await;
    browser
        .until(
            "the escalation is taken up",
            r#"
        return [...document.querySelectorAll("li[data-kind] .badge")]
            .some((badge) => badge.textContent === "acknowledged");
    "#,
        )
        .await;
    // The town and a rig are held and let go by their buttons.
    let rig = format!("/api/users/u/rigs/{}", case.rig.rsplit('/').next().unwrap());
    let town_id = case.town.rsplit('/').next().unwrap();
    let town = format!("/api/users/u/towns/{town_id}");
    for (button, path) in [("#pause-town", &town), ("#pause-rig", &rig)] {
        for paused in [true, false] {
            click(button).await;
            case.server
                .until("it is held or goes on", path, |row| row["paused"] == paused)
                .await;
            let word = if paused { "Resume" } else { "Pause" };
            let script = format!(
                "return document.querySelector('{button}').textContent.startsWith('{word}') \
                    && !document.querySelector('{button}').disabled;"
            );
            browser.until("the button says so", &script).await;
        }
    }
    let bead_id = escalation["bead_id"].as_str().unwrap();
    let path = format!("{}/beads/{bead_id}", case.rig);
    assert_eq!(case.server.get(&path).await["status"], "in_progress");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sends_a_branch_back_approves_it_and_makes_a_token() {
    let mut config = rehearsal();
    config["refinery"] = json!({"gates": ["echo gates ran"], "auto_merge": false});
    config["budget"] = json!({"tokens_per_day": 5_000_000});
    let case = Case::new(ONE_TRY, config).await;
    let body = "rehearse: write a.txt <<one\nrehearse: rework write a.txt <<two";
    let bead = case.sling("Greet people", body).await;
    let browser = Browser::start().await;
    let page = format!("http://{}/", case.server.address());
    browser.client.goto(&page).await.unwrap();
    let click = async |css: &str| {
        let found = browser.client.find(Locator::Css(css)).await.unwrap();
        found.click().await.unwrap();
    };
    let fill = async |css: &str, text: &str| {
        let found = browser.client.find(Locator::Css(css)).await.unwrap();
        found.send_keys(text).await.unwrap();
    };
    let waits = r#"
        return document.querySelector(".attention li[data-kind=approval]") !== null
            && document.querySelector(".bead .facts").textContent.includes("waits for your approval");
    "#;
    browser.until("the branch waits for a person", waits).await;
    click("#attention-list li[data-kind=approval] .card-title").await;
    let is_open = r#"
        return document.querySelector(".review[data-status=waiting] .decision .approve") !== null;
    "#;
    browser.until("a person can decide", is_open).await;
    click(".decision .send-back").await;
    browser
        .until(
            "words are asked for",
            r#"
        return document.querySelector(".decision .problem").textContent.includes("must be changed");
    "#,
        )
        .await;
    fill(".decision textarea", "Write two.").await;
    click(".decision .send-back").await;
    browser
        .until(
            "it is mended and waits again",
            r#"
        return document.querySelector(".attention li[data-kind=approval]") !== null
            && document.querySelector(".bead .facts").textContent.includes("sent back 1 of 3");
    "#,
        )
        .await;
    click("#bead-dialog [data-close]").await;
    click("#attention-list li[data-kind=approval] .card-title").await;
    browser.until("a person can decide again", is_open).await;
    click(".decision .approve").await;
    // Not by the facts: nobody has read their socket for a while.
    let is_closed = |bead: &Value| bead["status"] == "closed";
    case.server
        .until("it is merged", &bead.path, is_closed)
        .await;
    assert_eq!(case.repository.pushed("main", "a.txt"), "two\n");
    browser
        .until(
            "nothing needs a person",
            r#"return document.getElementById("attention").hidden;"#,
        )
        .await;
    click("#bead-dialog [data-close]").await;
    click(".bead[data-status=closed] .card-title").await;
    browser
        .until(
            "it shows what the gates printed",
            r#"
        return document.querySelector(".review[data-status=merged] .gates pre")?.textContent
            .includes("gates ran") === true;
    "#,
        )
        .await;
    click("#bead-dialog [data-close]").await;
    browser
        .until(
            "the budget is shown",
            r#"return document.getElementById("town-usage").textContent.includes("of 5M tokens");"#,
        )
        .await;
    make_and_revoke_a_token(&browser).await;
    browser.end().await;
}

async fn make_and_revoke_a_token(browser: &Browser) {
    let click = async |css: &str| {
        let found = browser.client.find(Locator::Css(css)).await.unwrap();
        found.click().await.unwrap();
    };
    click("#show-tokens").await;
    let name = browser.client.find(Locator::Css("#token-form [name=name]"));
    name.await.unwrap().send_keys("nightly").await.unwrap();
    click("#token-form [type=submit]").await;
    browser
        .until(
            "the token is shown once and listed",
            r#"
        return document.querySelector("dialog output code")?.textContent.length > 20
            && document.querySelector("[data-token] b")?.textContent === "nightly";
    "#,
        )
        .await;
    click("[data-token] button").await;
    browser
        .until(
            "it is revoked",
            r#"return document.querySelector("[data-token]") === null;"#,
        )
        .await;
}

/// A headless Chromium with a profile of its own. Nothing of it is left, however the test ends.
struct Browser {
    client: Client,
    _driver: Program,
    profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let driver = Program::start(Command::new("chromedriver").arg("--port=0"));
        let port = driver.told_after("started successfully on port ");
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            // The tests may run as root, where Chromium's own sandbox refuses to.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().cloned().unwrap())
            .connect(&format!("http://127.0.0.1:{}", port.trim_end_matches('.')))
            .await
            .unwrap();
        Self {
            client,
            _driver: driver,
            profile,
        }
    }

    async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap()
    }

    /// Waits until the script returns true.
    async fn until(&self, what: &str, script: &str) {
        let holds = tokio::time::timeout(PATIENCE, async {
            while self.evaluate(script).await != json!(true) {
                tokio::task::yield_now().await;
            }
        });
        if holds.await.is_err() {
            let page = self.evaluate("return document.body.innerText;").await;
            panic!("never came true: {what}; the page says:\n{page:#}");
        }
    }

    async fn end(self) {
        self.client.clone().close().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end_processes_of(self.profile.path());
    }
}

/// Ends every process whose arguments name the profile: the browser's own, if it outlived its driver.
fn end_processes_of(profile: &Path) {
    let profile = profile.to_string_lossy();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).contains(&*profile) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}
