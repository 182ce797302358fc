//! The dialects, one table each: parameter names, and words for statuses and events.

use domain::ConversionKind as Kind;
use domain::ConversionStatus as Status;
use serde::Deserialize;

/// The meaning of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Field {
    ClickId,
    TransactionId,
    Payout,
    Currency,
    Status,
    Event,
}

/// Words for statuses; some imply an event, too.
type StatusWords = &'static [(&'static str, Status, Option<Kind>)];

/// The notation of a network's postbacks, with the possible names of each field.
pub(crate) struct Table {
    /// Its name in conversions.
    pub(crate) name: &'static str,
    click_id: &'static [&'static str],
    transaction_id: &'static [&'static str],
    payout: &'static [&'static str],
    currency: &'static [&'static str],
    status: &'static [&'static str],
    event: &'static [&'static str],
    /// Checked before the common words.
    status_words: StatusWords,
    /// Parameters that list the sender's own words for a status, separated by commas.
    pub(crate) status_lists: &'static [(&'static str, Status)],
    /// The parameter that lists meaningless statuses, separated by commas.
    pub(crate) ignored_list: &'static [&'static str],
    /// The parameter with the response that the sender expects.
    pub(crate) answer_parameter: &'static [&'static str],
    /// Whether amounts are written `1.234,56`.
    pub(crate) decimal_comma: bool,
    /// Whether events may have names and numbers that only the advertiser knows.
    custom_events: bool,
    /// The response to an accepted report.
    pub(crate) answer: &'static str,
}

const GENERIC: Table = Table {
    name: "generic",
    click_id: &["click_id", "clickid"],
    transaction_id: &["transaction_id", "txid"],
    payout: &["payout", "amount"],
    currency: &["currency"],
    status: &["status"],
    event: &["event"],
    status_words: &[],
    status_lists: &[],
    ignored_list: &[],
    answer_parameter: &[],
    decimal_comma: false,
    custom_events: false,
    answer: "OK",
};

/// <https://doc.voluum.com/article/parameters-in-postback-urls>
const VOLUUM: Table = Table {
    name: "voluum",
    click_id: &["cid"],
    transaction_id: &["txid"],
    payout: &["payout"],
    event: &["et"],
    custom_events: true,
    ..GENERIC
};

/// <https://docs.keitaro.io/en/conversions/postback.html>. A lead is a sale whose payout is not confirmed yet; it
/// must remain the same conversion when it is.
const KEITARO: Table = Table {
    name: "keitaro",
    click_id: &["subid"],
    transaction_id: &["tid"],
    payout: &["payout", "revenue"],
    status_words: &[
        ("lead", Status::Pending, None),
        ("sale", Status::Approved, None),
        ("rebill", Status::Approved, Some(Kind::Rebill)),
        ("registration", Status::Approved, Some(Kind::Lead)),
    ],
    status_lists: &[
        ("sale_status", Status::Approved),
        ("lead_status", Status::Pending),
        ("rejected_status", Status::Rejected),
    ],
    ignored_list: &["ignore_status"],
    answer_parameter: &["return"],
    custom_events: true,
    ..GENERIC
};

/// <https://helpdesk.everflow.io/customer/accessing-editing-s2s-postback-urls>, which writes amounts with a comma.
const EVERFLOW: Table = Table {
    name: "everflow",
    click_id: &["transaction_id"],
    transaction_id: &["order_id"],
    payout: &["amount"],
    event: &["event_id", "adv_event_id"],
    decimal_comma: true,
    custom_events: true,
    ..GENERIC
};

/// <https://support.tune.com/hc/en-us/articles/4413247665431-Receiving-Conversions-via-Postback-URL>
const TUNE: Table = Table {
    name: "tune",
    click_id: &["transaction_id"],
    transaction_id: &["adv_sub"],
    payout: &["amount"],
    event: &["goal_id"],
    custom_events: true,
    answer: "success=true;",
    ..GENERIC
};

/// <https://help-center.affise.com/en/articles/6475468-affise-postback-url-parameters>
const AFFISE: Table = Table {
    name: "affise",
    click_id: &["clickid", "click_id"],
    transaction_id: &["action_id"],
    payout: &["sum"],
    event: &["goal"],
    status_words: &[
        ("1", Status::Approved, None),
        ("2", Status::Pending, None),
        ("3", Status::Rejected, None),
        ("5", Status::Hold, None),
    ],
    custom_events: true,
    ..GENERIC
};

/// <https://docs.binom.org/postback-url.php>
const BINOM: Table = Table {
    name: "binom",
    click_id: &["cnv_id"],
    transaction_id: &["txid"],
    payout: &["payout"],
    currency: &["cnv_currency"],
    status: &["cnv_status"],
    status_words: &[
        ("lead", Status::Approved, Some(Kind::Lead)),
        ("signup", Status::Approved, Some(Kind::Lead)),
    ],
    custom_events: true,
    ..GENERIC
};

