//! A common alternative: nginx with a table of links, geoip2, and a buffered JSON log. The log has the facts of our
//! events that nginx knows, named like our tables' columns.

use super::{BenchSetup, Kind, Log, Server, wait_for_port};
use crate::bench::machine;
use crate::process::Process;
use crate::stack::free_port;
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const INSTALL: &str = "on Debian or Ubuntu: apt-get install nginx libnginx-mod-http-geoip2";
/// The log is flushed every second.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn missing_requirement() -> Option<String> {
    if Command::new("nginx").arg("-v").output().is_err() {
        return Some(format!("nginx is not installed; {INSTALL}"));
    }
    module()
        .is_none()
        .then(|| format!("nginx has no geoip2 module; {INSTALL}"))
}

fn module() -> Option<PathBuf> {
    let output = Command::new("nginx").arg("-V").output().ok()?;
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    let dir = output
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="))
        .unwrap_or("/usr/lib/nginx/modules");
    let file = Path::new(dir).join("ngx_http_geoip2_module.so");
    file.is_file().then_some(file)
}

pub(super) fn start(dir: &Path, setup: &BenchSetup) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let (file, log) = (dir.join("nginx.conf"), dir.join("access.json"));
    fs::write(dir.join("links.map"), link_map(setup))?;
    fs::write(&file, configuration(dir, address, &log, setup)?)
        .with_context(|| format!("failed to write {}", file.display()))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file);
    let process = setup
        .cores
        .on_server(|| Process::start("nginx", &mut command, &dir.join("log")))?;
    wait_for_port(address)?;
    let mut pids = vec![process.pid()];
    pids.extend(machine::children(process.pid())?);
    Ok(Server {
        kind: Kind::Nginx,
        address,
        pids,
        process,
        log: Log::Lines(log),
    })
}

fn link_map(setup: &BenchSetup) -> String {
    let mut text = String::new();
    for (slug, offer) in &setup.slugs {
        writeln!(text, "/c/{slug} {offer};").expect("writing to a String can't fail");
    }
    text
}

fn configuration(
    dir: &Path,
    address: SocketAddr,
    log: &Path,
    setup: &BenchSetup,
) -> anyhow::Result<String> {
    let module = module().context("nginx has no geoip2 module")?;
    let temp_dirs = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.display()))
        .join("\n  ");
    // A table of a million links needs enough buckets.
    let buckets = (setup.slugs.len() * 4).next_power_of_two().max(2_048);
    Ok(format!(
        r#"load_module {module};
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 8192; }}
http {{
  {temp_dirs}
  keepalive_requests 1000000000;
  set_real_ip_from 127.0.0.0/8;
  real_ip_header X-Forwarded-For;
  geoip2 {geo} {{ $country source=$remote_addr country_code; }}
  map_hash_max_size {buckets};
  map_hash_bucket_size 256;
  map $uri $offer {{ include {dir}/links.map; }}
  log_format click escape=json '{{"time":"$msec","id":"$request_id","link":"$uri","offer":"$offer",'
    '"ip":"::ffff:$remote_addr","country":"$country","status":$status,'
    '"user_agent":"$http_user_agent","language":"$http_accept_language","host":"$host",'
    '"referrer":"$http_referer","source":"$arg_source","sub1":"$arg_sub1","sub2":"$arg_sub2"}}';
  access_log {log} click buffer=64k flush=1s;
  server {{
    listen {address} backlog=4096;
    location /c/ {{
      if ($offer = "") {{ return 404; }}
      add_header Cache-Control "no-store" always;
      return 302 "https://$offer.example/welcome?cid=$request_id&s=$arg_sub1";
    }}
  }}
}}
"#,
        module = module.display(),
        dir = dir.display(),
        geo = setup.geo.display(),
        log = log.display(),
    ))
}

/// Waits until the log has `lines` lines.
pub(super) fn wait_for_lines(log: &Path, lines: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(log)?);
    let (mut found, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let length = reader.read(&mut buffer)?;
        found += buffer[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count() as u64;
        if length == 0 {
            if found == lines {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("nginx answered {lines} requests but logged {found}")
}
