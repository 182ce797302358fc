//! hyper in its documented setup, on the same kind of runtime as the edge, with a fixed redirect.

use super::LOCATION;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue, LOCATION as LOCATION_HEADER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

pub(super) fn serve(listener: TcpListener) -> anyhow::Result<()> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?
        .block_on(accept(listener))
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(redirect)),
        );
    }
}

async fn redirect(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION_HEADER, HeaderValue::from_static(LOCATION));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
