//! Runs ClickHouse from its library: the only unsafe code of this crate.
#![allow(unsafe_code)]

use crate::launch::announce;
use libloading::{Library, Symbol};
use nix::sys::signal::{SigSet, Signal};
use rustix::fd::{AsRawFd, OwnedFd};
use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Returns a result object that lives until the process ends.
type QueryMain = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

/// Runs the engine until SIGTERM, SIGINT or, with `stop_at_stdin_end`, the end of standard input. Then it
/// ends the process: with status 0 after a requested stop, else with 1.
///
/// The engine reads queries from two pipes. The first contains the query that opens the port. The second
/// stays empty and open; closing it makes the engine shut down in order.
pub(crate) fn run(
    library: &Path,
    config: &Path,
    data: &Path,
    port: u16,
    stop_at_stdin_end: bool,
) -> Result<std::convert::Infallible, String> {
    // Blocked before the library starts threads, so that only the thread below gets these signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .map_err(|error| format!("signals: {error}"))?;

    let pipe = || rustix::pipe::pipe().map_err(|error| format!("pipe: {error}"));
    let (listen_query, write_listen_query) = pipe()?;
    let (idle_query, keep_idle) = pipe()?;
    let mut write_listen_query = std::fs::File::from(write_listen_query);
    write_listen_query
        .write_all(b"SYSTEM START LISTEN HTTP")
        .map_err(|error| error.to_string())?;
    drop(write_listen_query);
    let stop_requested = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn({
        let stop = stop.clone();
        move || signals.wait().map(|_| stop.send(()))
    });
    if stop_at_stdin_end {
        // The parent holds the other end of standard input, which closes however the parent ends.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.send(())
        });
    }
    std::thread::spawn({
        let stop_requested = stop_requested.clone();
        move || {
            let _ = stopped.recv();
            stop_requested.store(true, Ordering::SeqCst);
            drop(keep_idle);
        }
    });
    std::thread::spawn(move || announce(port));
    call(library, config, data, [&listen_query, &idle_query])?;
    let code = i32::from(!stop_requested.load(Ordering::SeqCst));
    // The library's exit handlers crash; all data is on disk already.
    // SAFETY: _exit only ends the process.
    unsafe { nix::libc::_exit(code) }
}

fn call(library: &Path, config: &Path, data: &Path, pipes: [&OwnedFd; 2]) -> Result<(), String> {
    let fd = |pipe: &OwnedFd| format!("/dev/fd/{}", pipe.as_raw_fd());
    let arguments = [
        "clickhouse".into(),
        format!("--config-file={}", config.display()),
        format!("--path={}", data.join("store").display()),
        // The library ignores the configured level, and lower levels log the text of queries.
        "--log-level=error".into(),
        "--queries-file".into(),
        fd(pipes[0]),
        fd(pipes[1]),
    ];
    let arguments: Vec<CString> = arguments
        .into_iter()
        .map(CString::new)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut pointers: Vec<*mut c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr().cast_mut())
        .collect();
    let count = c_int::try_from(pointers.len()).map_err(|error| error.to_string())?;
    pointers.push(std::ptr::null_mut());
    // SAFETY: the library was downloaded and verified by set-up or named by the operator, and its
    // initialisers are designed to run when it is loaded.
    let loaded = unsafe { Library::new(library) }.map_err(|error| error.to_string())?;
    // Never unloaded: its threads still run when the call has returned.
    let loaded = ManuallyDrop::new(loaded);
    // SAFETY: `chdb_result *chdb_query_cmdline(int, char **)` is an entry point of the library.
    let main: Symbol<'_, QueryMain> =
        unsafe { loaded.get(b"chdb_query_cmdline\0") }.map_err(|error| error.to_string())?;
    // SAFETY: argv is an array of `count` NUL-terminated strings and a null pointer, all of which
    // outlive the call.
    let _result = unsafe { main(count, pointers.as_mut_ptr()) };
    Ok(())
}
