//! The functions that there are: loaded, exchanged whole, and called by path.

use crate::answer::Answer;
use crate::call::{self, Instance, Stopped};
use crate::cpu::Budget;
use crate::engine::Engine;
use crate::guest::Guest;
use crate::manifest::{Component, Manifest};
use crate::metrics::{Counted, Metrics};
use crate::offered::{Entries, Stores};
use crate::outbound::{Allowed, Internal, Outbound};
use crate::request::Reader;
use crate::route::Pattern;
use crate::threads::{Manners, Starter, Threads};
use crate::{Body, Failure, LoadError};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// An instance that is used again is given up after so many calls.
const CALLS_OF_AN_INSTANCE: u32 = 1_000;
/// Instances that are tried when functions are deployed, and some to spare.
const TRIED: usize = 2;
/// For how long a function that is tried may take at least: nobody waits for it.
const TRIED_WITHIN: Duration = Duration::from_secs(10);

/// What functions there are and what they may use.
#[derive(Clone)]
pub struct Settings {
    /// `spin.toml`.
    pub manifest: PathBuf,
    /// Values of the application's variables, to begin with.
    pub variables: BTreeMap<String, String>,
    /// Values for those variables among these that the application declares.
    pub offered: BTreeMap<String, String>,
    /// Where compiled code is kept.
    pub cache_dir: PathBuf,
    /// Threads that functions run on.
    pub threads: usize,
    /// What each call may use.
    pub limits: Limits,
    /// Functions whose instances are used again, for one call at a time: what a call leaves in memory
    /// the next one sees.
    pub reuse: BTreeSet<String>,
}

/// What a call may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of an instance, in bytes.
    pub memory_bytes: usize,
    /// Processor time.
    pub cpu: Duration,
    /// Time from the call to the end of the answer; a request's body may take as long before.
    pub wall: Duration,
    /// The longest body of a request.
    pub request_bytes: usize,
    /// The longest body of an answer.
    pub response_bytes: usize,
    /// Calls of all functions at once.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 32 << 20,
            cpu: Duration::from_millis(100),
            wall: Duration::from_secs(5),
            request_bytes: 128 << 10,
            response_bytes: 1 << 20,
            concurrency: 128,
        }
    }
}

/// Runs functions. Its threads end when it is dropped.
pub struct Host {
    settings: Settings,
    shared: Arc<Shared>,
    /// Values of the application's variables at the last deployment.
    variables: Mutex<BTreeMap<String, String>>,
    offered: Mutex<BTreeMap<String, String>>,
    loaded: ArcSwap<Loaded>,
    before: Mutex<Option<Arc<Loaded>>>,
    internal: Arc<dyn Internal>,
    /// None only while it is dropped.
    threads: Option<Threads>,
}

struct Shared {
    engine: Engine,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    /// For instances that wait to be used again: the pool must have some for calls and deployments.
    places: Arc<Semaphore>,
    reader: Reader,
    stores: Mutex<Stores>,
}

/// One state of all functions.
struct Loaded {
    routes: Vec<Route>,
}

/// A path, and the function that it leads to.
struct Route {
    pattern: Pattern,
    /// As the function is told of it.
    told: HeaderValue,
    function: Arc<Function>,
}

/// One component, ready to be called.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) pre: ServicePre<Guest>,
    shared: Arc<Shared>,
    counted: Counted,
    allowed: Arc<[Allowed]>,
    internal: Arc<dyn Internal>,
    variables: Arc<BTreeMap<String, String>>,
    stores: Arc<Stores>,
    reuse: bool,
    manners: Arc<Manners>,
    /// None while it is not among those that are loaded.
    idle: Mutex<Option<Vec<Idle>>>,
}

/// An instance that waits to be used again.
struct Idle {
    instance: Instance,
    _place: OwnedSemaphorePermit,
}

/// A function that a path leads to.
#[derive(Clone)]
pub struct Matched {
    function: Arc<Function>,
    route: HeaderValue,
    rest: HeaderValue,
}