/// <https://help.redtrack.io/knowledgebase/kb/conversion-tracking/supported-dynamic-parameters>
const REDTRACK: Table = Table {
    name: "redtrack",
    click_id: &["clickid"],
    payout: &["sum"],
    event: &["type"],
    custom_events: true,
    ..GENERIC
};

/// <https://support.getcake.com/support/solutions/articles/5000546124-conversion-pixel-variables>
const CAKE: Table = Table {
    name: "cake",
    click_id: &["r"],
    transaction_id: &["t"],
    payout: &["p"],
    currency: &["eccu", "currency"],
    event: &["e"],
    custom_events: true,
    ..GENERIC
};

/// Words for statuses in all dialects.
const STATUS_WORDS: StatusWords = &[
    ("approved", Status::Approved, None),
    ("approve", Status::Approved, None),
    ("confirmed", Status::Approved, None),
    ("accepted", Status::Approved, None),
    ("paid", Status::Approved, None),
    ("pending", Status::Pending, None),
    ("waiting", Status::Pending, None),
    ("wait", Status::Pending, None),
    ("new", Status::Pending, None),
    ("rejected", Status::Rejected, None),
    ("reject", Status::Rejected, None),
    ("declined", Status::Rejected, None),
    ("decline", Status::Rejected, None),
    ("cancelled", Status::Rejected, None),
    ("canceled", Status::Rejected, None),
    ("cancel", Status::Rejected, None),
    ("trash", Status::Rejected, None),
    ("hold", Status::Hold, None),
    ("on_hold", Status::Hold, None),
    ("chargeback", Status::Chargeback, None),
    ("refund", Status::Chargeback, None),
    ("refunded", Status::Chargeback, None),
];

/// Words for events in all dialects; 0 is the base event of networks that number events.
const EVENT_WORDS: &[(&str, Kind)] = &[
    ("lead", Kind::Lead),
    ("signup", Kind::Lead),
    ("registration", Kind::Lead),
    ("reg", Kind::Lead),
    ("sale", Kind::Sale),
    ("purchase", Kind::Sale),
    ("order", Kind::Sale),
    ("conversion", Kind::Sale),
    ("0", Kind::Sale),
    ("rebill", Kind::Rebill),
    ("recurring", Kind::Rebill),
    ("renewal", Kind::Rebill),
    ("upsell", Kind::Upsell),
    ("install", Kind::Install),
    ("custom", Kind::Custom),
];

/// The dialect of an advertiser's postbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    Generic,
    Voluum,
    Keitaro,
    Everflow,
    Tune,
    Affise,
    Binom,
    Redtrack,
    Cake,
}

impl Dialect {
    pub(crate) const fn table(self) -> &'static Table {
        match self {
            Self::Generic => &GENERIC,
            Self::Voluum => &VOLUUM,
            Self::Keitaro => &KEITARO,
            Self::Everflow => &EVERFLOW,
            Self::Tune => &TUNE,
            Self::Affise => &AFFISE,
            Self::Binom => &BINOM,
            Self::Redtrack => &REDTRACK,
            Self::Cake => &CAKE,
        }
    }
}

impl Table {
    pub(crate) const fn names(&self, field: Field) -> &'static [&'static str] {
        match field {
            Field::ClickId => self.click_id,
            Field::TransactionId => self.transaction_id,
            Field::Payout => self.payout,
            Field::Currency => self.currency,
            Field::Status => self.status,
            Field::Event => self.event,
        }
    }

    /// The status of a word, and the event that it implies, if any.
    pub(crate) fn status(&self, word: &str) -> Option<(Status, Option<Kind>)> {
        let mut words = self.status_words.iter().chain(STATUS_WORDS);
        let found = words.find(|(known, _, _)| known.eq_ignore_ascii_case(word));
        found.map(|(_, status, kind)| (*status, *kind))
    }

    /// The status of an event word that means a reversal, in all dialects.
    pub(crate) fn taken_back(word: &str) -> Option<Status> {
        let mut words = STATUS_WORDS.iter();
        let (_, status, _) = words.find(|(known, _, _)| known.eq_ignore_ascii_case(word))?;
        matches!(status, Status::Rejected | Status::Chargeback).then_some(*status)
    }

    /// The event of a word.
    pub(crate) fn event(&self, word: &str) -> Option<Kind> {
        let mut words = EVENT_WORDS.iter();
        let known = words.find(|(known, _)| known.eq_ignore_ascii_case(word));
        let custom = self.custom_events.then_some(Kind::Custom);
        known.map(|(_, kind)| *kind).or(custom)
    }
}
