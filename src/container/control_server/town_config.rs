//! The newest config of the town. In memory only: it holds secrets.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::ResolvedTownConfig;

/// What the last request carried. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct TownConfigSlot(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    header: Vec<u8>,
    config: Arc<ResolvedTownConfig>,
}

impl TownConfigSlot {
    /// Takes in a request's header. `None` if it is not a config.
    pub(super) fn take_in(&self, header: &[u8]) -> Option<Arc<ResolvedTownConfig>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            // Nearly every request repeats the one before, and a config may be 100 KB.
            Some(kept) if kept.header == header => Some(kept.config.clone()),
            _ => {
                let config = Arc::new(ResolvedTownConfig::from_header(header)?);
                *kept = Some(Kept {
                    header: header.to_owned(),
                    config: config.clone(),
                });
                Some(config)
            }
        }
    }

    /// The newest config.
    pub(super) fn newest(&self) -> Option<Arc<ResolvedTownConfig>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|kept| kept.config.clone())
    }
}
