//! What the system turned away because nobody accepted it in time, as far as the system says so.

use std::fs;

/// Connections that found the queue of a listening socket full, since the machine (or the container,
/// which counts for itself) was started; nothing where the system does not tell. Most of them try
/// again by themselves.
#[must_use]
pub fn turned_away_by_the_system() -> Option<u64> {
    value(
        &fs::read_to_string("/proc/net/netstat").ok()?,
        "TcpExt:",
        "ListenDrops",
    )
}

/// The value of `name` where a line of names is followed by one of values, as proc_net_netstat(5)
/// has it.
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
    fn a_value_stands_below_its_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\n\
                    IpExt: InNoRoutes\nIpExt: 4\n";
        assert_eq!(value(text, "TcpExt:", "ListenDrops"), Some(333));
        assert_eq!(value(text, "IpExt:", "InNoRoutes"), Some(4));
        assert_eq!(value(text, "IpExt:", "ListenDrops"), None);
    }
}
