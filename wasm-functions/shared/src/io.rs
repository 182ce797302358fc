//! Input and output of a component: request, variables, the edge's internal API, response. It uses WASI's types:
//! converting them to the `http` crate's and back would cost as much as the whole decision.

use crate::{Decision, MAX_BODY_BYTES, Refused, Request};
use serde::Serialize;
use spin_sdk::variables;
use spin_sdk::wasip3::http::client;
use spin_sdk::wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request as WasiRequest, RequestOptions, Response,
    Scheme, Trailers,
};
use spin_sdk::wasip3::wit_bindgen::{self, FutureReader, StreamReader, StreamResult};
use spin_sdk::wasip3::{wit_future, wit_stream};
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::task::Poll;

/// A complete response.
#[derive(Debug)]
pub struct TextResponse {
    status: u16,
    text: String,
}

/// The status of a durable report.
const NO_CONTENT: u16 = 204;
/// `Retry-After` in seconds.
const RETRY_AFTER: &str = "5";
/// Connection and response timeout of other hosts in nanoseconds.
const API_TIMEOUT_NANOS: u64 = 5_000_000_000;
/// Bytes of a body per read.
const PART_BYTES: usize = 16 << 10;

/// Reads a request; a body above the limit is read slightly beyond it.
pub async fn read(incoming: WasiRequest) -> Request {
    let target = incoming.get_path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let headers = incoming.get_headers().copy_all().into_iter();
    let headers = headers.filter_map(|(name, value)| Some((name, header_text(value)?)));
    let mut request = Request {
        method: method_name(incoming.get_method()),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.collect(),
        ..Request::default()
    };
    request.client = request.client_named_by_host();
    if request.may_have_body() {
        read_body(incoming, &mut request).await;
    }
    request
}

async fn read_body(incoming: WasiRequest, request: &mut Request) {
    // The client is not notified of the result of reading the body.
    let (_result, how) = wit_future::new(|| Ok(()));
    let (mut body, ended) = WasiRequest::consume_body(incoming, how);
    loop {
        let (read, part) = body.read(Vec::with_capacity(PART_BYTES)).await;
        request.body.extend_from_slice(&part);
        if request.body.len() > MAX_BODY_BYTES {
            return;
        }
        if !matches!(read, StreamResult::Complete(_)) {
            break;
        }
    }
    request.broken = ended.await.is_err();
}

/// A header's value, if it is valid text.
fn header_text(value: Vec<u8>) -> Option<String> {
    let is_text = value.iter().all(|it| matches!(it, b'\t' | b' '..=b'~'));
    is_text.then(|| String::from_utf8(value).ok())?
}

fn method_name(method: Method) -> String {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    };
    name.to_owned()
}

/// A variable; empty if it has no value.
pub async fn variable(name: &str) -> String {
    variables::get(name).await.unwrap_or_default()
}

/// Executes a decision: accepted messages are sent to `path` of the internal API.
pub async fn execute<T: Serialize>(decision: Decision<T>, path: &str) -> TextResponse {
    match decision {
        Decision::Accept(message, text) => match report(path, &message).await {
            true => TextResponse { status: 200, text },
            false => unavailable(),
        },
        Decision::Acknowledge(text) => TextResponse { status: 200, text },
        Decision::Refuse(refused) => refuse(*refused).await,
    }
}

/// Records a rejection and sends it as the response, even if recording failed.
async fn refuse(refused: Refused) -> TextResponse {
    let _ = report(tracker_api::REJECTIONS, &refused.rejection).await;
    TextResponse {
        status: refused.status,
        text: refused.body,
    }
}

/// The response if a report could not be made durable or decided.
#[must_use]
pub fn unavailable() -> TextResponse {
    TextResponse {
        status: 503,
        text: "try again later\n".to_owned(),
    }
}

/// Reports to the edge; true if the report is durable.
async fn report(path: &str, message: &impl Serialize) -> bool {
    let base = match variable("tracker_url").await {
        empty if empty.is_empty() => format!("http://{}", tracker_api::HOST),
        given => given,
    };
    let token = variable("tracker_token").await;
    let Ok(message) = serde_json::to_vec(message) else {
        return false;
    };
    match post(&base, path, &token, message).await {
        Ok(NO_CONTENT) => true,
        Ok(status) => {
            eprintln!("{path} responded {status}");
            false
        }
        Err(error) => {
            eprintln!("{path} can't be reached: {error}");
            false
        }
    }
}

