//! What a town's scheduler remembers, and what its agents have used.

use super::{AgentId, Timestamp};

/// The scheduler's notes on a town; one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// When dispatches failed lately, oldest first; no more than the breaker counts.
    pub failures: Vec<Timestamp>,
    /// The open breaker; `None` while it is closed.
    pub breaker: Option<Breaker>,
    /// The day that `spent` is about, in days since the Unix epoch (UTC).
    pub day: u64,
    /// What all agents have used on that day.
    pub spent: Usage,
    /// The day on which people were told that the budget is used up, while it is.
    pub budget_told: Option<u64>,
}

/// A breaker that holds all dispatch back because too many failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// When it opened, or its last probe failed.
    pub opened_at: Timestamp,
    /// The agent whose start is tried to see whether things work again.
    pub probe: Option<AgentId>,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that models read and had not cached.
    pub input: u64,
    /// Tokens that models wrote.
    pub output: u64,
    /// Tokens that models thought with.
    pub reasoning: u64,
    /// Tokens read from models' caches.
    pub cache_read: u64,
    /// Tokens written to models' caches.
    pub cache_write: u64,
    /// Cost in billionths of the currency of the models' price lists, so that sums are exact.
    pub cost_nanos: u64,
}

/// What of an agent's newest messages is counted already. Messages are reported again and again
/// with growing numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Each with what was counted for it, least recently changed first.
    pub messages: Vec<CountedMessage>,
}

/// One message's part in the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedMessage {
    /// The agent server's id of it.
    pub message_id: String,
    /// What was counted.
    pub usage: Usage,
}

impl Usage {
    /// All tokens, in and out.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        [
            self.input,
            self.output,
            self.reasoning,
            self.cache_read,
            self.cache_write,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What of it goes beyond `counted`, number by number.
    #[must_use]
    pub fn beyond(self, counted: Self) -> Self {
        self.with(counted, u64::saturating_sub)
    }

    /// The larger of each number.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        self.with(other, u64::max)
    }

    fn with(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            input: join(self.input, other.input),
            output: join(self.output, other.output),
            reasoning: join(self.reasoning, other.reasoning),
            cache_read: join(self.cache_read, other.cache_read),
            cache_write: join(self.cache_write, other.cache_write),
            cost_nanos: join(self.cost_nanos, other.cost_nanos),
        }
    }
}
