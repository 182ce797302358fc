//! Converts a request to a conversion or a rejection.

use crate::advertiser::Advertiser;
use crate::keys::Keys;
use crate::parameters::Parameters;
use crate::report::Report;
use crate::route::{self, RequestRoute};
use crate::terms::Permission;
use crate::{auth, mask};
use auth::ProvenParts;
use domain::{LinkId, Micros};
use functions_shared::{Decision, Reason, Refusal, Refused, Request};
use std::fmt;
use tracker_api::{Conversion, MAX_SIGNED_BYTES, SignedRequest, Stated};

/// Maximum time in seconds between the function's clock reading and the edge's journal entry.
const CALL_SECONDS: u64 = 300;

/// A request parsed as far as possible without the advertiser's entry.
#[derive(Debug)]
pub struct Postback<'r> {
    request: &'r Request,
    parameters: Parameters,
    named: RequestRoute,
}

/// The result of a request: a decision, or a question for the offer of a link.
#[derive(Debug)]
pub enum Step<'p> {
    /// The decision.
    Decided(Box<Decision<Conversion<'static>>>),
    /// Only the offer of the click's link is missing.
    NeedsOffer(Box<NeedsOffer<'p>>),
}

/// A request that is accepted if its click's link belongs to one of the advertiser's offers.
pub struct NeedsOffer<'p> {
    postback: &'p Postback<'p>,
    name: &'p str,
    advertiser: Advertiser,
    conversion: Conversion<'static>,
    answer: String,
    link: LinkId,
}

impl fmt::Debug for NeedsOffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeedsOffer")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// The result of verifying a signed request again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The report without its address and its request.
    pub conversion: Conversion<'static>,
    /// The signed bytes if a signed time makes the request valid once; the same bytes again are a repeat.
    pub valid_once: Option<Vec<u8>>,
}

/// The meaning of an authentic request.
enum Meaning {
    /// Nothing to report; the sender expects this response.
    Ignored(String),
    ParsedReport(Box<ParsedReport>),
}

/// A report with its still unknown parts.
struct ParsedReport {
    conversion: Conversion<'static>,
    answer: String,
    link: LinkId,
    permission: Permission,
}

impl<'r> Postback<'r> {
    /// Parses a request.
    ///
    /// # Errors
    /// If it can't be a postback.
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

    /// The store's key of the advertiser. It starts with `key/` if the entry there refers to the advertiser: see
    /// [`alias`](crate::alias).
    #[must_use]
    pub fn key(&self) -> &str {
        &self.named.key
    }

