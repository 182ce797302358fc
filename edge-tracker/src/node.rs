//! Assembles an edge node, starts it, and stops it in an order that loses no events.

mod configuration;
mod draining;
mod fleet;
mod maintenance;
mod readiness;
mod set_aside;

use crate::click_path::{ClickPath, EdgeState, Root};
use crate::data_dir::{EDGE_DIRECTORY, log_recovery};
use crate::functions::token;
use crate::functions::{Api, DurableLane, Functions, Listener, NodeContext, RejectionLane};
use crate::links::{self, ActiveLinks};
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::shipper::{Certificates, Quic, Shipper, ShippingProgress, Spool, drain_channel};
use crate::unique::{Filters, LinkUse};
use crate::visitor::address::ClientAddress;
use crate::visitor::agent::Agents;
use crate::visitor::geo::Geo;
use crate::visitor::identity::Identity;
use crate::visitor::salt::VisitorSalt;
use crate::{secrets, server};
use anyhow::Context;
use arc_swap::ArcSwap;
use configuration::Configuration;
use daemon::files::WatchedFiles;
use domain::{Micros, NodeId};
use draining::Draining;
use event_journal::{LaneReader, LaneWriter, OpenJournal, SyncThread};
use fleet::FleetWatch;
use maintenance::{ApiToken, MaintenanceTask, UnsyncedAge};
use readiness::Readiness;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracking_events::{Event, FORMAT_VERSION, Flags};
use trusted_clock::{StepTolerance, TrustedClock};

/// Bytes of the journal that are read at once during a replay into the filters.
const REPLAY_BYTES: usize = 4 << 20;

/// Runs a node until it is asked to stop.
///
/// # Errors
/// When it can't start; the message names the remedy.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let contradictions = settings.contradictions();
    if !contradictions.is_empty() {
        let lines: Vec<String> = contradictions.iter().map(ToString::to_string).collect();
        anyhow::bail!(lines.join("\n"));
    }
    daemon::private::restrict_directory(&settings.data_dir);
    EDGE_DIRECTORY.open(&settings.data_dir, Some(settings.node.get()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(settings))
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    daemon::signals::ignore_hangups()?;
    let metrics = Metrics::new();
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    daemon::process_metrics::register(&metrics.registry(), name, version)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let AssembledNode {
        shared,
        links_watch,
        configuration,
        secrets_watch,
        salt,
        reports,
        internal_api,
        journal,
        covers,
    } = assemble(settings, &metrics)?;
    let OpenJournal {
        writers,
        readers,
        ids,
        sync_thread,
        ..
    } = journal;
    let progress = progress(&readers, &covers);
    let node = NodeId(settings.node.get());
    let tls_dir = settings.tls_dir();
    let development = settings.tls.development;
    let certificates = Certificates::open(&tls_dir, node, development, metrics.clone())?;
    let credentials = certificates.credentials();
    let clock = shared.clock.clone();
    let (fleet, states) = watch::channel(None);
    let (drain_control, drain) = drain_channel();
    let dial = Quic::new(settings.aggregator.address.clone(), credentials)?;
    let connection = dial.connection();
    let shipper = Shipper {
        node,
        dial,
        spool: Spool::new(
            ids,
            readers,
            progress.clone(),
            &settings.aggregator,
            metrics.clone(),
        )?,
        metrics: metrics.clone(),
        fleet,
        drain,
    };
    let mut draining = Draining::listen(&settings.data_dir, drain_control);

    let limits = limits(settings);
    let (listeners, listening) =
        server::bind(settings.http.listen, settings.worker_count(), limits)
            .with_context(|| format!("can't listen on {} (http.listen)", settings.http.listen))?;
    let readiness = Readiness {
        stopping: stopping.clone(),
        draining: draining.flag(),
        clock: clock.clone(),
        journal: sync_thread.stats(),
        configuration: configuration.as_ref().map(Configuration::status),
    };
    let admin = serve_admin(settings, &metrics, readiness).await?;
    let retention = set_aside::retention(settings, &metrics)?;
    let (stop_workers, workers_stop) = watch::channel(false);
    let (stop_background, background_stop) = watch::channel(false);
    let mut workers = start_workers(&shared, &metrics, listeners, writers, limits, &workers_stop)?;
    let (api_token, api_address) = match internal_api {
        Some(RemoteApi { token, listener }) => {
            let address = listener.local_addr()?;
            let stop = workers_stop.clone();
            let thread = std::thread::Builder::new().name("internal-api".into());
            workers.push(thread.spawn(move || listener.run(stop))?);
            (Some(token), Some(address))
        }
        None => (None, None),
    };
    let configuration = match configuration {
        Some(configuration) => {
            Some(configuration.start(&shared, connection, background_stop.clone())?)
        }
        None => None,
    };
    let fleet_watch = FleetWatch {
        clock,
        salt,
        metrics: metrics.clone(),
        states,
    };
    let maintenance = MaintenanceTask {
        shared,
        metrics,
        progress,
        journal: sync_thread.stats(),
        links: settings.links.clone(),
        links_watch,
        secrets_file: settings.secrets_file(),
        secrets_watch,
        api_token,
        filters_dir: filters_dir(settings),
        unsynced: UnsyncedAge::default(),
    };
    let fleet_watch = tokio::task::spawn_local(fleet_watch.run(background_stop.clone()));
    let maintenance = tokio::task::spawn_local(maintenance.run(background_stop.clone()));
    tokio::task::spawn_local(retention.run());
    let certificates = tokio::task::spawn_local(certificates.run(background_stop.clone()));
    let shipper = tokio::task::spawn_local(shipper.run(background_stop));
    println!("{}", ready_line(listening, admin, api_address));
    let workers_count = settings.worker_count();
    tracing::info!(%listening, %admin, workers = workers_count, "ready");
    daemon::notify::ready();

    let mut signal = pin!(daemon::signals::shutdown_signal());
    let is_drain = draining.accept_until(signal.as_mut()).await?;
    if !is_drain {
        tracing::info!("stopping");
        daemon::notify::stopping();
        stopping.store(true, Ordering::Relaxed);
    }
    stop_workers.send_replace(true);
    tokio::task::spawn_blocking(move || join(workers)).await??;
    // Calls of functions may outlive their connections.
    reports.iter().for_each(Api::close);
    if is_drain {
        draining.ship_until(signal).await?;
        tracing::info!("stopping");
        daemon::notify::stopping();
        stopping.store(true, Ordering::Relaxed);
    }
    // No events are accepted any more: ship the remaining ones, save the filters, then close the journal.
    stop_background.send_replace(true);
    shipper.await?;
    maintenance.await?;
    certificates.await?;
    fleet_watch.await?;
    tokio::task::spawn_blocking(move || join_configuration(configuration)).await??;
    close(sync_thread)
}

