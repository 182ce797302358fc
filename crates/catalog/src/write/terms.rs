//! Terms: a new version ends the open one before it, and nothing else of a version ever changes. Between the versions of
//! an owner there is a gap only where terms were created or ended so: a gap pays nothing.

use super::{Writer, changed};
use crate::change::Action;
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{KindName, Object, ObjectId as _, Revision, Validation};
use crate::model::{Terms, TermsOwner};
use crate::objects::{ObjectRow, select_objects};
use crate::status::TermsStatus;
use domain::{Micros, NetworkId, TermsId};

impl Writer<'_> {
    /// Creates a version of terms. The earlier terms of the owner without an end are ended where these begin. If these
    /// have an end, such as a promotion, the earlier ones continue there, as another version with the same prices.
    ///
    /// # Errors
    /// When the terms are invalid, begin in the past, or overlap others of their owner; or when the database can't be
    /// written.
    pub async fn create_terms(&mut self, mut terms: Terms) -> Result<Object<Terms>, CatalogError> {
        let from = *terms.valid_from.get_or_insert(self.now);
        let mut faults = Faults::default();
        if from < self.now {
            let message = format!(
                "terms can't begin in the past; begin at {} or later, or leave valid_from out",
                crate::json::shown(self.now)
            );
            faults.add(Reason::TermsInPast, "/valid_from", message);
        }
        // Outside a network there are none; the insertion is refused then.
        let network = self.scope.network().unwrap_or_default();
        let others = self.terms_of(network, terms.owner).await?;
        let replaced = others.into_iter().filter(|other| overlaps(&terms, other));
        let mut ended = None;
        for other in replaced {
            let begins_earlier = other.settings.valid_from.is_some_and(|begin| begin < from);
            if other.settings.valid_until.is_none() && begins_earlier {
                ended = Some(other);
            } else {
                faults.add(Reason::TermsOverlap, "/valid_from", overlap(&other));
            }
        }
        // Inserted only if there are no faults.
        let created = self.insert_terms(terms, &mut faults).await?;
        if let Some(ended) = ended {
            let settings = ended.settings.clone();
            self.set_end(ended, Some(from)).await?;
            self.continue_terms(settings, &created).await?;
        }
        Ok(created)
    }

    async fn insert_terms(
        &mut self,
        terms: Terms,
        faults: &mut Faults,
    ) -> Result<Object<Terms>, CatalogError> {
        let created = self.insert(vec![terms.into()], faults, false).await?;
        let created = created.into_iter().next();
        Ok(created.expect("one version was inserted"))
    }

    /// Lets terms without an end, which `replacement` has ended, begin again after it.
    async fn continue_terms(
        &mut self,
        replaced: Terms,
        replacement: &Object<Terms>,
    ) -> Result<(), CatalogError> {
        let valid_from = replacement.settings.valid_until;
        if valid_from.is_some() {
            let continuation = Terms {
                valid_from,
                ..replaced
            };
            self.insert_terms(continuation, &mut Faults::default())
                .await?;
        }
        Ok(())
    }

    /// Ends terms at a moment that is not in the past.
    ///
    /// # Errors
    /// When the terms have another revision than `expected` or are not in the scope; when the moment is in the past, or
    /// not within their period; or when the database can't be written.
    pub async fn end_terms(
        &mut self,
        id: TermsId,
        expected: Revision,
        at: Micros,
    ) -> Result<Object<Terms>, CatalogError> {
        let terms = self.load::<Terms>(id, expected).await?;
        let mut faults = Faults::default();
        if at < self.now {
            let message = format!(
                "terms can't be ended in the past; end them at {} or later",
                crate::json::shown(self.now)
            );
            faults.add(Reason::TermsInPast, "/valid_until", message);
        }
        let is_shorter = terms.settings.valid_until.is_none_or(|until| at <= until);
        let message = "terms can be ended earlier, not later; create others that follow them";
        faults.require(is_shorter, Reason::TermsOverlap, "/valid_until", message);
        let from = terms.settings.valid_from;
        Validation(&mut faults).period("/valid_until", from, Some(at));
        faults.finish()?;
        if terms.settings.valid_until == Some(at) {
            return Ok(terms);
        }
        self.set_end(terms, Some(at)).await
    }

    /// Withdraws terms that have not been in force yet. The owner's terms that end where they begin apply in their place,
    /// until they would have ended: without an end if they have none.
    ///
    /// # Errors
    /// When they have been, have another revision than `expected`, or are not in the scope; or when the database can't
    /// be written.
    pub async fn withdraw_terms(
        &mut self,
        id: TermsId,
        expected: Revision,
    ) -> Result<Object<Terms>, CatalogError> {
        let terms = self.load::<Terms>(id, expected).await?;
        if terms
            .settings
            .valid_from
            .is_some_and(|from| from <= self.now)
        {
            let message = format!("terms {id} have been in force and are kept; end them instead");
            return Err(CatalogError::refused(Reason::TermsInForce, "", message));
        }
        let withdrawn = self
            .change_status::<Terms>(id, expected, TermsStatus::Archived, "")
            .await?;
        let (begin, end) = (
            withdrawn.settings.valid_from,
            withdrawn.settings.valid_until,
        );
        let others = self.terms_of(withdrawn.network, withdrawn.settings.owner);
        let mut others = others.await?.into_iter();
        if let Some(before) = others.find(|other| other.settings.valid_until == begin) {
            self.set_end(before, end).await?;
        }
        Ok(withdrawn)
    }

    async fn set_end(
        &mut self,
        terms: Object<Terms>,
        at: Option<Micros>,
    ) -> Result<Object<Terms>, CatalogError> {
        let mut after = changed(&terms, self.now);
        after.settings.valid_until = at;
        self.overwrite(&terms, &after, Action::Updated).await?;
        Ok(after)
    }

    /// The terms of an owner that are or will be in force.
    async fn terms_of(
        &mut self,
        network: NetworkId,
        owner: TermsOwner,
    ) -> Result<Vec<Object<Terms>>, CatalogError> {
        let select = select_objects(KindName::Terms)
            .push(" WHERE archived IS NULL AND (ends IS NULL OR ends > ")
            .push_bind(self.now)
            .push(")");
        let select = match owner {
            TermsOwner::Campaign(id) => select
                .push(" AND campaign <> 0 AND campaign = ")
                .push_bind(id.number()),
            TermsOwner::Offer(id) => select
                .push(" AND campaign = 0 AND offer = ")
                .push_bind(id.number()),
        };
        let select = select.push(" AND network = ").push_bind(network.0);
        let rows: Vec<ObjectRow> = self.tx.fetch_all(select.push(" ORDER BY starts")).await?;
        rows.into_iter().map(ObjectRow::read).collect()
    }
}

fn overlaps(new: &Terms, other: &Object<Terms>) -> bool {
    let (new, other) = (period(new), period(&other.settings));
    new.0 < other.1 && other.0 < new.1
}

fn period(terms: &Terms) -> (Micros, Micros) {
    let from = terms.valid_from.unwrap_or_default();
    (from, terms.valid_until.unwrap_or(Micros(u64::MAX)))
}

fn overlap(other: &Object<Terms>) -> String {
    let shown = |time: Option<Micros>| time.map(crate::json::shown);
    let (from, until) = (other.settings.valid_from, other.settings.valid_until);
    let until = shown(until).unwrap_or_else(|| "their replacement".to_owned());
    format!(
        "terms {} of the same owner are valid from {} until {until}; choose another period, or end them first",
        other.id,
        shown(from).unwrap_or_default(),
    )
}
