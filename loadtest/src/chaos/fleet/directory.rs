//! Data directories of edges: copy, replace, and ship their remaining events.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use event_journal::{OpenJournal, Options};
use tracking_events::FORMAT_VERSION;

use super::{Fleet, wait_until};
use crate::stack::free_port;
use crate::verify;

/// Maximum time until all events that an edge accepted are acknowledged.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);

/// Replaces `to` with a copy of `from`. A process may be running there: files that vanish during the copy are
/// skipped.
pub(super) fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    copy(from, to)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (source, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let target = to.join(name);
        if source.is_dir() {
            copy(&source, &target)?;
            continue;
        }
        // The socket of a running edge.
        if !source.is_file() {
            continue;
        }
        match fs::copy(&source, &target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => {
                copied.with_context(|| source.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Opens the journal of a stopped edge.
pub(super) fn open_journal(data: &Path) -> anyhow::Result<OpenJournal> {
    let options = Options {
        dir: data.join("journal"),
        lanes: 1,
        format_version: FORMAT_VERSION,
        segment_bytes: 1 << 20,
        max_bytes: 1 << 30,
        sync_interval: Duration::from_millis(500),
    };
    event_journal::open(&options).with_context(|| data.display().to_string())
}

/// Whether everything in an edge's directory was acknowledged. Reads a copy in `scratch`, because opening a journal
/// modifies it.
pub(super) fn is_drained(data: &Path, scratch: &Path) -> anyhow::Result<bool> {
    replace(data, scratch)?;
    let mut opened = open_journal(scratch)?;
    for reader in &mut opened.readers {
        reader.seek(reader.acknowledged());
        if reader.read(1, &mut Vec::new())?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Fleet<'_> {
    /// Lets a stopped or killed edge ship the rest of its journal without accepting new clicks.
    pub(super) fn drain(&mut self, edge: usize) -> anyhow::Result<()> {
        let dir = self.stack.dir().to_owned();
        let (url, admin) = (
            &self.stack.edge_urls[edge],
            &self.stack.edge_admin_urls[edge],
        );
        let member = &mut self.stack.edges[edge];
        let settings = member.settings_file()?;
        let data = dir.join(format!("edge-{}", edge + 1));
        let listening = url.trim_start_matches("http://");
        let (address, _) = listening.rsplit_once(':').context("a port")?;
        let text = fs::read_to_string(&settings)?;
        let quiet = text.replace(
            &format!("listen = \"{listening}\""),
            &format!("listen = \"{address}:{}\"", free_port()?),
        );
        let quiet_settings = dir.join("quiet.toml");
        fs::write(&quiet_settings, quiet)?;
        member.read_settings_from(&quiet_settings);
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while !is_drained(&data, &dir.join("scratch"))? {
            ensure!(
                Instant::now() < deadline,
                "events in {} were not shipped within {DRAIN_TIMEOUT:?}",
                data.display()
            );
            member.restart()?;
            wait_until("the edge is connected", || {
                Ok(verify::counter(admin, "edge_aggregator_connected")? > 0.0)
            })?;
            member.stop()?;
        }
        member.read_settings_from(&settings);
        Ok(())
    }
}