    /// Decides with the entry of the advertiser `name`, as far as possible without the offer of the click's link.
    #[must_use]
    pub fn begin<'p>(
        &'p self,
        name: &'p str,
        entry: Option<&[u8]>,
        keys: &Keys,
        now: Micros,
    ) -> Step<'p> {
        let advertiser = match self.advertiser(name, entry) {
            Ok(advertiser) => advertiser,
            Err(refused) => return Step::decided(Decision::Refuse(refused)),
        };
        let (secret, all) = (&self.named.secret, &self.parameters);
        let proven = auth::proven_parts(&advertiser, self.request, secret, all);
        let meaning = proven.and_then(|proven| {
            proven.check_window(all, now, 0)?;
            let mut meaning = self.meaning(name, &advertiser, &proven, keys, Some(now))?;
            if let (Meaning::ParsedReport(found), false) =
                (&mut meaning, proven.signatures.is_empty())
            {
                found.conversion.signed = Some(self.signed(&advertiser)?);
            }
            Ok(meaning)
        });
        match meaning {
            Err(refusal) => Step::decided(self.refuse(refusal, name, Some(&advertiser))),
            Ok(Meaning::Ignored(answer)) => Step::decided(Decision::Acknowledge(answer)),
            Ok(Meaning::ParsedReport(found)) if found.permission == Permission::Granted => {
                Step::decided(Decision::Accept(found.conversion, found.answer))
            }
            Ok(Meaning::ParsedReport(found)) => Step::NeedsOffer(Box::new(NeedsOffer {
                postback: self,
                name,
                advertiser,
                conversion: found.conversion,
                answer: found.answer,
                link: found.link,
            })),
        }
    }

    /// Decides with the entry of the advertiser `name`; `offers` returns the offer of a link.
    #[must_use]
    pub fn decide(
        &self,
        name: &str,
        entry: Option<&[u8]>,
        keys: &Keys,
        now: Micros,
        offers: impl Fn(LinkId) -> Option<String>,
    ) -> Decision<Conversion<'static>> {
        match self.begin(name, entry, keys, now) {
            Step::Decided(decision) => *decision,
            Step::NeedsOffer(undecided) => {
                let offer = offers(undecided.link());
                undecided.decide(offer.as_deref())
            }
        }
    }

    /// Verifies a request again that was accepted at `reported`, by its signature alone. The click's age is not
    /// checked again.
    ///
    /// # Errors
    /// If its signature is not the advertiser's, or the advertiser may not report it.
    pub fn verify(
        &self,
        name: &str,
        entry: Option<&[u8]>,
        keys: &Keys,
        reported: Micros,
        offers: impl Fn(LinkId) -> Option<String>,
    ) -> Result<Verified, Box<Refused>> {
        let advertiser = self.advertiser(name, entry)?;
        let (secret, all) = (&self.named.secret, &self.parameters);
        let verified = auth::signed(&advertiser, self.request, secret, all).and_then(|proven| {
            proven.check_window(all, reported, CALL_SECONDS)?;
            let meaning = self.meaning(name, &advertiser, &proven, keys, None)?;
            let Meaning::ParsedReport(found) = meaning else {
                let why = "the status map ignores this status";
                return Err(Reason::UnknownStatus.because(why));
            };
            if found.permission == Permission::ByOffer {
                let offer = offers(found.link);
                advertiser.permission_by_offer(found.link, offer.as_deref())?;
            }
            Ok(Verified {
                conversion: found.conversion,
                valid_once: proven.valid_once(self.request),
            })
        });
        let refuse = |refusal| Box::new(refused(refusal, self.request, name, Some(&advertiser)));
        verified.map_err(refuse)
    }

    fn advertiser(&self, name: &str, entry: Option<&[u8]>) -> Result<Advertiser, Box<Refused>> {
        let Some(entry) = entry else {
            let (secret, all) = (&self.named.secret, &self.parameters);
            let refusal = auth::refused_as_unknown(self.request, secret, all);
            // An unknown name may be a secret.
            return Err(Box::new(refused(refusal, self.request, "", None)));
        };
        Advertiser::read(entry).map_err(|wrong| {
            let explanation = "the advertiser is not set up right; try again later";
            let refusal = Reason::AdvertiserMisconfigured
                .because(explanation)
                .recorded(wrong);
            Box::new(refused(refusal, self.request, name, None))
        })
    }

    fn refuse(
        &self,
        refusal: Refusal,
        name: &str,
        advertiser: Option<&Advertiser>,
    ) -> Decision<Conversion<'static>> {
        Decision::Refuse(Box::new(refused(refusal, self.request, name, advertiser)))
    }

    /// The request with everything that its verification needs.
    fn signed(&self, advertiser: &Advertiser) -> Result<SignedRequest<'static>, Refusal> {
        let mut headers = vec!["content-type"];
        headers.extend(advertiser.signature_headers());
        let signed = self.request.signed(&headers);
        if signed.size_bytes() > MAX_SIGNED_BYTES {
            let most = format!("a signed request is at most {MAX_SIGNED_BYTES} bytes long");
            return Err(Reason::SignedRequestTooLarge.because(most));
        }
        Ok(signed)
    }

    fn meaning(
        &self,
        name: &str,
        advertiser: &Advertiser,
        proven: &ProvenParts<'_>,
        keys: &Keys,
        now: Option<Micros>,
    ) -> Result<Meaning, Refusal> {
        // Signatures do not cover the path: a copy of a signed sale could be sent to this one.
        if self.named.reversal && !proven.signatures.is_empty() {
            let why = "the path is not signed: only a signed status may take a conversion back";
            return Err(Reason::UnknownPath.because(why));
        }
        let report = Report {
            parameters: &self.parameters.only(&proven.places),
            advertiser,
            reversal: self.named.reversal,
        };
        if let Some(answer) = report.ignored()? {
            return Ok(Meaning::Ignored(answer));
        }
        let (click, link) = report.click(keys, now)?;
        let permission = advertiser.permission(link)?;
        let outcome = report.outcome()?;
        let payout = report.payout(outcome.status)?;
        let conversion = Conversion {
            advertiser: name.to_owned().into(),
            click_id: click.to_string().into(),
            kind: outcome.kind.as_str().into(),
            kind_name: outcome.kind_name.to_owned().into(),
            transaction: report.transaction()?.to_owned().into(),
            status: outcome.status.as_str().into(),
            payout_minor: payout.minor,
            currency: payout.currency.code().to_owned().into(),
            payout_as_sent: payout.as_sent.to_owned().into(),
            dialect: advertiser.dialect.table().name.into(),
            address: self.request.client_text().into(),
            stated: Stated {
                payout: payout.stated,
                currency: payout.currency_stated,
                kind: outcome.kind_stated,
                status: outcome.status_stated,
            },
            signed: None,
        };
        let answer = report.answer();
        Ok(Meaning::ParsedReport(Box::new(ParsedReport {
            conversion,
            answer,
            link,
            permission,
        })))
    }
}

impl Step<'_> {
    fn decided(decision: Decision<Conversion<'static>>) -> Self {
        Self::Decided(Box::new(decision))
    }
}

impl NeedsOffer<'_> {
    /// The link whose offer is needed.
    #[must_use]
    pub const fn link(&self) -> LinkId {
        self.link
    }

    /// Decides with the link's offer; `None` if the links file does not have the link.
    #[must_use]
    pub fn decide(self, offer: Option<&str>) -> Decision<Conversion<'static>> {
        let Self {
            postback,
            name,
            advertiser,
            conversion,
            answer,
            link,
        } = self;
        match advertiser.permission_by_offer(link, offer) {
            Ok(()) => Decision::Accept(conversion, answer),
            Err(refusal) => postback.refuse(refusal, name, Some(&advertiser)),
        }
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
