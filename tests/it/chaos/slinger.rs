//! Someone who always has work for a town, sound work and bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Town;
use super::client::Client;
use crate::support::dice::Dice;

/// Beads of a town that are not finished yet: some wait for a polecat.
const UNDER_WAY: usize = super::POLECATS + 2;
/// Between two looks at what is under way.
const PAUSE: Duration = Duration::from_millis(300);

/// A bead that was acknowledged.
#[derive(Clone)]
pub(super) struct Slung {
    pub(super) rig: String,
    pub(super) bead_id: String,
    pub(super) title: String,
    /// The file that it is to write, if it can be done at all.
    pub(super) file: Option<String>,
}

impl Slung {
    pub(super) fn path(&self) -> String {
        format!("{}/beads/{}", self.rig, self.bead_id)
    }
}

pub(super) struct Slinger {
    client: Client,
    rig: String,
    has_program: bool,
    dice: Dice,
    goes_on: Arc<AtomicBool>,
    slung: Vec<Slung>,
}

impl Slinger {
    pub(super) fn new(client: &Client, town: &Town, dice: Dice, goes_on: &Arc<AtomicBool>) -> Self {
        Self {
            client: client.clone(),
            rig: town.rig.clone(),
            has_program: town.has_program,
            dice,
            goes_on: Arc::clone(goes_on),
            slung: Vec::new(),
        }
    }

    /// Slings until it is told to stop; all that was slung.
    pub(super) async fn run(mut self) -> Vec<Slung> {
        let mut under_way: Vec<Slung> = Vec::new();
        while self.goes_on.load(Ordering::SeqCst) {
            while under_way.len() < UNDER_WAY {
                under_way.push(self.sling().await);
            }
            let mut left = Vec::new();
            for slung in under_way {
                if !has_ended(&self.client.get(&slung.path()).await) {
                    left.push(slung);
                }
            }
            under_way = left;
            tokio::time::sleep(PAUSE).await;
        }
        self.slung
    }

    async fn sling(&mut self) -> Slung {
        let number = self.slung.len() + 1;
        let title = format!("Work {number}");
        let (body, file) = if self.has_program {
            self.order_for_a_model(number)
        } else {
            self.order_for_a_rehearsal(number)
        };
        let order = json!({"title": title, "body": body});
        let path = format!("{}/sling", self.rig);
        let (status, answer) = self.client.ask("POST", &path, &order).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let bead = &answer["data"]["bead"];
        let slung = Slung {
            rig: self.rig.clone(),
            bead_id: bead["bead_id"].as_str().unwrap().to_owned(),
            title,
            file,
        };
        self.slung.push(slung.clone());
        slung
    }

    /// An order, and the file that it makes.
    fn order_for_a_model(&mut self, number: usize) -> (String, Option<String>) {
        match self.dice.roll(10) {
            // It does nothing for its work.
            0 => ("Say something. SCENARIO:say".to_owned(), None),
            1 => ("Try it. SCENARIO:refuse400".to_owned(), None),
            _ => {
                let file = format!("docs/work-{number}.md");
                let pause = self.dice.roll(3);
                let order = format!(
                    "Write it. SCENARIO:run\nCOMMAND:sleep {pause}; mkdir -p docs && echo {number} > {file}"
                );
                (order, Some(file))
            }
        }
    }

    fn order_for_a_rehearsal(&mut self, number: usize) -> (String, Option<String>) {
        let file = format!("docs/work-{number}.md");
        let write = format!("rehearse: write {file} <<{number}");
        let speak = |words: usize| {
            format!(
                "rehearse: slow 10ms\nrehearse: say {}\n",
                "word ".repeat(words)
            )
        };
        match self.dice.roll(20) {
            0 => ("rehearse: error no credit".to_owned(), None),
            1 => (format!("{write}\nrehearse: no-done"), Some(file)),
            2 => (format!("{write}\nrehearse: no-push"), Some(file)),
            3 => (format!("{write}\nrehearse: crash"), Some(file)),
            // Everybody's file: whoever comes second is sent back.
            4..=6 => {
                let ours = format!("rehearse: append shared.md <<{number}");
                (format!("{}{ours}\n{write}", speak(50)), Some(file))
            }
            7..=9 => (format!("{}{write}", speak(400)), Some(file)),
            _ => (format!("{}{write}", speak(20)), Some(file)),
        }
    }
}

/// Whether the bead will not change any more by itself.
pub(super) fn has_ended(bead: &Value) -> bool {
    bead["status"] == "closed" || bead["status"] == "failed"
}
