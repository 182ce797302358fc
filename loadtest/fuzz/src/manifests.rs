//! The functions' manifest: accepted or rejected deterministically, without secrets in errors.

use crate::temp_dir::temp_dir;
use function_host::Manifest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

/// A value that is never part of a manifest.
const SECRET: &str = "S3CRET with spaces, {{ and ://";

thread_local! {
    static TEMP_DIR: (TempDir, PathBuf) = {
        let temp_dir = temp_dir();
        let file = temp_dir.path().join("spin.toml");
        (temp_dir, file)
    };
}

/// A manifest file.
pub(crate) fn manifest(bytes: &[u8]) {
    TEMP_DIR.with(|(temp_dir, file)| {
        std::fs::write(file, bytes).expect("there is room for a file");
        let with = |names: &[&str]| -> BTreeMap<String, String> {
            let pairs = names
                .iter()
                .map(|name| ((*name).to_owned(), SECRET.to_owned()));
            pairs.collect()
        };
        let offered = with(&["tracker_token", "click_id_keys"]);
        for given in [with(&[]), with(&["kyc_keys"])] {
            match Manifest::read(file, &given, &offered) {
                Ok(read) => {
                    let again = Manifest::read(file, &given, &offered).expect("it was read before");
                    assert_eq!(format!("{read:?}"), format!("{again:?}"));
                    assert_eq!(read.sources(), again.sources());
                    for source in read.sources() {
                        assert!(source.is_absolute() || source.starts_with(temp_dir.path()));
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(!error.contains("S3CRET"), "{error}");
                    assert!(error.contains("spin.toml"), "{error}");
                }
            }
        }
    });
}

pub(crate) mod seeds {
    //! The deployed manifest, and features that it does not use.

    pub(crate) fn manifest() -> Vec<Vec<u8>> {
        let small = "spin_manifest_version = 2\n[application]\nname = \"x\"\n\
            [variables]\nkyc_keys = { default = \"\" }\ntracker_token = { required = true, secret = true }\n\
            [[trigger.http]]\nroute = \"/a/...\"\ncomponent = \"a\"\n\
            [[trigger.http]]\nroute = { private = true }\ncomponent = \"a\"\n\
            [component.a]\nsource = \"a.wasm\"\nallowed_outbound_hosts = [\"http://*.example.com:*\", \"{{ tracker_token }}\"]\n\
            key_value_stores = [\"advertisers\"]\nvariables = { token = \"{{ tracker_token }}.{{kyc_keys}}\" }\n";
        let allowed = small.replace(", \"{{ tracker_token }}\"", "");
        let ours = include_str!("../../../wasm-functions/spin.toml");
        vec![
            ours.into(),
            small.into(),
            allowed.into_bytes(),
            b"spin_manifest_version = 1\n".to_vec(),
            b"spin_manifest_version = 2\n[[trigger.http]]\nroute = \"/:x/y\"\ncomponent = \"none\"\n".to_vec(),
        ]
    }
}
