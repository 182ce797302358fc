//! The numbered reasons of functions' rejections: 100 to 199 for postbacks, 200 to 299 for KYC.

tracker_api::numbered_reasons! {
    /// Why a request is rejected. Retired numbers are never reused; 150 to 199 and 250 to 299 are assigned by
    /// the aggregator.
    pub enum Reason: u16;

    /// Not a path of postbacks.
    UnknownPath = 100, "unknown_path", 404;
    /// No advertiser is named, or the name is invalid.
    UnknownAdvertiser = 101, "unknown_advertiser", 404;
    /// The advertiser's entry is invalid; the sender retries, because this is the operator's error.
    AdvertiserMisconfigured = 102, "advertiser_misconfigured", 500;
    /// No advertiser has this name, secret, signature and address; the response does not say which one is wrong.
    NotAuthentic = 103, "not_authentic", 403;
    /// There is no click id.
    MissingClickId = 104, "missing_click_id", 400;
    /// The click id is malformed.
    MalformedClickId = 105, "malformed_click_id", 400;
    /// The click id was not signed by this deployment, or was altered.
    ForgedClickId = 106, "forged_click_id", 403;
    /// The click is too old or in the future.
    ExpiredClick = 107, "expired_click", 400;
    /// The currency is not in ISO 4217, or is missing.
    UnknownCurrency = 108, "unknown_currency", 400;
    /// The amount is not a decimal number, has fractions of a minor unit that the advertiser's entry rejects, or is
    /// negative without a reversal.
    BadAmount = 109, "bad_amount", 400;
    /// The dialect does not know the status.
    UnknownStatus = 110, "unknown_status", 400;
    /// The dialect does not know the event.
    UnknownEvent = 111, "unknown_event", 400;
    /// A parameter contains an unreplaced macro.
    UnexpandedMacro = 112, "unexpanded_macro", 400;
    /// A parameter that is read is too long.
    ParameterTooLong = 113, "parameter_too_long", 400;
    /// Too many parameters.
    TooManyParameters = 114, "too_many_parameters", 400;
    /// A parameter that is read is not UTF-8, nested or contains a control character, or the body does not match
    /// its type.
    MalformedQuery = 115, "malformed_query", 400;
    /// The body is longer than [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES).
    BodyTooLarge = 116, "body_too_large", 413;
    /// The body is neither a form nor JSON.
    UnsupportedContentType = 117, "unsupported_content_type", 415;
    /// Neither GET nor POST.
    MethodNotAllowed = 118, "method_not_allowed", 405;
    /// A parameter occurs twice with different values.
    AmbiguousParameter = 119, "ambiguous_parameter", 400;
    /// The query is too long.
    QueryTooLong = 120, "query_too_long", 414;
    /// The click's link is not one of the advertiser's links or offers.
    ForeignClick = 121, "foreign_click", 403;
    /// The advertiser's entry names neither links nor offers; the sender retries, because this is the operator's
    /// error.
    NothingToConvert = 122, "nothing_to_convert", 500;
    /// The click's link is not yet in the links file of this edge; the sender retries.
    UnknownLink = 123, "unknown_link", 503;
    /// The payout is above the maximum of the advertiser's entry, or in a currency without a maximum.
    PayoutAboveMaximum = 124, "payout_above_maximum", 400;
    /// A signed request is too long to be stored for its second verification.
    SignedRequestTooLarge = 125, "signed_request_too_large", 413;
    /// The click id's key is not yet known to this edge; the sender retries.
    UnknownClickKey = 126, "unknown_click_key", 503;
    /// The signed time is outside the window or missing: the request may be a replay.
    OutsideWindow = 127, "outside_window", 403;

    /// Not the path of a webhook.
    KycUnknownPath = 200, "kyc_unknown_path", 404;
    /// Not POST.
    KycMethodNotAllowed = 201, "kyc_method_not_allowed", 405;
    /// The signature is missing or matches no key.
    KycBadSignature = 202, "kyc_bad_signature", 403;
    /// The signed time is outside the window: the request may be a replay.
    KycOutsideWindow = 203, "kyc_outside_window", 403;
    /// The body is longer than [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES).
    KycBodyTooLarge = 204, "kyc_body_too_large", 413;
    /// The body is not the expected JSON.
    KycMalformedBody = 205, "kyc_malformed_body", 400;
    /// There are no keys, or another variable is invalid; the sender retries.
    KycMisconfigured = 206, "kyc_misconfigured", 503;
    /// The delivery id is missing, ambiguous or invalid.
    KycBadDelivery = 207, "kyc_bad_delivery", 400;
    /// The affiliate's id is empty, too long or not plain text.
    KycBadAffiliate = 208, "kyc_bad_affiliate", 400;
    /// Unknown status.
    KycUnknownStatus = 209, "kyc_unknown_status", 400;
    /// Unknown tier.
    KycUnknownTier = 210, "kyc_unknown_tier", 400;
    /// The time is not RFC 3339, or in the future.
    KycBadTime = 211, "kyc_bad_time", 400;
    /// The webhook is too long to be stored for its second verification.
    KycTooLargeToKeep = 212, "kyc_too_large_to_keep", 413;
}

impl Reason {
    /// The number in responses and records.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_and_names_unique() {
        for pair in Reason::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{}", pair[1].name());
        }
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert!((400..600).contains(&reason.status()));
            assert!(
                Reason::ALL[..at]
                    .iter()
                    .all(|other| other.name() != reason.name())
            );
            assert_eq!(reason.number() >= 200, reason.name().starts_with("kyc_"));
        }
    }

    #[test]
    fn every_reason_is_documented() {
        let readme = include_str!("../../README.md");
        for reason in Reason::ALL {
            let (number, name, status) = (reason.number(), reason.name(), reason.status());
            let row = format!("| {number} | `{name}` | {status} | ");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
