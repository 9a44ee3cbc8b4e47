//! The JSON that clients see: one type per noun, made from the model.

mod asks;
mod container;
mod nouns;
mod reviews;
mod scheduler;
mod work;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(super) use container::WireContainer;

pub(super) use asks::{WireAsk, WireNewToken, WireToken};
pub(super) use scheduler::WireUsageReport;

pub(super) use nouns::{
    WireAgent, WireBead, WireEscalation, WireMail, WireMayorSession, WirePrime, WireRig, WireSlung,
    WireTown,
};
pub(super) use work::{
    WireAdvanced, WireConvoy, WireCurrentStep, WireDependencies, WireLedgerEvent, WireMolecule,
    WireWholeConvoy,
};

pub(super) use reviews::WireReview;

#[derive(Serialize)]
struct Envelope<T> {
    success: bool,
    data: T,
}

/// `{"success":true,"data":...}`.
pub(super) fn envelope(data: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&Envelope {
        success: true,
        data,
    })
    .expect("wire types hold only what JSON can hold")
}

/// A JSON answer that no cache keeps.
pub(super) fn json_response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