/// Without variables: secrets are among them.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("manifest", &self.manifest)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("manifest", &self.settings.manifest)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Matched").field(&self.function.name).finish()
    }
}

impl Host {
    /// Compiles what the manifest names (or finds it compiled), starts each once, and is then ready.
    ///
    /// # Errors
    /// When the manifest or a component can't be used.
    pub fn load(
        settings: Settings,
        internal: Arc<dyn Internal>,
        registry: &Registry,
    ) -> Result<Self, LoadError> {
        let engine = |cause: &dyn fmt::Display| LoadError::Engine(cause.to_string());
        let limits = &settings.limits;
        // One for each call, and as many that wait to be used again or are being tried.
        let instances = limits.concurrency.saturating_mul(2).max(8);
        let places = instances - limits.concurrency - TRIED;
        let shared = Arc::new(Shared {
            engine: Engine::new(
                &settings.cache_dir,
                u32::try_from(instances).unwrap_or(u32::MAX),
                limits.memory_bytes,
                internal.clone(),
            )?,
            metrics: Metrics::new(registry).map_err(|error| engine(&error))?,
            permits: Arc::new(Semaphore::new(limits.concurrency)),
            places: Arc::new(Semaphore::new(places)),
            reader: Reader::new(limits),
            stores: Mutex::default(),
        });
        let threads = Threads::start(settings.threads.max(1), &internal);
        let threads = threads.map_err(|error| engine(&error))?;
        let host = Self {
            variables: Mutex::new(settings.variables.clone()),
            offered: Mutex::new(settings.offered.clone()),
            settings,
            shared,
            loaded: ArcSwap::from_pointee(Loaded { routes: Vec::new() }),
            before: Mutex::default(),
            internal,
            threads: Some(threads),
        };
        host.deploy()?;
        Ok(host)
    }

    /// Reads manifest and components anew, with these values of variables. Calls that are being answered end as they began; when
    /// anything is wrong nothing changes.
    ///
    /// # Errors
    /// As [`Host::load`].
    pub fn deploy_with(&self, variables: BTreeMap<String, String>) -> Result<(), LoadError> {
        *lock(&self.variables) = variables;
        self.deploy()
    }

    /// As [`Host::deploy_with`], with other values offered in the place of [`Settings::offered`].
    ///
    /// # Errors
    /// As [`Host::load`]; what was offered before stays.
    pub fn deploy_offering(&self, offered: BTreeMap<String, String>) -> Result<(), LoadError> {
        let before = std::mem::replace(&mut *lock(&self.offered), offered);
        self.deploy().inspect_err(|_| *lock(&self.offered) = before)
    }

    /// As [`Host::deploy_with`], with the values of variables that were given last.
    ///
    /// # Errors
    /// As [`Host::load`].
    pub fn deploy(&self) -> Result<(), LoadError> {
        let manifest = self.manifest()?;
        let mut functions = BTreeMap::new();
        for (name, component) in &manifest.components {
            let function = self.function(name, component)?;
            functions.insert(name.clone(), Arc::new(function));
        }
        let routes = manifest.routes.into_iter().map(|(pattern, name)| {
            let told = HeaderValue::from_str(pattern.as_str());
            let function = functions[&name].clone();
            Ok(Route {
                told: told.map_err(|error| LoadError::Component {
                    name,
                    message: format!("its route can't be told to it: {error}"),
                })?,
                pattern,
                function,
            })
        });
        let loaded = Arc::new(Loaded {
            routes: routes.collect::<Result<_, LoadError>>()?,
        });
        let before = self.exchange(loaded);
        *lock(&self.before) = Some(before);
        Ok(())
    }

    /// Calls those that are loaded now instead of those before.
    fn exchange(&self, loaded: Arc<Loaded>) -> Arc<Loaded> {
        for function in loaded.functions() {
            *lock(&function.idle) = Some(Vec::new());
        }
        let before = self.loaded.swap(loaded);
        for function in before.functions() {
            *lock(&function.idle) = None;
        }
        before
    }

