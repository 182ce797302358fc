//! Reports the program's state to systemd (`Type=notify`). Without systemd nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the address of systemd's socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Reports that the program serves: units that wait for it start now.
pub fn ready() {
    report("READY=1");
}

/// Reports that the program shuts down.
pub fn stopping() {
    report("STOPPING=1");
}

fn report(state: &str) {
    let Some(address) = std::env::var_os(SOCKET_VARIABLE).filter(|it| !it.is_empty()) else {
        return;
    };
    if let Err(error) = send(&address, state) {
        tracing::warn!(%error, state, "failed to report the state to systemd");
    }
}

fn send(address: &OsStr, state: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_reaches_sockets_with_path_and_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let name = format!("daemon-notify-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let listening = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path)),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&abstract_name),
            ),
        ];
        for (address, socket) in listening {
            let socket = socket.expect("bindable");
            send(&address, "READY=1").expect("sent");
            let mut received = [0; 16];
            let length = socket.recv(&mut received).expect("received");
            assert_eq!(&received[..length], b"READY=1");
        }
    }
}
