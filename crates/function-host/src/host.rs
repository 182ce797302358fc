//! The public interface: loads functions, replaces them by deployments, and calls them by path.

use crate::call;
use crate::deployment::{Deployment, MatchedFunction};
use crate::dispatch::dispatch;
use crate::function::Function;
use crate::host_imports::KeyValues;
use crate::host_state::HostState;
use crate::manifest::{Component, Manifest};
use crate::outbound::InternalService;
use crate::threads::Threads;
use crate::{Body, Failure, Limits, LoadError, Settings, spin_headers};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The least wall time of a smoke test: no client waits for it.
const MIN_SMOKE_TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs functions. Its threads end when it is dropped.
pub struct Host {
    settings: Settings,
    state: Arc<HostState>,
    /// The present values of [`Settings::variables`].
    variables: Mutex<BTreeMap<String, String>>,
    /// The present values of [`Settings::provided`].
    provided: Mutex<BTreeMap<String, String>>,
    deployment: ArcSwap<Deployment>,
    internal: Arc<dyn InternalService>,
    /// `None` only while the host is dropped.
    threads: Option<Threads>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("manifest", &self.settings.manifest)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Compiles the manifest's components (or loads them from the cache), calls each once as a smoke test, and is then
    /// ready for calls.
    ///
    /// # Errors
    /// When the manifest or a component can't be used.
    pub fn load(
        settings: Settings,
        internal: Arc<dyn InternalService>,
        registry: &Registry,
    ) -> Result<Self, LoadError> {
        let state = Arc::new(HostState::new(&settings, &internal, registry)?);
        let threads = Threads::start(settings.threads.max(1), &internal)
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let host = Self {
            variables: Mutex::new(settings.variables.clone()),
            provided: Mutex::new(settings.provided.clone()),
            settings,
            state,
            deployment: ArcSwap::default(),
            internal,
            threads: Some(threads),
        };
        host.deploy()?;
        Ok(host)
    }

    /// Reloads manifest and components, with new values of [`Settings::variables`]. Running calls end unchanged.
    ///
    /// # Errors
    /// As [`Host::load`]. The active functions and the values before then stay.
    pub fn deploy_with(&self, variables: BTreeMap<String, String>) -> Result<(), LoadError> {
        self.deploy_replacing(&self.variables, variables)
    }

    /// Reloads manifest and components, with new values of [`Settings::provided`]. Running calls end unchanged.
    ///
    /// # Errors
    /// As [`Host::load`]. The active functions and the values before then stay.
    pub fn deploy_providing(&self, provided: BTreeMap<String, String>) -> Result<(), LoadError> {
        self.deploy_replacing(&self.provided, provided)
    }

    fn deploy_replacing(
        &self,
        values: &Mutex<BTreeMap<String, String>>,
        new: BTreeMap<String, String>,
    ) -> Result<(), LoadError> {
        let before = std::mem::replace(&mut *values.lock(), new);
        let deployed = self.deploy();
        deployed.inspect_err(|_| *values.lock() = before)
    }

    fn deploy(&self) -> Result<(), LoadError> {
        let manifest = self.manifest()?;
        let mut functions = BTreeMap::new();
        for (name, component) in &manifest.components {
            let function = self.load_function(name, component)?;
            functions.insert(name.clone(), Arc::new(function));
        }
        let deployment = Deployment::new(manifest.routes, &functions)?;
        deployment.functions().for_each(Function::activate);
        let replaced = self.deployment.swap(Arc::new(deployment));
        replaced.functions().for_each(Function::retire);
        Ok(())
    }

    fn manifest(&self) -> Result<Manifest, LoadError> {
        let variables = self.variables.lock().clone();
        let provided = self.provided.lock().clone();
        Manifest::read(&self.settings.manifest, &variables, &provided)
    }

    /// Replaces the entries of a key-value store. Stores opened before keep their entries.
    pub fn fill_store(&self, label: &str, entries: impl KeyValues + 'static) {
        self.state.fill_store(label, Box::new(entries));
    }

    /// The function that `path` is routed to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<MatchedFunction> {
        self.deployment.load().find(path)
    }

    /// Calls a function for `client`, in a tokio runtime with time enabled. Returns the function's response, or that of
    /// a [`Failure`].
    pub fn call<B>(
        &self,
        matched: MatchedFunction,
        client: IpAddr,
        mut request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let starter = self.threads.as_ref().map(Threads::starter);
        spin_headers::set(request.headers_mut(), &matched, client);
        let function = matched.function;
        async move {
            let called = match starter {
                Some(starter) => dispatch(&starter, &function, request).await,
                None => Err(Failure::Busy),
            };
            called.unwrap_or_else(Failure::response)
        }
    }

    fn load_function(&self, name: &str, component: &Component) -> Result<Function, LoadError> {
        let limits = &self.settings.limits;
        let test_limits = Limits {
            wall: limits.wall.max(MIN_SMOKE_TEST_TIMEOUT),
            ..limits.clone()
        };
        let is_reusing = self.settings.reuse.contains(name);
        let (state, internal) = (&self.state, &self.internal);
        let mut function =
            Function::compile(name, component, test_limits, is_reusing, state, internal)?;
        let tested = self.smoke_test(&function);
        tested.map_err(|message| LoadError::Component {
            name: name.into(),
            message,
        })?;
        function.admit_calls(limits.clone(), &component.allowed_hosts);
        Ok(function)
    }

    /// Calls the function once: a function that fails every call must not be deployed.
    fn smoke_test(&self, function: &Function) -> Result<(), String> {
        let Some(threads) = &self.threads else {
            return Ok(());
        };
        std::thread::scope(|scope| {
            // On a thread of its own: the present one may be in an asynchronous context, which must not block.
            let test = scope.spawn(|| {
                let _ticking = self.state.engine.keep_ticking();
                threads.block_on(call::smoke_test(function))
            });
            match test.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(cause)) => Err(format!("the smoke test failed: {cause}")),
                Err(_) => Err("the smoke test panicked".into()),
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
