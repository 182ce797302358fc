//! Input and output of a component: the request, variables, the edge's internal API, the answer.

use crate::{Decision, MAX_BODY_BYTES, Refused, Request};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde::Serialize;
use spin_sdk::http::{FullBody, HeaderValue, Request as Incoming, Response, StatusCode};
use spin_sdk::variables;
use spin_sdk::wasip3::http::types::ErrorCode;

/// An answer, whole.
pub type Answer = Response<FullBody<Bytes>>;

/// How long a sender should wait before it tries again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Reads a request; of a body that is too long, a little more than is allowed.
pub async fn read(incoming: Incoming) -> Request {
    let headers = incoming.headers().iter();
    let headers = headers.filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let mut request = Request {
        method: incoming.method().as_str().to_owned(),
        path: incoming.uri().path().to_owned(),
        query: incoming.uri().query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        ..Request::default()
    };
    request.client = request
        .header("spin-client-addr")
        .and_then(Request::client_of);
    if request.method == "GET" && request.header("content-length").is_none() {
        // To look for a body that is not there costs as much as to read one.
        return request;
    }
    let mut body = incoming.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => request.body.extend_from_slice(&data),
            Ok(Err(_)) => {}
            // The host's own limit: the rest is not there, but it was longer.
            Err(ErrorCode::HttpRequestBodySize(_)) => request.body.resize(MAX_BODY_BYTES + 1, 0),
            Err(_) => {
                request.broken = true;
                break;
            }
        }
        if request.body.len() > MAX_BODY_BYTES {
            break;
        }
    }
    request
}

/// A variable; empty when it has no value.
pub async fn variable(name: &str) -> String {
    variables::get(name).await.unwrap_or_default()
}

/// Does what was decided: accepted messages are reported to `path` of the internal API.
pub async fn carry_out<T: Serialize>(decision: Decision<T>, path: &str) -> Answer {
    match decision {
        Decision::Accept(message, text) => match report(path, &message).await {
            true => response(StatusCode::OK, text),
            false => unavailable(),
        },
        Decision::Refuse(refused) => refuse(*refused).await,
    }
}

/// Records a refusal and answers with it, also when it could not be recorded.
async fn refuse(refused: Refused) -> Answer {
    let _ = report(tracker_api::REJECTIONS, &refused.rejection).await;
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
    response(status, refused.answer)
}

/// The answer when something could not be made durable, or not even be decided.
#[must_use]
pub fn unavailable() -> Answer {
    response(StatusCode::SERVICE_UNAVAILABLE, "try again later\n".into())
}

/// Tells the edge; true when it is durable.
async fn report(path: &str, message: &impl Serialize) -> bool {
    let base = match variable("tracker_url").await {
        empty if empty.is_empty() => format!("http://{}", tracker_api::HOST),
        given => given,
    };
    let token = variable("tracker_token").await;
    let Ok(body) = serde_json::to_vec(message) else {
        return false;
    };
    let request = spin_sdk::http::Request::post(format!("{}{path}", base.trim_end_matches('/')))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(FullBody::new(Bytes::from(body)));
    let Ok(request) = request else {
        return false;
    };
    match spin_sdk::http::send(request).await {
        Ok(response) if response.status() == StatusCode::NO_CONTENT => true,
        Ok(response) => {
            eprintln!("{path} answered {}", response.status());
            false
        }
        Err(error) => {
            eprintln!("{path} can't be reached: {error}");
            false
        }
    }
}

fn response(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(FullBody::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert("content-type", plain);
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    if status.is_server_error() {
        headers.insert("retry-after", RETRY_AFTER);
    }
    response
}
