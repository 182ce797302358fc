//! From a request to a conversion, or to why not.

use crate::advertiser::Advertiser;
use crate::dialect::{Field, Table};
use crate::parameters::Parameters;
use crate::route::{self, Named};
use crate::{amount, auth, mask};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use functions_shared::{Decision, Reason, Refusal, Refused, Request};
use tracker_api::Conversion;
use tracking_events::{
    ClickId, ClickIdError, ConversionKind, ConversionStatus, KeyId, KeyRing, MacKey, Micros,
};

/// The longest transaction id, in bytes.
const MAX_TRANSACTION_BYTES: usize = 128;
/// The longest name of an event, in bytes.
const MAX_EVENT_BYTES: usize = 64;
/// Clocks of edges may differ by so much, in microseconds.
const CLOCK_SKEW: u64 = 300_000_000;
const DAY: u64 = 86_400_000_000;

/// The fleet's click id keys.
#[derive(Debug, Clone)]
pub struct Keys(KeyRing);

impl Keys {
    /// Reads `1:HEX,2:HEX`, 64 hexadecimal digits each.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut keys = Vec::new();
        for entry in text.split(',') {
            let (id, secret) = entry.trim().split_once(':')?;
            let secret: [u8; 32] = HEX.decode(secret.as_bytes()).ok()?.try_into().ok()?;
            keys.push((KeyId::new(id.parse().ok()?).ok()?, MacKey::new(secret)));
        }
        // Which one signs is of no concern to who only verifies.
        let any = keys.first()?.0;
        KeyRing::new(any, keys).ok().map(Self)
    }
}

/// A request that has been read, as far as that is possible without the advertiser's entry.
#[derive(Debug)]
pub struct Postback<'r> {
    request: &'r Request,
    parameters: Parameters,
    named: Named,
}

/// What the parts of a decision look at.
struct Report<'a> {
    parameters: &'a Parameters,
    advertiser: &'a Advertiser,
}

impl<'r> Postback<'r> {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none that could be a postback.
    pub fn read(request: &'r Request) -> Result<Self, Box<Refused>> {
        let read = || {
            if !matches!(request.method.as_str(), "GET" | "POST") {
                return Err(Reason::MethodNotAllowed.because("GET and POST are taken"));
            }
            if request.broken {
                let broken = "the body broke off before its end";
                return Err(Reason::MalformedQuery.because(broken));
            }
            let kind = request.header("content-type").unwrap_or_default();
            let parameters = Parameters::read(&request.query, kind, &request.body)?;
            let named = route::named(&request.path, &parameters)?;
            Ok((parameters, named))
        };
        match read() {
            Ok((parameters, named)) => Ok(Self {
                request,
                parameters,
                named,
            }),
            Err(refusal) => Err(Box::new(refused(refusal, request, "", None))),
        }
    }

    /// Under which key of the store its advertiser is. Begins with `key/` when the entry there only says
    /// who that is: see [`alias`](crate::alias).
    #[must_use]
    pub fn key(&self) -> &str {
        &self.named.key
    }

    /// Decides, by the entry of the advertiser `name`.
    #[must_use]
    pub fn decide(
        &self,
        name: &str,
        entry: Option<&[u8]>,
        keys: &Keys,
        now: Micros,
    ) -> Decision<Conversion<'static>> {
        let refuse = |refusal: Refusal, advertiser: Option<&Advertiser>| {
            // Who nobody knows is nobody's name.
            let party = if entry.is_some() { name } else { "" };
            Decision::Refuse(Box::new(refused(refusal, self.request, party, advertiser)))
        };
        let Some(read) = entry.map(Advertiser::read) else {
            return refuse(route::unknown(), None);
        };
        let advertiser = match read {
            Ok(advertiser) => advertiser,
            Err(wrong) => {
                let told = "the advertiser is not set up right; try again later";
                return refuse(
                    Reason::AdvertiserMisconfigured
                        .because(told)
                        .recorded(wrong),
                    None,
                );
            }
        };
        match self.conversion(name, &advertiser, keys, now) {
            Ok(conversion) => Decision::Accept(conversion, advertiser.answer().to_owned()),
            Err(refusal) => refuse(refusal, Some(&advertiser)),
        }
    }

    fn conversion(
        &self,
        name: &str,
        advertiser: &Advertiser,
        keys: &Keys,
        now: Micros,
    ) -> Result<Conversion<'static>, Refusal> {
        let (secret, all) = (&self.named.secret, &self.parameters);
        let places = auth::believed(advertiser, self.request, secret, all)?;
        let report = Report {
            parameters: &all.only(&places),
            advertiser,
        };
        let click = report.click(keys, now)?;
        let (kind, kind_name, status) = report.outcome()?;
        let (payout_minor, currency) = report.payout()?;
        Ok(Conversion {
            advertiser: name.to_owned().into(),
            click_id: click.to_string().into(),
            kind: kind.as_str().into(),
            kind_name: kind_name.to_owned().into(),
            transaction: report.transaction()?.to_owned().into(),
            status: status.as_str().into(),
            payout_minor,
            currency: currency.into(),
            dialect: advertiser.dialect.table().name.into(),
            address: self.request.client_text().into(),
        })
    }
}