    /// Goes back to the functions there were before the last deployment; false when there were none.
    pub fn roll_back(&self) -> bool {
        let Some(before) = lock(&self.before).take() else {
            return false;
        };
        let after = self.exchange(before);
        *lock(&self.before) = Some(after);
        true
    }

    fn manifest(&self) -> Result<Manifest, LoadError> {
        let settings = &self.settings;
        let variables = lock(&self.variables).clone();
        let offered = lock(&self.offered).clone();
        Manifest::read(&settings.manifest, &variables, &offered)
    }

    /// The files that the functions were made of, the manifest first.
    #[must_use]
    pub fn sources(&self) -> Vec<PathBuf> {
        let manifest = self.manifest();
        let mut sources = vec![self.settings.manifest.clone()];
        sources.extend(manifest.map(|it| it.sources()).unwrap_or_default());
        sources
    }

    /// Fills a key-value store; calls that begin from now on see it so.
    pub fn fill_store(&self, label: &str, entries: BTreeMap<String, Vec<u8>>) {
        let mut stores = lock(&self.shared.stores);
        store(&mut stores, label).store(Arc::new(entries));
    }

    /// The function that `path` leads to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Matched> {
        let loaded = self.loaded.load();
        let mut matching = loaded.routes.iter();
        matching.find_map(|route| {
            let rest = route.pattern.rest(path)?;
            Some(Matched {
                function: route.function.clone(),
                route: route.told.clone(),
                rest: HeaderValue::from_str(rest).ok()?,
            })
        })
    }

    /// Calls a function for `client`, in a tokio runtime with time. The answer is the function's own or a
    /// [`Failure`]'s.
    pub fn call<B>(
        &self,
        matched: Matched,
        client: IpAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let starter = self.threads.as_ref().map(Threads::starter);
        let request = prepare(&matched, client, request);
        let function = matched.function;
        async move {
            let called = match starter {
                Some(starter) => answered(&starter, &function, request).await,
                None => Err(Failure::Busy),
            };
            called.unwrap_or_else(Failure::response)
        }
    }

    fn function(&self, name: &str, component: &Component) -> Result<Function, LoadError> {
        let wasm = std::fs::read(&component.source).map_err(|cause| LoadError::Io {
            path: component.source.clone(),
            cause,
        })?;
        let failed = |error: wasmtime::Error| LoadError::Component {
            name: name.into(),
            message: format!("{error:#}"),
        };
        let mut all = lock(&self.shared.stores);
        let labels = component.stores.iter();
        let stores = labels.map(|label| (label.clone(), store(&mut all, label).clone()));
        let limits = &self.settings.limits;
        let mut function = Function {
            name: name.into(),
            limits: Limits {
                wall: limits.wall.max(TRIED_WITHIN),
                ..limits.clone()
            },
            pre: self.shared.engine.prepare(&wasm).map_err(failed)?,
            shared: self.shared.clone(),
            counted: self.shared.metrics.of(name),
            // Nobody asked yet, so that nothing is to be reported.
            allowed: Arc::default(),
            internal: self.internal.clone(),
            variables: Arc::new(component.variables.clone()),
            stores: Arc::new(stores.collect()),
            reuse: self.settings.reuse.contains(name),
            idle: Mutex::default(),
            manners: Manners::new(),
        };
        drop(all);
        self.try_out(&function).map_err(failed)?;
        function.limits = limits.clone();
        function.allowed = component.allowed.clone().into();
        Ok(function)
    }

    /// Calls it once: what can't be called must not take calls.
    fn try_out(&self, function: &Function) -> wasmtime::Result<()> {
        let Some(threads) = &self.threads else {
            return Ok(());
        };
        std::thread::scope(|scope| {
            // Whoever deploys may be in an asynchronous context of its own.
            let tried = scope.spawn(|| {
                let _running = function.shared.engine.running();
                threads.block_on(call::try_out(function))
            });
            match tried.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(cause)) => Err(wasmtime::format_err!("a call to try it failed: {cause}")),
                Err(_) => Err(wasmtime::format_err!("it could not be tried")),
            }
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }
}

