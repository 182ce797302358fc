//! Functions at this node: their variables and key-value stores, and their reload while the node runs. `api` accepts
//! their reports, `listener` those of functions under Spin. The crate `function-host` runs them.

pub mod advertisers;
pub(crate) mod api;
mod durable_lane;
mod failures;
mod listener;
mod prompt_ack;
pub(crate) mod rejections;
pub mod token;
pub(crate) mod variables;

pub use advertisers::AdvertisersError;
pub use api::Api;
pub use durable_lane::DurableLane;
pub use listener::Listener;
pub use rejections::RejectionLane;
pub use variables::VariablesError;

use crate::links::Table;
use crate::secrets::Secrets;
use crate::settings::FunctionsSettings;
use bytes::Bytes;
use daemon::files::WatchedFiles;
use domain::LinkId;
use failures::FailureLimit;
use function_host::{Body, Host, KeyValues, Limits, LoadError, Manifest, MatchedFunction};
use http::{Request, Response};
use parking_lot::Mutex;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The key-value store of advertisers.
pub(crate) const ADVERTISERS_STORE: &str = "advertisers";
/// The key-value store of each link's offer, by the link's number.
pub(crate) const LINKS_STORE: &str = "links";

/// The functions of this node.
#[derive(Debug)]
pub struct Functions {
    host: Host,
    settings: FunctionsSettings,
    failures: FailureLimit,
    token: String,
    watched: Mutex<FunctionFiles>,
}

/// The parts of a node that functions use.
#[derive(Debug)]
pub struct NodeContext<'a> {
    /// The directory of the cache of compiled functions.
    pub data_dir: &'a Path,
    /// The click id keys.
    pub secrets: &'a Secrets,
    /// The links whose offers functions look up.
    pub links: &'a Table,
    /// The API that receives their reports.
    pub api: &'a Api,
}

/// The files of functions that are reloaded.
#[derive(Debug)]
struct FunctionFiles {
    /// Manifest, components and variables.
    functions: WatchedFiles,
    advertisers: WatchedFiles,
}

/// Functions that can't be used.
#[derive(Debug, Error)]
pub enum FunctionsError {
    /// The manifest or a component can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file of advertisers.
    #[error(transparent)]
    Advertisers(#[from] AdvertisersError),
    /// The file of variables.
    #[error(transparent)]
    Variables(#[from] VariablesError),
}

impl Functions {
    /// Loads the functions that `settings` names.
    ///
    /// # Errors
    /// When a named file can't be used.
    pub fn load(
        settings: &FunctionsSettings,
        node: NodeContext<'_>,
        registry: &Registry,
    ) -> Result<Self, FunctionsError> {
        let NodeContext {
            data_dir,
            secrets,
            links,
            api,
        } = node;
        let token = variables::token();
        let failures = FailureLimit::new(settings.failures_per_minute.get() as u32);
        let api = api.of_process(token.clone(), failures.clone());
        let limits = &settings.limits;
        // Before the files are loaded: a change in between is then detected at the next check.
        let watched = FunctionFiles {
            functions: WatchedFiles::new(function_files(settings, read_sources(settings)?)),
            advertisers: WatchedFiles::new(&settings.advertisers),
        };
        let host = Host::load(
            function_host::Settings {
                manifest: settings.manifest.clone(),
                variables: read_variables(settings)?,
                provided: variables::provided(token.clone(), secrets),
                cache_dir: data_dir.join("compiled-functions"),
                threads: settings.threads.get(),
                limits: Limits {
                    memory_bytes: bytes(limits.memory.get().0),
                    cpu: limits.cpu.get().0,
                    wall: limits.wall.get().0,
                    request_bytes: bytes(limits.request.get().0),
                    response_bytes: bytes(limits.response.get().0),
                    concurrency: limits.concurrency.get(),
                },
                reuse: settings.reuse.iter().cloned().collect(),
            },
            Arc::new(api),
            registry,
        )?;
        let functions = Self {
            host,
            settings: settings.clone(),
            failures,
            token,
            watched: Mutex::new(watched),
        };
        functions.load_advertisers()?;
        functions.use_links(links.clone());
        Ok(functions)
    }

    /// The function that `path` is routed to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<MatchedFunction> {
        self.host.find(path)
    }

    /// Provides the offers of these links to functions from now on.
    pub fn use_links(&self, links: Table) {
        self.host.fill_store(LINKS_STORE, LinkOffers(links));
    }

    /// Whether a function may be called for `client`: whether its network is below the limit of failed authentications.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        self.failures.admits(client)
    }

