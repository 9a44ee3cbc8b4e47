//! What the published facts say of how often something was done.

use std::collections::HashMap;

use serde_json::Value;

use crate::agent_log::EventView;

use crate::town::reviews::MERGE_ATTEMPTS_MAX;

use super::server::ATTEMPTS_MAX;

/// A fact as the world is shown it.
#[derive(Debug)]
pub(super) struct FactView {
    pub(super) id: u64,
    event_type: String,
    data: Value,
}

/// Nothing is done more often than this before something else happens.
struct Limit {
    /// What is counted, and of whom.
    what: fn(&FactView) -> Option<String>,
    /// What begins a new count.
    reset: fn(&FactView) -> Option<String>,
    most: u32,
}

const LIMITS: &[Limit] = &[
    // Failed tries of one bead, until it is hooked anew.
    Limit {
        what: |fact| {
            let failed = fact.is("agent.exited") && fact.metadata("status") == "failed";
            failed.then(|| format!("tries of {}", fact.bead()))
        },
        reset: |fact| {
            fact.is("bead.hooked")
                .then(|| format!("tries of {}", fact.bead()))
        },
        most: ATTEMPTS_MAX,
    },
    // Reminders of one run.
    Limit {
        what: |fact| {
            fact.is("agent.reminded")
                .then(|| format!("reminders of {}", fact.agent()))
        },
        reset: |fact| {
            fact.is("agent.dispatched")
                .then(|| format!("reminders of {}", fact.agent()))
        },
        most: 3,
    },
    // Merges that were asked for of one branch, until it is mended or its commit was looked up.
    Limit {
        what: |fact| {
            let entry = fact.metadata("entry_id");
            fact.is("review.started")
                .then(|| format!("merges of {entry}"))
        },
        reset: |fact| {
            let entry = fact.metadata("entry_id");
            let anew = ["review.rework", "review.found", "review.moved"];
            anew.iter()
                .any(|event_type| fact.is(event_type))
                .then(|| format!("merges of {entry}"))
        },
        most: MERGE_ATTEMPTS_MAX,
    },
    // A convoy lands once.
    Limit {
        what: |fact| {
            fact.is("convoy.landed")
                .then(|| format!("landings of {}", fact.bead()))
        },
        reset: |_| None,
        most: 1,
    },
];

#[derive(Default)]
pub(super) struct Limits {
    counts: HashMap<String, u32>,
}

impl Limits {
    pub(super) fn take(&mut self, fact: &FactView) {
        for limit in LIMITS {
            if let Some(key) = (limit.reset)(fact) {
                self.counts.remove(&key);
            }
            // What is about nothing in particular has no limit.
            if let Some(key) = (limit.what)(fact).filter(|key| !key.ends_with(' ')) {
                let count = self.counts.entry(key.clone()).or_default();
                *count += 1;
                assert!(*count <= limit.most, "{count} {key}: {fact:?}");
            }
        }
    }
}

impl FactView {
    pub(super) fn of(event: &EventView<'_>) -> Self {
        Self {
            id: event.id,
            event_type: event.event_type.clone().into_owned(),
            data: serde_json::from_str(event.data.get()).unwrap(),
        }
    }

    fn is(&self, event_type: &str) -> bool {
        self.event_type == event_type
    }

    fn bead(&self) -> &str {
        self.data["bead_id"].as_str().unwrap_or_default()
    }

    fn agent(&self) -> &str {
        self.data["agent_id"].as_str().unwrap_or_default()
    }

    fn metadata(&self, name: &str) -> &str {
        self.data["metadata"][name].as_str().unwrap_or_default()
    }
}
