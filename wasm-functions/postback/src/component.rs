//! The component: connects the request, the advertiser's entry and the edge's internal API. Invariant: no decisions
//! here.

use crate::{Decision, Keys, Postback, Step, alias};
use domain::{LinkId, Micros};
use functions_shared::Request;
use functions_shared::io::{self, TextResponse};
use spin_sdk::key_value::{Error, Store};

/// An advertiser's name and its entry, if any.
type AdvertiserEntry = (String, Option<Vec<u8>>);

functions_shared::component!(respond);

async fn respond(request: &Request) -> TextResponse {
    let postback = match Postback::read(request) {
        Ok(postback) => postback,
        Err(refused) => {
            let decision = Decision::<()>::Refuse(refused);
            return io::execute(decision, tracker_api::REJECTIONS).await;
        }
    };
    let Some(keys) = Keys::parse(&io::variable("click_id_keys").await) else {
        eprintln!("the variable click_id_keys is not 1:HEX,2:HEX");
        return io::unavailable();
    };
    let (name, entry) = match found(postback.key()).await {
        Ok(found) => found,
        Err(error) => {
            eprintln!("the store of advertisers can't be read: {error}");
            return io::unavailable();
        }
    };
    let decision = match postback.begin(&name, entry.as_deref(), &keys, Micros::now()) {
        Step::Decided(decision) => *decision,
        Step::NeedsOffer(undecided) => match offer(undecided.link()).await {
            Ok(offer) => undecided.decide(offer.as_deref()),
            Err(error) => {
                eprintln!("the store of links can't be read: {error}");
                return io::unavailable();
            }
        },
    };
    io::execute(decision, tracker_api::CONVERSIONS).await
}

/// The entry under `key`, or the one that it refers to.
async fn found(key: &str) -> Result<AdvertiserEntry, Error> {
    let store = Store::open("advertisers").await?;
    let entry = store.get(key).await?;
    let Some(path_key) = key.strip_prefix("key/") else {
        return Ok((key.to_owned(), entry));
    };
    let Some(entry) = entry else {
        return Ok((path_key.to_owned(), None));
    };
    match alias(&entry) {
        Some(name) => {
            let entry = store.get(&name).await?;
            Ok((name, entry))
        }
        // Not an advertiser's entry, and rejected as such; the key may be a secret.
        None => Ok((String::new(), Some(entry))),
    }
}

/// The offer of a link, if the link is known.
async fn offer(link: LinkId) -> Result<Option<String>, Error> {
    let store = Store::open("links").await?;
    let offer = store.get(link.to_string()).await?;
    Ok(offer.and_then(|offer| String::from_utf8(offer).ok()))
}