fn join_configuration(thread: Option<JoinHandle<()>>) -> anyhow::Result<()> {
    let joined = thread.map_or(Ok(()), JoinHandle::join);
    joined.map_err(|_| anyhow::anyhow!("the configuration's thread panicked"))
}

fn close(sync_thread: SyncThread) -> anyhow::Result<()> {
    sync_thread
        .stop()
        .context("failed to sync the journal at shutdown")
}

fn ready_line(
    listening: SocketAddr,
    admin: SocketAddr,
    internal_api: Option<SocketAddr>,
) -> String {
    let internal_api = internal_api.map(|address| format!(r#","internal_api":"{address}""#));
    let internal_api = internal_api.unwrap_or_default();
    format!(r#"{{"listening":"{listening}","admin":"{admin}"{internal_api}}}"#)
}

/// The limits of connections, with no more of them than the limit of open files allows.
fn limits(settings: &Settings) -> server::Limits {
    let mut limits = server::Limits::from(&settings.http);
    limits.connections = server::rlimit::connections(limits.connections, settings.worker_count());
    limits
}

/// The parts of a node that exist before it serves.
struct AssembledNode {
    shared: Arc<EdgeState>,
    links_watch: WatchedFiles,
    /// The configuration from the control plane, if links come from there.
    configuration: Option<Configuration>,
    secrets_watch: WatchedFiles,
    salt: Arc<VisitorSalt>,
    /// Where functions report.
    reports: Option<Api>,
    internal_api: Option<RemoteApi>,
    journal: OpenJournal,
    /// Per lane, the last sequence that the filters contain.
    covers: Vec<(u8, u64)>,
}

/// The internal API for functions of other hosts.
struct RemoteApi {
    token: ApiToken,
    listener: Listener,
}

fn filters_dir(settings: &Settings) -> PathBuf {
    settings.data_dir.join("filters")
}

fn assemble(settings: &Settings, metrics: &Metrics) -> anyhow::Result<AssembledNode> {
    let secrets_file = settings.secrets_file();
    secrets::create_absent(&secrets_file)?;
    let secrets_watch = WatchedFiles::new([&secrets_file]);
    let secrets = secrets::load(&secrets_file)?;
    let links_watch = WatchedFiles::new(&settings.links.file);
    let links = Arc::new(match &settings.links.file {
        Some(file) => ActiveLinks::new(links::load(file)?),
        None => ActiveLinks::default(),
    });
    let configuration = Configuration::open(settings, &links, metrics)?;
    let (clock, salt) = open_clock_and_salt(settings)?;
    let mut journal = open_journal(settings)?;
    let now = clock.read().estimate;
    let (filters, covers) = open_filters(settings, now, &mut journal.readers)?;
    let writers = &mut journal.writers;
    let api = api(settings, clock.clone(), writers, metrics)?;
    let table = links.load();
    let functions = functions(settings, &secrets, &table, api.as_ref(), metrics)?;
    drop(table);
    let reports = api.clone();
    let internal_api = remote_api(settings, api, metrics)?;
    if settings.http.max_parameters.is_some() {
        tracing::warn!(
            "http.max_parameters has no effect: only http.max_url_bytes limits parameters"
        );
    }
    let visitor = &settings.visitor;
    let shared = EdgeState {
        node: NodeId(settings.node.get()),
        links,
        geo: Geo::open(&settings.geo),
        agents: Agents::open(visitor),
        identity: Identity::new(salt.keys()),
        filters,
        keys: Arc::new(ArcSwap::from_pointee(secrets.click_ids)),
        clock,
        client_address: ClientAddress::new(
            settings.http.trusted_proxies.clone(),
            settings.http.forwarded_header,
        ),
        address_storage: visitor.address_storage,
        hosts: settings
            .http
            .hosts
            .iter()
            .map(|host| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
            .collect(),
        max_parameter_bytes: bytes(settings.http.max_parameter_bytes.get().0),
        max_url_bytes: bytes(settings.http.max_url_bytes.get().0),
        root: Root::read(&settings.http)?,
        functions,
    };
    Ok(AssembledNode {
        shared: Arc::new(shared),
        links_watch,
        configuration,
        secrets_watch,
        salt,
        reports,
        internal_api,
        journal,
        covers,
    })
}

/// The salt file also provides the start of the time estimate while the clock is wrong.
fn open_clock_and_salt(
    settings: &Settings,
) -> anyhow::Result<(Arc<TrustedClock>, Arc<VisitorSalt>)> {
    let file = settings.visitor_salt_file();
    let tolerance = StepTolerance::from(&settings.clock);
    let clock = TrustedClock::new(tolerance, VisitorSalt::last_known_time(&file));
    let now = clock.read();
    let period = settings.visitor.period.get().0;
    let salt = VisitorSalt::open(&file, period, now.trusted(), now.estimate)?;
    Ok((Arc::new(clock), Arc::new(salt)))
}

/// The API for reports of functions, if there are any. Reports go to two lanes after those of the workers, the last
/// one for rejections.
fn api(
    settings: &Settings,
    clock: Arc<TrustedClock>,
    writers: &mut Vec<LaneWriter>,
    metrics: &Metrics,
) -> anyhow::Result<Option<Api>> {
    if !settings.takes_reports() {
        return Ok(None);
    }
    let mut lane = || writers.pop().context("no lane for functions was opened");
    let (rejections, reports) = (lane()?, lane()?);
    let quota = settings.rejections_max_bytes();
    let rejections = RejectionLane::new(rejections, quota, metrics.rejections.clone());
    let lane = DurableLane::new(reports, rejections);
    let addresses = settings.visitor.address_storage;
    Ok(Some(Api::new(addresses, clock, lane, metrics)))
}

fn functions(
    settings: &Settings,
    secrets: &Secrets,
    links: &links::Table,
    api: Option<&Api>,
    metrics: &Metrics,
) -> anyhow::Result<Option<Functions>> {
    let (Some(functions), Some(api)) = (&settings.functions, api) else {
        return Ok(None);
    };
    let node = NodeContext {
        data_dir: &settings.data_dir,
        secrets,
        links,
        api,
    };
    let loaded = Functions::load(functions, node, &metrics.registry());
    Ok(Some(loaded?))
}

/// The internal API for functions of other hosts, with its address bound.
fn remote_api(
    settings: &Settings,
    api: Option<Api>,
    metrics: &Metrics,
) -> anyhow::Result<Option<RemoteApi>> {
    let (Some(internal_api), Some(api)) = (&settings.internal_api, api) else {
        return Ok(None);
    };
    let file = settings.token_file(internal_api);
    token::create_absent(&file)?;
    let watch = WatchedFiles::new([&file]);
    api.use_tokens(&token::load(&file)?);
    let token = ApiToken {
        api: api.clone(),
        file,
        watch,
    };
    let open = metrics.internal_api_connections.clone();
    let max_connections = internal_api.max_connections.get();
    metrics
        .internal_api_max_connections
        .set(i64::try_from(max_connections).unwrap_or(i64::MAX));
    let stop_timeout = settings.http.stop_timeout.0;
    let listener = Listener::bind(internal_api, api, open, stop_timeout);
    let listener = listener.with_context(|| {
        format!(
            "can't listen on {} (internal_api.listen)",
            internal_api.listen
        )
    })?;
    Ok(Some(RemoteApi { token, listener }))
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn open_journal(settings: &Settings) -> anyhow::Result<OpenJournal> {
    let journal = &settings.journal;
    let options = event_journal::Options {
        dir: settings.data_dir.join("journal"),
        lanes: settings.worker_count() + 2 * u8::from(settings.takes_reports()),
        format_version: FORMAT_VERSION,
        segment_bytes: u32::try_from(journal.segment_bytes.get().0).unwrap_or(u32::MAX),
        max_bytes: journal.max_bytes.0,
        sync_interval: journal.sync_interval.get().0,
    };
    let opened = event_journal::open(&options)?;
    log_recovery(&opened.recovery);
    Ok(opened)
}

/// Loads the saved filters and replays events accepted after they were saved, so that a crash makes no visitor
/// unique again.
fn open_filters(
    settings: &Settings,
    now: Micros,
    readers: &mut [LaneReader],
) -> anyhow::Result<(Filters, Vec<(u8, u64)>)> {
    let (filters, snapshot) = Filters::load(&settings.unique, &filters_dir(settings), now)?;
    let covers = snapshot.covers;
    let mut frames = Vec::new();
    let mut replayed = 0_u64;
    for reader in readers {
        let lane = reader.lane();
        let covered = covers
            .iter()
            .find(|(known, _)| *known == lane)
            .map_or(0, |(_, seq)| *seq);
        reader.seek(covered);
        while let Some(run) = reader.read(REPLAY_BYTES, &mut frames)? {
            for frame in event_journal::frames(&frames).flatten() {
                replayed += u64::from(replay(&filters, now, run.format_version, frame.payload));
            }
            frames.clear();
        }
    }
    tracing::info!(events = replayed, "filters are up to date with the journal");
    Ok((filters, covers))
}

/// Ignores events that can't be decoded: the aggregator reports those.
fn replay(filters: &Filters, now: Micros, version: u16, payload: &[u8]) -> bool {
    let (used, visit) = match tracking_events::decode(version, payload) {
        Ok(Event::Click(visit)) => (LinkUse::Click(visit.link.id), visit),
        Ok(Event::Impression(visit)) => (LinkUse::Impression(visit.link.id), visit),
        Ok(_) | Err(_) => return false,
    };
    // A visit of unknown uniqueness was not set, or hardly changes filters that are too full.
    let is_set = visit.counted() && !visit.flags.any(Flags::UNIQUENESS_UNKNOWN);
    if is_set {
        let is_known = !visit.flags.any(Flags::TIME_UNKNOWN);
        let time = if is_known { visit.time } else { now };
        filters.replay(time, used, visit.visitor);
    }
    is_set
}

fn progress(readers: &[LaneReader], covers: &[(u8, u64)]) -> Arc<ShippingProgress> {
    let covered = |reader: &LaneReader| {
        let lane = reader.lane();
        (
            lane,
            covers
                .iter()
                .find(|(known, _)| *known == lane)
                .map_or(0, |(_, seq)| *seq),
        )
    };
    Arc::new(ShippingProgress::new(readers.iter().map(covered)))
}

async fn serve_admin(
    settings: &Settings,
    metrics: &Metrics,
    readiness: Readiness,
) -> anyhow::Result<SocketAddr> {
    let address = settings.http.admin_listen;
    daemon::admin::serve(
        address,
        metrics.registry(),
        move || readiness.check(),
        |_| None,
    )
    .await
    .with_context(|| format!("can't listen on {address} (http.admin_listen)"))
}

type Worker = JoinHandle<std::io::Result<()>>;

fn start_workers(
    shared: &Arc<EdgeState>,
    metrics: &Metrics,
    listeners: Vec<TcpListener>,
    writers: Vec<LaneWriter>,
    limits: server::Limits,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for (listener, lane) in listeners.into_iter().zip(writers) {
        let number = lane.lane();
        let (shared, stop, metrics) = (shared.clone(), stop.clone(), metrics.worker(number));
        let worker = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                server::run(
                    listener,
                    ClickPath::new(shared, metrics, lane),
                    limits,
                    stop,
                )
            })?;
        workers.push(worker);
    }
    Ok(workers)
}

fn join(workers: Vec<Worker>) -> anyhow::Result<()> {
    for worker in workers {
        worker
            .join()
            .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    Ok(())
}
