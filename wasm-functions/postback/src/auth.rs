//! Authentication of requests by secrets, signatures and addresses, compared in constant time.

use crate::advertiser::{Advertiser, Auth, AuthMode, Signature, SignedPart};
use crate::parameters::{Parameters, Place, unescaped};
use domain::Micros;
use functions_shared::{Reason, Refusal, Request};
use std::borrow::Cow;

/// The authenticated parts of a request.
pub(crate) struct ProvenParts<'a> {
    /// Where parameters may be read from. A signature proves only the signed part: every observer of the request could
    /// change the rest.
    pub(crate) places: Vec<Place>,
    /// Signatures that cover everything that is read, so that the request can be verified again elsewhere; none if
    /// a shared secret was sufficient.
    pub(crate) signatures: Vec<&'a Signature>,
}

impl<'a> ProvenParts<'a> {
    fn by(signatures: Vec<&'a Signature>) -> Self {
        Self {
            places: signatures.iter().map(|it| it.place()).collect(),
            signatures,
        }
    }

    /// Checks that each signed time is within its window plus `slack` seconds.
    pub(crate) fn check_window(
        &self,
        parameters: &Parameters,
        now: Micros,
        slack: u64,
    ) -> Result<(), Refusal> {
        for signature in &self.signatures {
            let Some(name) = &signature.timestamp else {
                continue;
            };
            let signed = parameters.only(&[signature.place()]);
            let text = signed.find(&[name])?.unwrap_or_default();
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let at = text.parse::<u64>().ok().filter(|_| digits);
            let window = signature.window.saturating_add(slack);
            if at.is_none_or(|at| at.abs_diff(now.0 / 1_000_000) > window) {
                let why =
                    format!("{name}: seconds since 1970, at most {window} from now, are expected");
                return Err(Reason::OutsideWindow.because(why));
            }
        }
        Ok(())
    }

    /// The signed bytes, if a signed time makes the request valid only once.
    pub(crate) fn valid_once(&self, request: &Request) -> Option<Vec<u8>> {
        let mut timed = self.signatures.iter().filter(|it| it.timestamp.is_some());
        let signature = timed.next()?;
        Some(signature.signed(request).into_owned())
    }
}

impl Signature {
    const fn place(&self) -> Place {
        match self.over {
            SignedPart::Query => Place::Query,
            SignedPart::Body => Place::Body,
        }
    }

    /// The bytes that are signed.
    fn signed<'r>(&self, request: &'r Request) -> Cow<'r, [u8]> {
        let parameter = self.parameter.as_deref().unwrap_or_default();
        match self.over {
            SignedPart::Query => Cow::Owned(without(&request.query, parameter).into_bytes()),
            SignedPart::Body => Cow::Borrowed(&request.body),
        }
    }
}

/// Compared with requests of unknown advertisers, so that their rejection takes as long as that of known ones.
const DECOY_ENTRY: &[u8] =
    br#"{"dialect":"generic","auth":[{"secret_path":"no secret of any advertiser"}]}"#;

/// Rejects a request of an unknown advertiser exactly like one without proof, so that names and path keys can't be
/// enumerated.
pub(crate) fn refused_as_unknown(
    request: &Request,
    path_secret: &str,
    parameters: &Parameters,
) -> Refusal {
    let decoy = Advertiser::read(DECOY_ENTRY).map(|decoy| {
        let methods = decoy.auth.iter();
        methods
            .filter(|method| holds(method, request, path_secret, parameters))
            .count()
    });
    std::hint::black_box(&decoy);
    not_authentic("no advertiser has this name".into())
}

fn not_authentic(recorded: String) -> Refusal {
    let why = "no advertiser has this name, secret, signature and address";
    Reason::NotAuthentic.because(why).recorded(recorded)
}

/// The parts that the request's proofs cover.
pub(crate) fn proven_parts<'a>(
    advertiser: &'a Advertiser,
    request: &Request,
    path_secret: &str,
    parameters: &Parameters,
) -> Result<ProvenParts<'a>, Refusal> {
    let methods = advertiser.auth.iter();
    // All methods are evaluated, regardless of which one succeeds.
    let tried: Vec<(&Auth, bool)> = methods
        .map(|method| (method, holds(method, request, path_secret, parameters)))
        .collect();
    let mut held = tried.iter().map(|(_, held)| *held);
    let authentic = match advertiser.auth_mode {
        AuthMode::Any => held.any(|held| held),
        AuthMode::All => !tried.is_empty() && held.all(|held| held),
    };
    if !authentic {
        return Err(not_authentic(account(&tried)));
    }
    let held = tried
        .iter()
        .filter(|(_, held)| *held)
        .map(|(method, _)| *method);
    Ok(covered(advertiser.auth_mode, held.collect()))
}

