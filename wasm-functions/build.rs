//! Linker options of components.

/// Initial memory of a component in bytes, enough for one call: growing changes page permissions twice per call and
/// interrupts the other cores.
const INITIAL_HEAP_BYTES: u32 = 512 << 10;

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=--initial-heap={INITIAL_HEAP_BYTES}");
    }
}
