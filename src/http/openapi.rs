//! The API described for programs: OpenAPI 3.1, made from the route table and from what the
//! handlers ask for (see `describe`).

use std::sync::LazyLock;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::auth::{COOKIE_NAME, Scope};
use super::describe::{self, Asked};
use super::error::CODES;
use super::routes::{ROUTES, Route};

/// Rooms of handlers whose answers are not JSON in an envelope.
const BARE_ROOMS: &[&str] = &["page", "mcp", "stream", "metrics"];
/// Routes that answer JSON without an envelope.
const BARE: &[&str] = &["system.health", "system.openapi"];

static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| document().to_string().into_bytes());

/// The finished text.
pub(super) fn text() -> Vec<u8> {
    DOCUMENT.clone()
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = route.path.replace("{*", "{");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gastownd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "paths": paths,
        "components": components(),
        "security": [{"token": []}, {"session": []}],
    })
}

fn operation(route: &Route) -> Value {
    let asked = describe::asked(route);
    let (room, _) = route.name.split_once('.').unwrap_or((route.name, ""));
    let method = route.method.as_str().to_ascii_lowercase();
    // By its path: two routes may have one handler.
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let name = format!("{method}_{}", words.join("_"));
    let mut operation = json!({
        "operationId": name,
        "tags": [room],
        "description": whom(route.scope),
        "parameters": parameters(route, &asked),
        "responses": responses(route, room, &asked),
    });
    if route.scope == Scope::Public {
        operation["security"] = json!([]);
    }
    if let Some(body) = body(&asked) {
        operation["requestBody"] = body;
    }
    operation
}

fn whom(scope: Scope) -> &'static str {
    match scope {
        Scope::Public => "For everybody.",
        Scope::Admin => "For people.",
        Scope::Rig => "For people, and for the agents of the rig.",
        Scope::Agent => "For people, and for the agent itself.",
        Scope::Mayor => "For people, and for the mayor of the town.",
    }
}

fn parameters(route: &Route, asked: &Asked) -> Vec<Value> {
    let names = route.path.split(['{', '}']).skip(1).step_by(2);
    let mut parameters: Vec<Value> = names
        .map(|name| {
            let name = name.trim_start_matches('*');
            let schema = match name {
                "user" | "path" | "ask" | "token" => json!({"type": "string"}),
                _ => describe::id(),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    parameters.extend(asked.query.iter().map(
        |parameter| json!({"name": parameter.name, "in": "query", "schema": parameter.schema}),
    ));
    if ["POST", "PATCH", "DELETE"].contains(&route.method.as_str()) {
        parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
    }
    parameters
}

fn body(asked: &Asked) -> Option<Value> {
    let (schema, is_required) = if asked.is_patch {
        let merged = "A JSON merge patch (RFC 7396) of what the GET of this path shows.";
        (json!({"type": "object", "description": merged}), true)
    } else if asked.fields.is_empty() {
        return None;
    } else {
        let required = asked.fields.iter().any(|field| field.is_required);
        (describe::object_of(&asked.fields), required)
    };
    Some(json!({
        "required": is_required,
        "content": {"application/json": {"schema": schema}},
    }))
}

/// The success that the table names, and every refusal that the request can meet.
fn responses(route: &Route, room: &str, asked: &Asked) -> Value {
    let mut responses = Map::new();
    let (status, success) = if room == "stream" {
        let upgraded = "From here on it is a WebSocket.";
        (
            StatusCode::SWITCHING_PROTOCOLS,
            json!({"description": upgraded}),
        )
    } else if BARE_ROOMS.contains(&room) {
        let bare = "Done; the answer is not JSON, or JSON of a protocol of its own.";
        (route.success, json!({"description": bare}))
    } else if BARE.contains(&route.name) {
        let object = json!({
            "description": "Done.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        });
        (route.success, object)
    } else {
        (
            route.success,
            json!({"$ref": "#/components/responses/Done"}),
        )
    };
    responses.insert(status.as_str().to_owned(), success);
    for (status, ..) in refusals(route, asked) {
        let to = format!("#/components/responses/Refused{}", status.as_str());
        responses.insert(status.as_str().to_owned(), json!({"$ref": to}));
    }
    Value::Object(responses)
}

/// Every refusal there is: its status, and when a client meets it.
const REFUSALS: &[(StatusCode, &str)] = &[
    (StatusCode::BAD_REQUEST, "The request itself is not valid."),
    (StatusCode::UNAUTHORIZED, "No credentials, or wrong ones."),
    (StatusCode::FORBIDDEN, "Not for these credentials."),
    (
        StatusCode::NOT_FOUND,
        "Something that the request names is not there.",
    ),
    (StatusCode::CONFLICT, "The state forbids it."),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "The key was used for another request.",
    ),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Not now; try again after Retry-After.",
    ),
];

/// Those that a request of this route can meet.
fn refusals<'a>(
    route: &'a Route,
    asked: &'a Asked,
) -> impl Iterator<Item = &'static (StatusCode, &'static str)> + 'a {
    let changes = ["POST", "PATCH", "DELETE"].contains(&route.method.as_str());
    let is_login = route.name == "session.log_in";
    REFUSALS.iter().filter(move |(status, _)| match *status {
        StatusCode::BAD_REQUEST => {
            changes || !asked.query.is_empty() || route.name.starts_with("stream.")
        }
        StatusCode::UNAUTHORIZED => route.scope != Scope::Public || is_login,
        StatusCode::FORBIDDEN => route.scope != Scope::Public,
        StatusCode::NOT_FOUND => route.path.contains('{') || !asked.fields.is_empty(),
        StatusCode::CONFLICT => changes && !is_login,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => changes,
        _ => true,
    })
}

/// What is refused with that status, as a component.
fn refused(status: StatusCode, when: &str) -> Value {
    let mut schema = json!({"$ref": "#/components/schemas/Refused"});
    let known = CODES.iter().find(|(of, _)| *of == status);
    if let Some((_, codes)) = known {
        // Among others of the same kind that name no noun of the town.
        schema["properties"] = json!({"code": {"type": "string", "examples": codes}});
    }
    json!({"description": when, "content": {"application/json": {"schema": schema}}})
}

fn components() -> Value {
    let content = |schema: &str| json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    let mut responses = Map::new();
    let done = json!({"description": "Done.", "content": content("Done")});
    responses.insert("Done".to_owned(), done);
    for (status, when) in REFUSALS {
        responses.insert(
            format!("Refused{}", status.as_str()),
            refused(*status, when),
        );
    }
    json!({
        "schemas": {
            "Done": {
                "type": "object",
                "required": ["success", "data"],
                "properties": {"success": {"const": true}, "data": {}},
            },
            "Refused": {
                "type": "object",
                "required": ["success", "error", "code"],
                "properties": {
                    "success": {"const": false},
                    "error": {"type": "string", "description": "For people."},
                    "code": {"type": "string", "description": "For programs."},
                    "issues": {
                        "type": "array",
                        "description": "What is wrong with the request, field by field.",
                        "items": {
                            "type": "object",
                            "required": ["path", "message"],
                            "properties": {
                                "path": {"type": "array", "items": {"type": "string"}},
                                "message": {"type": "string"},
                            },
                        },
                    },
                },
            },
        },
        "responses": responses,
        "parameters": {
            "IdempotencyKey": {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Chosen by the client: the request may be sent again under it for a \
                    day, is carried out once, and every repeat gets the first answer.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            },
        },
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE_NAME},
        },
    })
}
