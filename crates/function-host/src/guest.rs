//! What belongs to one instance of a component: its view of WASI, its memory's limit, its way out.

use crate::cpu::Budget;
use crate::offered::{Stores, View};
use crate::outbound::Outbound;
use crate::stderr::Stderr;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Entries of a function's tables.
const MAX_TABLE_ENTRIES: usize = 20_000;
/// What the host keeps for a function, such as headers, bodies and requests.
const MAX_RESOURCES: usize = 512;
/// Headers of one request or answer, in bytes: twice what a head from outside may have, since here the
/// memory counts that they take.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// Random bytes that can be had at once.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// The data of a store.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    stderr: Stderr,
    outbound: Outbound,
    variables: Arc<BTreeMap<String, String>>,
    stores: Arc<Stores>,
    pub(crate) memory: Memory,
    pub(crate) budget: Arc<Budget>,
    /// Whether it was stopped since its budget was spent.
    pub(crate) cpu_exhausted: bool,
}

/// Limits what an instance's memories take together.
#[derive(Debug)]
pub(crate) struct Memory {
    allowed: usize,
    taken: usize,
    /// Whether more was wanted.
    pub(crate) exhausted: bool,
}

impl Guest {
    pub(crate) fn new(
        outbound: Outbound,
        variables: Arc<BTreeMap<String, String>>,
        stores: Arc<Stores>,
        memory_bytes: usize,
        budget: Arc<Budget>,
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
            memory: Memory {
                allowed: memory_bytes,
                taken: 0,
                exhausted: false,
            },
            budget,
            cpu_exhausted: false,
        }
    }

    /// Ready for another call.
    pub(crate) fn begin(&mut self, budget: Arc<Budget>) {
        self.budget = budget;
        self.outbound.asked = 0;
    }

    /// Takes what the function wrote to its error output, such as why it panicked.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.take()
    }

    pub(crate) fn offered(&mut self) -> View<'_> {
        View {
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

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let taken = self.taken + desired.saturating_sub(current);
        if taken > self.allowed {
            self.exhausted = true;
            // To be told that there is none, a function might try for ever.
            return Err(wasmtime::format_err!("more memory than allowed"));
        }
        self.taken = taken;
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
