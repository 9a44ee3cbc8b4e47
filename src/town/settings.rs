//! What the server's settings mean for a town.

use std::time::Duration;

use serde_json::Value;

use crate::config::{DispatchSettings, Settings, TownConfig};

use super::container;
use super::draft::{Draft, Fact};
use super::refusal::{Error, Refusal};

/// Limits and choices that all towns of a server share.
#[derive(Clone, Debug)]
pub struct TownSettings {
    /// The wait after a first failed try; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest wait between tries.
    pub backoff_max: Duration,
    /// Failed tries after which a bead fails.
    pub attempts_max: u32,
    /// Failed tries of all agents within `failures_window` at which the town stops dispatching.
    pub failures_max: u32,
    /// How long a failed try is counted for that.
    pub failures_window: Duration,
    /// The wait until one agent is started to see whether things work again.
    pub probe_after: Duration,
    /// How long an agent with work may be silent before it is asked, and then before a person is.
    pub patrol_after: Duration,
    /// Whether paths of this machine are git urls.
    pub allow_local_repos: bool,
    /// Whether `http://` urls are git urls.
    pub allow_http_repos: bool,
    /// How long an ask may wait for its answer until it becomes an escalation.
    pub ask_patience: Duration,
    /// Whether there is a notification hook.
    pub notifies: bool,
    /// How long a container with nothing to do goes on, where its town says nothing.
    pub sleep_after: Duration,
    /// Whether a town's container and its mayor wait for the first work, rather than come with the
    /// first rig.
    pub on_demand: bool,
}

impl From<&Settings> for TownSettings {
    fn from(settings: &Settings) -> Self {
        let DispatchSettings {
            backoff_min,
            backoff_max,
            attempts_max,
            failures_max,
            failures_window,
            probe_after,
            patrol_after,
        } = settings.dispatch;
        Self {
            backoff_min,
            backoff_max,
            attempts_max,
            failures_max,
            failures_window,
            probe_after,
            patrol_after,
            allow_local_repos: settings.allow_local_repos,
            allow_http_repos: settings.allow_http_repos,
            ask_patience: settings.asks.escalate_after,
            notifies: settings.notify_command.is_some(),
            sleep_after: settings.container.sleep_after,
            on_demand: settings.container.on_demand,
        }
    }
}

impl TownSettings {
    /// The wait after the `attempts`th failed try, the first being 1.
    #[must_use]
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 1u32
            .checked_shl(attempts.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.backoff_min
            .saturating_mul(doubled)
            .min(self.backoff_max)
    }
}

/// Changes a town's config by a merge patch.
pub(super) fn patch_config(draft: &mut Draft<'_>, patch: &Value) -> Result<TownConfig, Error> {
    let config = draft.config()?.patched(patch).map_err(Refusal::Invalid)?;
    draft.set_config(&config);
    container::asked_for(draft)?;
    draft.fact("config.changed", Fact::default());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let settings = TownSettings {
            backoff_min: Duration::from_secs(30),
            backoff_max: Duration::from_secs(600),
            attempts_max: 5,
            failures_max: 20,
            failures_window: Duration::from_secs(1800),
            probe_after: Duration::from_secs(600),
            patrol_after: Duration::from_secs(1800),
            allow_local_repos: false,
            allow_http_repos: false,
            ask_patience: Duration::from_secs(300),
            notifies: false,
            sleep_after: Duration::from_secs(1800),
            on_demand: false,
        };
        let waits = [
            (0, 30),
            (1, 30),
            (2, 60),
            (3, 120),
            (5, 480),
            (6, 600),
            (40, 600),
        ];
        for (attempts, seconds) in waits {
            assert_eq!(
                settings.backoff(attempts),
                Duration::from_secs(seconds),
                "{attempts}"
            );
        }
    }
}
