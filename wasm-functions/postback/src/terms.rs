//! Permissions of an authenticated advertiser: clicks of its own links or offers, and payouts up to a maximum.

use crate::advertiser::Advertiser;
use crate::amount;
use crate::keys::Keys;
use crate::link_list::{AllLinks, LinkList};
use domain::{ConversionStatus, LinkId};
use functions_shared::{Reason, Refusal};
use tracker_api::Conversion;
use tracking_events::ClickId;

/// Whether clicks of a link may be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Granted,
    /// Only if the link's offer is one of the advertiser's.
    ByOffer,
}

impl Advertiser {
    /// Whether the entry names offers.
    #[must_use]
    pub fn names_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Whether clicks of `link` may be converted, as far as known without the link's offer.
    pub(crate) fn permission(&self, link: LinkId) -> Result<Permission, Refusal> {
        match &self.links {
            LinkList::All(AllLinks::Any) => Ok(Permission::Granted),
            LinkList::Ids(ids) if ids.contains(&link.0) => Ok(Permission::Granted),
            LinkList::Ids(_) if !self.offers.is_empty() => Ok(Permission::ByOffer),
            LinkList::Ids(ids) if ids.is_empty() => {
                let explanation = "the advertiser is not set up right; try again later";
                let missing = "the entry converts no clicks; add links = [NUMBERS], offers = [NAMES] or links = \"any\"";
                Err(Reason::NothingToConvert
                    .because(explanation)
                    .recorded(missing.into()))
            }
            LinkList::Ids(_) => Err(foreign(link)),
        }
    }

    /// Whether clicks of `link` may be converted; `offer` is `None` if the link is unknown.
    pub(crate) fn permission_by_offer(
        &self,
        link: LinkId,
        offer: Option<&str>,
    ) -> Result<(), Refusal> {
        match offer {
            Some(offer) if self.offers.iter().any(|own| own == offer) => Ok(()),
            Some(_) => Err(foreign(link)),
            None => {
                let recorded = format!("link {link} is not in the links file, or not yet");
                Err(Reason::UnknownLink
                    .because("the click's link is not known here; try again later")
                    .recorded(recorded))
            }
        }
    }

    /// Checks a stated payout against the maximum. Reversals have none.
    pub(crate) fn check_payout(
        &self,
        minor: i64,
        code: &str,
        status: ConversionStatus,
    ) -> Result<(), Refusal> {
        if self.max_payout.is_empty() || status.takes_back() {
            return Ok(());
        }
        let above = |why: &str| Reason::PayoutAboveMaximum.because(why.to_owned());
        let mut known = self.max_payout.iter();
        let (_, most) = known
            .find(|(known, _)| known.eq_ignore_ascii_case(code))
            .ok_or_else(|| above("the advertiser's max_payout names no such currency"))?;
        let most = amount::exact(most, amount::currency(code)?)?;
        if minor > most {
            return Err(above("the payout is above the advertiser's max_payout"));
        }
        Ok(())
    }

    /// Validates `max_payout`.
    pub(crate) fn check_max_payout(&self) -> Result<(), String> {
        let usable = |(code, most): (&String, &String)| {
            let currency = amount::currency(code).ok();
            currency.is_some_and(|currency| amount::exact(most, currency).is_ok())
        };
        if self.max_payout.iter().all(usable) {
            return Ok(());
        }
        Err("max_payout is { USD = \"500.00\" }, an amount for each currency".into())
    }

    /// Checks a report without its request: the click id must be signed by this deployment, and the advertiser must
    /// be allowed to report this click and payout. `offers` returns the offer of a link.
    ///
    /// # Errors
    /// If a check fails.
    pub fn check(
        &self,
        report: &Conversion<'_>,
        keys: &Keys,
        offers: impl Fn(LinkId) -> Option<String>,
    ) -> Result<(), Refusal> {
        let click = ClickId::parse(report.click_id.as_bytes());
        let click = click.map_err(|error| Reason::MalformedClickId.because(error.to_string()))?;
        let link = keys.verify(&click)?.link;
        if self.permission(link)? == Permission::ByOffer {
            self.permission_by_offer(link, offers(link).as_deref())?;
        }
        let status = ConversionStatus::from_name(&report.status);
        let status =
            status.ok_or_else(|| Reason::UnknownStatus.because("the status is not known"))?;
        if report.stated.payout {
            self.check_payout(report.payout_minor, &report.currency, status)?;
        }
        Ok(())
    }
}

fn foreign(link: LinkId) -> Refusal {
    let recorded = format!("link {link} is not one of the advertiser's links or offers");
    Reason::ForeignClick
        .because("the click is not of the advertiser's links or offers")
        .recorded(recorded)
}
