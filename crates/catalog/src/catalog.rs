//! The catalog of an installation: its database with up-to-date tables, and its default network.

use crate::change::Author;
use crate::error::CatalogError;
use crate::head;
use crate::migrations::MIGRATIONS;
use crate::model::{Brand, Network};
use crate::read::{Reader, Scope};
use crate::write::Writer;
use domain::Micros;
use sql_store::{Database, Isolation, Statement, Transaction};

/// The catalog of an installation.
#[derive(Debug, Clone)]
pub struct Catalog {
    database: Database,
}

impl Catalog {
    /// Brings the catalog's tables in `database` up to date, and creates the default network if there is none. The
    /// database may be shared with other crates' tables.
    ///
    /// # Errors
    /// When the database can't be used, or is newer than this program.
    pub async fn open(database: Database, now: Micros) -> Result<Self, CatalogError> {
        database.migrate(MIGRATIONS).await?;
        let mut attempts = database.attempts(Isolation::ReadCommitted);
        loop {
            let mut tx = attempts.begin().await?;
            let created = create_default_network(&mut tx, now).await;
            if let Some(created) = attempts.finish(tx, created).await {
                created?;
                return Ok(Self { database });
            }
        }
    }

    /// The database, for transactions.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Prepares writes within a transaction. It locks the catalog until the transaction ends, so that each write sees
    /// all earlier ones: call it before anything that the writes depend on is read. `clock` is read once the catalog is
    /// locked, so that nothing begins while other writers are still waited for. It must be trusted: the catalog's clock
    /// follows it and never goes back.
    ///
    /// # Errors
    /// When the scope's network does not exist or is archived, or the database can't be used.
    pub async fn writer<'t>(
        &self,
        tx: &'t mut Transaction,
        scope: Scope,
        author: Author,
        clock: impl FnOnce() -> Micros,
    ) -> Result<Writer<'t>, CatalogError> {
        Writer::begin(tx, scope, author, clock).await
    }

    /// Prepares reads within a transaction.
    #[must_use]
    pub const fn reader<'t>(&self, tx: &'t mut Transaction, scope: Scope) -> Reader<'t> {
        Reader::new(tx, scope)
    }
}

async fn create_default_network(tx: &mut Transaction, now: Micros) -> Result<(), CatalogError> {
    head::initialize(tx).await?;
    let author = Author::program("catalog");
    let mut writer = Writer::begin(tx, Scope::Installation, author, || now).await?;
    let any = Statement::new("SELECT id FROM catalog_networks LIMIT 1");
    if writer.transaction().exists(any).await? {
        return Ok(());
    }
    let network = Network {
        name: "default".to_owned(),
        brand: Brand::default(),
        domains: Vec::new(),
        time_zone: "UTC".to_owned(),
        currency: "USD".to_owned(),
    };
    let created = writer.create(network).await?;
    tracing::info!(network = created.id.0, "created the default network");
    Ok(())
}
