//! Our edge with everything on but an aggregator: geo, device, unique or repeated, signed id,
//! journal. What it accepted stays in the journal and is counted there.

use super::{Kind, Log, READY_WITHIN, Server, Setting, address};
use crate::process::Process;
use crate::stack::{free_port, program};
use ahash::AHashSet;
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tracking_events::{Event, FORMAT_VERSION};

const READ_BYTES: usize = 4 << 20;

pub(super) fn start(dir: &Path, setting: &Setting) -> anyhow::Result<Server> {
    let file = dir.join("edge.toml");
    let text = format!(
        "node = 1\ndata_dir = {:?}\nworkers = 1\n\
         [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n[links]\nfile = {:?}\n[geo]\ncountry = {:?}\n\
         [aggregator]\naddress = \"127.0.0.1:{}\"\n",
        dir.join("data"),
        setting.links,
        setting.geo,
        free_port()?,
    );
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(program("edge-tracker")?);
    command.args(["serve", "--config"]).arg(&file);
    let mut process = setting
        .cores
        .on_server(|| Process::start("edge-tracker", &mut command, &dir.join("log")))?;
    let ready = process.ready_line(READY_WITHIN)?;
    Ok(Server {
        kind: Kind::Edge,
        address: address(&ready, "listening")?,
        pids: vec![process.pid()],
        process,
        log: Log::Journal {
            dir: dir.join("data/journal"),
            admin: format!("http://{}", address(&ready, "admin")?),
        },
    })
}

/// How many clicks are in a journal, each with an id of its own.
pub(super) fn count(journal: &Path) -> anyhow::Result<u64> {
    let options = event_journal::Options {
        dir: journal.to_owned(),
        lanes: 1,
        format_version: FORMAT_VERSION,
        segment_bytes: 1 << 20,
        max_bytes: u64::MAX,
        sync_interval: Duration::from_secs(60),
    };
    let mut opened = event_journal::open(&options)?;
    let (mut ids, mut bytes) = (AHashSet::new(), Vec::new());
    for reader in &mut opened.readers {
        while let Some(run) = reader.read(READ_BYTES, &mut bytes)? {
            for frame in event_journal::frames(&bytes) {
                let event = tracking_events::decode(run.format_version, frame?.payload)?;
                let (Event::Click(visit) | Event::Impression(visit)) = event;
                ensure!(ids.insert(visit.id), "two clicks have the id {}", visit.id);
            }
            bytes.clear();
        }
    }
    Ok(ids.len() as u64)
}
