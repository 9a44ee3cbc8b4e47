//! Logging a browser in and out.

use hyper::header::{HeaderValue, SET_COOKIE};
use serde_json::json;

use crate::http::auth::Authority;
use crate::http::context::{Context, Reply, created, ok};
use crate::http::error::ApiError;
use crate::http::extract::REFERENCE;

pub(in crate::http) async fn log_in(context: Context) -> Reply {
    let mut fields = context.fields()?;
    let token = fields.required_text("token", REFERENCE);
    fields.finish()?;
    let now = context.now();
    let cookie =
        context
            .state()?
            .authority
            .login_cookie(token.trim(), now, context.state()?.is_https);
    let cookie = cookie.ok_or(ApiError::unauthorized())?;
    with_cookie(created(json!({"loggedIn": true})), cookie)
}

pub(in crate::http) async fn log_out(_: Context) -> Reply {
    with_cookie(ok(json!({"loggedIn": false})), Authority::logout_cookie())
}

fn with_cookie(reply: Reply, cookie: String) -> Reply {
    let mut response = reply?;
    let cookie = HeaderValue::try_from(cookie).map_err(|_| ApiError::unauthorized())?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
