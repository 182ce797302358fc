//! The component: connects the webhook, the settings and the edge's internal API. Invariant: no decisions here.

use crate::{Scheme, Variables, decide};
use domain::Micros;
use functions_shared::Request;
use functions_shared::io::{self, TextResponse};

functions_shared::component!(respond);

async fn respond(request: &Request) -> TextResponse {
    let scheme = Scheme::read(Variables {
        keys: io::variable("kyc_keys").await,
        signed: io::variable("kyc_signed").await,
        window: io::variable("kyc_window").await,
        signature_header: io::variable("kyc_signature_header").await,
        timestamp_header: io::variable("kyc_timestamp_header").await,
        delivery_header: io::variable("kyc_delivery_header").await,
    });
    let decision = decide(
        request,
        scheme.as_ref().map_err(|wrong| *wrong),
        Micros::now(),
    );
    io::execute(decision, tracker_api::KYC_UPDATES).await
}
