//! Links from the control plane.

use super::{Destination, Link, LinkState, Name, NameError, Slug, redirect_status};
use domain::LinkId;
use edge_config::LinkRecord;
use macro_url::MacroUrlError;
use thiserror::Error;

/// A link that this edge can't serve.
#[derive(Debug, Error)]
pub enum UnusableLink {
    /// The slug can't be used.
    #[error("slug {0:?}: {1}")]
    Slug(String, NameError),
    /// A destination can't be used.
    #[error("destination: {0}")]
    Destination(#[from] MacroUrlError),
    /// The status is no redirect.
    #[error("code {0}: {1}")]
    Code(u16, &'static str),
}

impl TryFrom<LinkRecord> for Link {
    type Error = UnusableLink;

    fn try_from(record: LinkRecord) -> Result<Self, UnusableLink> {
        let slug = Slug::try_from(record.slug.clone());
        let slug = slug.map_err(|error| UnusableLink::Slug(record.slug, error))?;
        let fallback = record.fallback.map(Destination::try_from).transpose()?;
        let mut target = Destination::try_from(record.destination)?;
        if record.append_click_id {
            target = target.with_click_id();
        }
        let code = redirect_status(record.code);
        Ok(Self {
            id: LinkId(record.id),
            slug,
            domain: (!record.domain.is_empty()).then(|| record.domain.into()),
            offer: Name::shortened(&record.offer.name),
            campaign: Name::shortened(&record.campaign.name),
            affiliate: Name::shortened(&record.affiliate.name),
            destination: target,
            code: code.map_err(|error| UnusableLink::Code(record.code, error))?,
            state: match record.is_paused {
                true => LinkState::Paused { fallback },
                false => LinkState::Active,
            },
            pass_query: record.pass_query,
            renamed_from: None,
        })
    }
}
