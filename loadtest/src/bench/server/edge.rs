//! Our edge with all features but without an aggregator: geo, device, uniqueness, signed id, journal. Accepted
//! clicks stay in the journal and are counted there.

use super::{BenchSetup, Kind, Log, READY_TIMEOUT, Server, address};
use crate::process::Process;
use crate::stack::{development_certificates, free_port};
use anyhow::Context as _;
use event_shipping::tls::Subject;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(super) fn start(
    kind: Kind,
    program: &Path,
    dir: &Path,
    setup: &BenchSetup,
) -> anyhow::Result<Server> {
    let file = dir.join("edge.toml");
    let text = format!(
        "node = 1\ndata_dir = {:?}\nworkers = 1\n\
         [http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n[links]\nfile = {:?}\n[geo]\ncountry = {:?}\n\
         [aggregator]\naddress = \"127.0.0.1:{}\"\n",
        dir.join("data"),
        setup.links,
        setup.geo,
        free_port()?,
    );
    development_certificates(&dir.join("data/tls"), &Subject::Edge(vec![1]))?;
    fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(&file);
    let mut process = setup
        .cores
        .on_server(|| Process::start("edge-tracker", &mut command, &dir.join("log")))?;
    let ready = process.ready_line(READY_TIMEOUT)?;
    Ok(Server {
        kind,
        address: address(&ready, "listening")?,
        pids: vec![process.pid()],
        process,
        log: Log::Journal {
            dir: dir.join("data/journal"),
            admin: format!("http://{}", address(&ready, "admin")?),
        },
    })
}
