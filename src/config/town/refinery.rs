//! What a town's config asks of a branch before it is merged.

use std::time::Duration;

use crate::config::bounds;
use crate::model::Approval;

use super::document::TownConfig;

impl TownConfig {
    /// Whose approval a branch needs: with gates the refinery agent's, and without `auto_merge` a
    /// person's, after the refinery's where there are gates.
    #[must_use]
    pub fn approval_needed(&self) -> Approval {
        if self.refinery.auto_merge == Some(false) {
            Approval::Person
        } else if self.refinery.gates.is_empty() {
            Approval::None
        } else {
            Approval::Refinery
        }
    }

    /// How long one gate may run.
    #[must_use]
    pub fn gate_timeout(&self) -> Duration {
        self.refinery
            .gate_timeout_seconds
            .map_or(bounds::GATE_TIMEOUT_DEFAULT, Duration::from_secs)
    }

    /// How long all gates of one merge may take.
    #[must_use]
    pub fn gates_time_max(&self) -> Duration {
        let gates = u32::try_from(self.refinery.gates.len()).unwrap_or(u32::MAX);
        self.gate_timeout().saturating_mul(gates)
    }

    /// Whether every conflict goes back to a polecat.
    #[must_use]
    pub fn requires_clean_merge(&self) -> bool {
        self.refinery.require_clean_merge != Some(false)
    }
}