/// Sends a message to `path` below `base`, such as `http://tracker.internal`; returns the status of the response.
async fn post(base: &str, path: &str, token: &str, message: Vec<u8>) -> Result<u16, ErrorCode> {
    let wrong = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = base.split_once("://").ok_or(()).map_err(wrong)?;
    let (authority, base_path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let base_path = base_path.trim_end_matches('/');
    let authorization = format!("Bearer {token}");
    let headers = fields(&[
        ("authorization", &authorization),
        ("content-type", "application/json"),
        ("content-length", &message.len().to_string()),
    ]);
    let headers = headers.map_err(internal)?;
    let (mut write, body, trailers) = body(message).await;
    let options = options(authority);
    let (request, _) = WasiRequest::new(headers, Some(body), trailers, options);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_method(&Method::Post).map_err(wrong)?;
    request.set_scheme(Some(&scheme)).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    let target = format!("{base_path}{path}");
    request.set_path_with_query(Some(&target)).map_err(wrong)?;

    let mut response = Box::pin(client::send(request));
    let mut writing = true;
    let response = poll_fn(|cx| {
        // A server that responds before reading everything needs no more of it.
        let response = response.as_mut().poll(cx);
        if response.is_pending() && writing {
            writing = write.as_mut().poll(cx).is_pending();
        }
        response
    });
    Ok(response.await?.get_status_code())
}

/// Timeouts for `authority`; the edge's own API needs none, other hosts would have minutes without them.
fn options(authority: &str) -> Option<RequestOptions> {
    if authority == tracker_api::HOST {
        return None;
    }
    let options = RequestOptions::new();
    for set in [
        RequestOptions::set_connect_timeout,
        RequestOptions::set_first_byte_timeout,
        RequestOptions::set_between_bytes_timeout,
    ] {
        // A host without this option uses its own timeout.
        let _ = set(&options, Some(API_TIMEOUT_NANOS));
    }
    Some(options)
}

/// The trailers of a body.
type End = FutureReader<Result<Option<Trailers>, ErrorCode>>;

/// Defines a component from `handler`, an `async fn(&Request) -> TextResponse`.
#[macro_export]
macro_rules! component {
    ($handler:path) => {
        struct Component;

        spin_sdk::wasip3::http::service::export!(Component);

        impl spin_sdk::wasip3::exports::http::handler::Guest for Component {
            async fn handle(
                request: spin_sdk::wasip3::http::types::Request,
            ) -> Result<
                spin_sdk::wasip3::http::types::Response,
                spin_sdk::wasip3::http::types::ErrorCode,
            > {
                let request = $crate::io::read(request).await;
                $crate::io::respond($handler(&request).await).await
            }
        }
    };
}

/// A response: its head, and a body whose write has started.
///
/// # Errors
/// If the host rejects the headers.
pub async fn respond(content: TextResponse) -> Result<Response, ErrorCode> {
    let retry = [("retry-after", RETRY_AFTER)];
    let retry = if content.status >= 500 {
        &retry[..]
    } else {
        &[]
    };
    let length = content.text.len().to_string();
    let always = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", &length),
        ("cache-control", "no-store"),
    ];
    let headers = fields(&[&always, retry].concat()).map_err(internal)?;
    let (write, body, trailers) = body(content.text.into_bytes()).await;
    let (response, _) = Response::new(headers, Some(body), trailers);
    let set = response.set_status_code(content.status);
    set.map_err(|()| ErrorCode::InternalError(None))?;
    wit_bindgen::spawn(write);
    Ok(response)
}

/// The write of a body.
type Write = Pin<Box<dyn Future<Output = ()>>>;

/// A body of these bytes: its write, its reader, and empty trailers. The write starts at once, so that the host
/// sends the body together with the head. Otherwise a host without `TCP_NODELAY`, such as Spin, would send the body
/// only after the peer has acknowledged the head, 40 ms later.
async fn body(bytes: Vec<u8>) -> (Write, StreamReader<u8>, End) {
    let (mut writer, reader) = wit_stream::new();
    // The result of a body that was not written completely.
    let (end, ended) = wit_future::new(|| Err(ErrorCode::InternalError(None)));
    let mut write: Write = Box::pin(async move {
        let left = writer.write_all(bytes).await;
        drop(writer);
        // A reader that stopped does not need the result.
        if left.is_empty() {
            let _ = end.write(Ok(None)).await;
        }
    });
    if poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx)))
        .await
        .is_ready()
    {
        write = Box::pin(ready(()));
    }
    (write, reader, ended)
}

fn fields(headers: &[(&str, &str)]) -> Result<Fields, HeaderError> {
    let owned = headers.iter().map(|(name, value)| {
        let (name, value): (String, Vec<u8>) = ((*name).into(), (*value).into());
        (name, value)
    });
    Fields::from_list(&owned.collect::<Vec<_>>())
}

fn internal(error: HeaderError) -> ErrorCode {
    ErrorCode::InternalError(Some(error.to_string()))
}
