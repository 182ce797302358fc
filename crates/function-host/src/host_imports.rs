//! The interfaces that functions may import in addition to WASI: variables and key-value stores, both read-only. The
//! program that runs the host fills the stores; functions keep no state of their own.

use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

mod wit {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    wasmtime::component::bindgen!({
        path: "wit",
        world: "host-imports",
        imports: {
            default: trappable,
        },
        with: { "spin:key-value/key-value.store": crate::host_imports::StoreSnapshot },
    });
}

use wit::spin::key_value::key_value::{self, Error as StoreError};
use wit::spin::variables::variables::{self, Error as VariableError};

/// The error of every write to a store.
const READ_ONLY: &str = "stores are read-only; functions keep no state";

/// The entries of a key-value store.
pub trait KeyValues: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// All keys.
    fn keys(&self) -> Vec<String>;
}

impl KeyValues for BTreeMap<String, Vec<u8>> {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.get(key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

pub(crate) type Entries = Box<dyn KeyValues>;
/// Stores by label; the entries of a store are replaced all at once.
pub(crate) type Stores = BTreeMap<String, Arc<ArcSwap<Entries>>>;

/// A store's entries at the time it was opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct StoreSnapshot(Arc<Entries>);

/// Selects [`ImportsView`] as the data of the generated bindings.
struct HostImports;

impl HasData for HostImports {
    type Data<'a> = ImportsView<'a>;
}

/// The variables and stores of one component.
pub(crate) struct ImportsView<'a> {
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) stores: &'a Stores,
    pub(crate) table: &'a mut ResourceTable,
}

/// Links the interfaces; `view` finds a component's variables and stores in its data.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> ImportsView<'_>,
) -> wasmtime::Result<()> {
    variables::add_to_linker::<_, HostImports>(linker, view)?;
    key_value::add_to_linker::<_, HostImports>(linker, view)
}

impl variables::Host for ImportsView<'_> {}

impl<T: Send + 'static> variables::HostWithStore<T> for HostImports {
    async fn get(
        host: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<String, VariableError>> {
        let value = host.with(|mut host| host.get().variables.get(&name).cloned());
        Ok(value.ok_or(VariableError::Undefined(name)))
    }
}

impl key_value::Host for ImportsView<'_> {}

impl ImportsView<'_> {
    fn entries(&self, store: &Resource<StoreSnapshot>) -> wasmtime::Result<&Entries> {
        Ok(&self.table.get(store)?.0)
    }
}

impl key_value::HostStore for ImportsView<'_> {
    fn drop(&mut self, store: Resource<StoreSnapshot>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

type KeysStream = (StreamReader<String>, FutureReader<Result<(), StoreError>>);

impl<T: Send + 'static> key_value::HostStoreWithStore<T> for HostImports {
    async fn open(
        host: &Accessor<T, Self>,
        label: String,
    ) -> wasmtime::Result<Result<Resource<StoreSnapshot>, StoreError>> {
        host.with(|mut host| {
            let view = host.get();
            let Some(store) = view.stores.get(&label) else {
                return Ok(Err(StoreError::AccessDenied));
            };
            let snapshot = StoreSnapshot(store.load_full());
            Ok(Ok(view.table.push(snapshot)?))
        })
    }

    async fn get(
        host: &Accessor<T, Self>,
        store: Resource<StoreSnapshot>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, StoreError>> {
        host.with(|mut host| Ok(Ok(host.get().entries(&store)?.get(&key))))
    }

    async fn set(
        _host: &Accessor<T, Self>,
        _store: Resource<StoreSnapshot>,
        _key: String,
        _value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), StoreError>> {
        Ok(Err(StoreError::Other(READ_ONLY.into())))
    }

    async fn delete(
        _host: &Accessor<T, Self>,
        _store: Resource<StoreSnapshot>,
        _key: String,
    ) -> wasmtime::Result<Result<(), StoreError>> {
        Ok(Err(StoreError::Other(READ_ONLY.into())))
    }

    async fn exists(
        host: &Accessor<T, Self>,
        store: Resource<StoreSnapshot>,
        key: String,
    ) -> wasmtime::Result<Result<bool, StoreError>> {
        host.with(|mut host| Ok(Ok(host.get().entries(&store)?.get(&key).is_some())))
    }

    async fn get_keys(
        host: &Accessor<T, Self>,
        store: Resource<StoreSnapshot>,
    ) -> wasmtime::Result<KeysStream> {
        host.with(|mut host| {
            let keys = host.get().entries(&store)?.keys();
            let stream = StreamReader::new(&mut host, keys)?;
            let done = async { wasmtime::error::Ok(Ok(())) };
            Ok((stream, FutureReader::new(&mut host, done)?))
        })
    }
}