    /// Calls `function`.
    pub fn call<B>(
        &self,
        function: MatchedFunction,
        client: IpAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.host.call(function, client, request)
    }

    /// Reloads changed files: functions with their variables, and advertisers, each completely or not at all. Returns
    /// the outcome of each changed file.
    pub fn reload(&self) -> Vec<(&'static str, Result<(), FunctionsError>)> {
        let mut watched = self.watched.lock();
        let mut outcomes = Vec::new();
        // With an invalid manifest, the files that were watched before still are.
        if let Ok(sources) = read_sources(&self.settings) {
            let files = function_files(&self.settings, sources);
            watched.functions.watch(files);
        }
        if watched.functions.changed() {
            outcomes.push(("functions", self.deploy()));
        }
        if watched.advertisers.changed() {
            outcomes.push(("advertisers", self.load_advertisers()));
        }
        outcomes
    }

    /// Provides the click id keys in `secrets` to functions; calls that start from now on have them.
    ///
    /// # Errors
    /// When the functions can't be deployed with them; the active ones stay unchanged.
    pub fn offer_keys(&self, secrets: &Secrets) -> Result<(), FunctionsError> {
        let provided = variables::provided(self.token.clone(), secrets);
        Ok(self.host.deploy_providing(provided)?)
    }

    fn deploy(&self) -> Result<(), FunctionsError> {
        Ok(self.host.deploy_with(read_variables(&self.settings)?)?)
    }

    fn load_advertisers(&self) -> Result<(), FunctionsError> {
        if let Some(file) = &self.settings.advertisers {
            self.host
                .fill_store(ADVERTISERS_STORE, advertisers::read(file)?);
        }
        Ok(())
    }
}

/// The offer of each link, by its number, as a store of functions.
struct LinkOffers(Table);

impl KeyValues for LinkOffers {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let link = self.0.get(LinkId(key.parse().ok()?))?;
        Some(link.offer.as_bytes().to_vec())
    }

    fn keys(&self) -> Vec<String> {
        self.0.iter().map(|link| link.id.to_string()).collect()
    }
}

/// The offer of each link, by its number.
pub(crate) fn offers(links: &Table) -> BTreeMap<String, Vec<u8>> {
    let offers = links.iter().map(|link| {
        let offer: &str = &link.offer;
        (link.id.to_string(), offer.as_bytes().to_vec())
    });
    offers.collect()
}

/// The manifest and its components.
fn read_sources(settings: &FunctionsSettings) -> Result<Vec<PathBuf>, FunctionsError> {
    let variables = read_variables(settings)?;
    let manifest = Manifest::read(&settings.manifest, &variables, &variables::placeholders())?;
    let mut sources = vec![settings.manifest.clone()];
    sources.extend(manifest.sources());
    Ok(sources)
}

/// The files that functions are loaded from: `sources` and the variables.
fn function_files(settings: &FunctionsSettings, sources: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = sources;
    files.extend(settings.variables.clone());
    files
}

/// The operator's values of variables.
///
/// # Errors
/// When the file can't be used.
pub fn read_variables(
    settings: &FunctionsSettings,
) -> Result<BTreeMap<String, String>, VariablesError> {
    let file = settings.variables.as_ref();
    file.map_or(Ok(BTreeMap::new()), |file| variables::read(file))
}

/// Reads manifest and components without running them; returns the number of components.
///
/// # Errors
/// When one can't be used.
pub fn check(
    settings: &FunctionsSettings,
    variables: &BTreeMap<String, String>,
) -> Result<usize, LoadError> {
    let manifest = Manifest::read(&settings.manifest, variables, &variables::placeholders())?;
    manifest.check_sources()?;
    Ok(manifest.sources().len())
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
