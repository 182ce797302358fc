//! Settings on the command line: accepted values, and messages about invalid ones.

mod common;

use common::write_settings;
use std::path::Path;
use std::process::{Command, Output};

fn check(path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .args(["check", "--config"])
        .arg(path)
        .output()
        .expect("program runs")
}

fn settings_error(clickhouse: &str, more: &str) -> String {
    let directory = tempfile::tempdir().expect("temporary directory");
    let output = check(&write_settings(directory.path(), clickhouse, more));
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn valid_settings_are_accepted_without_side_effects() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let more = "[blocks]\nmax_rows = 10\nmax_bytes = \"1MiB\"\nmax_age = \"50ms\"\n\
                [limits]\nmax_edges = 3\npending_bytes = \"8MiB\"";
    let output = check(&write_settings(
        directory.path(),
        r#"url = "http://127.0.0.1:8123""#,
        more,
    ));
    assert!(output.status.success(), "{output:?}");
    assert!(!directory.path().join("data").exists());
    assert!(!directory.path().join("tls").exists());
}

#[test]
fn errors_name_their_line() {
    let url = r#"url = "http://127.0.0.1:8123""#;
    let printed = settings_error(url, "[blocks]\nmax_rowss = 10");
    assert!(
        printed.contains("unknown field `max_rowss`") && printed.contains("aggregator.toml:"),
        "{printed}"
    );
    let printed = settings_error(url, "[limits]\npending_bytes = \"1KiB\"");
    assert!(printed.contains("at least \"1MiB\""), "{printed}");
    assert!(
        printed.ends_with("\naggregator: mistakes found: 1\n"),
        "{printed}"
    );
    let printed = settings_error("url = \"127.0.0.1:8123\"", "");
    assert!(printed.contains("must be https://host:port"), "{printed}");
}

#[test]
fn unusable_certificates_are_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(directory.path(), r#"url = "http://127.0.0.1:8123""#, "");
    std::fs::create_dir(directory.path().join("tls")).expect("directory created");
    std::fs::write(directory.path().join("tls/ca.pem"), "no certificate").expect("written");
    let output = check(&config);
    assert!(!output.status.success());
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(printed.contains("ca.pem"), "{printed}");
}

#[test]
fn second_password_is_refused_and_none_is_shown() {
    let printed = settings_error(
        "url = \"http://127.0.0.1:8123\"\npassword = \"hush\"\npassword_file = \"/nowhere\"",
        "",
    );
    assert!(
        printed.contains("keep one") && !printed.contains("hush"),
        "{printed}"
    );
    let printed = settings_error(
        "url = \"http://127.0.0.1:8123\"\ncredentials = \"/nowhere.json\"",
        "",
    );
    assert!(printed.contains("/nowhere.json"), "{printed}");
}

#[test]
fn store_is_postgresql_or_file_and_password_is_hidden() {
    let url = r#"url = "http://127.0.0.1:8123""#;
    let printed = settings_error(url, "[store]\nurl = \"mysql://me:hush@db/tracking\"");
    assert!(
        printed.contains("[store] url must be postgres://") && !printed.contains("hush"),
        "{printed}"
    );
    let directory = tempfile::tempdir().expect("temporary directory");
    let more = "[store]\nurl = \"postgres://me:hush@db/tracking?sslmode=verify-full\"";
    let config = write_settings(directory.path(), url, more);
    let output = check(&config);
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && printed.contains("chmod 600"),
        "{printed}"
    );
    set_mode(&config, 0o600);
    assert!(check(&config).status.success());
}

#[test]
fn store_password_comes_from_a_private_file_or_the_url() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("postgresql-password");
    std::fs::write(&file, "h&s#=\n").expect("written");
    let url = |user: &str| format!("url = \"postgres://{user}@127.0.0.1/tracking\"\n");
    for (store, mode, expected) in [
        (url("me"), 0o600, ""),
        (url("me"), 0o644, "chmod 600"),
        (
            url("me:hush"),
            0o600,
            "password_file needs a url without a password",
        ),
        (
            String::new(),
            0o600,
            "password_file needs a url without a password",
        ),
    ] {
        set_mode(&file, mode);
        let more = format!("[store]\n{store}password_file = {file:?}");
        let clickhouse = r#"url = "http://127.0.0.1:8123""#;
        let config = write_settings(directory.path(), clickhouse, &more);
        set_mode(&config, 0o600);
        let output = check(&config);
        let printed = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.success(), expected.is_empty(), "{printed}");
        assert!(
            printed.contains(expected) && !printed.contains("hush"),
            "{printed}"
        );
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions set");
}

