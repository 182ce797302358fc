//! What a report is verified by, and what comes of it. Neither files nor the store are known here.

use crate::currency;
use crate::report::LocatedEvent;
use crate::unproven::{Unproven, UnprovenReason as Reason};
use kyc_webhook::Scheme;
use postback::{Advertiser, Decision, Keys, Postback, Refused, Request, Verified};
use std::collections::{BTreeMap, HashMap};
use tracker_api as messages;
use tracking_events::{
    Conversion, ConversionStatus, Event, KycUpdate, LinkId, Micros, SignedRequest, Stated,
};

/// An edge writes an event at most so long after the function looked at its clock, in seconds.
const CALL_SECONDS: u64 = 300;

/// What reports are verified by.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// Entries of advertisers and of path keys, as functions find them.
    pub(super) advertisers: BTreeMap<String, Vec<u8>>,
    /// The offer of each link.
    pub(super) offers: HashMap<u32, Box<str>>,
    /// The fleet's click id keys, once they are there.
    pub(super) keys: Option<Keys>,
    /// How webhooks are signed.
    pub(super) scheme: Result<Scheme, &'static str>,
    pub(super) limits: Limits,
}

/// What a node may report without signatures.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) reports_per_minute: usize,
    /// In whole units of a currency that `amounts_per_day` does not name.
    pub(crate) amount_per_day: u64,
    pub(crate) amounts_per_day: BTreeMap<String, u64>,
}

/// What is proven of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its signed request says what it says, or it needs no proof.
    Complete,
    /// As complete, and of its signed request, which this names, only the first counts.
    ValidOnce(String),
    /// It rests on a shared secret alone, which an edge knows: it counts towards the node's limits.
    SharedSecret,
    /// The click id's key is not known.
    UnknownClickKey(Unproven),
    /// None.
    None(Unproven),
}

impl Limits {
    /// The most that a node may report in a day, in minor units of a currency.
    pub(crate) fn minor_per_day(&self, code: &str) -> i64 {
        let units = self.amounts_per_day.get(code);
        let units = *units.unwrap_or(&self.amount_per_day);
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        units.saturating_mul(10_i64.saturating_pow(currency::digits(code).into()))
    }
}

impl Evidence {
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Verifies a report.
    pub(crate) fn verify(&self, report: &LocatedEvent<'_>) -> Proof {
        match &report.event {
            Event::Conversion(conversion) => self.conversion(conversion),
            Event::KycUpdate(update) => self
                .kyc_update(update)
                .map_or_else(Proof::None, |()| Proof::Complete),
            _ => Proof::Complete,
        }
    }

    fn conversion(&self, report: &Conversion<'_>) -> Proof {
        let none = |reason, why: &str| Proof::None(Unproven::conversion(reason, why, report));
        let Some(keys) = &self.keys else {
            return unknown_key("there are no click id keys here", report);
        };
        let reported = message(report);
        let Some(request) = &report.signed else {
            return self.unsigned(report, &reported, keys);
        };
        match self.again(&request_of(request), keys, report.time) {
            Ok(proven) => match difference(&proven.conversion, &reported) {
                None => proven.valid_once.map_or(Proof::Complete, |signed| {
                    Proof::ValidOnce(identity(report.advertiser, &signed))
                }),
                Some(field) => none(
                    Reason::Altered,
                    &format!("the signed request says something else: {field}"),
                ),
            },
            Err(refused) if is_unknown_key(refused.rejection.reason) => {
                unknown_key(&why(&refused), report)
            }
            Err(refused) => none(Reason::NotProven, &why(&refused)),
        }
    }

    /// What a signed request reports, as the function decides it.
    fn again(
        &self,
        request: &Request,
        keys: &Keys,
        reported: Micros,
    ) -> Result<Verified, Box<Refused>> {
        let postback = Postback::read(request)?;
        let (name, entry) = self.advertiser(postback.key());
        postback.verify(&name, entry, keys, reported, |link| self.offer(link))
    }

    fn unsigned(
        &self,
        report: &Conversion<'_>,
        reported: &messages::Conversion<'_>,
        keys: &Keys,
    ) -> Proof {
        let none = |reason, why: &str| Proof::None(Unproven::conversion(reason, why, report));
        let Some(entry) = self.advertisers.get(report.advertiser) else {
            return none(Reason::NotProven, "no advertiser has this name here");
        };
        let advertiser = match Advertiser::read(entry) {
            Ok(advertiser) => advertiser,
            Err(wrong) => return none(Reason::NotProven, &wrong),
        };
        if advertiser.requires_signature() {
            return none(Reason::NotSigned, "the advertiser signs its reports");
        }
        if report.payout.minor < 0 {
            return none(Reason::NotProven, "the payout is negative");
        }
        match advertiser.check(reported, keys, |link| self.offer(link)) {
            Ok(()) => Proof::SharedSecret,
            Err(refusal) => {
                let (number, name) = (refusal.reason.number(), refusal.reason.name());
                let why = format!("{number} {name}: {}", refusal.recorded);
                if is_unknown_key(number) {
                    return unknown_key(&why, report);
                }
                none(Reason::NotProven, &why)
            }
        }
    }

    /// The advertiser under a key of the store, and its entry.
    fn advertiser(&self, key: &str) -> (String, Option<&[u8]>) {
        let entry = |key: &str| self.advertisers.get(key).map(Vec::as_slice);
        if !key.starts_with("key/") {
            return (key.to_owned(), entry(key));
        }
        match entry(key).and_then(postback::alias) {
            Some(name) => {
                let entry = entry(&name);
                (name, entry)
            }
            None => (String::new(), None),
        }
    }

