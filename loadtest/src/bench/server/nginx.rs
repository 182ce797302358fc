//! What people use today: nginx with a table of links, geoip2, and a buffered JSON log of the same
//! facts that our events hold as far as nginx knows them, named as our tables' columns.

use super::{Kind, Log, Server, Setting, wait_for_port};
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
/// The log is flushed each second.
const FLUSHED_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn lacks() -> Option<String> {
    if Command::new("nginx").arg("-v").output().is_err() {
        return Some(format!("nginx is not installed; {INSTALL}"));
    }
    module()
        .is_none()
        .then(|| format!("nginx has no geoip2 module; {INSTALL}"))
}

fn module() -> Option<PathBuf> {
    let told = Command::new("nginx").arg("-V").output().ok()?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let folder = told
        .split_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="))
        .unwrap_or("/usr/lib/nginx/modules");
    let file = Path::new(folder).join("ngx_http_geoip2_module.so");
    file.is_file().then_some(file)
}

pub(super) fn start(dir: &Path, setting: &Setting) -> anyhow::Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let (file, log) = (dir.join("nginx.conf"), dir.join("access.json"));
    fs::write(dir.join("links.map"), link_map(setting))?;
    fs::write(&file, configuration(dir, address, &log, setting)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file);
    let process = setting
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

fn link_map(setting: &Setting) -> String {
    let mut text = String::new();
    for (slug, offer) in &setting.slugs {
        writeln!(text, "/c/{slug} {offer};").expect("writing to a String can't fail");
    }
    text
}

fn configuration(
    dir: &Path,
    address: SocketAddr,
    log: &Path,
    setting: &Setting,
) -> anyhow::Result<String> {
    let module = module().context("nginx has no geoip2 module")?;
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.display()))
        .join("\n  ");
    // A table of a million links needs buckets for all of them.
    let buckets = (setting.slugs.len() * 4).next_power_of_two().max(2_048);
    Ok(format!(
        r#"load_module {module};
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 8192; }}
http {{
  {folders}
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
        geo = setting.geo.display(),
        log = log.display(),
    ))
}

/// Waits until the log has `lines` lines.
pub(super) fn wait_for_lines(log: &Path, lines: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + FLUSHED_WITHIN;
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
