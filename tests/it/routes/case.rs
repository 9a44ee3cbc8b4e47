//! A row of the table.

use std::pin::Pin;

use serde_json::{Value, json};

use crate::support::samples::{self, Sample};
use crate::support::world::{Ids, World};

type Running<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Something that is done in a world before a request; it may choose other ids for it.
pub(super) trait Step<T> {
    fn run<'a>(&'a self, world: &'a World, ids: &'a mut Ids) -> Running<'a, T>;
}

impl<T, F: AsyncFn(&World, &mut Ids) -> T> Step<T> for F {
    fn run<'a>(&'a self, world: &'a World, ids: &'a mut Ids) -> Running<'a, T> {
        Box::pin(self(world, ids))
    }
}

/// What a field of a body holds.
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// Text of at most so many characters.
    Text(usize),
    /// Text that may be as long as a body.
    LongText,
    Choice,
    /// A whole number.
    Whole,
    Id,
    Ids,
    Object,
    Labels,
    Objects,
    /// Any JSON, kept in a row.
    Kept,
    /// Any JSON, kept in a log.
    Any,
}

impl Field {
    /// Values that it does not take.
    pub(super) fn wrong(self) -> Vec<Value> {
        let deep = serde_json::from_str(&format!("{}{}", "[".repeat(101), "]".repeat(101)));
        match self {
            Self::Text(chars_max) => {
                vec![
                    json!(7),
                    json!([]),
                    json!({}),
                    "x".repeat(chars_max + 1).into(),
                ]
            }
            Self::LongText => vec![json!(7), json!(["x"]), json!(true)],
            Self::Whole => vec![json!("x"), json!(-1), json!(1.5), json!(0), json!([])],
            Self::Choice => vec![json!("bogus"), json!(""), json!(7), json!({})],
            Self::Id => vec![json!("x"), json!(""), json!(7), json!("../..")],
            Self::Ids => vec![json!("x"), json!([7]), json!(["x"]), json!({})],
            Self::Object => vec![
                json!([]),
                json!(7),
                json!("{}"),
                json!({"deep": deep.unwrap()}),
            ],
            Self::Labels => vec![
                json!("x"),
                json!([7]),
                json!([""]),
                json!(["x".repeat(65)]),
                json!(vec!["x"; 101]),
            ],
            Self::Objects => vec![json!("x"), json!({}), json!([7]), json!([]), json!([{}])],
            Self::Kept => vec![deep.unwrap()],
            Self::Any => Vec::new(),
        }
    }
}

/// A request that the state of the world forbids.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    /// Makes that state; the body to send.
    pub(super) body: Box<dyn Step<Value>>,
}

/// One route.
pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What the recording says, if there is one.
    pub(super) samples: Vec<Sample>,
    /// Makes what the request presupposes.
    pub(super) prepare: Option<Box<dyn Step<()>>>,
    body: Option<fn(&World, &Ids) -> Value>,
    /// The fields of its body; those with `!` must be there.
    pub(super) fields: Vec<(&'static str, Field)>,
    /// Queries that are wrong in their one parameter.
    pub(super) queries: Vec<&'static str>,
    /// The status of a success and an answer of its shape, where nothing is recorded.
    pub(super) answer: Option<(u16, Value)>,
    /// Parts of the recorded answer (JSON pointers) whose very values are the contract.
    pub(super) exact: Vec<&'static str>,
    pub(super) refusals: Vec<Refusal>,
    /// Why a repeat under one `Idempotency-Key` is nothing special.
    pub(super) ignores_keys: Option<&'static str>,
    /// Succeeds and checks by itself: its answer is not the usual JSON.
    pub(super) by_hand: Option<Box<dyn Step<()>>>,
}

impl Case {
    pub(super) fn of(method: &'static str, path: &'static str) -> Self {
        let samples = samples::all()
            .into_iter()
            .filter(|sample| sample.method == method && sample.path == path);
        Self {
            method,
            path,
            samples: samples.collect(),
            prepare: None,
            body: None,
            fields: Vec::new(),
            queries: Vec::new(),
            answer: None,
            exact: Vec::new(),
            refusals: Vec::new(),
            ignores_keys: None,
            by_hand: None,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(super) fn prepare(mut self, step: impl AsyncFn(&World, &mut Ids) + 'static) -> Self {
        self.prepare = Some(Box::new(step));
        self
    }

    /// The body of a success, if it is not the recorded one with ids that exist.
    pub(super) fn body(mut self, body: fn(&World, &Ids) -> Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn fields(mut self, fields: &[(&'static str, Field)]) -> Self {
        self.fields = fields.to_vec();
        self
    }

    pub(super) fn queries(mut self, queries: &[&'static str]) -> Self {
        self.queries = queries.to_vec();
        self
    }

    pub(super) fn answers(mut self, status: u16, data: Value) -> Self {
        let answer = json!({"success": true, "data": data});
        self.answer = Some((status, answer));
        self
    }

    pub(super) fn exact(mut self, pointers: &[&'static str]) -> Self {
        self.exact = pointers.to_vec();
        self
    }

    pub(super) fn refuses(
        mut self,
        status: u16,
        code: &'static str,
        body: impl AsyncFn(&World, &mut Ids) -> Value + 'static,
    ) -> Self {
        self.refusals.push(Refusal {
            status,
            code,
            body: Box::new(body),
        });
        self
    }

    pub(super) fn ignores_keys(mut self, reason: &'static str) -> Self {
        self.ignores_keys = Some(reason);
        self
    }

    pub(super) fn by_hand(mut self, step: impl AsyncFn(&World, &mut Ids) + 'static) -> Self {
        self.by_hand = Some(Box::new(step));
        self
    }

    /// A body that the route takes.
    pub(super) fn sound_body(&self, world: &World, ids: &Ids) -> Value {
        match (self.body, self.samples.first()) {
            (Some(body), _) => body(world, ids),
            (None, Some(sample)) => samples::with_ids(sample.request.clone(), ids),
            (None, None) => Value::Null,
        }
    }
}