impl Loaded {
    fn functions(&self) -> impl Iterator<Item = &Function> {
        self.routes.iter().map(|route| route.function.as_ref())
    }
}

impl Function {
    /// An instance for one call.
    pub(crate) async fn instance(&self, budget: Arc<Budget>) -> Result<Instance, Stopped> {
        let idle = lock(&self.idle).as_mut().and_then(Vec::pop);
        if let Some(Idle { instance, .. }) = idle {
            return Ok(instance.again(budget));
        }
        self.counted.cold_starts.inc();
        Instance::start(self, budget).await
    }

    /// Whether an instance is used again after its call.
    pub(crate) const fn keeps(&self, instance: &Instance) -> bool {
        self.reuse && instance.calls() < CALLS_OF_AN_INSTANCE
    }

    /// Keeps an instance for the next call, if there is a place for it.
    pub(crate) fn give_back(&self, instance: Instance) {
        if let Ok(place) = self.shared.places.clone().try_acquire_owned()
            && let Some(idle) = &mut *lock(&self.idle)
        {
            idle.push(Idle {
                instance,
                _place: place,
            });
        }
    }

    pub(crate) fn guest(&self, budget: Arc<Budget>) -> Guest {
        let outbound = Outbound {
            allowed: self.allowed.clone(),
            internal: self.internal.clone(),
            asked: 0,
        };
        Guest::new(
            outbound,
            self.variables.clone(),
            self.stores.clone(),
            self.limits.memory_bytes,
            budget,
        )
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.shared.engine.engine()
    }
}

/// Adds what Spin tells a component of its call, and takes away what a client made up of it.
fn prepare<B>(matched: &Matched, client: IpAddr, mut request: Request<B>) -> Request<B> {
    let headers = request.headers_mut();
    let invented: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("spin-"))
        .cloned()
        .collect();
    for name in invented {
        headers.remove(name);
    }
    headers.insert("spin-matched-route", matched.route.clone());
    headers.insert("spin-component-route", matched.route.clone());
    headers.insert("spin-path-info", matched.rest.clone());
    headers.insert("spin-base-path", HeaderValue::from_static("/"));
    // Spin's own form has a port; whose it is nobody asks.
    let client = std::net::SocketAddr::new(client, 0).to_string();
    if let Ok(client) = HeaderValue::from_str(&client) {
        headers.insert("spin-client-addr", client);
    }
    request
}

async fn answered<B>(
    starter: &Starter,
    function: &Arc<Function>,
    request: Request<B>,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let metrics = &function.counted;
    metrics.calls.inc();
    let counted = |failure| {
        metrics.failed(failure);
        failure
    };
    let request = function.shared.reader.read(request).await;
    let request = request.map_err(counted)?;
    let permits = function.shared.permits.clone();
    let permit = permits.try_acquire_owned();
    let permit = permit.map_err(|_| counted(Failure::Busy))?;
    let begun = Instant::now();
    let (answer, head) = Answer::new();
    let called = function.clone();
    let budget = Budget::new(function.limits.cpu);
    let spent = budget.clone();
    let task = starter.run(function.manners.clone(), budget, async move {
        let _running = called.shared.engine.running();
        called.counted.running.inc();
        let done = call::run(&called, spent, request, answer).await;
        drop(permit);
        called.counted.running.dec();
        // Whoever asked may have gone, or have the head of an answer that broke off.
        done.inspect_err(|failure| called.counted.failed(*failure))
    });
    let response = match head.await {
        Ok(response) => Ok(response),
        Err(_) => match task.await {
            Ok(Ok(Err(failure))) => Err(failure),
            _ => Err(counted(Failure::NoAnswer)),
        },
    };
    let seconds = begun.elapsed().as_secs_f64();
    metrics.seconds.observe(seconds);
    response
}

fn store<'s>(stores: &'s mut Stores, label: &str) -> &'s Arc<ArcSwap<Entries>> {
    stores.entry(label.into()).or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
