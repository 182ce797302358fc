//! The command line's way into the settings: what is accepted, and what is said of mistakes.

mod common;

use common::write_settings;
use std::path::Path;
use std::process::{Command, Output};

fn check(path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .args(["check", "--config"])
        .arg(path)
        .output()
        .expect("the program runs")
}

fn mistake(clickhouse: &str, more: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let output = check(&write_settings(directory.path(), clickhouse, more));
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn sound_settings_are_accepted_and_nothing_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
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
fn mistakes_are_named_with_their_line() {
    let url = r#"url = "http://127.0.0.1:8123""#;
    let said = mistake(url, "[blocks]\nmax_rowss = 10");
    assert!(
        said.contains("unknown field `max_rowss`") && said.contains("aggregator.toml:"),
        "{said}"
    );
    let said = mistake(url, "[limits]\npending_bytes = \"1KiB\"");
    assert!(said.contains("at least \"1MiB\""), "{said}");
    let said = mistake("url = \"127.0.0.1:8123\"", "");
    assert!(said.contains("must be https://host:port"), "{said}");
}

#[test]
fn certificates_that_can_not_be_used_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = write_settings(directory.path(), r#"url = "http://127.0.0.1:8123""#, "");
    std::fs::create_dir(directory.path().join("tls")).expect("made");
    std::fs::write(directory.path().join("tls/ca.pem"), "no certificate").expect("written");
    let output = check(&config);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("ca.pem"), "{said}");
}

#[test]
fn one_place_for_the_password_and_it_is_never_shown() {
    let said = mistake(
        "url = \"http://127.0.0.1:8123\"\npassword = \"hush\"\npassword_file = \"/nowhere\"",
        "",
    );
    assert!(
        said.contains("keep one") && !said.contains("hush"),
        "{said}"
    );
    let said = mistake(
        "url = \"http://127.0.0.1:8123\"\ncredentials = \"/nowhere.json\"",
        "",
    );
    assert!(said.contains("/nowhere.json"), "{said}");
}

#[test]
fn store_is_postgresql_or_file_and_password_is_hidden() {
    let url = r#"url = "http://127.0.0.1:8123""#;
    let said = mistake(url, "[store]\nurl = \"mysql://me:hush@db/tracking\"");
    assert!(
        said.contains("[store] url must be postgres://") && !said.contains("hush"),
        "{said}"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let more = "[store]\nurl = \"postgres://me:hush@db/tracking?sslmode=verify-full\"";
    let config = write_settings(directory.path(), url, more);
    let output = check(&config);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(
        !output.status.success() && said.contains("chmod 600"),
        "{said}"
    );
    set_mode(&config, 0o600);
    assert!(check(&config).status.success());
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("settable");
}

#[test]
fn secret_files_that_others_can_read_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
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
        let said = String::from_utf8(output.stderr).expect("text");
        let remedy = format!("chmod 600 {}", file.display());
        assert!(
            !output.status.success() && said.contains(&remedy),
            "{name}: {said}"
        );
        assert!(!said.contains("hush"), "{said}");
        set_mode(&file, 0o600);
        assert!(check(&config).status.success(), "{name}");
    }
}

#[test]
fn affiliates_postbacks_are_checked_and_their_keys_never_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("postbacks.toml");
    let more = format!("[outgoing]\npostbacks = {file:?}");
    let config = write_settings(directory.path(), r#"url = "http://127.0.0.1:8123""#, &more);
    let said = |text: &str, mode: u32| {
        std::fs::write(&file, text).expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, mode).expect("settable");
        let output = check(&config);
        let said = String::from_utf8(output.stderr).expect("text");
        output.status.success().then_some(()).ok_or(said)
    };
    let right = "[[postback]]\ncampaign = \"c\"\nurl = \"https://t.example/{sub1}\"\n";
    assert_eq!(said(right, 0o600), Ok(()));
    let exposed = said(right, 0o644).expect_err("exposed");
    assert!(exposed.contains("chmod 600"), "{exposed}");
    let wrong = said(&format!("{right}key = \"hush\"\n"), 0o600).expect_err("short");
    assert!(
        wrong.contains("postbacks.toml:4: ") && !wrong.contains("hush"),
        "{wrong}"
    );
}

#[test]
fn relative_paths_start_from_the_settings_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let text = "data_dir = \"data\"\n[tls]\ndir = \"tls\"\ndevelopment = true\n[clickhouse]\n\
                url = \"http://127.0.0.1:9\"\npassword_file = \"secrets/password\"\n\
                [store]\ndir = \"../store\"\n[outgoing]\npostbacks = \"postbacks.toml\"\n";
    std::fs::write(at("aggregator.toml"), text).expect("written");
    std::fs::create_dir(at("secrets")).expect("made");
    for (name, text) in [("secrets/password", "hush"), ("postbacks.toml", "")] {
        std::fs::write(at(name), text).expect("written");
        set_mode(&at(name), 0o600);
    }
    // The tests' own directory is another one.
    let output = check(&at("aggregator.toml"));
    assert!(output.status.success(), "{output:?}");
    let settings = aggregator::settings::read(&at("aggregator.toml")).expect("sound");
    assert_eq!(settings.data_dir, at("data"));
    assert_eq!(settings.tls.dir, at("tls"));
    assert_eq!(settings.store.dir, Some(at("../store")));
    std::fs::remove_file(at("postbacks.toml")).expect("removable");
    let said = String::from_utf8(check(&at("aggregator.toml")).stderr).expect("text");
    let file = at("postbacks.toml").display().to_string();
    assert!(said.contains(&file), "{said}");
}

#[test]
fn check_says_everything_that_is_wrong_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
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
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{said}");
    for wrong in [
        "instance = \"a b\" must be",
        "leads to another machine in plain text",
        "[store] url must be postgres://",
        "absent: No such file",
        "issue-aggregator-certificate --out",
        "postbacks.toml:2: unknown field `campain`",
        "advertisers.toml:2: unknown variant, expected one of",
        "secrets.toml: a table [click_id.keys]",
        "variables.toml:2: kyc_keys: keys are at least 16 bytes long",
        "mistakes found: 9",
    ] {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
}
