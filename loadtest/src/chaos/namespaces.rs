//! Edges on machines of their own, as far as networks go: a network namespace each, with one cable to its
//! visitors and another to the aggregator that can be pulled. Needs root and `ip`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, ensure};

use crate::stack::Place;

/// What all our namespaces' names begin with; the process's number follows.
const PREFIX: &str = "fanzfiliate-chaos-";
/// The number of the next one that this process makes.
static NEXT: AtomicU16 = AtomicU16::new(1);
/// Small enough to need a change of mind about packets' sizes, large enough for QUIC.
const SMALL_MTU: &str = "1260";

/// A namespace; removed, with its cables, when dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    /// Our ends of the cables: to visitors, to the aggregator.
    near: [Ipv4Addr; 2],
    far: [Ipv4Addr; 2],
}

/// What can happen to the way between an edge and the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The cable is pulled: sending fails at once.
    Unplugged,
    /// Nothing can be sent to the aggregator: sending fails at once.
    NoWayThere,
    /// Nothing comes back.
    NoWayBack,
    /// Only small packets get through.
    Narrow,
}

impl Namespace {
    /// Whether this machine lets us have any; those that a killed run left behind are removed.
    ///
    /// # Errors
    /// When it does not; the message says why.
    pub(super) fn are_possible() -> anyhow::Result<()> {
        for name in ip(&["netns", "list"])?
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            let of = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split_once('-'));
            if let Some((pid, number)) = of
                && !Path::new("/proc").join(pid).exists()
            {
                if let (Ok(pid), Ok(number)) = (pid.parse(), number.parse()) {
                    open_ways(addresses(pid, number)[1]);
                }
                ip(&["netns", "del", name])?;
            }
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let probe = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&["netns", "add", &probe]).context("networks of edges' own need root")?;
        ip(&["netns", "del", &probe]).map(drop)
    }

    /// Makes one.
    pub(super) fn make() -> anyhow::Result<Self> {
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{PREFIX}{pid}-{number}");
        ip(&["netns", "add", &name])?;
        let [near, far] = addresses(pid, number);
        let made = Self { name, near, far };
        // A killed run whose process had a number like ours may have left some.
        open_ways(far);
        made.own(&["link", "set", "lo", "up"])?;
        for (cable, (near, far)) in ["visitors", "central"]
            .into_iter()
            .zip(made.near.into_iter().zip(made.far))
        {
            // Fifteen characters at most.
            let here = format!("fc{:x}{}{number}", pid % 0xf_ffff, &cable[..1]);
            ip(&[
                "link", "add", &here, "type", "veth", "peer", "name", cable, "netns", &made.name,
            ])?;
            ip(&["address", "add", &format!("{near}/30"), "dev", &here])?;
            ip(&["link", "set", &here, "up"])?;
            made.own(&["address", "add", &format!("{far}/30"), "dev", cable])?;
            made.own(&["link", "set", cable, "up"])?;
        }
        Ok(made)
    }

    pub(super) fn place(&self) -> Place {
        Place {
            starter: ["ip", "netns", "exec", &self.name].map(Into::into).into(),
            own: self.far[0],
            aggregator: self.near[1],
        }
    }

    /// Lets `trouble` begin.
    pub(super) fn trouble(&self, trouble: Trouble) -> anyhow::Result<()> {
        let (near, far) = (self.near[1].to_string(), self.far[1].to_string());
        match trouble {
            Trouble::Unplugged => self.own(&["link", "set", "central", "down"]),
            Trouble::NoWayThere => self.own(&["route", "add", "blackhole", &near]),
            Trouble::NoWayBack => ip(&["route", "add", "blackhole", &far]).map(drop),
            Trouble::Narrow => self.own(&["link", "set", "central", "mtu", SMALL_MTU]),
        }
    }

    /// Ends every trouble.
    pub(super) fn heal(&self) -> anyhow::Result<()> {
        let near = self.near[1].to_string();
        // Not there is what is wanted.
        let _ = self.own(&["route", "del", "blackhole", &near]);
        open_ways(self.far);
        self.own(&["link", "set", "central", "mtu", "1500", "up"])
    }

    fn own(&self, arguments: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.name], arguments].concat()).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        open_ways(self.far);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Both ends of both cables of a process's namespace, the near ones first; from the range set aside for
/// benchmarks (RFC 2544).
fn addresses(pid: u32, number: u16) -> [[Ipv4Addr; 2]; 2] {
    let address = |last: u16| {
        let [.., third] = pid.to_be_bytes();
        let last = u8::try_from(number % 30 * 8 + last).unwrap_or_default();
        Ipv4Addr::new(198, 18 + u8::from(pid % 512 > 255), third, last)
    };
    [[1, 5], [2, 6]].map(|cables| cables.map(address))
}

/// Lets packets to `far` go their way again, wherever they had been stopped.
fn open_ways(far: [Ipv4Addr; 2]) {
    for address in far {
        // Not there is what is wanted.
        let _ = ip(&["route", "del", "blackhole", &address.to_string()]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip (Debian's package is called iproute2)")?;
    ensure!(
        done.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
