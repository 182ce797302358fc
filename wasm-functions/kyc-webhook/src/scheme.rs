//! The signature scheme of webhooks: its settings, and the verification of requests.

use domain::Micros;
use functions_shared::{Reason, Refusal, Request, Secret};
use std::collections::BTreeMap;

/// Minimum length of a key in bytes.
const MIN_KEY_BYTES: usize = 16;
/// Maximum window in seconds: a day.
const MAX_WINDOW: u64 = 86_400;

/// Further signatures are ignored.
const MAX_SIGNATURES: usize = 8;

/// The settings from the variables of the same names.
#[derive(Clone, Default)]
pub struct Variables {
    /// `kyc_keys`: keys separated by commas.
    pub keys: String,
    /// `kyc_signed`: the signed text.
    pub signed: String,
    /// `kyc_window`: validity of a signature in seconds.
    pub window: String,
    /// `kyc_signature_header`: the header with the signature.
    pub signature_header: String,
    /// `kyc_timestamp_header`: the header with the time in seconds since 1970.
    pub timestamp_header: String,
    /// `kyc_delivery_header`: the header with the delivery id.
    pub delivery_header: String,
}

/// The defaults of the deployed manifest.
const DEFAULTS: [(&str, &str); 6] = [
    ("kyc_keys", ""),
    ("kyc_signature_header", "x-verifymy-signature"),
    ("kyc_timestamp_header", "x-verifymy-timestamp"),
    ("kyc_delivery_header", "x-verifymy-delivery"),
    ("kyc_signed", "{timestamp}.{body}"),
    ("kyc_window", "300"),
];

impl Variables {
    /// The operator's values, with defaults for the others.
    fn given(values: &BTreeMap<String, String>) -> Self {
        let value = |name: &str| {
            let default = DEFAULTS.iter().find(|(known, _)| *known == name);
            let default = default.map_or("", |(_, value)| value);
            values.get(name).map_or(default, String::as_str).to_owned()
        };
        Self {
            keys: value("kyc_keys"),
            signed: value("kyc_signed"),
            window: value("kyc_window"),
            signature_header: value("kyc_signature_header"),
            timestamp_header: value("kyc_timestamp_header"),
            delivery_header: value("kyc_delivery_header"),
        }
    }
}

/// Without the keys.
impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables")
            .field("signed", &self.signed)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Position of the delivery id in the signed text.
const DELIVERY: &str = "{delivery}";

/// A signature scheme.
#[derive(Debug, Clone)]
pub struct Scheme {
    keys: Vec<Secret>,
    signed: String,
    window: u64,
    signature_header: String,
    timestamp_header: String,
    pub(crate) delivery_header: String,
}

