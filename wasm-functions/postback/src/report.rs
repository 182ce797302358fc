//! Reads a report from the authenticated parameters: click, event, status, payout and transaction, and whether each
//! is stated.

use crate::advertiser::Advertiser;
use crate::advertiser::is_answer;
use crate::amount::{self, Amount};
use crate::dialect::{Field, Table};
use crate::keys::Keys;
use crate::parameters::Parameters;
use domain::{ConversionKind, ConversionStatus, Currency, LinkId, Micros};
use functions_shared::{Reason, Refusal};
use tracking_events::ClickId;

/// Maximum length of a transaction id in bytes.
const MAX_TRANSACTION_BYTES: usize = 128;
/// Maximum length of an event name in bytes.
const MAX_EVENT_BYTES: usize = 64;
/// Allowed clock difference between edges in microseconds.
const CLOCK_SKEW: u64 = 300_000_000;
const DAY: u64 = 86_400_000_000;

/// Event and status, and whether the report states them.
pub(crate) struct Outcome<'a> {
    pub(crate) kind: ConversionKind,
    pub(crate) kind_name: &'a str,
    pub(crate) status: ConversionStatus,
    pub(crate) kind_stated: bool,
    pub(crate) status_stated: bool,
}

/// A payout, and whether the report states it.
pub(crate) struct Payout<'a> {
    pub(crate) minor: i64,
    pub(crate) currency: Currency,
    pub(crate) stated: bool,
    pub(crate) currency_stated: bool,
    /// The amount as sent, if it was rounded.
    pub(crate) as_sent: &'a str,
}

/// An authenticated request with its advertiser.
pub(crate) struct Report<'a> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) advertiser: &'a Advertiser,
    /// Whether the request's path means a reversal.
    pub(crate) reversal: bool,
}

