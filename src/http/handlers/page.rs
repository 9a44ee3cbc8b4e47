//! The web page and its parts.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    LOCATION, SET_COOKIE,
};
use hyper::{Response, StatusCode};

use crate::dashboard::{self, Asset};
use crate::http::auth::Principal;
use crate::http::context::{Context, Reply};
use crate::http::error::ApiError;

/// The page for those who are logged in, the login form for others. The link that the first start
/// prints carries the token once: it is traded for a cookie and leaves the address bar.
pub(in crate::http) async fn index(context: Context) -> Reply {
    if let Some(token) = context.query.get("token") {
        let now = context.now();
        let state = context.state()?;
        if let Some(cookie) = state.authority.login_cookie(token, now, state.is_https) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SEE_OTHER;
            let headers = response.headers_mut();
            headers.insert(LOCATION, HeaderValue::from_static("/"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            let cookie = HeaderValue::try_from(cookie).map_err(|_| ApiError::unauthorized())?;
            headers.insert(SET_COOKIE, cookie);
            return Ok(response);
        }
    }
    let page = dashboard::asset("/").filter(|_| context.principal == Some(Principal::Admin));
    Ok(match page {
        Some(page) => file(&context, StatusCode::OK, page),
        None => file(&context, StatusCode::UNAUTHORIZED, dashboard::login_page()),
    })
}

/// Scripts, styles and pictures; there is no secret in them.
pub(in crate::http) async fn asset(context: Context) -> Reply {
    let asset = dashboard::asset(context.head.uri().path()).ok_or(ApiError::no_route())?;
    Ok(file(&context, StatusCode::OK, asset))
}

fn file(context: &Context, status: StatusCode, asset: Asset) -> Response<Full<Bytes>> {
    let unchanged = status == StatusCode::OK
        && context
            .head
            .headers()
            .get(IF_NONE_MATCH)
            .is_some_and(|etag| etag == asset.etag);
    let body = if unchanged {
        Bytes::new()
    } else {
        Bytes::from_static(asset.body)
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = if unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        status
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(dashboard::CONTENT_SECURITY_POLICY),
    );
    response
}
