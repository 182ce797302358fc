//! Creation of objects, one or many at once.

use super::Writer;
use crate::change::{Action, NewChange};
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{
    Draft, Editable, Kind, KindName, Object, ObjectId as _, Reservation, Revision, Validation,
};
use crate::model::{DEFAULT_NETWORK, Network};
use crate::objects;
use crate::references::{Lineage, ReferredObjects};
use crate::reservations::{self, Reserved, check_domain};
use crate::status::Status as _;
use domain::NetworkId;

/// The most objects that are created at once.
pub const MAX_BULK: usize = 10_000;

impl Writer<'_> {
    /// Creates an object.
    ///
    /// # Errors
    /// When its settings are invalid, a name is taken, or the database can't be written.
    pub async fn create<K: Editable>(
        &mut self,
        draft: impl Into<Draft<K>>,
    ) -> Result<Object<K>, CatalogError> {
        let mut faults = Faults::default();
        let created = self.insert(vec![draft.into()], &mut faults, false).await?;
        let created = created.into_iter().next();
        Ok(created.expect("one object was inserted"))
    }

    /// Creates up to [`MAX_BULK`] objects, all or none. Pointers of faults begin with the row: `/17/slug`.
    ///
    /// # Errors
    /// When any of them can't be created, with the faults of all, or the database can't be written.
    pub async fn create_many<K: Editable>(
        &mut self,
        drafts: Vec<Draft<K>>,
    ) -> Result<Vec<Object<K>>, CatalogError> {
        if !(1..=MAX_BULK).contains(&drafts.len()) {
            let message = format!(
                "{} objects; 1 to {MAX_BULK} are created at once",
                drafts.len()
            );
            return Err(CatalogError::refused(Reason::WrongCount, "", message));
        }
        self.insert(drafts, &mut Faults::default(), true).await
    }

    /// Checks and inserts new objects of any kind.
    pub(super) async fn insert<K: Kind>(
        &mut self,
        mut drafts: Vec<Draft<K>>,
        faults: &mut Faults,
        has_rows: bool,
    ) -> Result<Vec<Object<K>>, CatalogError> {
        let network = self.network_of_new::<K>()?;
        let lineages = self
            .check_new(network, &mut drafts, faults, has_rows)
            .await?;
        let ids = objects::assign_ids(self.tx, K::NAME, &chosen_ids(&drafts)).await?;
        let created: Vec<Object<K>> = ids
            .into_iter()
            .zip(drafts)
            .map(|(id, draft)| self.new_object(id, network, draft))
            .collect();
        objects::insert(self.tx, &created, &lineages).await?;
        let names = created.iter().flat_map(|object| {
            let names = object.settings.reservations(object.network).into_iter();
            names.map(|name| (object.id.number(), name))
        });
        reservations::insert(self.tx, K::NAME, names).await?;
        let created_change = |object| NewChange::of(Action::Created, None, object);
        self.record(created.iter().map(created_change).collect())
            .await?;
        Ok(created)
    }

    /// The network of new objects; none if they are networks.
    fn network_of_new<K: Kind>(&self) -> Result<Option<NetworkId>, CatalogError> {
        let network = self.scope.network();
        let is_network = K::NAME == KindName::Network;
        if is_network == network.is_none() {
            return Ok(network);
        }
        let message = if is_network {
            "only an administrator of the installation creates networks"
        } else {
            "the object needs a network; choose one"
        };
        Err(CatalogError::refused(Reason::OutsideNetwork, "", message))
    }

    async fn check_new<K: Kind>(
        &mut self,
        network: Option<NetworkId>,
        drafts: &mut [Draft<K>],
        faults: &mut Faults,
        has_rows: bool,
    ) -> Result<Vec<Lineage>, CatalogError> {
        for (row, draft) in drafts.iter_mut().enumerate() {
            if has_rows {
                faults.enter_row(row);
            }
            draft.settings.validate(&mut Validation(faults));
            check_initial(draft, faults);
        }
        // A network does not exist yet; no other object has this id.
        let network = network.unwrap_or_default();
        let references = drafts.iter().flat_map(|it| it.settings.references());
        let referred = ReferredObjects::load(self.tx, references).await?;
        let names = drafts.iter().flat_map(|it| names(&it.settings, network));
        let mut reserved = Reserved::load(self.tx, names).await?;
        let chosen: Vec<u32> = chosen_ids(drafts).into_iter().flatten().collect();
        let mut unusable = objects::unusable_ids(self.tx, K::NAME, &chosen).await?;
        let mut lineages = Vec::with_capacity(drafts.len());
        for (row, draft) in drafts.iter().enumerate() {
            if has_rows {
                faults.enter_row(row);
            }
            if let Some(id) = draft.id
                && !unusable.insert(id.number())
            {
                let message = format!(
                    "{} {id} was used before or is too large; leave the id out",
                    K::NAME
                );
                faults.add(Reason::IdTaken, "/id", message);
            }
            let references = draft.settings.references();
            lineages.push(referred.check(network, &references, &[], faults));
            reserved.check(row, &draft.settings.reservations(network), None, faults);
            check_required_domain(&draft.settings, network, &reserved, faults);
        }
        faults.finish()?;
        Ok(lineages)
    }

    fn new_object<K: Kind>(
        &self,
        id: u32,
        network: Option<NetworkId>,
        draft: Draft<K>,
    ) -> Object<K> {
        let initial = K::Status::INITIAL[0];
        Object {
            id: K::Id::from_number(id),
            network: network.unwrap_or(NetworkId(id)),
            status: draft.status.unwrap_or(initial),
            status_reason: String::new(),
            revision: Revision(1),
            created: self.now,
            updated: self.now,
            archived: None,
            settings: draft.settings,
        }
    }
}

fn chosen_ids<K: Kind>(drafts: &[Draft<K>]) -> Vec<Option<u32>> {
    let ids = drafts.iter().map(|draft| draft.id);
    ids.map(|id| id.map(K::Id::number)).collect()
}

fn check_initial<K: Kind>(draft: &Draft<K>, faults: &mut Faults) {
    if let Some(status) = draft.status
        && !K::Status::INITIAL.contains(&status)
    {
        let possible: Vec<&str> = K::Status::INITIAL.iter().map(|it| it.name()).collect();
        let message = format!(
            "a new {} can't be {status}; it can be {}",
            K::NAME,
            possible.join(" or ")
        );
        faults.add(Reason::StatusNotPossible, "/status", message);
    }
}

/// The names whose owners matter for settings: those that are wanted, and that of the required domain.
fn names<K: Kind>(settings: &K, network: NetworkId) -> Vec<String> {
    let wanted = settings.reservations(network).into_iter();
    let domain = settings.required_domain().map(Network::domain_key);
    wanted.map(|it: Reservation| it.key).chain(domain).collect()
}

/// Checks that the network has the domain that settings require. Links of every domain are served on those of all
/// networks, so only the default network has them.
pub(super) fn check_required_domain<K: Kind>(
    settings: &K,
    network: NetworkId,
    reserved: &Reserved,
    faults: &mut Faults,
) {
    match settings.required_domain() {
        None => {}
        Some("") => {
            let message =
                "a link of every domain is for the default network; name a domain of the network";
            let is_default = network == DEFAULT_NETWORK;
            faults.require(is_default, Reason::DomainMissing, "/domain", message);
        }
        Some(domain) => check_domain(reserved, domain, network, faults),
    }
}
