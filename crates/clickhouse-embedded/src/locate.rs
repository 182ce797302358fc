//! Finds the engine on this machine.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// The variable that names the engine and takes precedence: a `clickhouse` program or a `libchdb.so`.
const ENGINE_VARIABLE: &str = "FANZ_CLICKHOUSE";
/// The path of the library, installed by set-up, in the user's cache directory.
const CACHED_LIBRARY: &str = "fanzfiliate-edge/clickhouse-26.7.3/libchdb.so";

/// A ClickHouse on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// A `clickhouse` program.
    Program(PathBuf),
    /// ClickHouse as a library.
    Library(PathBuf),
}

/// No engine was found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocateError {
    /// The variable names a file that does not exist.
    #[error("{ENGINE_VARIABLE} names {}, which does not exist", .0.display())]
    Missing(PathBuf),
    /// No engine is in any of the places.
    #[error(
        "no ClickHouse on this machine: run `cargo xtask setup`, put `clickhouse` on PATH, or name a program or libchdb.so in {ENGINE_VARIABLE}"
    )]
    NotFound,
}

/// Finds the engine: named by the variable, on PATH, or in the cache directory.
///
/// # Errors
/// When there is no engine; the message names the command that installs one.
pub fn locate() -> Result<Engine, LocateError> {
    if let Some(named) = std::env::var_os(ENGINE_VARIABLE).map(PathBuf::from) {
        return if named.is_file() {
            Ok(kind_of(named))
        } else {
            Err(LocateError::Missing(named))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("clickhouse"));
    if let Some(program) = on_path.into_iter().find(|program| program.is_file()) {
        return Ok(Engine::Program(program));
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let library = cache
        .map(|cache| cache.join(CACHED_LIBRARY))
        .filter(|library| library.is_file());
    library.map(Engine::Library).ok_or(LocateError::NotFound)
}

fn kind_of(path: PathBuf) -> Engine {
    if path.extension().is_some_and(|extension| extension == "so") {
        Engine::Library(path)
    } else {
        Engine::Program(path)
    }
}
