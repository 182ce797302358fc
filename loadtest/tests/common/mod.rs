//! Shared by tests of real processes.

use loadtest::stack::Stack;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a click to the first edge; its rows have this source.
pub(crate) fn click(stack: &Stack, source: &str) {
    let config = ureq::Agent::config_builder()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build();
    let url = format!("{}/c/boyfanz-home?source={source}", stack.edge_urls[0]);
    let response = ureq::Agent::new_with_config(config).get(url).call();
    assert_eq!(response.expect("response").status(), 302);
}
