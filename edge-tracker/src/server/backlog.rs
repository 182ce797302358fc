//! Connections that the kernel dropped because an accept queue was full.

use std::fs;

/// Connections dropped at a full accept queue since the machine or container was started (`ListenDrops`); nothing
/// where the kernel does not count them. Most clients retry the handshake.
#[must_use]
pub fn listen_drops() -> Option<u64> {
    value(
        &fs::read_to_string("/proc/net/netstat").ok()?,
        "TcpExt:",
        "ListenDrops",
    )
}

/// The value of `name` where a line of names is followed by a line of values (proc_net_netstat(5)).
fn value(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(other, _)| *other == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_found_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\n\
                    IpExt: InNoRoutes\nIpExt: 4\n";
        assert_eq!(value(text, "TcpExt:", "ListenDrops"), Some(333));
        assert_eq!(value(text, "IpExt:", "InNoRoutes"), Some(4));
        assert_eq!(value(text, "IpExt:", "ListenDrops"), None);
    }
}
