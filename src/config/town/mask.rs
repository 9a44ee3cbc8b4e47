//! What is a secret, how it is shown, and how a shown one is found again.

use serde_json::{Map, Value};

/// What stands in place of a secret, before its last characters.
const MASK: &str = "****";
/// Characters at the end that stay readable, so that a person can tell two keys apart.
const SHOWN_CHARS: usize = 4;
/// A shorter secret would be half given away by its end.
const SHOWN_FROM_CHARS: usize = 9;

/// Parts that make a name a secret's wherever they stand in it, letters only and in lower case.
const SECRET_PARTS: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "cookie",
    "bearer",
];
/// Words that make a name a secret's if they stand alone in it.
const SECRET_WORDS: &[&str] = &[
    "key", "keys", "auth", "pass", "pwd", "pat", "jwt", "headers",
];

/// Where in the document a path leads: only some of its parts hold secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing here is secret.
    Open,
    /// The names below tell what is secret.
    ByName,
    /// All text here is secret.
    Secret,
}

impl Place {
    fn of_field(name: &str) -> Self {
        match name {
            "kilocode_token" => Self::Secret,
            "git_auth" | "env_vars" | "providers" | "rig_overrides" | "acp" => Self::ByName,
            _ => Self::Open,
        }
    }

    fn under(self, name: &str) -> Self {
        match self {
            Self::ByName if is_secret_name(name) => Self::Secret,
            place => place,
        }
    }

    fn hides(self, text: &str) -> bool {
        match self {
            Self::Open => false,
            Self::ByName => has_password(text) || is_document_with_secret(text),
            Self::Secret => !text.is_empty(),
        }
    }
}

/// A patch that sends a mask where no secret is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NothingBehindMask {
    /// Where in the patch.
    pub(super) path: Vec<String>,
}

/// The document with its secrets masked.
pub(super) fn masked_document(document: Value) -> Value {
    each_field(document, |name, value| masked(Place::of_field(name), value))
}

/// The patch with each mask replaced by the secret that `stored` has in its place.
pub(super) fn restored_patch(
    patch: Map<String, Value>,
    stored: &Value,
) -> Result<Map<String, Value>, Vec<NothingBehindMask>> {
    let mut restore = Restore {
        path: Vec::new(),
        missing: Vec::new(),
    };
    let patch = patch
        .into_iter()
        .map(|(name, value)| {
            let place = Place::of_field(&name);
            let value = restore.below(&name, |restore| {
                restore.value(place, value, stored.get(&name))
            });
            (name, value)
        })
        .collect();
    if restore.missing.is_empty() {
        Ok(patch)
    } else {
        Err(restore.missing)
    }
}

/// A secret as it may be shown.
pub(super) fn mask(secret: &str) -> String {
    let count = secret.chars().count();
    if count < SHOWN_FROM_CHARS {
        return MASK.to_owned();
    }
    let end: String = secret.chars().skip(count - SHOWN_CHARS).collect();
    format!("{MASK}{end}")
}

/// Whether a variable or field of that name probably holds a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    SECRET_PARTS.iter().any(|part| letters.contains(part))
        || words(name).any(|word| SECRET_WORDS.contains(&word.as_str()))
}

/// Whether the text is a URL with a password in it, like a database's, or with a token as the user,
/// as git hosts take it over HTTP. The `git` of `ssh://git@host` is no secret.
fn has_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':') || scheme.starts_with("http"))
    })
}

/// Whether the text is itself JSON with a secret in it, like the variable in which an agent program
/// takes its whole config.
fn is_document_with_secret(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && serde_json::from_str::<Value>(text)
            .is_ok_and(|document| masked(Place::ByName, document.clone()) != document)
}

fn is_mask(text: &str) -> bool {
    text.strip_prefix(MASK)
        .is_some_and(|end| end.chars().count() <= SHOWN_CHARS)
}

/// The words of `API_KEY`, `apiKey` or `x-api-key`, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut found = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && after_lower) {
            found.push(String::new());
        }
        after_lower = c.is_ascii_lowercase();
        if c.is_ascii_alphanumeric()
            && let Some(word) = found.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
    }
    found.into_iter().filter(|word| !word.is_empty())
}

fn masked(place: Place, value: Value) -> Value {
    match value {
        Value::String(text) if place.hides(&text) => Value::String(mask(&text)),
        Value::Array(items) => items.into_iter().map(|item| masked(place, item)).collect(),
        object @ Value::Object(_) => {
            each_field(object, |name, value| masked(place.under(name), value))
        }
        other => other,
    }
}

fn each_field(object: Value, mut change: impl FnMut(&str, Value) -> Value) -> Value {
    let Value::Object(fields) = object else {
        return object;
    };
    fields
        .into_iter()
        .map(|(name, value)| {
            let value = change(&name, value);
            (name, value)
        })
        .collect()
}

/// A walk through a patch beside what is stored.
struct Restore {
    path: Vec<String>,
    missing: Vec<NothingBehindMask>,
}

impl Restore {
    fn value(&mut self, place: Place, patch: Value, stored: Option<&Value>) -> Value {
        match (patch, stored) {
            (Value::String(text), _) if place != Place::Open && is_mask(&text) => {
                self.secret(place, text, stored)
            }
            (Value::Array(items), _) => self.items(place, items, stored),
            (Value::Object(fields), _) => fields
                .into_iter()
                .map(|(name, value)| {
                    let under = place.under(&name);
                    let stored = stored.and_then(|stored| stored.get(&name));
                    let value = self.below(&name, |walk| walk.value(under, value, stored));
                    (name, value)
                })
                .collect(),
            (other, _) => other,
        }
    }

    fn secret(&mut self, place: Place, text: String, stored: Option<&Value>) -> Value {
        match stored {
            Some(Value::String(secret)) if place.hides(secret) => Value::String(secret.clone()),
            // Text that only looks like a mask, where nothing has to be hidden.
            _ if place == Place::ByName => Value::String(text),
            _ => {
                self.missing.push(NothingBehindMask {
                    path: self.path.clone(),
                });
                Value::Null
            }
        }
    }

    /// A patch replaces arrays whole and may reorder them, so an item is known by how it is shown.
    fn items(&mut self, place: Place, items: Vec<Value>, stored: Option<&Value>) -> Value {
        let stored: &[Value] = stored.and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let shown: Vec<Value> = stored
            .iter()
            .map(|item| masked(place, item.clone()))
            .collect();
        let mut used = vec![false; stored.len()];
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let same = |at: usize| shown[at] == item && !used[at];
                let at = Some(index)
                    .filter(|at| *at < stored.len() && same(*at))
                    .or_else(|| (0..stored.len()).find(|at| same(*at)));
                if let Some(at) = at {
                    used[at] = true;
                    return stored[at].clone();
                }
                self.below(&index.to_string(), |walk| walk.value(place, item, None))
            })
            .collect()
    }

    fn below<T>(&mut self, name: &str, step: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_owned());
        let done = step(self);
        self.path.pop();
        done
    }
}
