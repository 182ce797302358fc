//! The objects that settings name: they must exist in the network, must not be archived when they are named first, and
//! the parents of siblings must agree.

use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{KindName, Reference, Relation};
use crate::rows::{fetch_in, select};
use domain::NetworkId;
use sql_store::{Transaction, typed_row};
use std::collections::{BTreeMap, HashMap};

/// The parents of an object, by their ids; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) advertiser: u32,
    pub(crate) offer: u32,
    pub(crate) affiliate: u32,
    pub(crate) campaign: u32,
    pub(crate) creative: u32,
}

typed_row! {
    #[derive(Debug)]
    struct ReferredRow {
        id: u32,
        network: u32,
        status: String,
        advertiser: u32,
        offer: u32,
        affiliate: u32,
        campaign: u32,
    }
}

const COLUMNS: &str = "id, network, status, advertiser, offer, affiliate, campaign";

/// Objects that settings name.
#[derive(Debug, Default)]
pub(crate) struct ReferredObjects(HashMap<(KindName, u32), ReferredRow>);

impl ReferredObjects {
    /// Reads the objects of all references.
    pub(crate) async fn load(
        tx: &mut Transaction,
        references: impl Iterator<Item = Reference>,
    ) -> Result<Self, CatalogError> {
        let mut ids: BTreeMap<KindName, Vec<u32>> = BTreeMap::new();
        for reference in references {
            ids.entry(reference.kind).or_default().push(reference.id);
        }
        let mut found = HashMap::new();
        for (kind, mut ids) in ids {
            ids.sort_unstable();
            ids.dedup();
            let statement = select(COLUMNS, kind.table()).push(" WHERE");
            let rows: Vec<ReferredRow> = fetch_in(tx, statement, "id", &ids).await?;
            found.extend(rows.into_iter().map(|row| ((kind, row.id), row)));
        }
        Ok(Self(found))
    }

    /// Checks the references of an object in `network` and returns its parents. Those in `earlier` may be archived by
    /// now.
    pub(crate) fn check(
        &self,
        network: NetworkId,
        references: &[Reference],
        earlier: &[Reference],
        faults: &mut Faults,
    ) -> Lineage {
        let mut lineage = Lineage::default();
        for reference in references {
            let row = self.0.get(&(reference.kind, reference.id));
            let Some(row) = row.filter(|row| row.network == network.0) else {
                faults.add(
                    Reason::UnknownReference,
                    &reference.pointer,
                    missing(reference),
                );
                continue;
            };
            if row.status == "archived" && !is_named(earlier, reference) {
                faults.add(
                    Reason::UnknownReference,
                    &reference.pointer,
                    archived(reference),
                );
            }
            if reference.relation != Relation::Mention
                && let Err(parent) = lineage.join(reference.kind, row)
            {
                let (kind, id) = (reference.kind, reference.id);
                let message = format!(
                    "{kind} {id} belongs to another {parent}; name one that belongs to the same {parent}"
                );
                faults.add(Reason::ForeignReference, &reference.pointer, message);
            }
        }
        lineage
    }
}

/// Adds a fault for each parent that differs from the earlier one.
pub(crate) fn check_fixed(references: &[Reference], earlier: &[Reference], faults: &mut Faults) {
    let is_parent = |it: &&Reference| it.relation == Relation::Parent;
    for parent in references.iter().filter(is_parent) {
        if !is_named(earlier, parent) {
            let message = format!(
                "the {} can't be changed; archive this object, and create another one",
                parent.kind
            );
            faults.add(Reason::FixedReference, &parent.pointer, message);
        }
    }
}

fn is_named(references: &[Reference], wanted: &Reference) -> bool {
    let mut references = references.iter();
    references.any(|it| (it.kind, it.id) == (wanted.kind, wanted.id))
}

fn missing(reference: &Reference) -> String {
    let (kind, id) = (reference.kind, reference.id);
    format!("there is no {kind} {id} in the network; name one of its own")
}

fn archived(reference: &Reference) -> String {
    let (kind, id) = (reference.kind, reference.id);
    format!("{kind} {id} is archived; name one that is in use")
}

impl Lineage {
    /// Adds an object and its parents; the error is the name of a parent that differs.
    fn join(&mut self, kind: KindName, row: &ReferredRow) -> Result<(), &'static str> {
        let own = |of: KindName, parent: u32| if kind == of { row.id } else { parent };
        for (name, joined, added) in [
            (
                "advertiser",
                &mut self.advertiser,
                own(KindName::Advertiser, row.advertiser),
            ),
            ("offer", &mut self.offer, own(KindName::Offer, row.offer)),
            (
                "affiliate",
                &mut self.affiliate,
                own(KindName::Affiliate, row.affiliate),
            ),
            (
                "campaign",
                &mut self.campaign,
                own(KindName::Campaign, row.campaign),
            ),
            ("creative", &mut self.creative, own(KindName::Creative, 0)),
        ] {
            if added == 0 {
                continue;
            }
            if *joined != 0 && *joined != added {
                return Err(name);
            }
            *joined = added;
        }
        Ok(())
    }
}
