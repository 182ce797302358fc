//! Passes the build time to the program: a correct clock never shows an earlier time.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    };
    let seconds: u64 = given.and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("cargo:rustc-env=BUILD_SECONDS={seconds}");
}
