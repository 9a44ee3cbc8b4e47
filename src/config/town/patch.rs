//! Changing the document: JSON merge patch (RFC 7396), then a check of the whole.

use serde_json::{Map, Value};

use crate::config::bounds::TOWN_CONFIG_BYTES_MAX;

use super::document::TownConfig;
use super::mask;
use super::read::{Issue, read};

impl TownConfig {
    /// This document changed by a merge patch: it changes what it names, `null` removes, unknown
    /// fields are ignored, and a mask means the secret that is stored.
    ///
    /// # Errors
    /// Everything that is wrong with the patch, each naming its field; then nothing is changed.
    pub fn patched(&self, patch: &Value) -> Result<Self, Vec<Issue>> {
        let Value::Object(patch) = patch else {
            return Err(vec![Issue::new(&[], "must be a JSON object")]);
        };
        let stored = self.to_value();
        let patch = mask::restored_patch(canonical_rig_ids(patch), &stored)
            .map_err(|missing| missing.into_iter().map(Issue::from).collect::<Vec<_>>())?;
        let mut merged = stored;
        merge(&mut merged, Value::Object(patch));
        let changed = read(&merged)?;
        let bytes = changed.to_json().len();
        if bytes > TOWN_CONFIG_BYTES_MAX {
            let message = format!(
                "the whole config must be at most {TOWN_CONFIG_BYTES_MAX} bytes, not {bytes}"
            );
            return Err(vec![Issue::new(&[], message)]);
        }
        Ok(changed)
    }
}

impl From<mask::NothingBehindMask> for Issue {
    fn from(missing: mask::NothingBehindMask) -> Self {
        Self {
            path: missing.path,
            message: "is a masked secret, but no secret is stored here; send the secret itself"
                .to_owned(),
        }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// A rig id may be written in several ways; the document has one of them.
fn canonical_rig_ids(patch: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = patch.clone();
    if let Some(Value::Object(overrides)) = patch.get_mut("rig_overrides") {
        *overrides = std::mem::take(overrides)
            .into_iter()
            .map(|(rig, value)| match rig.parse::<crate::model::RigId>() {
                Ok(id) => (id.to_string(), value),
                Err(_) => (rig, value),
            })
            .collect();
    }
    patch
}
