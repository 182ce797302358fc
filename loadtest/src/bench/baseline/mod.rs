//! Servers that do less than the edge: what a click costs before anything is tracked, what a postback costs
//! without WebAssembly.
//!
//! They are measured beside the edge and never serve visitors.

mod bare_hyper;
mod floor;
pub(super) mod native_postback;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

const BACKLOG: i32 = 4_096;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Baseline {
    /// hyper with one fixed answer.
    BareHyper,
    /// System calls and a fixed answer: no HTTP library.
    Floor,
    /// Postbacks decided natively and made durable.
    NativePostback,
}

const LOCATION: &str =
    "https://boyfanz.example/welcome?cid=0AYaPSzo-001---0AYaPSzo-001---0AYaPS&s=creator7";

/// With a queue as deep as the edge's, or connections for each request would wait for it.
fn listener() -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves on a free port of 127.0.0.1 until killed; prints `{"listening":"…"}` when ready. `dir` is where
/// those that keep something keep it.
///
/// # Errors
/// When the port can't be had or the system fails.
pub fn serve(baseline: Baseline, dir: Option<&Path>) -> anyhow::Result<()> {
    let listener = listener()?;
    println!(r#"{{"listening":"{}"}}"#, listener.local_addr()?);
    match baseline {
        Baseline::BareHyper => bare_hyper::serve(listener),
        Baseline::Floor => floor::serve(listener),
        Baseline::NativePostback => {
            native_postback::serve(listener, dir.context("--dir is wanted")?)
        }
    }
}
