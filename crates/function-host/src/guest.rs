//! What belongs to one instance of a component: its view of WASI, its memory's limit, its way out.

use crate::cpu::Budget;
use crate::offered::{Stores, View};
use crate::outbound::Outbound;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What is kept of what a function writes to its error output, in bytes.
const STDERR_BYTES: usize = 2 << 10;
/// Entries of a function's tables.
const MAX_TABLE_ENTRIES: usize = 20_000;

/// The data of a store.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    stderr: MemoryOutputPipe,
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
        let stderr = MemoryOutputPipe::new(STDERR_BYTES);
        Self {
            table: ResourceTable::new(),
            wasi: WasiCtxBuilder::new().stderr(stderr.clone()).build(),
            http: WasiHttpCtx::new(),
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

    /// What the function wrote to its error output, such as why it panicked.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.contents()).into_owned()
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
