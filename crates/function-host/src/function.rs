//! One component, compiled, with everything that its calls need: limits, imports, metrics, and idle instances.

use crate::cpu::CpuBudget;
use crate::guest::Guest;
use crate::host_imports::Stores;
use crate::host_state::HostState;
use crate::instance::Instance;
use crate::manifest::Component;
use crate::metrics::FunctionMetrics;
use crate::outbound::{AllowedHost, InternalService, OutboundRequests};
use crate::scheduling::SchedulingClass;
use crate::{Limits, LoadError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// Reuses after which an instance is replaced.
const MAX_REUSES: u32 = 1_000;

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) state: Arc<HostState>,
    pub(crate) metrics: FunctionMetrics,
    pub(crate) scheduling: Arc<SchedulingClass>,
    pre: ServicePre<Guest>,
    allowed_hosts: Arc<[AllowedHost]>,
    internal: Arc<dyn InternalService>,
    variables: Arc<BTreeMap<String, String>>,
    stores: Arc<Stores>,
    is_reusing: bool,
    /// `None` while the function is not deployed.
    idle: Mutex<Option<Vec<IdleInstance>>>,
}

/// An instance that waits for its next call.
struct IdleInstance {
    instance: Instance,
    _permit: OwnedSemaphorePermit,
}

impl Function {
    /// Compiles a component for its smoke test: with `limits`, and without allowed hosts.
    ///
    /// # Errors
    /// When its file can't be read, is not a component, or imports an interface that this host lacks.
    pub(crate) fn compile(
        name: &str,
        component: &Component,
        limits: Limits,
        is_reusing: bool,
        state: &Arc<HostState>,
        internal: &Arc<dyn InternalService>,
    ) -> Result<Self, LoadError> {
        let wasm = std::fs::read(&component.source).map_err(|cause| LoadError::Io {
            path: component.source.clone(),
            cause,
        })?;
        let pre = state.engine.compile(&wasm);
        Ok(Self {
            name: name.into(),
            limits,
            state: state.clone(),
            metrics: state.metrics.of_function(name),
            scheduling: SchedulingClass::new(),
            pre: pre.map_err(|error| LoadError::Component {
                name: name.into(),
                message: format!("{error:#}"),
            })?,
            allowed_hosts: Arc::default(),
            internal: internal.clone(),
            variables: Arc::new(component.variables.clone()),
            stores: Arc::new(state.stores(&component.stores)),
            is_reusing,
            idle: Mutex::default(),
        })
    }

    /// Prepares for calls of clients, after the smoke test.
    pub(crate) fn admit_calls(&mut self, limits: Limits, allowed_hosts: &[AllowedHost]) {
        self.limits = limits;
        self.allowed_hosts = allowed_hosts.into();
    }

    /// Keeps idle instances from now on.
    pub(crate) fn activate(&self) {
        *self.idle.lock() = Some(Vec::new());
    }

    /// Drops idle instances, and keeps none from now on.
    pub(crate) fn retire(&self) {
        *self.idle.lock() = None;
    }

    /// An instance for one call.
    pub(crate) async fn instance(&self, budget: Arc<CpuBudget>) -> wasmtime::Result<Instance> {
        let idle = self.idle.lock().as_mut().and_then(Vec::pop);
        if let Some(IdleInstance { instance, .. }) = idle {
            return Ok(instance.reuse(budget));
        }
        self.metrics.cold_starts.inc();
        let engine = self.state.engine.wasmtime();
        Instance::start(engine, &self.pre, self.guest(budget)).await
    }

    /// Whether `instance` is reused after the present call.
    pub(crate) const fn will_reuse(&self, instance: &Instance) -> bool {
        self.is_reusing && instance.reuses() < MAX_REUSES
    }

    /// Keeps an instance for the next call, within the limit of idle instances.
    pub(crate) fn return_instance(&self, instance: Instance) {
        if let Ok(permit) = self.state.idle_permits.clone().try_acquire_owned()
            && let Some(idle) = &mut *self.idle.lock()
        {
            idle.push(IdleInstance {
                instance,
                _permit: permit,
            });
        }
    }

    fn guest(&self, budget: Arc<CpuBudget>) -> Guest {
        let outbound = OutboundRequests {
            allowed_hosts: self.allowed_hosts.clone(),
            internal: self.internal.clone(),
            sent: 0,
        };
        Guest::new(
            outbound,
            self.variables.clone(),
            self.stores.clone(),
            self.limits.memory_bytes,
            budget,
        )
    }
}
