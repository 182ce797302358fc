//! The control socket of a running edge, a Unix socket in its data directory. Access to the directory is the permission
//! to drain: the operators' port has no authentication, and a token would be one more secret to deploy.
//!
//! A client sends one request as a line of JSON and receives the progress as lines of JSON until the edge is drained.

use super::{DrainRequest, Progress, Stage};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

const FILE_NAME: &str = "control.sock";
const MAX_CONNECTIONS: usize = 8;
const MAX_LINE_BYTES: u64 = 64 << 10;
/// For a client to send its request, or to read a line.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Progress is sent at least this often, so that the client notices an edge that hangs.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Without a line for this long the edge hangs.
const EDGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest path of a Unix socket (unix(7)), with the terminating zero.
const MAX_PATH_BYTES: usize = 108;

/// The listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket in `dir`, whose journal this process has locked: a socket that is there already is of a process
    /// that has ended.
    pub(crate) fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_short_path(dir, |path| UnixListener::bind(path))?;
        Ok(Self { listener, path })
    }

    /// Serves clients: the first request is sent to `requests`, and all clients receive the `progress`.
    pub(crate) async fn serve(
        self,
        requests: watch::Sender<Option<DrainRequest>>,
        progress: watch::Receiver<Progress>,
    ) {
        let (requests, permits) = (Rc::new(requests), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a control connection");
                    sleep(ACCEPT_RETRY_INTERVAL).await;
                    continue;
                }
            };
            let (requests, progress) = (requests.clone(), progress.clone());
            spawn_local(async move {
                if let Err(error) = respond(stream, &requests, progress).await {
                    tracing::debug!(%error, "control connection ended early");
                }
                drop(permit);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn respond(
    mut stream: UnixStream,
    requests: &watch::Sender<Option<DrainRequest>>,
    mut progress: watch::Receiver<Progress>,
) -> io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(MAX_LINE_BYTES));
    timeout(CLIENT_TIMEOUT, reader.read_line(&mut line)).await??;
    let request: DrainRequest = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(%error, "refused a request on the control socket");
            return send(
                &mut stream,
                &Refusal {
                    error: error.to_string(),
                },
            )
            .await;
        }
    };
    requests.send_if_modified(|before| {
        let is_first = before.is_none();
        before.get_or_insert(request);
        is_first
    });
    loop {
        let present = progress.borrow_and_update().clone();
        send(&mut stream, &present).await?;
        if present.stage == Stage::Drained {
            return stream.shutdown().await;
        }
        let changed = timeout(PROGRESS_INTERVAL, progress.changed()).await;
        if changed.is_ok_and(|changed| changed.is_err()) {
            return Ok(());
        }
    }
}

#[derive(serde::Serialize)]
struct Refusal {
    error: String,
}

async fn send(stream: &mut UnixStream, message: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    timeout(CLIENT_TIMEOUT, stream.write_all(&line)).await?
}

/// A connection to the edge that runs on a data directory.
#[derive(Debug)]
pub(super) struct ControlClient(BufReader<UnixStream>);

impl ControlClient {
    /// Connects to the edge that runs on `dir`; `None` when none listens.
    pub(super) async fn connect(dir: &Path) -> io::Result<Option<Self>> {
        let connected = with_short_path(dir, |path| std::os::unix::net::UnixStream::connect(path));
        match connected {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                let stream = UnixStream::from_std(stream)?;
                Ok(Some(Self(BufReader::new(stream))))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    pub(super) async fn request(&mut self, request: DrainRequest) -> io::Result<()> {
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line).await
    }

    /// The next progress; `None` once the edge has ended.
    pub(super) async fn next(&mut self) -> io::Result<Option<Progress>> {
        let mut line = String::new();
        let mut limited = (&mut self.0).take(MAX_LINE_BYTES);
        match timeout(EDGE_TIMEOUT, limited.read_line(&mut line)).await? {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Calls `with` with a path of the socket in `dir` that is short enough for a socket.
fn with_short_path<T>(dir: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = dir.join(FILE_NAME);
    if path.as_os_str().len() < MAX_PATH_BYTES {
        return with(&path);
    }
    let dir = File::open(dir)?;
    let descriptor = format!("/proc/self/fd/{}", dir.as_raw_fd());
    with(&Path::new(&descriptor).join(FILE_NAME))
}