    fn offer(&self, link: LinkId) -> Option<String> {
        self.offers.get(&link.0).map(|offer| String::from(&**offer))
    }

    fn kyc_update(&self, update: &KycUpdate<'_>) -> Result<(), Unproven> {
        let Some(request) = &update.signed else {
            let why = "identity checks come with the signed webhook";
            return Err(Unproven::new(Reason::KycNotSigned, why));
        };
        let scheme = self.scheme.clone();
        let scheme = scheme.map(|scheme| scheme.verified_later(CALL_SECONDS));
        let scheme = scheme.as_ref().map_err(|wrong| *wrong);
        match kyc_webhook::decide(&request_of(request), scheme, update.time) {
            Decision::Accept(proven, _) => match kyc_difference(&proven, update) {
                None => Ok(()),
                Some(field) => Err(Unproven::new(
                    Reason::KycAltered,
                    &format!("the signed webhook says something else: {field}"),
                )),
            },
            Decision::Acknowledge(_) => {
                let why = "the signed webhook says nothing";
                Err(Unproven::new(Reason::KycNotProven, why))
            }
            Decision::Refuse(refused) => Err(Unproven::new(Reason::KycNotProven, &why(&refused))),
        }
    }
}

impl Proof {
    /// What a report adds to its node's amount of the day, in minor units: nothing that takes money back.
    pub(crate) const fn charged_minor(report: &Conversion<'_>) -> i64 {
        match report.status {
            ConversionStatus::Rejected | ConversionStatus::Chargeback => 0,
            _ => report.payout.minor,
        }
    }
}

/// Names what an advertiser signed.
fn identity(advertiser: &str, signed: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(advertiser.len() as u64).to_le_bytes());
    hasher.update(advertiser.as_bytes());
    hasher.update(signed);
    hasher.finalize().to_hex().to_string()
}

fn unknown_key(why: &str, report: &Conversion<'_>) -> Proof {
    Proof::UnknownClickKey(Unproven::conversion(Reason::UnknownClickKey, why, report))
}

fn is_unknown_key(number: u16) -> bool {
    number == postback::Reason::UnknownClickKey.number()
}

/// What is recorded of a refusal: nothing of the request is in it.
fn why(refused: &Refused) -> String {
    let rejection = &refused.rejection;
    format!(
        "{} {}: {}",
        rejection.reason, rejection.reason_name, rejection.detail
    )
}

/// The request as the function saw it, but for where it came from.
fn request_of(signed: &SignedRequest<'_>) -> Request {
    let headers = signed.headers.iter();
    Request {
        method: signed.method.into(),
        path: signed.path.into(),
        query: signed.query.into(),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: signed.body.into(),
        ..Request::default()
    }
}

/// What the function must have reported.
fn message<'a>(report: &Conversion<'a>) -> messages::Conversion<'a> {
    let stated = |field| report.stated.contains(field);
    messages::Conversion {
        advertiser: report.advertiser.into(),
        click_id: report.click.to_string().into(),
        kind: report.kind.as_str().into(),
        kind_name: report.kind_name.into(),
        transaction: report.transaction.into(),
        status: report.status.as_str().into(),
        payout_minor: report.payout.minor,
        currency: report.payout.currency().to_owned().into(),
        payout_as_sent: report.payout_as_sent.into(),
        dialect: report.dialect.into(),
        address: "".into(),
        stated: messages::Stated {
            payout: stated(Stated::PAYOUT),
            currency: stated(Stated::CURRENCY),
            kind: stated(Stated::KIND),
            status: stated(Stated::STATUS),
        },
        signed: None,
    }
}

/// The first field in which two reports differ, but for address and request.
fn difference(
    proven: &messages::Conversion<'_>,
    reported: &messages::Conversion<'_>,
) -> Option<&'static str> {
    let same = [
        ("advertiser", proven.advertiser == reported.advertiser),
        ("click id", proven.click_id == reported.click_id),
        ("kind", proven.kind == reported.kind),
        ("event", proven.kind_name == reported.kind_name),
        ("transaction", proven.transaction == reported.transaction),
        ("status", proven.status == reported.status),
        ("payout", proven.payout_minor == reported.payout_minor),
        (
            "payout as sent",
            proven.payout_as_sent == reported.payout_as_sent,
        ),
        ("currency", proven.currency == reported.currency),
        ("dialect", proven.dialect == reported.dialect),
        ("what it states", proven.stated == reported.stated),
    ];
    differing(&same)
}

fn kyc_difference(
    proven: &messages::KycUpdate<'_>,
    reported: &KycUpdate<'_>,
) -> Option<&'static str> {
    let same = [
        ("provider", proven.provider == reported.provider),
        ("delivery", proven.delivery == reported.delivery),
        ("affiliate", proven.affiliate == reported.affiliate),
        ("status", proven.status == reported.status.as_str()),
        ("tier", proven.tier == reported.tier),
        ("time", proven.happened_micros == reported.happened.0),
    ];
    differing(&same)
}

fn differing(same: &[(&'static str, bool)]) -> Option<&'static str> {
    let mut fields = same.iter();
    fields.find(|(_, same)| !same).map(|(field, _)| *field)
}
