//! The network side of a fake aggregator.

use event_shipping::tls::{self, Subject};
use quinn::Connection;
use std::net::SocketAddr;
use std::path::Path;
use tokio::runtime::Runtime;

/// Accepts connections of edges on a thread of its own until it is dropped.
pub struct EdgeListener {
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl EdgeListener {
    /// Calls `serve` for each connection. The certificate is of the authority in `dir`.
    pub fn start<F: Future<Output = Option<()>> + Send + 'static>(
        dir: &Path,
        serve: impl Fn(Connection) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let identity = tls::load_or_create(&dir.join("aggregator"), &Subject::Aggregator);
        let endpoint = {
            let _guard = runtime.enter();
            identity
                .expect("certificates")
                .listen(([127, 0, 0, 1], 0).into())
                .expect("free port")
        };
        let address = endpoint.local_addr().expect("bound");
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let serve = serve.clone();
                tokio::spawn(async move { serve(incoming.await.ok()?).await });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}
