//! Answers that are kept, so that a request which is sent again is not carried out again.
//!
//! An answer is written in the same batch as what it tells of. So either both are there after a
//! crash or neither is, and a client that heard nothing may safely ask again.

use std::time::Duration;

use crate::model::Timestamp;

use super::codec::{self, Record};
use super::keys::{AnsweredAt, AnsweredCount, AnsweredKey};
use super::layout::{Answered, Count};
use super::{Batch, Error, Tree};

/// How long an answer is kept: a client that was cut off tries again within minutes, one that was
/// switched off within a day.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Answers kept in one tree. Beyond it the oldest go early.
const KEPT_MAX: u64 = 10_000;
/// How many old answers each new one clears away: more than one, so that a heap melts.
const CLEARED_PER_ANSWER: usize = 2;

/// A request that is to be carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Who asks, and the key that he chose for it.
    pub key: String,
    /// Tells this request from another one under the same key.
    pub fingerprint: u64,
    /// When it was made.
    pub at: Timestamp,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Recalled<R> {
    /// Nothing: it is to be carried out.
    Unknown,
    /// It was carried out, with this answer.
    Answered(R),
    /// Its key was used for another request.
    Reused,
}

/// An answer in the form in which it is kept.
#[derive(Debug)]
pub struct Kept(Vec<u8>);

impl Kept {
    /// Takes down an answer.
    pub fn of<R: Record>(answer: &R) -> Self {
        Self(codec::encode(answer))
    }
}

impl Tree {
    /// What is known of a request.
    ///
    /// # Errors
    /// If the engine fails or the row is damaged.
    pub fn recall<R: Record>(&self, once: &Once) -> Result<Recalled<R>, Error> {
        let key = AnsweredKey {
            key: once.key.clone(),
        };
        let known = self.get(&key)?;
        let Some(known) = known.filter(|known| !is_over(known.at, once.at)) else {
            return Ok(Recalled::Unknown);
        };
        if known.fingerprint != once.fingerprint {
            return Ok(Recalled::Reused);
        }
        codec::decode(&known.answer).map(Recalled::Answered)
    }

    /// Whether a request was carried out under this key.
    ///
    /// # Errors
    /// If the engine fails or the row is damaged.
    pub fn has_answered(&self, once: &Once) -> Result<bool, Error> {
        let key = AnsweredKey {
            key: once.key.clone(),
        };
        let known = self.get(&key)?;
        Ok(known.is_some_and(|known| !is_over(known.at, once.at)))
    }

    /// Puts answers into the batch that carries them out, and clears away some that are over. The
    /// caller is the tree's only writer.
    ///
    /// # Errors
    /// If the engine fails or a row is damaged.
    pub fn remember(&self, batch: &mut Batch, answers: Vec<(Once, Kept)>) -> Result<(), Error> {
        let Some((newest, _)) = answers.last() else {
            return Ok(());
        };
        let now = newest.at;
        let clear_max = answers.len() * CLEARED_PER_ANSWER;
        let mut count = self.get(&AnsweredCount {})?.unwrap_or_default().value;
        let mut renewed = Vec::new();
        for (once, kept) in answers {
            let Once {
                key,
                fingerprint,
                at,
            } = once;
            // Under a key that is over, and that nobody cleared away yet.
            let former = self.get(&AnsweredKey { key: key.clone() })?;
            match former {
                Some(former) => {
                    batch.delete(&AnsweredAt::new(former.at, key.clone()));
                    renewed.push(key.clone());
                }
                None => count += 1,
            }
            let answer = Answered {
                fingerprint,
                at,
                answer: kept.0,
            };
            batch.put(&AnsweredAt::new(at, key.clone()), &Count::default());
            batch.put(&AnsweredKey { key }, &answer);
        }
        for row in self.scan(&AnsweredAt::all()).take(clear_max) {
            let (place, _) = row?;
            if count <= KEPT_MAX && !is_over(place.moment(), now) {
                break;
            }
            if renewed.contains(&place.key) {
                continue;
            }
            batch.delete(&AnsweredKey {
                key: place.key.clone(),
            });
            batch.delete(&place);
            count -= 1;
        }
        batch.put(&AnsweredCount {}, &Count { value: count });
        Ok(())
    }
}

impl AnsweredAt {
    fn new(at: Timestamp, key: String) -> Self {
        let at = u64::try_from(at.as_millis()).unwrap_or(0);
        Self { at, key }
    }

    fn moment(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.at).unwrap_or(i64::MAX))
    }
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) >= KEPT_FOR
}

#[cfg(test)]
mod tests {
    use super::super::{Database, TreeName};
    use super::*;

    fn once(key: &str, fingerprint: u64, hours: u64) -> Once {
        let at = Timestamp::from_millis(1_000_000).after(Duration::from_secs(hours * 3600));
        let key = key.to_owned();
        Once {
            key,
            fingerprint,
            at,
        }
    }

    fn remember(tree: &Tree, answers: Vec<(Once, u64)>) {
        let mut batch = Batch::new();
        let kept = answers
            .into_iter()
            .map(|(once, value)| (once, Kept::of(&Count { value })));
        tree.remember(&mut batch, kept.collect()).unwrap();
        let (done, outcome) = std::sync::mpsc::channel();
        tree.commit(batch, Box::new(move |result| done.send(result).unwrap()))
            .unwrap();
        outcome.recv().unwrap().unwrap();
    }

    fn rows(tree: &Tree) -> [usize; 3] {
        let count = tree.get(&AnsweredCount {}).unwrap().unwrap_or_default();
        [
            tree.scan(&AnsweredKey::all()).count(),
            tree.scan(&AnsweredAt::all()).count(),
            usize::try_from(count.value).unwrap(),
        ]
    }

    #[test]
    fn an_answer_is_kept_for_a_day_and_for_its_own_request_only() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open_in_test(dir.path());
        let tree = database.tree(TreeName::Meta).unwrap();
        let recalled = |once| tree.recall::<Count>(&once).unwrap();
        assert_eq!(recalled(once("a", 1, 0)), Recalled::Unknown);
        remember(&tree, vec![(once("a", 1, 0), 7), (once("b", 2, 0), 8)]);
        let value = |value| Recalled::Answered(Count { value });
        assert_eq!(recalled(once("a", 1, 23)), value(7));
        assert_eq!(recalled(once("b", 2, 0)), value(8));
        assert_eq!(recalled(once("a", 2, 0)), Recalled::Reused);
        assert_eq!(recalled(once("a", 2, 24)), Recalled::Unknown);
        assert_eq!(rows(&tree), [2, 2, 2]);
        // A key that is over is free again, and what is over goes when something new comes.
        remember(&tree, vec![(once("a", 2, 24), 9)]);
        assert_eq!(recalled(once("a", 2, 25)), value(9));
        assert_eq!(rows(&tree), [1, 1, 1]);
        database.close();
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open_in_test(dir.path());
        let tree = database.tree(TreeName::Meta).unwrap();
        for round in 0..12 {
            let answers = (0..1000).map(|n| (once(&format!("{round}-{n}"), 1, 0), n));
            remember(&tree, answers.collect());
        }
        let max = usize::try_from(KEPT_MAX).unwrap();
        assert_eq!(rows(&tree), [max, max, max]);
        database.close();
    }
}
