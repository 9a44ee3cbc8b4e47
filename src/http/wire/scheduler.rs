//! What agents used, on the wire.

use serde::Serialize;

use crate::model::{Timestamp, Usage};
use crate::town::UsageReport;

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// Tokens and cost of something.
#[derive(Serialize)]
pub(in crate::http) struct WireUsage {
    tokens: WireTokens,
    /// In the currency of the models' price lists.
    cost: f64,
}

#[derive(Serialize)]
struct WireTokens {
    total: u64,
    input: u64,
    output: u64,
    reasoning: u64,
    cache_read: u64,
    cache_write: u64,
}

impl From<Usage> for WireUsage {
    #[expect(
        clippy::cast_precision_loss,
        reason = "costs beyond 9 million are exact to a millionth still"
    )]
    fn from(usage: Usage) -> Self {
        Self {
            tokens: WireTokens {
                total: usage.tokens(),
                input: usage.input,
                output: usage.output,
                reasoning: usage.reasoning,
                cache_read: usage.cache_read,
                cache_write: usage.cache_write,
            },
            cost: usage.cost_nanos as f64 / 1e9,
        }
    }
}

#[derive(Serialize)]
pub(in crate::http) struct WireUsageReport {
    days: u64,
    total: WireUsage,
    today: WireUsage,
    by_day: Vec<OfDay>,
    by_agent: Vec<OfAgent>,
    by_bead: Vec<OfBead>,
}

#[derive(Serialize)]
struct OfDay {
    /// `2026-11-22`, UTC.
    day: String,
    #[serde(flatten)]
    usage: WireUsage,
}

#[derive(Serialize)]
struct OfAgent {
    agent_id: String,
    #[serde(flatten)]
    usage: WireUsage,
}

#[derive(Serialize)]
struct OfBead {
    /// `null`: for no bead.
    bead_id: Option<String>,
    #[serde(flatten)]
    usage: WireUsage,
}

impl WireUsageReport {
    pub(in crate::http) fn new(days: u64, report: UsageReport) -> Self {
        let UsageReport {
            total,
            days: by_day,
            agents,
            beads,
            today,
        } = report;
        Self {
            days,
            total: total.into(),
            today: today.into(),
            by_day: by_day
                .into_iter()
                .map(|(day, usage)| OfDay {
                    day: date(day),
                    usage: usage.into(),
                })
                .collect(),
            by_agent: agents
                .into_iter()
                .map(|(agent_id, usage)| OfAgent {
                    agent_id: agent_id.to_string(),
                    usage: usage.into(),
                })
                .collect(),
            by_bead: beads
                .into_iter()
                .map(|(bead_id, usage)| OfBead {
                    bead_id: bead_id.map(|id| id.to_string()),
                    usage: usage.into(),
                })
                .collect(),
        }
    }
}

/// A day since 1970 as a date.
fn date(day: u64) -> String {
    let millis = i64::try_from(day.saturating_mul(DAY_MILLIS)).unwrap_or(i64::MAX);
    let mut text = Timestamp::from_millis(millis).to_string();
    text.truncate("2026-11-22".len());
    text
}