#[test]
fn secret_files_that_others_can_read_are_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| directory.path().join(name);
    let url = "url = \"http://127.0.0.1:8123\"";
    let credentials = r#"{"tracker": {"user": "tracker", "password": "hush"}}"#;
    for (name, text, settings) in [
        (
            "password",
            "hush\n",
            format!("{url}\npassword_file = {:?}", at("password")),
        ),
        (
            "users.json",
            credentials,
            format!("{url}\ncredentials = {:?}", at("users.json")),
        ),
        ("aggregator.toml", "", format!("{url}\npassword = \"hush\"")),
        ("tls/aggregator.key", "", url.to_owned()),
    ] {
        let file = at(name);
        if name.starts_with("tls") {
            use event_shipping::tls::{Subject, load_or_create};
            load_or_create(&at("tls"), &Subject::Aggregator).expect("certificates");
        } else {
            std::fs::write(&file, text).expect("written");
        }
        let config = write_settings(directory.path(), &settings, "");
        set_mode(&config, 0o600);
        set_mode(&file, 0o640);
        let output = check(&config);
        let printed = String::from_utf8(output.stderr).expect("text");
        let remedy = format!("chmod 600 {}", file.display());
        assert!(
            !output.status.success() && printed.contains(&remedy),
            "{name}: {printed}"
        );
        assert!(!printed.contains("hush"), "{printed}");
        set_mode(&file, 0o600);
        assert!(check(&config).status.success(), "{name}");
    }
}

#[test]
fn check_validates_postbacks_without_showing_keys() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("postbacks.toml");
    let more = format!("[outgoing]\npostbacks = {file:?}");
    let config = write_settings(directory.path(), r#"url = "http://127.0.0.1:8123""#, &more);
    let printed = |text: &str, mode: u32| {
        std::fs::write(&file, text).expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, mode).expect("permissions set");
        let output = check(&config);
        let printed = String::from_utf8(output.stderr).expect("text");
        output.status.success().then_some(()).ok_or(printed)
    };
    let right = "[[postback]]\ncampaign = \"c\"\nurl = \"https://t.example/{sub1}\"\n";
    assert_eq!(printed(right, 0o600), Ok(()));
    let exposed = printed(right, 0o644).expect_err("exposed");
    assert!(exposed.contains("chmod 600"), "{exposed}");
    let wrong = printed(&format!("{right}key = \"hush\"\n"), 0o600).expect_err("short");
    assert!(
        wrong.contains("postbacks.toml:4: ") && !wrong.contains("hush"),
        "{wrong}"
    );
}

#[test]
fn relative_paths_start_from_the_settings_directory() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| directory.path().join(name);
    let text = "data_dir = \"data\"\n[tls]\ndir = \"tls\"\ndevelopment = true\n[clickhouse]\n\
                url = \"http://127.0.0.1:9\"\npassword_file = \"secrets/password\"\n\
                [store]\ndir = \"../store\"\n[outgoing]\npostbacks = \"postbacks.toml\"\n";
    std::fs::write(at("aggregator.toml"), text).expect("written");
    std::fs::create_dir(at("secrets")).expect("directory created");
    for (name, text) in [("secrets/password", "hush"), ("postbacks.toml", "")] {
        std::fs::write(at(name), text).expect("written");
        set_mode(&at(name), 0o600);
    }
    // The tests run in another directory.
    let output = check(&at("aggregator.toml"));
    assert!(output.status.success(), "{output:?}");
    let settings = aggregator::settings::read(&at("aggregator.toml")).expect("valid");
    assert_eq!(settings.data_dir, at("data"));
    assert_eq!(settings.tls.dir, at("tls"));
    assert_eq!(settings.store.dir, Some(at("../store")));
    std::fs::remove_file(at("postbacks.toml")).expect("removable");
    let printed = String::from_utf8(check(&at("aggregator.toml")).stderr).expect("text");
    let file = at("postbacks.toml").display().to_string();
    assert!(printed.contains(&file), "{printed}");
}

#[test]
fn check_reports_all_errors_at_once() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| directory.path().join(name);
    let text = "instance = \"a b\"\ndata_dir = \"data\"\n[tls]\ndir = \"tls\"\n[clickhouse]\n\
                url = \"http://db.example:8123\"\npassword_file = \"absent\"\n\
                [store]\nurl = \"mysql://db\"\n[outgoing]\npostbacks = \"postbacks.toml\"\n\
                [reports]\nadvertisers = \"advertisers.toml\"\nsecrets = \"secrets.toml\"\n\
                variables = \"variables.toml\"\n";
    for (name, text) in [
        ("aggregator.toml", text),
        ("postbacks.toml", "[[postback]]\ncampain = \"c\"\n"),
        (
            "advertisers.toml",
            "[acme]\ndialect = \"genric\"\nauth = []\n",
        ),
        ("secrets.toml", "[click_id]\n"),
        ("variables.toml", "# keys\nkyc_keys = \"short\"\n"),
    ] {
        std::fs::write(at(name), text).expect("written");
        set_mode(&at(name), 0o600);
    }
    let output = check(&at("aggregator.toml"));
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{printed}");
    for wrong in [
        "instance = \"a b\" must be",
        "leads to another machine in plain text",
        "[store] url must be postgres://",
        "absent: No such file",
        "issue-aggregator-certificate --out",
        "postbacks.toml:2: unknown field `campain`",
        "advertisers.toml:2: unknown variant, expected one of",
        "secrets.toml: expected a table [click_id.keys]",
        "variables.toml:2: kyc_keys: keys are at least 16 bytes long",
        "mistakes found: 9",
    ] {
        assert!(printed.contains(wrong), "{wrong}: {printed}");
    }
}
