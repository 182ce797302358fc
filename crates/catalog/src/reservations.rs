//! Names that one object of the installation has: names within a network, slugs, domains, names in postback URLs.
//! An archived object gives its names up.

use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{KindName, Reservation};
use crate::model::Network;
use crate::rows::{Insertion, execute_in, fetch_in, select};
use domain::NetworkId;
use sql_store::{SqlError, Statement, Transaction, typed_row};
use std::collections::HashMap;

const TABLE: &str = "catalog_reservations";
const COLUMNS: &str = "name, kind, object";
const INSERTED_COLUMNS: &str = "name, kind, object, domain";

typed_row! {
    #[derive(Debug)]
    struct ReservationRow {
        name: String,
        kind: String,
        object: u32,
    }
}

/// The objects that have names which a request asks for.
#[derive(Debug)]
pub(crate) struct Reserved {
    owners: HashMap<String, (String, u32)>,
    /// The names of earlier rows of the request, with the row.
    requested: HashMap<String, usize>,
}

impl Reserved {
    /// Reads the owners of the names.
    pub(crate) async fn load(
        tx: &mut Transaction,
        names: impl Iterator<Item = String>,
    ) -> Result<Self, SqlError> {
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let statement = select(COLUMNS, TABLE).push(" WHERE");
        let rows: Vec<ReservationRow> = fetch_in(tx, statement, "name", &names).await?;
        let owners = rows.into_iter();
        Ok(Self {
            owners: owners
                .map(|row| (row.name, (row.kind, row.object)))
                .collect(),
            requested: HashMap::new(),
        })
    }

    /// Checks that the names are free, or belong to the object `own` already, and that no earlier row asks for them.
    pub(crate) fn check(
        &mut self,
        row: usize,
        wanted: &[Reservation],
        own: Option<(KindName, u32)>,
        faults: &mut Faults,
    ) {
        for reservation in wanted {
            let owner = self.owners.get(&reservation.key);
            let is_foreign = owner.is_some_and(|(kind, object)| {
                own.is_none_or(|(own, id)| own.name() != kind || id != *object)
            });
            let shown = &reservation.shown;
            if is_foreign {
                let message = format!("{shown:?} is taken; choose another one");
                faults.add(Reason::NameTaken, &reservation.pointer, message);
            } else if let Some(first) = self.requested.get(&reservation.key) {
                let message =
                    format!("{shown:?} is asked for by row {first}, too; choose another one");
                faults.add(Reason::NameTaken, &reservation.pointer, message);
            } else {
                self.requested.insert(reservation.key.clone(), row);
            }
        }
    }

    /// Whether the object has this name.
    pub(crate) fn belongs_to(&self, name: &str, kind: KindName, object: u32) -> bool {
        let owner = self.owners.get(name);
        owner.is_some_and(|(owner, id)| owner == kind.name() && *id == object)
    }
}

/// Adds a fault if the network's domain is not among the reserved names.
pub(crate) fn check_domain(
    reserved: &Reserved,
    domain: &str,
    network: NetworkId,
    faults: &mut Faults,
) {
    let key = Network::domain_key(domain);
    if !reserved.belongs_to(&key, KindName::Network, network.0) {
        let message = format!("{domain:?} is not a domain of the network; add it there first");
        faults.add(Reason::UnknownDomain, "/domain", message);
    }
}

/// Reserves the names of new objects.
pub(crate) async fn insert(
    tx: &mut Transaction,
    kind: KindName,
    names: impl Iterator<Item = (u32, Reservation)>,
) -> Result<(), SqlError> {
    let mut insertion = Insertion::new(TABLE, INSERTED_COLUMNS);
    for (object, reservation) in names {
        insertion.add([
            reservation.key.into(),
            kind.name().into(),
            object.into(),
            reservation.domain.into(),
        ]);
    }
    insertion.run(tx).await
}

/// Gives up all names of objects.
pub(crate) async fn release(
    tx: &mut Transaction,
    kind: KindName,
    objects: &[u32],
) -> Result<(), SqlError> {
    let delete = "DELETE FROM catalog_reservations WHERE kind = $1 AND";
    let delete = Statement::new(delete).bind(kind.name());
    execute_in(tx, delete, "object", objects).await
}

/// The object of a kind with this name.
pub(crate) async fn find(
    tx: &mut Transaction,
    kind: KindName,
    name: String,
) -> Result<Option<u32>, SqlError> {
    let select = "SELECT object FROM catalog_reservations WHERE kind = $1 AND name = $2";
    let select = Statement::new(select).bind(kind.name()).bind(name);
    let found: Option<i64> = tx.fetch_optional(select).await?;
    let found = found.map(u32::try_from).transpose();
    found.map_err(|error| SqlError::UnexpectedValue(format!("object: {error}")))
}

/// Whether a link uses a domain.
pub(crate) async fn is_domain_used(
    tx: &mut Transaction,
    domain: &str,
) -> Result<bool, CatalogError> {
    let select =
        "SELECT object FROM catalog_reservations WHERE domain <> '' AND domain = $1 LIMIT 1";
    Ok(tx.exists(Statement::new(select).bind(domain)).await?)
}
