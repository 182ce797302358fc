//! The launcher: locks the data, writes credentials and configuration, then becomes the engine.

use crate::credentials::Credentials;
use crate::locate::{Engine, LocateError, locate};
use crate::{config, library};
use rustix::fs::{FlockOperation, flock};
use std::convert::Infallible;
use std::fs::{DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The engine can't be run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// No engine was found.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The data directory can't be used.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Another engine runs on the same data.
    #[error("{} is in use by another engine; stop that one, or use another directory", .0.display())]
    InUse(PathBuf),
    /// The port can't be opened.
    #[error("can't listen on 127.0.0.1:{port} (--http-port): {cause}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's error.
        cause: io::Error,
    },
    /// The engine did not start.
    #[error("the engine did not start: {0}")]
    Engine(String),
}

/// Runs the engine on the data in `data`, with HTTP on 127.0.0.1 at `port`, until this process gets a
/// stop signal or, with `stop_at_stdin_end`, standard input ends (a `clickhouse` program ignores that).
///
/// # Errors
/// When the engine can't be started; otherwise this does not return.
pub fn serve(data: &Path, port: u16, stop_at_stdin_end: bool) -> Result<Infallible, ServeError> {
    let engine = locate()?;
    let io = |cause| ServeError::Io {
        path: data.into(),
        cause,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(io)?;
    let data = data.canonicalize().map_err(io)?;
    daemon::private::restrict_directory(&data);
    let lock = File::create(data.join("engine.lock")).map_err(io)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServeError::InUse(data)),
        Err(error) => return Err(io(error.into())),
    }
    // The engine would log a stack trace.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|cause| ServeError::Listen { port, cause })?;
    let credentials = Credentials::load_or_create(&data).map_err(io)?;
    let config = config::write(&data, port, &credentials).map_err(io)?;
    let credentials = Credentials::file(&data);
    tracing::info!(url = %format_args!("http://127.0.0.1:{port}"), credentials = %credentials.display(), "starting ClickHouse");
    match engine {
        Engine::Library(file) => {
            library::run(&file, &config, &data, port, stop_at_stdin_end).map_err(ServeError::Engine)
        }
        Engine::Program(program) => {
            // The program that replaces this process must keep the lock.
            rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())
                .map_err(|e| io(e.into()))?;
            let error = Command::new(program)
                .args(["server", "--config-file"])
                .arg(&config)
                .current_dir(&data)
                .exec();
            Err(ServeError::Engine(error.to_string()))
        }
    }
}
