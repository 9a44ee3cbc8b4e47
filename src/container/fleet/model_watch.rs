//! How long an agent's turn waits for its model, and how often it is asked in vain. Plain data.
//!
//! An agent program tries a model that is down or limits its rate again for ever, and asks one whose
//! answer has no end again at once, for ever as well. Both are bounded here. The time is judged only
//! when the program says that it will try again: while an answer comes nobody looks at the clock.

use std::time::Duration;

use crate::container::protocol::{AgentSetback, SetbackCause};
use crate::model::Timestamp;

/// Answers in a row that ended without saying why. One or two happen; opencode asks again some times
/// a second, and each time costs money.
const UNFINISHED_MAX: u32 = 5;

/// What the agent's turn knows of its model.
#[derive(Debug)]
pub(super) struct ModelWatch {
    wait_max: Duration,
    /// Since when the model was tried without any progress.
    since: Option<Timestamp>,
    setback: Option<AgentSetback>,
    /// What was told last, without its numbers.
    told: Option<String>,
    unfinished: u32,
    last_unfinished: String,
}

/// What follows from a try in vain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It goes on as it was told already.
    Told,
    /// It goes on, and this is news.
    News(AgentSetback),
    /// Enough.
    Over {
        /// In words.
        reason: String,
        /// When the model may be asked again.
        retry_at: Timestamp,
    },
}

impl ModelWatch {
    pub(super) fn new(wait_max: Duration) -> Self {
        Self {
            wait_max,
            since: None,
            setback: None,
            told: None,
            unfinished: 0,
            last_unfinished: String::new(),
        }
    }

    /// The model did not answer and is tried again at `next`.
    pub(super) fn tries_again(
        &mut self,
        attempt: u32,
        message: &str,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Waiting {
        let since = *self.since.get_or_insert(now);
        let next = next.unwrap_or(now).max(now);
        if next > since.after(self.wait_max) {
            return Waiting::Over {
                reason: format!(
                    "the model did not answer (try {attempt} since {since}; the next one would be \
                     at {next}): {message}"
                ),
                retry_at: next,
            };
        }
        let setback = AgentSetback {
            cause: SetbackCause::Model,
            reason: format!("the model did not answer (try {attempt}): {message}"),
            retry_at: Some(next),
        };
        self.setback = Some(setback.clone());
        if self.told.as_deref() == Some(message) {
            return Waiting::Told;
        }
        self.told = Some(message.to_owned());
        Waiting::News(setback)
    }

    /// The model said something whole; whether it had been told that it does not.
    pub(super) fn answered(&mut self) -> bool {
        self.since = None;
        self.setback = None;
        self.unfinished = 0;
        self.told.take().is_some()
    }

    /// An answer ended without saying why; the reason to give up, if there were too many.
    pub(super) fn broke_off(&mut self, message_id: &str) -> Option<String> {
        // Each message is told several times.
        if self.last_unfinished == message_id {
            return None;
        }
        message_id.clone_into(&mut self.last_unfinished);
        self.unfinished += 1;
        (self.unfinished >= UNFINISHED_MAX).then(|| {
            format!(
                "the model's answer ended {UNFINISHED_MAX} times in a row without a reason to \
                 finish, and nothing came of it"
            )
        })
    }

    /// What the turn waits for at the moment.
    pub(super) fn setback(&self) -> Option<&AgentSetback> {
        self.setback.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
    }

    #[test]
    fn a_model_is_waited_for_as_long_as_it_was_said_and_told_of_once() {
        let mut watch = ModelWatch::new(MINUTE);
        let first = watch.tries_again(1, "slow down", Some(at(2)), at(0));
        assert!(matches!(&first, Waiting::News(told)
            if told.reason.contains("slow down") && told.retry_at == Some(at(2))));
        let second = watch.tries_again(2, "slow down", Some(at(30)), at(2));
        assert_eq!(second, Waiting::Told);
        assert_eq!(watch.setback().unwrap().retry_at, Some(at(30)));
        let third = watch.tries_again(3, "bad gateway", Some(at(60)), at(30));
        assert!(matches!(third, Waiting::News(_)), "another text is news");
        let last = watch.tries_again(4, "bad gateway", Some(at(61)), at(60));
        let Waiting::Over { reason, retry_at } = last else {
            panic!("{last:?}");
        };
        assert!(reason.contains("bad gateway"), "{reason}");
        assert_eq!(retry_at, at(61));
    }

    #[test]
    fn a_reset_that_is_too_far_away_is_not_waited_for() {
        let mut watch = ModelWatch::new(MINUTE);
        let far = watch.tries_again(1, "slow down", Some(at(3600)), at(0));
        assert!(matches!(far, Waiting::Over { retry_at, .. } if retry_at == at(3600)));
        let without = ModelWatch::new(MINUTE).tries_again(1, "", None, at(0));
        assert!(matches!(without, Waiting::News(_)));
    }

    #[test]
    fn an_answer_begins_the_wait_anew() {
        let mut watch = ModelWatch::new(MINUTE);
        assert!(!watch.answered());
        watch.tries_again(1, "slow down", None, at(0));
        assert!(watch.answered());
        assert!(!watch.answered() && watch.setback().is_none());
        let later = watch.tries_again(1, "slow down", None, at(90));
        assert!(matches!(later, Waiting::News(_)));
    }

    #[test]
    fn answers_without_an_end_are_counted_once_each_and_only_in_a_row() {
        let mut watch = ModelWatch::new(MINUTE);
        for id in ["a", "a", "b", "c", "d", "d"] {
            assert_eq!(watch.broke_off(id), None);
        }
        watch.answered();
        for id in ["e", "f", "g", "h"] {
            assert_eq!(watch.broke_off(id), None);
        }
        assert!(watch.broke_off("i").unwrap().contains("5 times"));
    }
}
