//! Running ClickHouse out of its library: the only unsafe code of this crate.
#![allow(unsafe_code)]

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
type Main = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

/// Runs the engine until SIGTERM, SIGINT or, `with_parent`, the end of standard input, and ends the
/// process: with 0 when it was asked to end, else with 1.
///
/// The engine reads queries from two pipes: the first holds the one that opens the port; the second
/// stays silent and open, and closing it lets the engine end in order.
pub(crate) fn run(
    library: &Path,
    config: &Path,
    data: &Path,
    with_parent: bool,
) -> Result<std::convert::Infallible, String> {
    // Before the library starts threads, so that all of them leave these signals to ours.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals
        .thread_block()
        .map_err(|error| format!("signals: {error}"))?;

    let pipe = || rustix::pipe::pipe().map_err(|error| format!("pipe: {error}"));
    let (opening, write_opening) = pipe()?;
    let (waiting, keep_waiting) = pipe()?;
    let mut write_opening = std::fs::File::from(write_opening);
    write_opening
        .write_all(b"SYSTEM START LISTEN HTTP")
        .map_err(|error| error.to_string())?;
    drop(write_opening);
    let asked = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn({
        let stop = stop.clone();
        move || signals.wait().map(|_| stop.send(()))
    });
    if with_parent {
        // The parent holds the other end of our input: it closes however the parent ends.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.send(())
        });
    }
    std::thread::spawn({
        let asked = asked.clone();
        move || {
            let _ = stopped.recv();
            asked.store(true, Ordering::SeqCst);
            drop(keep_waiting);
        }
    });
    call(library, config, data, [&opening, &waiting])?;
    let code = i32::from(!asked.load(Ordering::SeqCst));
    // The library's exit handlers crash; everything that must reach the disk has.
    // SAFETY: _exit only ends the process.
    unsafe { nix::libc::_exit(code) }
}

fn call(library: &Path, config: &Path, data: &Path, pipes: [&OwnedFd; 2]) -> Result<(), String> {
    let fd = |pipe: &OwnedFd| format!("/dev/fd/{}", pipe.as_raw_fd());
    let arguments = [
        "clickhouse".into(),
        format!("--config-file={}", config.display()),
        format!("--path={}", data.join("store").display()),
        // The library does not heed the configured level, and lower ones log queries' texts.
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
    // SAFETY: the library is the one that set-up fetched and checked, or that the operator named;
    // its initialisers are meant to be run by loading it.
    let loaded = unsafe { Library::new(library) }.map_err(|error| error.to_string())?;
    // Never unloaded: threads of its own still run in it when the call has returned.
    let loaded = ManuallyDrop::new(loaded);
    // SAFETY: `chdb_result *chdb_query_cmdline(int, char **)` is an entry point of the library.
    let main: Symbol<'_, Main> =
        unsafe { loaded.get(b"chdb_query_cmdline\0") }.map_err(|error| error.to_string())?;
    // SAFETY: argv is an array of `count` NUL-terminated strings and a null pointer, all of which
    // outlive the call.
    let _result = unsafe { main(count, pointers.as_mut_ptr()) };
    Ok(())
}
