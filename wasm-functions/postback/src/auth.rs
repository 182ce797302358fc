//! Whether a request is from who it says: secrets, signatures and addresses, compared in constant time.

use crate::advertiser::{Advertiser, Auth, AuthMode, Over, Signature};
use crate::parameters::{Parameters, Place};
use functions_shared::{Reason, Refusal, Request, proof};

/// The places whose parameters are to be believed, if the request is from who it says. Who is believed for
/// a signature alone is believed what is signed: anybody who saw the request could change the rest.
pub(crate) fn believed(
    advertiser: &Advertiser,
    request: &Request,
    path_secret: &str,
    parameters: &Parameters,
) -> Result<Vec<Place>, Refusal> {
    let ways = advertiser.auth.iter();
    // All are tried, whichever holds.
    let tried: Vec<(&Auth, bool)> = ways
        .map(|way| (way, holds(way, request, path_secret, parameters)))
        .collect();
    let mut held = tried.iter().map(|(_, held)| *held);
    let authentic = match advertiser.auth_mode {
        AuthMode::Any => held.any(|held| held),
        AuthMode::All => !tried.is_empty() && held.all(|held| held),
    };
    if !authentic {
        let why = "secret, signature or address are not this advertiser's";
        return Err(Reason::NotAuthentic.because(why).recorded(account(&tried)));
    }
    let held = tried.iter().filter(|(_, held)| *held).map(|(way, _)| *way);
    Ok(covered(advertiser.auth_mode, held.collect()))
}

fn covered(mode: AuthMode, held: Vec<&Auth>) -> Vec<Place> {
    let signed = |way: &&Auth| match way {
        Auth::Hmac(signature) => Some(match signature.over {
            Over::Query => Place::Query,
            Over::Body => Place::Body,
        }),
        _ => None,
    };
    let places: Vec<Place> = held.iter().filter_map(signed).collect();
    let unsigned_is_enough = mode == AuthMode::Any && places.len() < held.len();
    if places.is_empty() || unsigned_is_enough {
        return vec![Place::Query, Place::Body];
    }
    places
}

/// Which ways were tried, for operators.
fn account(tried: &[(&Auth, bool)]) -> String {
    let each = tried.iter().map(|(way, held)| {
        let name = match way {
            Auth::SecretPath(_) => "secret_path",
            Auth::SecretParameter { .. } => "secret_parameter",
            Auth::Hmac(_) => "hmac",
            Auth::Addresses(_) => "addresses",
        };
        format!("{name} {}", if *held { "holds" } else { "does not hold" })
    });
    each.collect::<Vec<_>>().join(", ")
}

fn holds(way: &Auth, request: &Request, path_secret: &str, parameters: &Parameters) -> bool {
    match way {
        Auth::SecretPath(secret) => proof::same(secret, path_secret),
        Auth::SecretParameter { name, value } => {
            every(parameters.all(name), |sent| proof::same(value, sent))
        }
        Auth::Hmac(signature) => signature_holds(signature, request, parameters),
        Auth::Addresses(networks) => request
            .client
            .is_some_and(|client| networks.iter().any(|network| network.contains(&client))),
    }
}

/// Whether there are any, and each holds: of two that differ, one is a guess.
fn every<'s>(sent: impl Iterator<Item = &'s str>, holds: impl Fn(&str) -> bool) -> bool {
    let outcomes: Vec<bool> = sent.map(holds).collect();
    !outcomes.is_empty() && outcomes.iter().all(|held| *held)
}

fn signature_holds(signature: &Signature, request: &Request, parameters: &Parameters) -> bool {
    let parameter = signature.parameter.as_deref().unwrap_or_default();
    let query;
    let signed = match signature.over {
        Over::Query => {
            query = without(&request.query, parameter);
            query.as_bytes()
        }
        Over::Body => &request.body,
    };
    let holds = |sent: &str| {
        !signed.is_empty() && proof::signature_holds(signature.key.as_bytes(), &[signed], sent)
    };
    match &signature.header {
        Some(header) => request.header(header).is_some_and(holds),
        None => every(parameters.all(parameter), holds),
    }
}

/// The query as it was sent, but for the parameter that holds the signature.
fn without(query: &str, parameter: &str) -> String {
    let others = query.split('&').filter(|pair| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        parameter.is_empty() || !name.eq_ignore_ascii_case(parameter)
    });
    others.collect::<Vec<_>>().join("&")
}