impl Scheme {
    /// The scheme of the operator's values, with defaults for the others; `None` if no value configures webhooks.
    #[must_use]
    pub fn given(values: &BTreeMap<String, String>) -> Option<Result<Self, &'static str>> {
        let is_given = DEFAULTS.iter().any(|(name, _)| values.contains_key(*name));
        is_given.then(|| Self::read(Variables::given(values)))
    }

    /// Validates the settings.
    ///
    /// # Errors
    /// If these settings would accept every sender or none; the message starts with a variable's name.
    pub fn read(variables: Variables) -> Result<Self, &'static str> {
        let keys = variables.keys.split(',').map(str::trim);
        let keys: Vec<Secret> = keys
            .filter(|it| !it.is_empty())
            .map(|it| Secret::from(it.to_owned()))
            .collect();
        if keys.is_empty() {
            return Err("kyc_keys is empty");
        }
        if keys.iter().any(|key| key.len() < MIN_KEY_BYTES) {
            return Err("kyc_keys: keys are at least 16 bytes long");
        }
        // Unsigned parts could be changed by anyone.
        if !["{timestamp}", "{body}"]
            .iter()
            .all(|it| variables.signed.contains(it))
        {
            return Err("kyc_signed: {timestamp} and {body} are expected in it");
        }
        let window = variables.window.parse().unwrap_or(0);
        if !(1..=MAX_WINDOW).contains(&window) {
            return Err("kyc_window: 1 to 86400 seconds are expected");
        }
        let headers = [&variables.signature_header, &variables.timestamp_header];
        if headers.iter().any(|name| name.is_empty()) {
            return Err("kyc_signature_header and kyc_timestamp_header are expected");
        }
        Ok(Self {
            keys,
            signed: variables.signed,
            window,
            signature_header: variables.signature_header,
            timestamp_header: variables.timestamp_header,
            delivery_header: variables.delivery_header,
        })
    }

    /// The scheme for a second verification up to `seconds` after the first one.
    #[must_use]
    pub fn verified_later(mut self, seconds: u64) -> Self {
        self.window += seconds;
        self
    }

    /// Headers that a decision depends on.
    pub(crate) fn headers(&self) -> [&str; 3] {
        [
            &self.signature_header,
            &self.timestamp_header,
            &self.delivery_header,
        ]
    }

    /// Whether one of our keys signed the request within the window.
    pub(crate) fn check(&self, request: &Request, now: Micros) -> Result<(), Refusal> {
        let timestamp = request.header(&self.timestamp_header).unwrap_or_default();
        let parts = self.parts(request, timestamp);
        // Every key is compared with every signature, regardless of matches.
        let holds = |signature: &str| {
            let tried = self.keys.iter();
            tried.fold(false, |held, key| held | key.signed(&parts, signature))
        };
        let signed = self
            .signatures(request)
            .fold(false, |held, signature| held | holds(signature));
        if !signed {
            return Err(Reason::KycBadSignature.because("no key that is known here signed this"));
        }
        let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at = timestamp.parse::<u64>().ok().filter(|_| digits);
        if at.is_some_and(|at| at.abs_diff(now.0 / 1_000_000) <= self.window) {
            return Ok(());
        }
        let window = self.window;
        let why = format!("seconds since 1970, at most {window} from now, are expected");
        Err(Reason::KycOutsideWindow.because(why))
    }

    /// All signatures in one or several headers: during a key rotation there is one per key.
    fn signatures<'a>(&'a self, request: &'a Request) -> impl Iterator<Item = &'a str> {
        let headers = request.header_values(&self.signature_header);
        let each = headers.flat_map(|value| value.split([',', ' ']));
        each.filter(|it| !it.is_empty()).take(MAX_SIGNATURES)
    }

    /// Whether the header of the delivery id is signed.
    pub(crate) fn signs_delivery(&self) -> bool {
        self.signed.contains(DELIVERY)
    }

    /// Allowed clock difference in microseconds.
    pub(crate) const fn window_micros(&self) -> u64 {
        self.window * 1_000_000
    }

    /// The template with its values; values are not expanded again.
    fn parts<'a>(&'a self, request: &'a Request, timestamp: &'a str) -> Vec<&'a [u8]> {
        let known = [
            ("{timestamp}", timestamp.as_bytes()),
            ("{body}", request.body.as_slice()),
            (
                DELIVERY,
                request
                    .header(&self.delivery_header)
                    .unwrap_or_default()
                    .as_bytes(),
            ),
        ];
        let mut parts = Vec::new();
        let mut rest = self.signed.as_str();
        loop {
            let places = known
                .iter()
                .filter_map(|(name, value)| rest.find(name).map(|at| (at, *name, *value)));
            let Some((at, name, value)) = places.min_by_key(|(at, _, _)| *at) else {
                parts.push(rest.as_bytes());
                return parts;
            };
            parts.push(&rest.as_bytes()[..at]);
            parts.push(value);
            rest = &rest[at + name.len()..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables {
            keys: "a key of some length, another key of some length".into(),
            signed: "v1:{timestamp}.{delivery}.{body}".into(),
            window: "300".into(),
            signature_header: "x-signature".into(),
            timestamp_header: "x-time".into(),
            delivery_header: "x-delivery".into(),
        }
    }

    #[test]
    fn signed_text_follows_the_template() {
        let scheme = Scheme::read(variables()).expect("settings");
        let request = Request {
            headers: vec![("x-delivery".into(), "d-{body}".into())],
            body: b"{timestamp}".to_vec(),
            ..Request::default()
        };
        assert_eq!(
            scheme.parts(&request, "12").concat(),
            b"v1:12.d-{body}.{timestamp}"
        );
    }

    #[test]
    fn defaults_are_those_of_the_deployed_manifest() {
        let manifest = include_str!("../../spin.toml");
        for (name, value) in DEFAULTS {
            let line = format!("{name} = {{ default = \"{value}\"");
            assert!(manifest.contains(&line), "{line}");
        }
    }

    #[test]
    fn settings_without_authentication_are_rejected() {
        let with = |change: fn(&mut Variables)| {
            let mut changed = variables();
            change(&mut changed);
            Scheme::read(changed).map(drop)
        };
        assert_eq!(with(|_| ()), Ok(()));
        for wrong in [
            with(|it| it.keys.clear()),
            with(|it| it.keys = " , ".into()),
            with(|it| it.keys.push_str(",short")),
            with(|it| it.signed = "{body}".into()),
            with(|it| it.signed = "{timestamp}".into()),
            with(|it| it.window = "0".into()),
            with(|it| it.window = "5m".into()),
            with(|it| it.signature_header.clear()),
        ] {
            assert!(wrong.is_err());
        }
    }
}
