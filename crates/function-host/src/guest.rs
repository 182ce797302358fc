//! The state of one instance of a component: its WASI context, memory limit, outbound requests and processor budget.

use crate::cpu::CpuBudget;
use crate::host_imports::{ImportsView, Stores};
use crate::outbound::OutboundRequests;
use crate::stderr::Stderr;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Entries of each WebAssembly table of a function.
const MAX_TABLE_ENTRIES: usize = 20_000;
/// Resources that the host keeps for a function, such as headers, bodies and requests.
const MAX_RESOURCES: usize = 512;
/// Headers of one request or response, in bytes: twice the limit of a head from outside, because wasmtime counts
/// the memory that they occupy.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// Random bytes per host call.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The data of an instance's `wasmtime::Store`.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    stderr: Stderr,
    outbound: OutboundRequests,
    variables: Arc<BTreeMap<String, String>>,
    stores: Arc<Stores>,
    pub(crate) memory: MemoryLimit,
    pub(crate) budget: Arc<CpuBudget>,
    /// Whether the call was interrupted because its budget was spent.
    pub(crate) cpu_exhausted: bool,
}

/// Limits the total size of an instance's memories.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    max_bytes: usize,
    used_bytes: usize,
    /// Whether the instance requested more than the limit.
    pub(crate) exhausted: bool,
}

impl Guest {
    pub(crate) fn new(
        outbound: OutboundRequests,
        variables: Arc<BTreeMap<String, String>>,
        stores: Arc<Stores>,
        memory_bytes: usize,
        budget: Arc<CpuBudget>,
    ) -> Self {
        let stderr = Stderr::default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_HEADER_BYTES);
        let mut wasi = WasiCtxBuilder::new();
        wasi.stderr(stderr.clone())
            .max_random_size(MAX_RANDOM_BYTES);
        Self {
            table,
            wasi: wasi.build(),
            http,
            stderr,
            outbound,
            variables,
            stores,
            memory: MemoryLimit {
                max_bytes: memory_bytes,
                used_bytes: 0,
                exhausted: false,
            },
            budget,
            cpu_exhausted: false,
        }
    }

    /// Prepares for another call.
    pub(crate) fn start_call(&mut self, budget: Arc<CpuBudget>) {
        self.budget = budget;
        self.outbound.sent = 0;
    }

    /// Takes the text that the function wrote to its error output, such as a panic message.
    pub(crate) fn take_stderr(&self) -> String {
        self.stderr.take()
    }

    pub(crate) fn imports(&mut self) -> ImportsView<'_> {
        ImportsView {
            variables: &self.variables,
            stores: &self.stores,
            table: &mut self.table,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used_bytes + desired.saturating_sub(current);
        if used > self.max_bytes {
            self.exhausted = true;
            // A trap ends the call; after a failed growth, a function might retry endlessly.
            return Err(wasmtime::format_err!(
                "the instance requested {used} bytes of memory; its limit is {}",
                self.max_bytes
            ));
        }
        self.used_bytes = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ENTRIES)
    }
}
