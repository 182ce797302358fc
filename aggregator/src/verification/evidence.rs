//! Verifies one report against the operator's files. Invariant: no files and no store here.

use crate::report::LocatedEvent;
use crate::unproven::{Unproven, UnprovenReason as Reason};
use domain::{ConversionStatus, Currency, LinkId, Micros};
use kyc_webhook::Scheme;
use postback::{Advertiser, Decision, Keys, Postback, Refused, Request, Verified};
use std::collections::{BTreeMap, HashMap};
use tracker_api as messages;
use tracking_events::{Conversion, Event, KycUpdate, SignedRequest, Stated};

/// The longest time between a function's clock reading and the event of the edge, in seconds.
const CALL_SECONDS: u64 = 300;

/// The content of the operator's files.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The entries of advertisers and path keys, in the format that functions read.
    pub(super) advertisers: BTreeMap<String, Vec<u8>>,
    /// The offer of each link.
    pub(super) offers: HashMap<u32, Box<str>>,
    /// The click id keys of the fleet, once the file exists.
    pub(super) keys: Option<Keys>,
    /// The signature scheme of webhooks.
    pub(super) scheme: Result<Scheme, &'static str>,
    pub(super) limits: UnsignedLimits,
}

/// The limits of unsigned reports of one node.
#[derive(Debug)]
pub(crate) struct UnsignedLimits {
    pub(crate) reports_per_minute: usize,
    /// In whole units, for currencies that `amounts_per_day` lacks.
    pub(crate) amount_per_day: u64,
    pub(crate) amounts_per_day: BTreeMap<String, u64>,
}

/// The result of a verification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The report agrees with its signed request, or needs no proof.
    Complete,
    /// As `Complete`, but only the first report with this signed request counts; contains the hash of the signed bytes.
    ValidOnce(String),
    /// Only a shared secret protects the report, and edges know it: it counts towards the node's limits.
    SharedSecret,
    /// The click id's key is unknown.
    UnknownClickKey(Unproven),
    /// The report is not proven.
    None(Unproven),
}

impl UnsignedLimits {
    /// The highest amount that a node may report in a day, in minor units of the currency.
    pub(crate) fn minor_per_day(&self, currency: Currency) -> i64 {
        let units = self.amounts_per_day.get(currency.code());
        let units = *units.unwrap_or(&self.amount_per_day);
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        units.saturating_mul(10_i64.saturating_pow(currency.digits()))
    }
}

impl Evidence {
    pub(crate) const fn limits(&self) -> &UnsignedLimits {
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
            return unknown_key("the aggregator has no click id keys", report);
        };
        let reported = message(report);
        let Some(request) = &report.signed else {
            return self.unsigned(report, &reported, keys);
        };
        match self.derive(&request_of(request), keys, report.time) {
            Ok(proven) => match difference(&proven.conversion, &reported) {
                None => proven.valid_once.map_or(Proof::Complete, |signed| {
                    Proof::ValidOnce(identity(report.advertiser, &signed))
                }),
                Some(field) => none(
                    Reason::Altered,
                    &format!("the report differs from its signed request: {field}"),
                ),
            },
            Err(refused) if is_unknown_key(refused.rejection.reason) => {
                unknown_key(&why(&refused), report)
            }
            Err(refused) => none(Reason::NotProven, &why(&refused)),
        }
    }

    /// Derives the report from its signed request, as the function does.
    fn derive(
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
            return none(Reason::NotProven, "unknown advertiser");
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

    /// The advertiser's name and entry for a key of the store.
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
            let why = "the identity check lacks its signed webhook";
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
                    &format!("the identity check differs from its signed webhook: {field}"),
                )),
            },
            Decision::Acknowledge(_) => {
                let why = "the signed webhook reports no identity check";
                Err(Unproven::new(Reason::KycNotProven, why))
            }
            Decision::Refuse(refused) => Err(Unproven::new(Reason::KycNotProven, &why(&refused))),
        }
    }
}

impl Proof {
    /// The amount that counts towards the node's daily limit, in minor units; 0 for reports that take money back.
    pub(crate) const fn charged_minor(report: &Conversion<'_>) -> i64 {
        match report.status {
            ConversionStatus::Rejected | ConversionStatus::Chargeback => 0,
            _ => report.payout.minor,
        }
    }
}

/// The hash that identifies an advertiser's signed bytes.
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

/// The recorded explanation of a refusal; it contains nothing of the request.
fn why(refused: &Refused) -> String {
    let rejection = &refused.rejection;
    format!(
        "{} {}: {}",
        rejection.reason, rejection.reason_name, rejection.detail
    )
}

/// The request as the function received it, except for its source address.
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

/// The message that the function must have sent.
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
        currency: report.payout.currency.code().to_owned().into(),
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

/// The first field in which two reports differ, apart from address and request.
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
        ("stated fields", proven.stated == reported.stated),
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
