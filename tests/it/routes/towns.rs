//! Towns, their config, socket and container.

use serde_json::json;

use super::case::Case;
use super::case::Field::{Choice, Labels, Text};
use crate::support::server::Stream;

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::of("GET", "/api/towns").by_hand(async |world, _| {
            let all = world.server.get("/api/towns").await;
            assert_eq!(all, world.server.get("/api/users/u/towns").await);
        }),
        Case::of("POST", "/api/users/{user}/towns").fields(&[("name!", Text(64))]),
        Case::of("GET", "/api/users/{user}/towns"),
        Case::of("GET", "/api/users/{user}/towns/{town}"),
        Case::of("DELETE", "/api/users/{user}/towns/{town}").prepare(async |world, ids| {
            ids.go_to(&world.town_with_rig().await.1);
        }),
        Case::of("GET", "/api/towns/{town}/config")
            .prepare(async |world, _| {
                let env = json!({"FOO": "bar", "API_KEY": "secret123456", "MY_TOKEN": "abc"});
                let patch = json!({"env_vars": env, "default_model": "p/m1", "git_auth": {}});
                let path = format!("{}/config", world.town);
                world.server.must("PATCH", &path, patch).await;
            })
            .exact(&["/data/env_vars"]),
        Case::of("PATCH", "/api/towns/{town}/config")
            .fields(&[
                ("default_model", Text(1024)),
                ("kilocode_token", Text(1024)),
                ("agent_server", Choice),
                ("env_vars", Labels),
                ("max_polecats_per_rig", Labels),
                ("git_auth", Labels),
                ("providers", Labels),
                ("refinery", Labels),
                ("alarm_interval_active", Labels),
            ])
            .exact(&["/data/env_vars"]),
        Case::of("GET", "/api/towns/{town}/ws").by_hand(async |world, ids| {
            let path = ids.fill("/api/towns/{town}/ws");
            let mut stream = Stream::connect(world.server.address(), &path, &[]).await;
            let hello = json!({"type": "hello", "townId": ids.town, "protocol": 1});
            assert_eq!(stream.next().await.unwrap(), hello);
        }),
        Case::of("GET", "/api/towns/{town}/container/health")
            .answers(200, json!({"status": "asleep"})),
    ]
}
