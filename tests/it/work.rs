//! Beads that hang together, on a real server: dependencies, convoys, molecules, and the ledger.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::repository::Repository;
use crate::support::server::Server;
use crate::support::world::{World, last};

/// The status and code of an answer.
async fn refused(world: &World, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = world.server.call(method, path, body).await;
    let code = answer["code"].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), code)
}

async fn close(world: &World, rig: &str, bead: &str) {
    let path = format!("{rig}/beads/{bead}/close");
    world.server.post(&path, json!({})).await;
}

fn ids(list: &Value) -> Vec<&str> {
    let beads = list.as_array().unwrap().iter();
    beads
        .map(|bead| bead["bead_id"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bead_waits_for_what_it_depends_on() {
    let world = World::open().await;
    let (server, rig) = (&world.server, &world.rig);
    let first = world.bead(rig, "issue").await;
    let second = world.bead(rig, "issue").await;
    let path = format!("{rig}/beads/{second}/dependencies");
    let bead = server
        .post(&path, json!({"depends_on_bead_id": first}))
        .await;
    assert_eq!(bead["depends_on"], json!([first]));
    assert_eq!(bead["blocked"], true);
    let ready = format!("{rig}/beads?ready=true");
    assert_eq!(ids(&server.get(&ready).await), [&first]);
    let waiting = format!("{rig}/beads?ready=false");
    assert_eq!(ids(&server.get(&waiting).await), [&second]);

    let agent = world.agent(rig, "polecat").await;
    let hook = format!("{rig}/agents/{agent}/hook");
    let answer = refused(&world, "POST", &hook, json!({"bead_id": second})).await;
    assert_eq!(answer, (409, "bead_blocked".to_owned()));

    let both = server.get(&path).await;
    assert_eq!(both["depends_on"][0]["type"], "blocks");
    assert_eq!(both["depends_on"][0]["bead"]["bead_id"], first.as_str());
    assert_eq!(both["dependents"], json!([]));
    let other_way = server
        .get(&format!("{rig}/beads/{first}/dependencies"))
        .await;
    let dependent = &other_way["dependents"][0]["bead"]["bead_id"];
    assert_eq!(dependent, second.as_str());

    // A third one, from its beginning, and by following only.
    let body = json!({"type": "issue", "title": "third", "depends_on": [second]});
    let third = server.post(&format!("{rig}/beads"), body).await;
    assert_eq!(third["blocked"], true);
    let (_, other_rig) = world.town_with_rig().await;
    let foreign = world.bead(&other_rig, "issue").await;
    let of_first = format!("{rig}/beads/{first}/dependencies");
    let cases = [
        (
            &of_first,
            json!({"depends_on_bead_id": first}),
            409,
            "dependency_cycle",
        ),
        (
            &of_first,
            json!({"depends_on_bead_id": third["bead_id"]}),
            409,
            "dependency_cycle",
        ),
        (
            &of_first,
            json!({"depends_on_bead_id": foreign}),
            404,
            "bead_not_found",
        ),
        (
            &path,
            json!({"depends_on_bead_id": first, "type": "tracks"}),
            409,
            "dependency_exists",
        ),
        (
            &path,
            json!({"depends_on_bead_id": first, "type": "eats"}),
            400,
            "invalid_request",
        ),
        (&path, json!({}), 400, "invalid_request"),
    ];
    let before = world.snapshot(&world.town, rig).await;
    for (path, body, status, code) in cases {
        let answer = refused(&world, "POST", path, body.clone()).await;
        assert_eq!(answer, (status, code.to_owned()), "{body}");
    }
    let unknown = format!("{path}/{}", third["bead_id"].as_str().unwrap());
    let answer = refused(&world, "DELETE", &unknown, Value::Null).await;
    assert_eq!(answer, (404, "dependency_not_found".to_owned()));
    assert_eq!(world.snapshot(&world.town, rig).await, before);

    close(&world, rig, &first).await;
    assert_eq!(ids(&server.get(&ready).await), [&second]);
    // Reopened, it blocks again; taken away, it does not.
    let status = format!("{rig}/beads/{first}/status");
    server
        .must("PATCH", &status, json!({"status": "open"}))
        .await;
    assert_eq!(ids(&server.get(&ready).await), [&first]);
    let gone = server
        .must("DELETE", &format!("{path}/{first}"), Value::Null)
        .await;
    assert_eq!(gone, json!({"deleted": true}));
    assert_eq!(ids(&server.get(&ready).await), [&second, &first]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_what_happened_to_a_bead_and_who_did_it() {
    let world = World::open().await;
    let (server, rig) = (&world.server, &world.rig);
    let bead = world.bead(rig, "message").await;
    let agent = world.agent(rig, "polecat").await;
    let hook = format!("{rig}/agents/{agent}/hook");
    server.post(&hook, json!({"bead_id": bead})).await;
    server.must("DELETE", &hook, Value::Null).await;
    let status = format!("{rig}/beads/{bead}/status");
    server
        .must(
            "PATCH",
            &status,
            json!({"status": "closed", "agent_id": "ghost"}),
        )
        .await;
    let ledger = format!("{rig}/events?bead_id={bead}");
    let events = server.get(&ledger).await;
    let events = events.as_array().unwrap();
    let types: Vec<&str> = (events.iter())
        .map(|event| event["event_type"].as_str().unwrap())
        .filter(|name| !name.starts_with("agent_"))
        .collect();
    let expected = [
        "closed",
        "status_changed",
        "status_changed",
        "unhooked",
        "status_changed",
        "hooked",
        "assigned",
        "created",
    ];
    assert_eq!(types, expected);
    let of = |name: &str| events.iter().find(|event| event["event_type"] == name);
    let closed = of("status_changed").unwrap();
    assert_eq!(
        (&closed["old_value"], &closed["new_value"]),
        (&json!("open"), &json!("closed"))
    );
    assert_eq!(
        (&closed["agent_id"], &closed["actor"]),
        (&json!("ghost"), &json!("ghost"))
    );
    assert_eq!(of("hooked").unwrap()["agent_id"], agent.as_str());
    assert_eq!(of("created").unwrap()["new_value"], "open");
    let names: BTreeSet<&str> = (events.iter())
        .map(|event| event["bead_event_id"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), events.len(), "each has an id of its own");

    // Pages, and the time as a filter.
    let page = server.get(&format!("{ledger}&limit=2&offset=1")).await;
    assert_eq!(page.as_array().unwrap()[..], events[1..3]);
    let since = closed["created_at"].as_str().unwrap();
    let later = server.get(&format!("{ledger}&since={since}")).await;
    assert_eq!(later, json!([]));
    let since = "since=2020-01-01T00:00:00Z";
    let all = server.get(&format!("{ledger}&{since}")).await;
    assert_eq!(all.as_array().unwrap(), events);
    for wrong in ["since=yesterday", "bead_id=7", "limit=0"] {
        let path = format!("{rig}/events?{wrong}");
        assert_eq!(refused(&world, "GET", &path, Value::Null).await.0, 400);
    }

    // A bead that is deleted keeps its events, in the rig and in the town, and nowhere else.
    let path = format!("{rig}/beads/{bead}");
    server.must("DELETE", &path, Value::Null).await;
    let in_rig = server.get(&ledger).await;
    assert_eq!(in_rig[0]["event_type"], "deleted");
    assert_eq!(in_rig.as_array().unwrap()[1..], events[..]);
    let of_town = format!("/api/users/u/towns/{}/events", last(&world.town));
    let in_town = server.get(&format!("{of_town}?bead_id={bead}")).await;
    assert_eq!(in_town, in_rig);
    let whole = server.get(&of_town).await;
    assert!(whole.as_array().unwrap().contains(&in_rig[0]));
    let (_, other_rig) = world.town_with_rig().await;
    let elsewhere = server
        .get(&format!("{other_rig}/events?bead_id={bead}"))
        .await;
    assert_eq!(elsewhere, json!([]));
    let answer = refused(&world, "GET", &of_town.replace("/u/", "/v/"), Value::Null).await;
    assert_eq!(answer, (404, "town_not_found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_convoy_of_two_rigs_lands_once_whatever_is_said() {
    let mut world = World::open().await;
    let other_rig = world.rig_of(&world.town).await;
    let (town, rig) = (world.town.clone(), world.rig.clone());
    let one = world.bead(&rig, "issue").await;
    let two = world.bead(&other_rig, "issue").await;
    let member = |bead: &str, rig: &str| json!({"bead_id": bead, "rig_id": last(rig)});
    let path = format!("{town}/convoys");
    let body = json!({
        "title": "Release", "created_by": "me",
        "beads": [member(&one, &rig), member(&two, &other_rig)],
    });
    let convoy = world.server.post(&path, body).await;
    assert_eq!(
        (&convoy["status"], &convoy["total_beads"]),
        (&json!("active"), &json!(2))
    );
    let id = convoy["id"].as_str().unwrap().to_owned();
    let body = json!({"type": "issue", "title": "late", "convoy_id": id});
    let late = world.server.post(&format!("{rig}/beads"), body).await;
    assert_eq!(late["convoy_id"], id.as_str());
    let late = late["bead_id"].as_str().unwrap().to_owned();

    let cases = [
        (vec![], 400, "invalid_request"),
        (vec![member(&one, &rig)], 409, "bead_in_convoy"),
        (
            vec![member(&one, &rig), member(&one, &rig)],
            400,
            "invalid_request",
        ),
        (vec![member(&two, &rig)], 404, "bead_not_found"),
    ];
    for (beads, status, code) in cases {
        let body = json!({"title": "t", "beads": beads});
        let answer = refused(&world, "POST", &path, body).await;
        assert_eq!(answer, (status, code.to_owned()));
    }
    let (foreign_town, _) = world.town_with_rig().await;
    let foreign = format!("{foreign_town}/convoys/{id}");
    let answer = refused(&world, "GET", &foreign, Value::Null).await;
    assert_eq!(answer, (404, "convoy_not_found".to_owned()));

    close(&world, &rig, &one).await;
    close(&world, &other_rig, &two).await;
    let told = json!({"convoy_id": id, "bead_id": one});
    let closed = format!("{path}/bead-closed");
    let state = world.server.post(&closed, told.clone()).await;
    assert_eq!(
        (&state["closed_beads"], &state["landed_at"]),
        (&json!(2), &Value::Null)
    );
    // Its last bead goes away, and the server with it, before anybody says so.
    let gone = format!("{rig}/beads/{late}");
    world.server.must("DELETE", &gone, Value::Null).await;
    world.server.kill();
    world.server.restart();
    let whole = world.server.get(&format!("{path}/{id}")).await;
    assert_eq!(
        (&whole["status"], &whole["total_beads"]),
        (&json!("landed"), &json!(2))
    );
    assert_eq!(ids(&whole["beads"]), [&one, &two]);
    for _ in 0..2 {
        let again = world.server.post(&closed, told.clone()).await;
        assert_eq!(again["landed_at"], whole["landed_at"]);
    }
    let ledger = format!("/api/users/u/towns/{}/events?bead_id={id}", last(&town));
    let events = world.server.get(&ledger).await;
    let landings =
        (events.as_array().unwrap().iter()).filter(|event| event["event_type"] == "convoy_landed");
    assert_eq!(landings.count(), 1);
    for (query, found) in [("", 1), ("?landed=true", 1), ("?landed=false", 0)] {
        let listed = world.server.get(&format!("{path}{query}")).await;
        assert_eq!(listed.as_array().unwrap().len(), found, "{query}");
    }
    let body = json!({"type": "issue", "title": "too late", "convoy_id": id});
    let answer = refused(&world, "POST", &format!("{rig}/beads"), body).await;
    assert_eq!(answer, (409, "convoy_landed".to_owned()));
    let unknown = json!({"convoy_id": one, "bead_id": one});
    let answer = refused(&world, "POST", &closed, unknown).await;
    assert_eq!(answer, (404, "convoy_not_found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_shown_advanced_and_survive_a_restart() {
    let mut world = World::open().await;
    let rig = world.rig.clone();
    let bead = world.bead(&rig, "issue").await;
    let agent = world.agent(&rig, "polecat").await;
    let of_agent = format!("{rig}/agents/{agent}");
    let current = format!("{of_agent}/molecule/current");
    let advance = format!("{of_agent}/molecule/advance");
    assert_eq!(world.server.get(&current).await, Value::Null);
    let summary = json!({"summary": "s"});
    assert_eq!(
        world.server.post(&advance, summary.clone()).await,
        Value::Null
    );

    let steps =
        json!([{"title": "one", "instructions": "i1"}, {"title": "two", "instructions": "i2"}]);
    let new = json!({"bead_id": bead, "formula": {"steps": steps}});
    let made = world
        .server
        .post(&format!("{rig}/molecules"), new.clone())
        .await;
    assert_eq!(
        (&made["status"], &made["current_step"]),
        (&json!("active"), &json!(0))
    );
    let path = format!("{rig}/molecules/{}", made["id"].as_str().unwrap());
    let answer = refused(&world, "POST", &format!("{rig}/molecules"), new).await;
    assert_eq!(answer, (409, "molecule_exists".to_owned()));
    let wrong = [
        json!({"steps": []}),
        json!({"steps": [{"instructions": "i"}]}),
        json!({"steps": [7]}),
        json!({}),
        json!([]),
    ];
    for formula in wrong {
        let body = json!({"bead_id": bead, "formula": formula});
        let (status, answer) = world
            .server
            .call("POST", &format!("{rig}/molecules"), body)
            .await;
        assert_eq!(status, 400, "{formula}");
        assert_eq!(answer["issues"][0]["path"][0], "formula", "{answer}");
    }

    world
        .server
        .post(&format!("{of_agent}/hook"), json!({"bead_id": bead}))
        .await;
    let primed = world.server.get(&format!("{of_agent}/prime")).await;
    assert_eq!(primed["molecule"]["step"]["title"], "one");
    let done = json!({"branch": "gt/x"});
    let answer = refused(&world, "POST", &format!("{of_agent}/done"), done.clone()).await;
    assert_eq!(answer, (409, "molecule_unfinished".to_owned()));
    let next = world.server.post(&advance, summary.clone()).await;
    let expected = [("previousStep", 0), ("currentStep", 1), ("totalSteps", 2)];
    for (name, value) in expected {
        assert_eq!(next[name], value, "{next}");
    }
    assert_eq!(next["completed"], false);
    world.server.kill();
    world.server.restart();
    let now = world.server.get(&current).await;
    assert_eq!(
        (&now["currentStep"], &now["step"]["instructions"]),
        (&json!(1), &json!("i2"))
    );
    let last = world.server.post(&advance, summary.clone()).await;
    assert_eq!(
        (&last["completed"], &last["step"]),
        (&json!(true), &Value::Null)
    );
    let answer = refused(&world, "POST", &advance, summary).await;
    assert_eq!(answer, (409, "molecule_finished".to_owned()));
    let whole = world.server.get(&path).await;
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["formula"]["steps"][1]["summary"], "s");
    world
        .server
        .post(&format!("{of_agent}/done"), done.clone())
        .await;
}

/// An agent does the steps of its bead, in a town in which everything is real but the model.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_through_its_steps_and_its_convoy_lands_by_the_merge() {
    let repository = Repository::new();
    let server = Server::start(&[]);
    let town = server
        .town(json!({"agent_server": "rehearsal", "providers": {"rehearsal": {"pace_ms": 1}}}))
        .await;
    let rig = server.rig(&town, &repository.origin()).await;
    let body = json!({"type": "issue", "title": "Write docs/steps.md"});
    let bead = server.post(&format!("{rig}/beads"), body).await;
    let id = bead["bead_id"].as_str().unwrap();
    let steps = json!([{"title": "one"}, {"title": "two"}, {"title": "three"}]);
    let new = json!({"bead_id": id, "formula": {"steps": steps}});
    let molecule = server.post(&format!("{rig}/molecules"), new).await;
    let member = json!({"bead_id": id, "rig_id": last(&rig)});
    let body = json!({"title": "Docs", "beads": [member]});
    let convoy = server.post(&format!("{town}/convoys"), body).await;
    let role = json!({"role": "polecat"});
    let agent = server
        .must("POST", &format!("{rig}/agents/get-or-create"), role)
        .await;
    let hook = format!("{rig}/agents/{}/hook", agent["id"].as_str().unwrap());
    server.post(&hook, json!({"bead_id": id})).await;
    let path = format!("{town}/convoys/{}", convoy["id"].as_str().unwrap());
    let landed = |convoy: &Value| convoy["status"] == "landed";
    server.until("the convoy lands", &path, landed).await;
    let path = format!("{rig}/molecules/{}", molecule["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await["status"], "completed");
    let events = server.get(&format!("{rig}/events?bead_id={id}")).await;
    let events = events.as_array().unwrap().iter();
    let names: BTreeSet<&str> = events
        .filter_map(|event| event["event_type"].as_str())
        .collect();
    for name in [
        "created",
        "hooked",
        "agent_spawned",
        "molecule_advanced",
        "molecule_completed",
        "review_submitted",
        "review_completed",
        "closed",
    ] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
}
