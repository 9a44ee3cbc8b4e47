//! Thousands of requests that nobody in his right mind would send.

use serde_json::{Value, json};

use super::case::Case;
use super::table;
use crate::support::dice::Dice;
use crate::support::server::exchange;
use crate::support::world::{Ids, World};

impl Dice {
    fn text(&mut self) -> String {
        let text = self.one_of(&[
            "",
            "x",
            "\u{0}",
            "\u{202e}\u{feff}",
            "🏙️",
            "'; drop table beads; --",
            "../../etc/passwd",
            "null",
            "-1",
            "18446744073709551616",
            "open",
            "closed",
            "polecat",
            "merged",
            "completed",
            "https://h.invalid/r",
            "<script>",
            "%",
            "\\",
            "\"",
            "\u{d7ff}\u{10ffff}",
        ]);
        text.repeat(1 + self.roll(4) * self.roll(100))
    }

    fn value(&mut self, ids: &Ids, depth: usize) -> Value {
        match self.roll(if depth > 3 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!([0.5, -1.0, 1e300, 7.0, 1e18][self.roll(5)]),
            3 | 4 => self.text().into(),
            5 => ids.all()[self.roll(9)].1.as_str().into(),
            6 => (0..self.roll(4))
                .map(|_| self.value(ids, depth + 1))
                .collect(),
            _ => (0..self.roll(4))
                .map(|_| (self.text(), self.value(ids, depth + 1)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    fn body(&mut self, case: &Case, world: &World, ids: &Ids) -> Vec<u8> {
        let mut body = case.sound_body(world, ids);
        if let Some(fields) = body.as_object_mut() {
            for (_, value) in fields.iter_mut() {
                if self.roll(3) == 0 {
                    *value = self.value(ids, 0);
                }
            }
        } else {
            let names = case.fields.iter();
            let names = names.map(|(name, _)| name.trim_end_matches('!'));
            let pairs: Vec<_> = names
                .map(|name| (name.to_owned(), self.value(ids, 0)))
                .collect();
            body = pairs.into_iter().collect::<serde_json::Map<_, _>>().into();
        }
        let mut bytes = body.to_string().into_bytes();
        match self.roll(8) {
            0 => bytes.truncate(self.roll(bytes.len() + 1)),
            1 => {
                let at = self.roll(bytes.len());
                bytes[at] = u8::try_from(self.roll(256)).unwrap();
            }
            2 => bytes = self.value(ids, 0).to_string().into_bytes(),
            3 => bytes = "[".repeat(1 + self.roll(200_000)).into_bytes(),
            _ => {}
        }
        bytes
    }

    fn path(&mut self, case: &Case, ids: &Ids) -> String {
        let mut path = case.path.replace("{*path}", "x");
        // What is deleted as a whole would leave nothing to try.
        let whole = case.method == "DELETE" && case.path.starts_with("/api/users/");
        for (name, id) in ids.all() {
            let nasty = [
                "x",
                "%00",
                "%FF%FE",
                "..",
                "%2e%2e%2f",
                "00000000-0000-0000-0000-000000000000",
                "%F0%9F%8F%99",
                "+",
                "%",
                "%7B%7D",
            ];
            let value = if whole || self.roll(4) == 0 {
                self.one_of(&nasty)
            } else {
                id.as_str()
            };
            path = path.replace(&format!("{{{name}}}"), value);
        }
        path = path.replace(
            "{user}",
            self.one_of(&["u", "u", "%00", "v%2F", "%E7%94%BA"]),
        );
        if self.roll(3) == 0 {
            path += self.one_of(&[
                "?limit=0",
                "?limit=1000&offset=4294967295",
                "?after_id=18446744073709551614",
                "?after_id=18446744073709551615",
                "?status=open&type=issue",
                "?limit=%00",
                "?&&==&",
                "?token=x",
                "?acknowledged=true",
                "?limit=1&limit=2",
                "?%FF=%FF",
            ]);
        }
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_can_be_sent_is_a_server_error() {
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    let world = World::open().await;
    let mut dice = Dice::new(SEED);
    let methods = [
        "GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE",
    ];
    let table = table();
    let mut ids = world.ids(&world.rig).await;
    for round in 0..4000 {
        if round % 200 == 0 {
            ids = Ids {
                entry: ids.entry,
                ..world.idle_ids(&world.rig).await
            };
        }
        let case = &table[dice.roll(table.len())];
        let method = if dice.roll(10) == 0 {
            dice.one_of(&methods)
        } else {
            case.method
        };
        let method = if method == "DELETE" && case.path.starts_with("/api/users/") {
            case.method
        } else {
            method
        };
        let path = dice.path(case, &ids);
        let body = dice.body(case, &world, &ids);
        let shown = String::from_utf8_lossy(&body)
            .chars()
            .take(300)
            .collect::<String>();
        let (status, headers, _) = exchange(world.server.address(), method, &path, &[], body).await;
        let is_sound =
            status.as_u16() < 500 || status == 503 && headers.contains_key("retry-after");
        assert!(
            is_sound,
            "seed {SEED:#x}, round {round}: {method} {path} {shown}: {status}"
        );
    }
    assert_eq!(world.server.get("/ready").await, json!({"ready": true}));
    world.snapshot(&world.town, &world.rig).await;
}
