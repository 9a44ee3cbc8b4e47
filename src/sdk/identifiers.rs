//! Ids in the shape of opencode's: a prefix, a part that rises with time, a random part.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::model::Timestamp;

/// How many random characters follow the rising part.
const RANDOM_LENGTH: usize = 14;

/// Gives out ids that sort in the order in which they were given out.
#[derive(Debug, Default)]
pub(super) struct Identifiers {
    last: AtomicU64,
}

impl Identifiers {
    /// The next id of a kind, for example `msg`.
    pub(super) fn next(&self, kind: &str, now: Timestamp) -> String {
        // Twelve bits for the ids of one millisecond, as there.
        let earliest = u64::try_from(now.as_millis()).unwrap_or_default() << 12;
        let rising = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(earliest.max(last + 1))
            })
            .map_or(earliest, |last| earliest.max(last + 1));
        let random = Uuid::new_v4().simple().to_string();
        // Sixteen digits hold every u64; the first three are zero until the year 6429.
        format!("{kind}_{rising:016x}{}", &random[..RANDOM_LENGTH])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_in_which_they_were_given_out() {
        let identifiers = Identifiers::default();
        let now = Timestamp::from_millis(1_795_328_948_165);
        let ids: Vec<_> = (0..5000).map(|_| identifiers.next("msg", now)).collect();
        assert!(ids.is_sorted());
        assert!(identifiers.next("msg", Timestamp::from_millis(0)) > ids[4999]);
    }
}
