//! Routes requests to functions, and passes the client's address to them. Links and pixels never come here.

use super::{ClickPath, root};
use crate::functions::Functions;
use crate::refusal::Refusal;
use crate::request::{self, RequestHeaders};
use bytes::Bytes;
use function_host::{Failure, MatchedFunction};
use http::{Request, Response};
use std::net::IpAddr;
use trusted_clock::TimeSource;

impl ClickPath {
    /// The function that `request` from `peer` is routed to, or why it is refused; nothing when no function matches.
    #[must_use]
    pub fn match_function<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Option<Result<MatchedFunction, Refusal>> {
        let functions = self.shared.functions.as_ref()?;
        let path = request.uri().path();
        // Links and pixels are requested far more often, and never routed to a function.
        if matches!(path.as_bytes(), [b'/', b'c' | b'C' | b'i' | b'I', b'/', ..])
            || root::is_requested(request)
        {
            return None;
        }
        let function = functions.find(path)?;
        let checked = self.check_limits(functions, peer, request);
        let checked = checked.inspect_err(|refusal| self.metrics.refused(*refusal));
        Some(checked.map(|()| function))
    }

    /// Checks common to links and functions, and the limit of failed authentications of a network.
    fn check_limits<B>(
        &self,
        functions: &Functions,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Result<(), Refusal> {
        let shared = &*self.shared;
        // Signatures and clicks expire by the clock, and conversions are paid by their time.
        if shared.clock.read().source != TimeSource::System {
            return Err(Refusal::ClockWrong);
        }
        request::check_url_length(request.uri(), shared.max_url_bytes)?;
        let headers = RequestHeaders::find(request.headers(), shared.client_address.header());
        let mut host = String::new();
        let is_named = request::host(request.uri(), &headers, &mut host);
        request::check_host(is_named, &host, &shared.hosts)?;
        let client = shared.client_address.resolve(peer, headers.hops());
        if functions.admits(client) {
            Ok(())
        } else {
            Err(Refusal::TooManyFailures)
        }
    }

    /// Calls a function for the client behind `peer`.
    pub fn call_function<B>(
        &self,
        function: MatchedFunction,
        peer: IpAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response<function_host::Body>> + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let shared = self.shared.clone();
        let headers = RequestHeaders::find(request.headers(), shared.client_address.header());
        let client = shared.client_address.resolve(peer, headers.hops());
        async move {
            match &shared.functions {
                Some(functions) => functions.call(function, client, request).await,
                None => Failure::NotStarted.response(),
            }
        }
    }
}
