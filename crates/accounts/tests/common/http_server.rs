//! An HTTP server of a test: one function from requests to responses.

use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A request with its complete body.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// Starts a server on a port of the system's choice and returns its origin. It ends with the test's runtime.
pub(crate) async fn start(
    respond: impl Fn(Received) -> Response<String> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let respond = Arc::new(respond);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = Arc::clone(&respond);
            let service = service_fn(move |request| {
                let respond = Arc::clone(&respond);
                async move {
                    let response = respond(receive(request).await);
                    Ok::<_, Infallible>(response.map(|body| Full::new(Bytes::from(body))))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    origin
}

async fn receive(request: Request<Incoming>) -> Received {
    let (head, body) = request.into_parts();
    let of = |name| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let body = body.collect().await.expect("a body").to_bytes();
    Received {
        path: head.uri.path().to_owned(),
        host: of(header::HOST),
        authorization: of(header::AUTHORIZATION),
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

pub(crate) fn response(status: u16, body: String) -> Response<String> {
    Response::builder()
        .status(status)
        .body(body)
        .expect("a response")
}