fn refused(
    refusal: Refusal,
    request: &Request,
    party: &str,
    advertiser: Option<&Advertiser>,
) -> Refused {
    let hidden = advertiser.map(Advertiser::hidden);
    let Request {
        method,
        path,
        query,
        ..
    } = request;
    let shown = mask::masked(method, path, query, party, hidden.as_ref());
    refusal.of("postback", party, shown, request)
}

impl Report<'_> {
    fn find(&self, field: Field) -> Result<Option<&str>, Refusal> {
        self.parameters.find(&self.advertiser.names(field))
    }

    fn click(&self, keys: &Keys, now: Micros) -> Result<ClickId, Refusal> {
        let names = self.advertiser.names(Field::ClickId);
        let text = self.find(Field::ClickId)?;
        let text = text.ok_or_else(|| {
            Reason::MissingClickId.because(format!("{} is expected", names.join(" or ")))
        })?;
        let click = ClickId::parse(text.as_bytes());
        let click = click.map_err(|error| Reason::MalformedClickId.because(error.to_string()))?;
        let parts = keys.0.verify(&click).map_err(|error: ClickIdError| {
            let told = "the click id is not one of this fleet's";
            Reason::ForgedClickId
                .because(told)
                .recorded(error.to_string())
        })?;
        let days = self.advertiser.max_click_age_days;
        if parts.time.0 > now.0.saturating_add(CLOCK_SKEW) {
            return Err(Reason::ExpiredClick.because("the click is in the future"));
        }
        if now.0.saturating_sub(parts.time.0) > u64::from(days) * DAY {
            return Err(Reason::ExpiredClick.because(format!("clicks convert within {days} days")));
        }
        Ok(click)
    }

    /// What happened, its name, and how it stands. Without a word for it, a sale that is approved.
    fn outcome(&self) -> Result<(ConversionKind, &str, ConversionStatus), Refusal> {
        let (status, kind) = self.status()?;
        let Some(word) = self.find(Field::Event)? else {
            return Ok((kind.unwrap_or(ConversionKind::Sale), "", status));
        };
        if word.len() > MAX_EVENT_BYTES {
            let most = format!("an event's name is at most {MAX_EVENT_BYTES} bytes long");
            return Err(Reason::ParameterTooLong.because(most));
        }
        let table = self.advertiser.dialect.table();
        let own = self.advertiser.own_event(word);
        // A refund or a refusal reported as an event must not be paid as one.
        if own.is_none()
            && let Some(status) = Table::taken_back(word)
        {
            return Ok((ConversionKind::Sale, word, status));
        }
        let event = own.or_else(|| table.event(word)).ok_or_else(|| {
            let known = "lead, sale, rebill, upsell, install and custom are known";
            Reason::UnknownEvent.because(known)
        })?;
        Ok((event, word, status))
    }

    fn status(&self) -> Result<(ConversionStatus, Option<ConversionKind>), Refusal> {
        let table = self.advertiser.dialect.table();
        let Some(word) = self.find(Field::Status)? else {
            return Ok((ConversionStatus::Approved, None));
        };
        if let Some(own) = self.advertiser.own_status(word) {
            return Ok((own, None));
        }
        for (list, status) in table.status_lists {
            let words = self.parameters.find(&[*list])?.unwrap_or_default();
            if words
                .split(',')
                .any(|it| it.trim().eq_ignore_ascii_case(word))
            {
                return Ok((*status, None));
            }
        }
        table.status(word).ok_or_else(|| {
            Reason::UnknownStatus.because("the status is not known; status_words may name it")
        })
    }

    /// In minor units, and of which currency.
    fn payout(&self) -> Result<(i64, &'static str), Refusal> {
        let code = self.find(Field::Currency)?;
        let code = code
            .or(self.advertiser.currency.as_deref())
            .ok_or_else(|| {
                Reason::UnknownCurrency.because("no currency was sent, and the advertiser has none")
            })?;
        let currency = amount::currency(code)?;
        let text = self.find(Field::Payout)?.unwrap_or("0");
        Ok((amount::minor(text, currency)?, currency.code()))
    }

    fn transaction(&self) -> Result<&str, Refusal> {
        let text = self.find(Field::TransactionId)?.unwrap_or_default();
        if text.len() > MAX_TRANSACTION_BYTES {
            let most = format!("a transaction id is at most {MAX_TRANSACTION_BYTES} bytes long");
            return Err(Reason::ParameterTooLong.because(most));
        }
        Ok(text)
    }
}
