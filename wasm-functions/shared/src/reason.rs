//! The numbered reasons of functions' rejections: 100 to 199 for postbacks, 200 to 299 for KYC.

numbered_reasons::numbered_reasons! {
    /// Why a request is rejected. Retired numbers are never reused; 150 to 199 and 250 to 299 are assigned by
    /// the aggregator.
    pub enum Reason: u16;

    /// The path is not one of postbacks: `/postback/NAME[/SECRET]`, or a path of the advertiser's dialect.
    UnknownPath = 100, "unknown_path", 404;
    /// No advertiser is named, or by a name that none can have.
    UnknownAdvertiser = 101, "unknown_advertiser", 404;
    /// The advertiser's entry is invalid. The sender retries, because this is the operator's error: correct
    /// `advertisers.toml`.
    AdvertiserMisconfigured = 102, "advertiser_misconfigured", 500;
    /// No advertiser has this name, secret, signature and address. The response does not say which one is wrong.
    NotAuthentic = 103, "not_authentic", 403;
    /// There is no click id. Pass `{click_id}` of the link's destination back.
    MissingClickId = 104, "missing_click_id", 400;
    /// The click id is malformed. Pass it back unchanged.
    MalformedClickId = 105, "malformed_click_id", 400;
    /// The click id was not signed by this deployment, or was altered.
    ForgedClickId = 106, "forged_click_id", 403;
    /// The click is older than `max_click_age_days` of the advertiser's entry, or in the future.
    ExpiredClick = 107, "expired_click", 400;
    /// The currency is not in ISO 4217, or neither the report nor the advertiser's entry names one.
    UnknownCurrency = 108, "unknown_currency", 400;
    /// The amount is not a decimal number, has fractions of a minor unit that the advertiser's entry rejects, or is
    /// negative without a reversal.
    BadAmount = 109, "bad_amount", 400;
    /// The dialect does not know the status. Add it to `status_words` of the advertiser's entry.
    UnknownStatus = 110, "unknown_status", 400;
    /// The dialect does not know the event. Add it to `event_words` of the advertiser's entry.
    UnknownEvent = 111, "unknown_event", 400;
    /// A parameter contains a macro that the sender did not replace.
    UnexpandedMacro = 112, "unexpanded_macro", 400;
    /// The value of a parameter that is read is too long.
    ParameterTooLong = 113, "parameter_too_long", 400;
    /// More than 1,024 parameters.
    TooManyParameters = 114, "too_many_parameters", 400;
    /// A parameter that is read is not UTF-8, nested or contains a control character, or the body does not match its
    /// type.
    MalformedQuery = 115, "malformed_query", 400;
    /// The body is longer than 64 KiB.
    BodyTooLarge = 116, "body_too_large", 413;
    /// The body is neither a form nor JSON.
    UnsupportedContentType = 117, "unsupported_content_type", 415;
    /// The method is neither GET nor POST.
    MethodNotAllowed = 118, "method_not_allowed", 405;
    /// A parameter occurs twice with different values.
    AmbiguousParameter = 119, "ambiguous_parameter", 400;
    /// The query is longer than 8 KiB.
    QueryTooLong = 120, "query_too_long", 414;
    /// The click's link is not one of the advertiser's `links` or `offers`.
    ForeignClick = 121, "foreign_click", 403;
    /// The advertiser's entry names neither `links` nor `offers`. The sender retries, because this is the operator's
    /// error.
    NothingToConvert = 122, "nothing_to_convert", 500;
    /// The click's link is not yet in the links file of this edge. The sender retries.
    UnknownLink = 123, "unknown_link", 503;
    /// The payout is above `max_payout` of the advertiser's entry, or in a currency without a maximum.
    PayoutAboveMaximum = 124, "payout_above_maximum", 400;
    /// A signed request is longer than 14 KiB in total, too long to be stored for its second verification.
    SignedRequestTooLarge = 125, "signed_request_too_large", 413;
    /// The click id's key is not yet known to this edge. The sender retries.
    UnknownClickKey = 126, "unknown_click_key", 503;
    /// The signed time is missing or outside `window`: the request may be a replay.
    OutsideWindow = 127, "outside_window", 403;

    /// The path is not that of a webhook, `/api/webhooks/kyc/verifymy`.
    KycUnknownPath = 200, "kyc_unknown_path", 404;
    /// The method is not POST.
    KycMethodNotAllowed = 201, "kyc_method_not_allowed", 405;
    /// The signature is missing or matches no key of `kyc_keys`.
    KycBadSignature = 202, "kyc_bad_signature", 403;
    /// The signed time is outside `kyc_window`: the request may be a replay.
    KycOutsideWindow = 203, "kyc_outside_window", 403;
    /// The body is longer than 64 KiB.
    KycBodyTooLarge = 204, "kyc_body_too_large", 413;
    /// The body is not the expected JSON.
    KycMalformedBody = 205, "kyc_malformed_body", 400;
    /// `kyc_keys` is empty, or another variable is invalid. The sender retries; correct the variables file.
    KycMisconfigured = 206, "kyc_misconfigured", 503;
    /// No signed delivery id, two that differ, or an invalid one.
    KycBadDelivery = 207, "kyc_bad_delivery", 400;
    /// The affiliate's id is empty, too long or not plain text.
    KycBadAffiliate = 208, "kyc_bad_affiliate", 400;
    /// The status is not one of `pending`, `approved`, `rejected`, `revoked`, `expired`.
    KycUnknownStatus = 209, "kyc_unknown_status", 400;
    /// The tier is not one of 0 to 3.
    KycUnknownTier = 210, "kyc_unknown_tier", 400;
    /// The time is not RFC 3339, or in the future.
    KycBadTime = 211, "kyc_bad_time", 400;
    /// Headers and body are longer than 14 KiB in total, too long to be stored for their second verification.
    KycTooLargeToKeep = 212, "kyc_too_large_to_keep", 413;
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
}
