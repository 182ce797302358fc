//! One program for all targets, so that everything is compiled and linked once: `HOSTILE_TARGET` selects one.
//! Invariant: no target's code here.
#![no_main]

use hostile_bytes::Target;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("HOSTILE_TARGET").expect("HOSTILE_TARGET names a target");
    Target::named(&name).expect("HOSTILE_TARGET is one that `hostile-bytes list` prints")
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
