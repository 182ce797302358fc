//! What functions may import beside WASI: variables and key-value stores, read only. Stores are filled by
//! who runs the host; functions keep no state of their own.

use crate::guest::Guest;
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
        world: "offered",
        imports: {
            default: trappable,
        },
        with: { "spin:key-value/key-value.store": crate::offered::Opened },
    });
}

use wit::spin::key_value::key_value::{self, Error as StoreError};
use wit::spin::variables::variables::{self, Error as VariableError};

/// Why a store is not written to.
const READ_ONLY: &str = "stores are read only here; functions keep no state";

/// Values by their keys.
pub(crate) type Entries = BTreeMap<String, Vec<u8>>;
/// Stores by their labels; each is exchanged whole.
pub(crate) type Stores = BTreeMap<String, Arc<ArcSwap<Entries>>>;

/// A store as it was when it was opened.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings pass it on as such")]
pub struct Opened(Arc<Entries>);

/// Tells the bindings what they work on.
struct Offered;

impl HasData for Offered {
    type Data<'a> = View<'a>;
}

/// What one component may see.
pub(crate) struct View<'a> {
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) stores: &'a Stores,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    variables::add_to_linker::<_, Offered>(linker, Guest::offered)?;
    key_value::add_to_linker::<_, Offered>(linker, Guest::offered)
}

impl variables::Host for View<'_> {}

impl<T: Send + 'static> variables::HostWithStore<T> for Offered {
    async fn get(
        host: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<String, VariableError>> {
        let value = host.with(|mut host| host.get().variables.get(&name).cloned());
        Ok(value.ok_or(VariableError::Undefined(name)))
    }
}

impl key_value::Host for View<'_> {}

impl View<'_> {
    fn entries(&self, store: &Resource<Opened>) -> wasmtime::Result<&Entries> {
        Ok(&self.table.get(store)?.0)
    }
}

impl key_value::HostStore for View<'_> {
    fn drop(&mut self, store: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

type Keys = (StreamReader<String>, FutureReader<Result<(), StoreError>>);

impl<T: Send + 'static> key_value::HostStoreWithStore<T> for Offered {
    async fn open(
        host: &Accessor<T, Self>,
        label: String,
    ) -> wasmtime::Result<Result<Resource<Opened>, StoreError>> {
        host.with(|mut host| {
            let view = host.get();
            let Some(store) = view.stores.get(&label) else {
                return Ok(Err(StoreError::AccessDenied));
            };
            let opened = Opened(store.load_full());
            Ok(Ok(view.table.push(opened)?))
        })
    }

    async fn get(
        host: &Accessor<T, Self>,
        store: Resource<Opened>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, StoreError>> {
        host.with(|mut host| Ok(Ok(host.get().entries(&store)?.get(&key).cloned())))
    }

    async fn set(
        _host: &Accessor<T, Self>,
        _store: Resource<Opened>,
        _key: String,
        _value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), StoreError>> {
        Ok(Err(StoreError::Other(READ_ONLY.into())))
    }

    async fn delete(
        _host: &Accessor<T, Self>,
        _store: Resource<Opened>,
        _key: String,
    ) -> wasmtime::Result<Result<(), StoreError>> {
        Ok(Err(StoreError::Other(READ_ONLY.into())))
    }

    async fn exists(
        host: &Accessor<T, Self>,
        store: Resource<Opened>,
        key: String,
    ) -> wasmtime::Result<Result<bool, StoreError>> {
        host.with(|mut host| Ok(Ok(host.get().entries(&store)?.contains_key(&key))))
    }

    async fn get_keys(host: &Accessor<T, Self>, store: Resource<Opened>) -> wasmtime::Result<Keys> {
        host.with(|mut host| {
            let keys: Vec<String> = host.get().entries(&store)?.keys().cloned().collect();
            let stream = StreamReader::new(&mut host, keys)?;
            let done = async { wasmtime::error::Ok(Ok(())) };
            Ok((stream, FutureReader::new(&mut host, done)?))
        })
    }
}
