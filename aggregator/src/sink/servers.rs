//! The servers of ClickHouse. One is used until a request fails; the next request goes to the next server.

use super::connection::client;
use crate::settings::ClickHouseSettings;
use crate::sink_error::SinkError;
use clickhouse::Client;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Clients of servers with the same tables.
#[derive(Debug)]
pub(super) struct Servers {
    clients: Vec<Client>,
    preferred: AtomicUsize,
}

/// The server of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) client: &'a Client,
    servers: &'a Servers,
    index: usize,
}

impl Servers {
    /// Clients of every server that `settings` name, without a database.
    pub(super) fn of(settings: &ClickHouseSettings) -> Result<Self, SinkError> {
        let clients = settings.urls().map(|url| client(settings, url));
        Ok(Self {
            clients: clients.collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
        })
    }

    /// The same servers with this database selected.
    pub(super) fn with_database(self, database: &str) -> Self {
        let clients = self.clients.into_iter();
        Self {
            clients: clients.map(|it| it.with_database(database)).collect(),
            preferred: self.preferred,
        }
    }

    /// The server that is used now.
    pub(super) fn preferred(&self) -> Server<'_> {
        let index = self.preferred.load(Ordering::Relaxed);
        Server {
            client: &self.clients[index],
            servers: self,
            index,
        }
    }
}

impl Server<'_> {
    /// Returns the result of a request to this server. After an error the next server is preferred.
    pub(super) fn settle<T>(self, result: Result<T, SinkError>) -> Result<T, SinkError> {
        if result.is_err() {
            let next = (self.index + 1) % self.servers.clients.len();
            // If another request has failed meanwhile, the change is made.
            let _ = self.servers.preferred.compare_exchange(
                self.index,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        result
    }
}
