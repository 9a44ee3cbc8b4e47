//! What a handler asks a request for, learned from the handler itself.
//!
//! A handler is run with a request that has nothing in it and with no server behind it. Each field
//! and parameter that it asks for is noted; then it ends, because there is nothing to act on (see
//! `Context::state`). So the description of the API can't differ from what is really read.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};

use serde_json::{Value, json};

use super::context::Context;
use super::extract::LABELS_MAX;
use super::routes::Route;

/// What is noted; shared by all that read one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Asked>>);

/// What was asked for, in the order of the asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Fields of the body.
    pub(super) fields: Vec<Field>,
    /// Parameters of the query.
    pub(super) query: Vec<Field>,
    /// Whether the whole body is taken as a JSON merge patch.
    pub(super) is_patch: bool,
}

/// A field or a parameter.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) is_required: bool,
    /// A JSON schema.
    pub(super) schema: Value,
}

impl Notes {
    pub(super) fn field(&self, name: &str, schema: Value) {
        note(&mut self.lock().fields, name, schema);
    }

    pub(super) fn query(&self, name: &str, schema: Value) {
        note(&mut self.lock().query, name, schema);
    }

    pub(super) fn patch(&self) {
        self.lock().is_patch = true;
    }

    pub(super) fn require(&self, name: &str) {
        let mut asked = self.lock();
        let field = asked.fields.iter_mut().find(|field| field.name == name);
        if let Some(field) = field {
            field.is_required = true;
        }
    }

    pub(super) fn asked(&self) -> Asked {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(fields: &mut Vec<Field>, name: &str, schema: Value) {
    match fields.iter_mut().find(|field| field.name == name) {
        // Asked for again with what its parts hold.
        Some(field) => field.schema = schema,
        None => fields.push(Field {
            name: name.to_owned(),
            is_required: false,
            schema,
        }),
    }
}

/// What the handler of a route asks for.
pub(super) fn asked(route: &Route) -> Asked {
    let notes = Notes::default();
    let handler = pin!((route.handler)(Context::empty(notes.clone())));
    match handler.poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(_) => {}
        Poll::Pending => tracing::error!(?route, "waits for something before it has a server"),
    }
    notes.asked()
}

// The schemas of what can be asked for.

pub(super) fn text(least: usize, most: usize) -> Value {
    let mut schema = json!({"type": "string"});
    if least > 0 {
        schema["minLength"] = least.into();
    }
    if most < usize::MAX {
        schema["maxLength"] = most.into();
    }
    schema
}

/// `allowed` is joined by commas, as in `UnknownVariant`.
pub(super) fn choice(allowed: &str) -> Value {
    let names: Vec<&str> = allowed.split(", ").collect();
    json!({"type": "string", "enum": names})
}

pub(super) fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

pub(super) fn ids(most: usize) -> Value {
    json!({"type": "array", "maxItems": most, "items": id()})
}

pub(super) fn object() -> Value {
    json!({"type": "object"})
}

pub(super) fn labels() -> Value {
    json!({
        "type": "array", "maxItems": LABELS_MAX,
        "items": text(*super::extract::NAME.start(), *super::extract::NAME.end()),
    })
}

pub(super) fn number(least: u64, most: u64) -> Value {
    let mut schema = json!({"type": "integer", "minimum": least});
    // Beyond it not every reader of JSON is exact.
    if most <= 1 << 53 {
        schema["maximum"] = most.into();
    }
    schema
}

/// An object with these fields.
pub(super) fn object_of(fields: &[Field]) -> Value {
    let properties: serde_json::Map<_, _> = fields
        .iter()
        .map(|field| (field.name.clone(), field.schema.clone()))
        .collect();
    let mut schema = json!({"type": "object", "properties": properties});
    let required = fields.iter().filter(|field| field.is_required);
    let required: Vec<&str> = required.map(|field| field.name.as_str()).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}
