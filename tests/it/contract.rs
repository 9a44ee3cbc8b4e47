//! Parts of the wire contract that are more than a route's shape (see `routes` for those).

use serde_json::{Value, json};

use crate::support::server::exchange;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn where_we_differ_on_purpose() {
    let world = World::open().await;
    let (server, rig) = (&world.server, &world.rig);
    let ids = world.idle_ids(rig).await;

    let bead = server.get(&format!("{rig}/beads/{}", ids.bead)).await;
    assert_eq!(bead["bead_id"], bead["id"]);

    // A patch changes what it names, and a masked secret that comes back is left alone.
    let config = format!("{}/config", world.town);
    let secrets = json!({
        "kilocode_token": "kilo-secret-9876", "env_vars": {"API_KEY": "key-secret-5432", "PLAIN": "x"},
        "git_auth": {"github_token": "ghp-secret-1098"},
        "providers": {"p": {"options": {"apiKey": "provider-secret-7654"}}},
    });
    let masked = server.must("PATCH", &config, secrets).await;
    assert!(!masked.to_string().contains("secret"), "{masked}");
    assert_eq!(masked["env_vars"]["API_KEY"], "****5432");
    assert_eq!(masked["env_vars"]["PLAIN"], "x");
    assert_eq!(server.must("PATCH", &config, masked.clone()).await, masked);
    let named = server
        .must("PATCH", &config, json!({"default_model": "p/m"}))
        .await;
    assert_eq!(named["kilocode_token"], masked["kilocode_token"]);
    assert_eq!(named["default_model"], "p/m");

    // Any JSON is an event's data and comes back to the letter.
    let texts = [
        "null",
        "1.50",
        "\"x\"",
        "[]",
        "true",
        "{\"n\":12345678901234567890123}",
    ];
    for data in texts {
        let body = format!(
            r#"{{"agent_id":"{}","event_type":"x","data":{data}}}"#,
            ids.agent
        );
        let path = format!("{rig}/agent-events");
        let (status, _, _) =
            exchange(server.address(), "POST", &path, &[], body.into_bytes()).await;
        assert_eq!(status, 201, "{data}");
    }
    let path = format!("{rig}/agents/{}/events", ids.agent);
    let (_, _, body) = exchange(server.address(), "GET", &path, &[], vec![]).await;
    let text = String::from_utf8_lossy(&body);
    for data in texts {
        assert!(text.contains(&format!("\"data\":{data}")), "{data}: {text}");
    }
    server
        .must(
            "DELETE",
            &format!("{rig}/agents/{}", ids.agent),
            Value::Null,
        )
        .await;
    let (status, answer) = server.call("GET", &path, Value::Null).await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (404, &"agent_not_found".into())
    );

    // What can be a repository here.
    let urls = [
        ("git@host.invalid:owner/repo.git", 201),
        ("ssh://git@host.invalid/owner/repo.git", 201),
        ("https://host.invalid/owner/repo.git", 201),
        ("javascript:alert(1)", 400),
        ("ftp://host.invalid/r", 400),
        ("--upload-pack=touch /tmp/x", 400),
        ("ext::sh -c true", 400),
        ("relative/path", 400),
        ("", 400),
    ];
    for (url, expected) in urls {
        let body = json!({"town_id": ids.town, "name": world.fresh(), "git_url": url});
        let (status, answer) = server.call("POST", "/api/users/u/rigs", body).await;
        assert_eq!(status, expected, "{url}: {answer}");
        if expected == 400 {
            assert_eq!(answer["issues"][0]["path"], json!(["git_url"]), "{url}");
        }
    }

    // A sling keeps its priority, and mail that was handed over says so.
    let order = json!({"title": "t", "priority": "critical"});
    let slung = server.post(&format!("{rig}/sling"), order).await;
    assert_eq!(slung["bead"]["priority"], "critical");
    let body = json!({"from_agent_id": "user", "to_agent_id": ids.other_agent, "subject": "s", "body": "b"});
    server.post(&format!("{rig}/mail"), body).await;
    let check = format!("{rig}/agents/{}/mail", ids.other_agent);
    let mails = server.get(&check).await;
    assert_eq!(mails[0]["delivered"], true);
    assert!(mails[0]["delivered_at"].is_string());
    assert_eq!(server.get(&check).await, json!([]));

    // A merge request stands in the rig's list with its branch.
    let entry = world.entry(rig).await;
    let listed = server.get(&format!("{rig}/beads?type=merge_request")).await;
    assert_eq!(listed[0]["bead_id"], entry.as_str());
    assert_eq!(listed[0]["metadata"]["branch"], "gt/x");
    assert!(listed[0]["metadata"].get("pr_url").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_newest_first_and_in_pages() {
    let world = World::open().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(world.bead(&world.rig, "issue").await);
    }
    made.reverse();
    let mut listed = Vec::new();
    for offset in [0, 3, 6, 9] {
        let path = format!("{}/beads?limit=3&offset={offset}", world.rig);
        let page = world.server.get(&path).await;
        let ids = page.as_array().unwrap().iter();
        listed.extend(ids.map(|bead| bead["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(listed, made);
    let ids = world.idle_ids(&world.rig).await;
    let events = format!("{}/agents/{}/events", world.rig, ids.agent);
    for n in 1..=5 {
        let body = json!({"agent_id": ids.agent, "event_type": "n", "data": n});
        let path = format!("{}/agent-events", world.rig);
        assert_eq!(world.server.post(&path, body).await["id"], n);
    }
    let page = world
        .server
        .get(&format!("{events}?after_id=2&limit=2"))
        .await;
    assert_eq!((&page[0]["id"], &page[1]["data"]), (&json!(3), &json!(4)));
    assert_eq!(page.as_array().unwrap().len(), 2);
}
