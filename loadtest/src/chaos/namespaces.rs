//! A network namespace per edge with two links: one to visitors, one to the aggregator that can be broken. Needs
//! root and `ip`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, ensure};

use crate::stack::EdgeHost;

/// Name prefix of our namespaces; the process id follows.
const PREFIX: &str = "fanzfiliate-chaos-";
/// Number of the next namespace of this process.
static NEXT: AtomicU16 = AtomicU16::new(1);
/// Small enough that path MTU discovery must react, large enough for QUIC.
const SMALL_MTU: &str = "1260";

/// A namespace; dropping it removes it and its links.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    /// Addresses on the host's ends of the links: to visitors, to the aggregator.
    near: [Ipv4Addr; 2],
    far: [Ipv4Addr; 2],
}

/// A fault on the link between an edge and the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkFault {
    /// The link is down: sending fails at once.
    LinkDown,
    /// There is no route to the aggregator: sending fails at once.
    NoRouteOut,
    /// Packets from the aggregator are dropped.
    NoRouteBack,
    /// Only small packets pass.
    SmallMtu,
}

impl Namespace {
    /// Checks that this machine allows namespaces, and removes those of killed runs.
    ///
    /// # Errors
    /// If it does not; the message gives the reason.
    pub(super) fn ensure_supported() -> anyhow::Result<()> {
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
                    remove_blackholes(addresses(pid, number)[1]);
                }
                ip(&["netns", "del", name])?;
            }
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let probe = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&["netns", "add", &probe]).context("networks of edges' own need root")?;
        ip(&["netns", "del", &probe]).map(drop)
    }

    pub(super) fn make() -> anyhow::Result<Self> {
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{PREFIX}{pid}-{number}");
        ip(&["netns", "add", &name])?;
        let [near, far] = addresses(pid, number);
        let made = Self { name, near, far };
        // A killed run with a similar process id may have left routes.
        remove_blackholes(far);
        made.ip_inside(&["link", "set", "lo", "up"])?;
        for (link, (near, far)) in ["visitors", "central"]
            .into_iter()
            .zip(made.near.into_iter().zip(made.far))
        {
            // Interface names have at most 15 characters.
            let here = format!("fc{:x}{}{number}", pid % 0xf_ffff, &link[..1]);
            ip(&[
                "link", "add", &here, "type", "veth", "peer", "name", link, "netns", &made.name,
            ])?;
            ip(&["address", "add", &format!("{near}/30"), "dev", &here])?;
            ip(&["link", "set", &here, "up"])?;
            made.ip_inside(&["address", "add", &format!("{far}/30"), "dev", link])?;
            made.ip_inside(&["link", "set", link, "up"])?;
        }
        Ok(made)
    }

    pub(super) fn host(&self) -> EdgeHost {
        EdgeHost {
            starter: ["ip", "netns", "exec", &self.name].map(Into::into).into(),
            address: self.far[0],
            aggregator_address: self.near[1],
        }
    }

    /// Starts a fault.
    pub(super) fn fault(&self, fault: LinkFault) -> anyhow::Result<()> {
        let (near, far) = (self.near[1].to_string(), self.far[1].to_string());
        match fault {
            LinkFault::LinkDown => self.ip_inside(&["link", "set", "central", "down"]),
            LinkFault::NoRouteOut => self.ip_inside(&["route", "add", "blackhole", &near]),
            LinkFault::NoRouteBack => ip(&["route", "add", "blackhole", &far]).map(drop),
            LinkFault::SmallMtu => self.ip_inside(&["link", "set", "central", "mtu", SMALL_MTU]),
        }
    }

    /// Ends all faults.
    pub(super) fn heal(&self) -> anyhow::Result<()> {
        let near = self.near[1].to_string();
        // A missing route is fine.
        let _ = self.ip_inside(&["route", "del", "blackhole", &near]);
        remove_blackholes(self.far);
        self.ip_inside(&["link", "set", "central", "mtu", "1500", "up"])
    }

    fn ip_inside(&self, arguments: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.name], arguments].concat()).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_blackholes(self.far);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Both ends of both links of a namespace, the host's ends first, from the range reserved for benchmarks (RFC
/// 2544).
fn addresses(pid: u32, number: u16) -> [[Ipv4Addr; 2]; 2] {
    let address = |last: u16| {
        let [.., third] = pid.to_be_bytes();
        let last = u8::try_from(number % 30 * 8 + last).unwrap_or_default();
        Ipv4Addr::new(198, 18 + u8::from(pid % 512 > 255), third, last)
    };
    [[1, 5], [2, 6]].map(|links| links.map(address))
}

/// Removes all blackhole routes to `far`.
fn remove_blackholes(far: [Ipv4Addr; 2]) {
    for address in far {
        // A missing route is fine.
        let _ = ip(&["route", "del", "blackhole", &address.to_string()]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .context("failed to run ip (Debian package iproute2)")?;
    ensure!(
        done.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
