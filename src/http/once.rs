//! `Idempotency-Key`: a client's name for a request, so that it may send it again.

use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};

use crate::model::Timestamp;
use crate::storage::Once;

use super::auth::Principal;
use super::error::ApiError;

const HEADER: &str = "idempotency-key";
/// Characters of a key: room for any id, and no more than a row's key may have.
const KEY_LEN_MAX: usize = 255;

/// The key of a request that changes something, if its client gave one.
pub(super) fn of_request(
    head: &Parts,
    body: &[u8],
    principal: Option<&Principal>,
    now: Timestamp,
) -> Result<Option<Once>, ApiError> {
    if ![Method::POST, Method::PATCH, Method::DELETE].contains(&head.method) {
        return Ok(None);
    }
    let Some(key) = key(&head.headers)? else {
        return Ok(None);
    };
    // Two clients may choose one key.
    let scope = match principal {
        Some(Principal::Agent(claims)) => claims.agent_id.to_string(),
        Some(_) => "admin".to_owned(),
        None => "nobody".to_owned(),
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let parts = [head.method.as_str().as_bytes(), path.as_bytes(), body];
    Ok(Some(Once {
        key: format!("{scope} {key}"),
        fingerprint: fingerprint(&parts),
        at: now,
    }))
}

fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    let is_sound = (1..=KEY_LEN_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && values.next().is_none();
    if is_sound {
        return Ok(Some(key));
    }
    let message = format!("must be one key of 1 to {KEY_LEN_MAX} visible ASCII characters");
    Err(ApiError::invalid_field("Idempotency-Key", message))
}

/// FNV-1a over the parts and their lengths. It is kept on disk, so it must be the same in every
/// release; it guards a client against its own mistakes, not against attackers, who would have to
/// use that client's key.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for part in parts {
        let length = (part.len() as u64).to_le_bytes();
        for byte in length.iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, path: &str, keys: &[&str]) -> Parts {
        let mut request = hyper::Request::builder().method(method).uri(path);
        for key in keys {
            request = request.header(HEADER, *key);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn once(method: &str, path: &str, keys: &[&str], body: &str) -> Result<Option<Once>, ApiError> {
        let head = parts(method, path, keys);
        of_request(&head, body.as_bytes(), None, Timestamp::default())
    }

    #[test]
    fn only_sound_keys_of_changes_count() {
        let longest = "k".repeat(KEY_LEN_MAX);
        let longer = "k".repeat(KEY_LEN_MAX + 1);
        let cases: [(&str, &[&str], Option<bool>); 9] = [
            ("POST", &["k"], Some(true)),
            ("PATCH", &[&longest], Some(true)),
            ("DELETE", &["~!"], Some(true)),
            ("GET", &["k"], Some(false)),
            ("POST", &[], Some(false)),
            ("POST", &[""], None),
            ("POST", &[&longer], None),
            ("POST", &["a b"], None),
            ("POST", &["a", "a"], None),
        ];
        for (method, keys, expected) in cases {
            let found = once(method, "/p", keys, "").ok().map(|once| once.is_some());
            assert_eq!(found, expected, "{method} {keys:?}");
        }
    }

    #[test]
    fn a_request_is_its_method_its_path_and_its_body() {
        let print = |method, path, body| {
            let once = once(method, path, &["k"], body).ok().flatten();
            once.unwrap().fingerprint
        };
        let one = print("POST", "/a?b", "c");
        assert_eq!(one, print("POST", "/a?b", "c"));
        // On disk: never to change.
        assert_eq!(one, 0x66fb_fd2b_e468_b648);
        for (method, path, body) in [
            ("PATCH", "/a?b", "c"),
            ("POST", "/a?", "c"),
            ("POST", "/a", "?bc"),
            ("POST", "/a?b", ""),
        ] {
            assert_ne!(one, print(method, path, body), "{method} {path} {body}");
        }
    }
}
