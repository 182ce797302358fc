//! Says how components are linked.

/// What is allocated while a call is answered fits in here, in bytes: to ask for more changes the rights of
/// pages, twice a call, and interrupts the other cores.
const HEAP: u32 = 512 << 10;

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=--initial-heap={HEAP}");
    }
}
