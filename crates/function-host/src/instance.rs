//! One instance of a component: started for a call, and possibly reused for later ones.

use crate::cpu::CpuBudget;
use crate::guest::Guest;
use crate::response_sender;
use std::sync::Arc;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

/// Data that a function may pass to one host call, apart from bodies, in bytes.
const MAX_HOSTCALL_BYTES: usize = 1 << 20;
/// Entries of each table that wasmtime keeps for a function: handles, and tasks, streams and futures.
const MAX_HANDLES: usize = 1_000;

/// An instance with its store.
pub(crate) struct Instance {
    pub(crate) store: Store<Guest>,
    pub(crate) service: Service,
    reuses: u32,
}

impl Instance {
    pub(crate) async fn start(
        engine: &wasmtime::Engine,
        pre: &ServicePre<Guest>,
        guest: Guest,
    ) -> wasmtime::Result<Self> {
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(MAX_HOSTCALL_BYTES);
        store.set_max_component_handles(MAX_HANDLES);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(MAX_HANDLES);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            // A computing guest must not delay responses of other calls.
            response_sender::flush();
            let guest = store.data_mut();
            if guest.budget.charge() {
                guest.cpu_exhausted = true;
                Ok(UpdateDeadline::Interrupt)
            } else {
                Ok(UpdateDeadline::Yield(1))
            }
        });
        let service = pre.instantiate_async(&mut store).await?;
        Ok(Self {
            store,
            service,
            reuses: 0,
        })
    }

    /// Prepares the instance for another call.
    pub(crate) fn reuse(mut self, budget: Arc<CpuBudget>) -> Self {
        self.store.data_mut().start_call(budget);
        self.reuses += 1;
        self
    }

    /// How often the instance was reused.
    pub(crate) const fn reuses(&self) -> u32 {
        self.reuses
    }
}
