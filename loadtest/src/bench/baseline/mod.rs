//! Servers that do less than the edge: the cost of a click without tracking, and of a postback without WebAssembly.
//!
//! They exist for comparison and never serve visitors.

mod bare_hyper;
pub(super) mod native_postback;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

const BACKLOG: i32 = 4_096;

/// The server to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Baseline {
    /// hyper with a fixed response.
    BareHyper,
    /// Postbacks evaluated natively and made durable.
    NativePostback,
}

const LOCATION: &str =
    "https://boyfanz.example/welcome?cid=0AYaPSzo-001---0AYaPSzo-001---0AYaPS&s=creator7";

/// The backlog is as long as the edge's, so that one connection per request does not have to wait.
fn listener() -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves on a free port of 127.0.0.1 until killed; prints `{"listening":"…"}` when ready. Servers that store data
/// use `dir`.
///
/// # Errors
/// If the port is not available or a system call fails.
pub fn serve(baseline: Baseline, dir: Option<&Path>) -> anyhow::Result<()> {
    let listener = listener()?;
    println!(r#"{{"listening":"{}"}}"#, listener.local_addr()?);
    match baseline {
        Baseline::BareHyper => bare_hyper::serve(listener),
        Baseline::NativePostback => {
            native_postback::serve(listener, dir.context("--dir is required")?)
        }
    }
}