impl Report<'_> {
    fn find(&self, field: Field) -> Result<Option<&str>, Refusal> {
        self.parameters.find(&self.advertiser.names(field))
    }

    /// The response to a report that its sender declares as meaningless, such as a test.
    pub(crate) fn ignored(&self) -> Result<Option<String>, Refusal> {
        let list = self.advertiser.dialect.table().ignored_list;
        match self.find(Field::Status)? {
            Some(word) if self.lists(list, word)? => Ok(Some(self.answer())),
            _ => Ok(None),
        }
    }

    /// The response to an accepted report: the sender's expected one, if it names one.
    pub(crate) fn answer(&self) -> String {
        let parameter = self.advertiser.dialect.table().answer_parameter;
        let expected = self.parameters.find(parameter).unwrap_or_default();
        let expected = expected.filter(|text| is_answer(text));
        expected.unwrap_or(self.advertiser.answer()).to_owned()
    }

    /// Whether the parameter under one of `names` lists `word`.
    fn lists(&self, names: &[&str], word: &str) -> Result<bool, Refusal> {
        let words = self.parameters.find(names)?.unwrap_or_default();
        let mut words = words.split(',');
        Ok(words.any(|it| it.trim().eq_ignore_ascii_case(word)))
    }

    /// The click and its link; with `now` the click's age is checked.
    pub(crate) fn click(
        &self,
        keys: &Keys,
        now: Option<Micros>,
    ) -> Result<(ClickId, LinkId), Refusal> {
        let names = self.advertiser.names(Field::ClickId);
        let text = self.find(Field::ClickId)?;
        let text = text.ok_or_else(|| {
            Reason::MissingClickId.because(format!("{} is expected", names.join(" or ")))
        })?;
        let click = ClickId::parse(text.as_bytes());
        let click = click.map_err(|error| Reason::MalformedClickId.because(error.to_string()))?;
        let parts = keys.verify(&click)?;
        if let Some(now) = now {
            self.check_age(parts.time, now)?;
        }
        Ok((click, parts.link))
    }

    fn check_age(&self, click: Micros, now: Micros) -> Result<(), Refusal> {
        let days = self.advertiser.max_click_age_days;
        if click.0 > now.0.saturating_add(CLOCK_SKEW) {
            return Err(Reason::ExpiredClick.because("the click is in the future"));
        }
        if now.0.saturating_sub(click.0) > u64::from(days) * DAY {
            return Err(Reason::ExpiredClick.because(format!("clicks convert within {days} days")));
        }
        Ok(())
    }

    /// Event, its name and status. The default is an approved sale.
    pub(crate) fn outcome(&self) -> Result<Outcome<'_>, Refusal> {
        let (status, kind, status_stated) = self.status()?;
        let Some(word) = self.find(Field::Event)? else {
            return Ok(Outcome {
                kind: kind.unwrap_or(ConversionKind::Sale),
                kind_name: "",
                status,
                kind_stated: kind.is_some(),
                status_stated,
            });
        };
        if word.len() > MAX_EVENT_BYTES {
            let most = format!("an event's name is at most {MAX_EVENT_BYTES} bytes long");
            return Err(Reason::ParameterTooLong.because(most));
        }
        let table = self.advertiser.dialect.table();
        let own = self.advertiser.own_event(word);
        // A refund or rejection reported as an event must not be paid as one.
        if own.is_none()
            && let Some(status) = Table::taken_back(word)
        {
            return Ok(Outcome {
                kind: ConversionKind::Sale,
                kind_name: word,
                status,
                kind_stated: false,
                status_stated: true,
            });
        }
        let event = own.or_else(|| table.event(word)).ok_or_else(|| {
            let known = "lead, sale, rebill, upsell, install and custom are known";
            Reason::UnknownEvent.because(known)
        })?;
        Ok(Outcome {
            kind: event,
            kind_name: word,
            status,
            kind_stated: true,
            status_stated,
        })
    }

    /// The status, the event if the status word names one, and whether it is stated.
    fn status(&self) -> Result<(ConversionStatus, Option<ConversionKind>, bool), Refusal> {
        let table = self.advertiser.dialect.table();
        if self.reversal {
            return Ok((ConversionStatus::Chargeback, None, true));
        }
        let Some(word) = self.find(Field::Status)? else {
            return Ok((ConversionStatus::Approved, None, false));
        };
        if let Some(own) = self.advertiser.own_status(word) {
            return Ok((own, None, true));
        }
        for (list, status) in table.status_lists {
            if self.lists(&[*list], word)? {
                return Ok((*status, None, true));
            }
        }
        let (status, kind) = table.status(word).ok_or_else(|| {
            Reason::UnknownStatus.because("the status is not known; status_words may name it")
        })?;
        Ok((status, kind, true))
    }

    /// The payout in minor units with its currency; 0 if none is stated. For a reversal it is the reversed amount,
    /// with or without a minus.
    pub(crate) fn payout(&self, status: ConversionStatus) -> Result<Payout<'_>, Refusal> {
        let sent = self.find(Field::Currency)?;
        let code = sent
            .or(self.advertiser.currency.as_deref())
            .ok_or_else(|| {
                Reason::UnknownCurrency.because("no currency was sent, and the advertiser has none")
            })?;
        let currency = amount::currency(code)?;
        let text = self.find(Field::Payout)?;
        let notation = self.advertiser.notation();
        let Amount { minor, rounded } = amount::read(text.unwrap_or("0"), currency, notation)?;
        if minor < 0 && !status.takes_back() {
            let why =
                "only a reversal may be negative: its event or status must be one, such as refund";
            return Err(Reason::BadAmount.because(why));
        }
        let minor = minor.abs();
        if text.is_some() {
            self.advertiser
                .check_payout(minor, currency.code(), status)?;
        }
        Ok(Payout {
            minor,
            currency,
            stated: text.is_some(),
            currency_stated: sent.is_some(),
            as_sent: text.filter(|_| rounded).unwrap_or_default(),
        })
    }

    pub(crate) fn transaction(&self) -> Result<&str, Refusal> {
        let text = self.find(Field::TransactionId)?.unwrap_or_default();
        if text.len() > MAX_TRANSACTION_BYTES {
            let most = format!("a transaction id is at most {MAX_TRANSACTION_BYTES} bytes long");
            return Err(Reason::ParameterTooLong.because(most));
        }
        Ok(text)
    }
}
