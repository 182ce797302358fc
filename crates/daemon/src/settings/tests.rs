//! Tests of settings.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    size: ByteSize,
    age: HumanDuration,
    #[serde(default)]
    bounded: Option<Bounded<ByteSize, 1024, 2048>>,
}

fn parse(text: &str) -> Result<Example, String> {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), text).expect("writable");
    load(file.path()).map_err(|error| error.to_string())
}

#[test]
fn units_are_parsed() {
    let example = parse("size = \"64MiB\"\nage = \"24h\"").expect("valid");
    assert_eq!(example.size, ByteSize(64 << 20));
    assert_eq!(example.age, HumanDuration(Duration::from_secs(86_400)));
    assert_eq!(
        parse("size = 12\nage = \"5ms\"").expect("valid").size,
        ByteSize(12)
    );
}

#[test]
fn invalid_value_names_line_and_remedy() {
    let error = parse("size = 1\nage = \"soon\"").expect_err("rejected");
    assert!(error.contains(":2: not a length of time"), "{error}");
    assert!(error.contains("age = \"soon\""), "{error}");
    let error = parse("size = \"99999999TiB\"\nage = \"1s\"").expect_err("rejected");
    assert!(error.contains(":1: not a size"), "{error}");
}

#[test]
fn out_of_bounds_value_names_the_bounds() {
    let with = |bounded| parse(&format!("size = 1\nage = \"1s\"\nbounded = {bounded}"));
    assert_eq!(
        with("\"2KiB\"").expect("valid").bounded.map(|b| b.get().0),
        Some(2048)
    );
    let error = with("\"3KiB\"").expect_err("rejected");
    assert!(
        error.contains(":3: out of bounds: at least \"1KiB\", at most \"2KiB\""),
        "{error}"
    );
}

#[test]
fn wrong_addresses_are_explained() {
    let text = "address = \"localhost:8080\"";
    let parsed = super::parse::<std::collections::BTreeMap<String, std::net::SocketAddr>>;
    let error = parsed(Path::new("edge.toml"), text).expect_err("rejected");
    let shown = error.to_string();
    let remedy = ":1: not an address: write an IP address and a port, such as 127.0.0.1:8080";
    assert!(shown.contains(remedy), "{shown}");
}

#[test]
fn unknown_key_names_line_and_known_keys() {
    let error = parse("size = 1\n\nagee = \"1s\"").expect_err("rejected");
    assert!(
        error.contains(":3: unknown field `agee`, expected one of `size`, `age`, `bounded`"),
        "{error}"
    );
}

#[test]
fn possible_secrets_are_not_shown() {
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Secrets {
        password: u16,
        api_token: Vec<u16>,
        url: Mode,
        nested: Nested,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Nested {
        signing_key: u16,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Off,
    }
    for (text, line, shown) in [
        (
            "password = \"S3CRET\"",
            1,
            "expected a number from 0 to 65535\n    password = …",
        ),
        (
            "password = 12345678901\n",
            1,
            "expected a number from 0 to 65535\n    password = …",
        ),
        ("pasword = \"S3CRET\"", 1, "unknown field `pasword`"),
        (
            "api_token = [\n  \"S3CRET\",\n]",
            2,
            "expected a number from 0 to 65535\n    …",
        ),
        ("url = \"S3CRET\"", 1, "unknown variant, expected"),
        ("nested = { signing_key = \"S3CRET\" }", 1, "nested = …"),
        ("[nested]\nsigning_key = \"S3CRET\"", 2, "signing_key = …"),
        ("url = \"\"\"\nx = S3CRET\"\"\"", 1, "unknown variant"),
        ("password \"S3CRET\"", 1, "\n    …"),
        ("password = S3CRET", 1, "password = …"),
        ("password = \"S3CRET", 1, "password = …"),
        ("pass word = \"S3CRET\"", 1, "\n    …"),
    ] {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("writable");
        let error = load::<Secrets>(file.path()).expect_err(text).to_string();
        assert!(!error.contains("S3CRET"), "{text}: {error}");
        assert!(!error.contains("12345678901"), "{text}: {error}");
        assert!(error.contains(&format!(":{line}: ")), "{text}: {error}");
        assert!(error.contains(shown), "{text}: {error}");
    }
}
