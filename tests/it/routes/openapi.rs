//! The description of the API says what the routes really take, and is sound.

use std::collections::BTreeSet;

use serde_json::Value;

use super::table;
use crate::support::world::World;

const METHODS: [&str; 5] = ["get", "post", "patch", "delete", "put"];

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_is_sound_and_true() {
    let world = World::open().await;
    let (status, document) = world
        .server
        .call("GET", "/api/openapi.json", Value::Null)
        .await;
    assert_eq!(status, 200);
    assert_eq!(document["openapi"], "3.1.0");
    let mut wrong = Vec::new();
    references(&document, &document, &mut wrong);
    let mut ids = BTreeSet::new();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let named: BTreeSet<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let name = format!("{method} {path}");
            assert!(METHODS.contains(&method.as_str()), "{name}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            let parameters = operation["parameters"].as_array().unwrap();
            let in_path: BTreeSet<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path, named, "{name}");
            assert!(operation["responses"].as_object().unwrap().len() > 1);
            if let Some(body) = operation.get("requestBody") {
                schema(
                    &body["content"]["application/json"]["schema"],
                    &name,
                    &mut wrong,
                );
            }
            for parameter in parameters.iter().filter(|one| one.get("$ref").is_none()) {
                schema(&parameter["schema"], &name, &mut wrong);
            }
        }
    }
    for (name, one) in document["components"]["schemas"].as_object().unwrap() {
        schema(one, name, &mut wrong);
    }
    assert_eq!(operations, table().len());
    wrong.extend(differences(&document));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the document and this table differ about what a route takes.
fn differences(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in table() {
        let (name, path) = (case.name(), case.path.replace("{*", "{"));
        let operation = &document["paths"][&path][case.method.to_ascii_lowercase()];
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let is_patch = body["description"].to_string().contains("merge patch");
        let known: BTreeSet<String> = case
            .fields
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let required: BTreeSet<&str> = body["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let described: BTreeSet<String> = body["properties"]
            .as_object()
            .map(|fields| {
                let mark = |name: &str| if required.contains(name) { "!" } else { "" };
                fields
                    .keys()
                    .map(|name| format!("{name}{}", mark(name)))
                    .collect()
            })
            .unwrap_or_default();
        if known != described && !is_patch {
            wrong.push(format!(
                "{name} reads {described:?}, its row says {known:?} (a handler reads its fields \
                 before it asks for the town)"
            ));
        }
        let statuses = case.samples.iter().map(|sample| sample.status);
        let statuses = statuses.chain(case.answer.iter().map(|(status, _)| *status));
        let refused = case.refusals.iter().map(|refusal| refusal.status);
        for status in statuses.chain(refused) {
            if operation["responses"].get(status.to_string()).is_none() {
                wrong.push(format!("{name} answers {status}, which is not described"));
            }
        }
        let parameters = operation["parameters"].as_array().unwrap();
        for query in &case.queries {
            let query = query.split('=').next().unwrap();
            let is_it = |one: &Value| one["in"] == "query" && one["name"] == query;
            if !parameters.iter().any(is_it) {
                wrong.push(format!("{name}: {query} is not described"));
            }
        }
    }
    wrong
}

/// Every `$ref` leads somewhere.
fn references(document: &Value, value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                let found = to.strip_prefix('#').and_then(|to| document.pointer(to));
                if found.is_none() {
                    wrong.push(format!("{to} leads nowhere"));
                }
            }
            for value in fields.values() {
                references(document, value, wrong);
            }
        }
        Value::Array(values) => {
            for value in values {
                references(document, value, wrong);
            }
        }
        _ => {}
    }
}

/// A JSON schema of the few words that are used here, each with the right kind of value.
fn schema(schema: &Value, at: &str, wrong: &mut Vec<String>) {
    let Some(fields) = schema.as_object() else {
        wrong.push(format!("{at}: {schema} is no schema"));
        return;
    };
    for (word, value) in fields {
        let is_right = match word.as_str() {
            "$ref" | "description" | "format" | "pattern" => value.is_string(),
            "type" => ["string", "integer", "boolean", "array", "object"]
                .iter()
                .any(|known| value == known),
            "enum" => value.as_array().is_some_and(|names| {
                let names: BTreeSet<_> = names.iter().filter_map(Value::as_str).collect();
                !names.is_empty() && names.iter().all(|name| !name.is_empty())
            }),
            "const" => true,
            "minLength" | "maxLength" | "minimum" | "maximum" | "maxItems" => value.is_u64(),
            "required" => value.as_array().is_some_and(|names| {
                let has = |name: &Value| {
                    let name = name.as_str().unwrap_or_default();
                    schema["properties"].get(name).is_some()
                };
                !names.is_empty() && names.iter().all(has)
            }),
            "items" => {
                self::schema(value, at, wrong);
                true
            }
            "properties" => {
                for (name, part) in value.as_object().unwrap() {
                    self::schema(part, &format!("{at}.{name}"), wrong);
                }
                true
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{at}: {word} is {value}"));
        }
    }
}