/// The parts that the request's signatures cover, ignoring other proofs. If all methods are required, addresses are skipped,
/// because the second verification does not know the client's address.
pub(crate) fn signed<'a>(
    advertiser: &'a Advertiser,
    request: &Request,
    path_secret: &str,
    parameters: &Parameters,
) -> Result<ProvenParts<'a>, Refusal> {
    let methods = advertiser.auth.iter();
    let repeatable = methods.filter(|method| match advertiser.auth_mode {
        AuthMode::Any => matches!(method, Auth::Hmac(_)),
        AuthMode::All => !matches!(method, Auth::Addresses(_)),
    });
    let tried: Vec<(&Auth, bool)> = repeatable
        .map(|method| (method, holds(method, request, path_secret, parameters)))
        .collect();
    let failed = tried.iter().any(|(_, held)| !held);
    let held = tried
        .iter()
        .filter(|(_, held)| *held)
        .map(|(method, _)| *method);
    let signatures = signatures(held);
    if signatures.is_empty() || failed && advertiser.auth_mode == AuthMode::All {
        return Err(not_authentic(account(&tried)));
    }
    Ok(ProvenParts::by(signatures))
}

fn signatures<'a>(methods: impl Iterator<Item = &'a Auth>) -> Vec<&'a Signature> {
    let signatures = methods.filter_map(|method| match method {
        Auth::Hmac(signature) => Some(signature),
        _ => None,
    });
    signatures.collect()
}

fn covered(mode: AuthMode, held: Vec<&Auth>) -> ProvenParts<'_> {
    let signatures = signatures(held.iter().copied());
    let unsigned_is_enough = mode == AuthMode::Any && signatures.len() < held.len();
    if signatures.is_empty() || unsigned_is_enough {
        return ProvenParts {
            places: vec![Place::Query, Place::Body],
            signatures: Vec::new(),
        };
    }
    ProvenParts::by(signatures)
}

/// The evaluated methods and their results, for operators.
fn account(tried: &[(&Auth, bool)]) -> String {
    let each = tried.iter().map(|(method, held)| {
        let name = match method {
            Auth::SecretPath(_) => "secret_path",
            Auth::SecretParameter { .. } => "secret_parameter",
            Auth::Hmac(_) => "hmac",
            Auth::Addresses(_) => "addresses",
        };
        format!("{name} {}", if *held { "holds" } else { "does not hold" })
    });
    each.collect::<Vec<_>>().join(", ")
}

fn holds(method: &Auth, request: &Request, path_secret: &str, parameters: &Parameters) -> bool {
    match method {
        Auth::SecretPath(secret) => secret.is(path_secret),
        Auth::SecretParameter { name, value } => every(parameters.all(name), |sent| value.is(sent)),
        Auth::Hmac(signature) => signature_holds(signature, request, parameters),
        Auth::Addresses(networks) => request
            .client
            .is_some_and(|client| networks.iter().any(|network| network.contains(&client))),
    }
}

/// Whether there is at least one value and all of them match: of two different ones, one is a guess.
fn every<'s>(sent: impl Iterator<Item = &'s str>, holds: impl Fn(&str) -> bool) -> bool {
    let outcomes: Vec<bool> = sent.map(holds).collect();
    !outcomes.is_empty() && outcomes.iter().all(|held| *held)
}

fn signature_holds(signature: &Signature, request: &Request, parameters: &Parameters) -> bool {
    let parameter = signature.parameter.as_deref().unwrap_or_default();
    let signed = signature.signed(request);
    let holds = |sent: &str| !signed.is_empty() && signature.key.signed(&[&signed], sent);
    match &signature.header {
        Some(header) => request.header(header).is_some_and(holds),
        None => every(parameters.all(parameter), holds),
    }
}

/// The query as sent, without the signature's parameter.
fn without(query: &str, parameter: &str) -> String {
    let others = query.split('&').filter(|pair| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        parameter.is_empty() || !unescaped(name).eq_ignore_ascii_case(parameter)
    });
    others.collect::<Vec<_>>().join("&")
}
