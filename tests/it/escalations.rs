//! Escalations reach those whom their severity names: the mayor, and the notification hook.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::case::Case;

/// A hook that runs this script; `$OUT` is a file of the test's.
struct Hook {
    folder: TempDir,
    program: PathBuf,
}

impl Hook {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hook");
        let out = folder.path().join("out");
        let text = format!("#!/bin/sh\nOUT={}\n{script}\n", out.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, program }
    }

    async fn town(&self) -> Case {
        town_with_hook(&self.program).await
    }

    /// What the script wrote, one JSON text a line.
    fn heard(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

async fn town_with_hook(program: &Path) -> Case {
    Case::rehearsed(&["--notify-command", &program.to_string_lossy()]).await
}

async fn raise(case: &Case, title: &str, priority: &str) -> Value {
    let body = json!({"title": title, "body": "It burns.", "priority": priority});
    case.server
        .post(&format!("{}/escalations", case.rig), body)
        .await
}

async fn until(case: &mut Case, fact_type: &str, bead: &Value) -> Value {
    let own = |fact: &Value| fact["bead_id"] == bead["bead_id"];
    case.facts.until(fact_type, own).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_hears_of_what_is_severe_and_the_mayor_of_what_matters() {
    let hook = Hook::new("cat >> $OUT; echo >> $OUT");
    let mut case = hook.town().await;
    raise(&case, "a trifle", "low").await;
    raise(&case, "a matter", "medium").await;
    // Of two at the same look either may be told first.
    let high = raise(&case, "a fire", "high").await;
    until(&mut case, "escalation.notified", &high).await;
    let critical = raise(&case, "a flood", "critical").await;
    until(&mut case, "escalation.notified", &critical).await;
    let heard = hook.heard();
    let titles: Vec<&Value> = heard.iter().map(|notice| &notice["title"]).collect();
    assert_eq!(titles, ["a fire", "a flood"]);
    let notice = &heard[0];
    assert_eq!(notice["id"], high["bead_id"]);
    assert_eq!(notice["severity"], "high");
    assert_eq!(notice["body"], "It burns.");
    assert_eq!(notice["raised_again"], 0);
    assert!(case.town.ends_with(notice["town_id"].as_str().unwrap()));
    assert!(case.rig.ends_with(notice["rig_id"].as_str().unwrap()));
    let subjects = |title: &'static str| {
        move |fact: &Value| fact["metadata"]["subject"] == format!("Escalation: {title}")
    };
    for (title, mails) in [
        ("a trifle", 0),
        ("a matter", 1),
        ("a fire", 1),
        ("a flood", 1),
    ] {
        assert_eq!(
            case.facts.count("mail.sent", subjects(title)),
            mails,
            "{title}"
        );
    }

    // Taken up: no longer among those that wait for somebody.
    let path = format!("{}/escalations", case.town);
    let acknowledge = format!("{path}/{}/acknowledge", high["bead_id"].as_str().unwrap());
    case.server.post(&acknowledge, Value::Null).await;
    let waiting = case.server.get(&format!("{path}?acknowledged=false")).await;
    let titles: Vec<&Value> = waiting
        .as_array()
        .unwrap()
        .iter()
        .map(|bead| &bead["title"])
        .collect();
    assert_eq!(titles, ["a flood", "a matter", "a trifle"], "newest first");
    let page = case.server.get(&format!("{path}?limit=1&offset=1")).await;
    assert_eq!(page[0]["title"], "a fire");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_told_of() {
    let hook = Hook::new("echo no route to the pager >&2; exit 7");
    let mut case = hook.town().await;
    let bead = raise(&case, "a fire", "high").await;
    let failed = until(&mut case, "escalation.notify_failed", &bead).await;
    let error = failed["metadata"]["error"].as_str().unwrap();
    assert!(
        error.contains("no route to the pager") && error.contains('7'),
        "{error}"
    );

    let mut case = town_with_hook(Path::new("/not/there/hook")).await;
    let bead = raise(&case, "a fire", "high").await;
    let failed = until(&mut case, "escalation.notify_failed", &bead).await;
    let error = failed["metadata"]["error"].as_str().unwrap();
    assert!(error.contains("/not/there/hook"), "{error}");
}

/// One that hangs holds up nobody but the hook's own queue, and ends with the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_holds_up_nobody_and_is_run_again_by_the_next_server() {
    // The first run waits for ever; the second, of the next server, does not.
    let hook =
        Hook::new("cat >> $OUT; echo >> $OUT; mkdir $OUT.d 2>/dev/null && exec sleep 600; :");
    let mut case = hook.town().await;
    let bead = raise(&case, "a fire", "high").await;
    let limit = std::time::Instant::now() + crate::support::server::PATIENCE;
    while hook.heard().is_empty() {
        assert!(std::time::Instant::now() < limit, "the hook never ran");
        tokio::task::yield_now().await;
    }
    let work = case.sling("Greet people", "").await;
    case.expect_closed(&work).await;
    assert!(case.server.terminate().success());
    case.server.restart();
    case.facts = crate::support::facts::Facts::of(&case.server, &case.town).await;
    until(&mut case, "escalation.notified", &bead).await;
    assert_eq!(hook.heard().len(), 2);
}
