//! Operation of an edge: settings, reloaded files, signals and ports, with the message for each mistake.
#![allow(missing_docs)]

mod harness;

use harness::directory::{Directory, KYC, VALID_ENTRY, reloads, replace, settings};
use harness::{CHROME, Edge, LINKS};
use std::process::Command;

#[test]
fn relative_paths_start_from_the_settings_directory() {
    // The tests' own directory is another one.
    let edge = Directory::new().start();
    assert_eq!(edge.get("/c/spring").status, 302);
    for made in [
        "data/journal",
        "secrets.toml",
        "tls/edge.pem",
        "authority/ca.key",
    ] {
        assert!(edge.dir.path().join(made).exists(), "{made}");
    }
    assert_ne!(edge.get("/postback/acme/0123456789abcdef").status, 404);
}

/// Wrong files of advertisers, with the line and the reason.
fn wrong_advertisers() -> [(String, usize, &'static str); 9] {
    let acme = |text: String| format!("[acme]\n{text}");
    [
        (
            acme(VALID_ENTRY.replace("generic", "genric")),
            3,
            "unknown variant",
        ),
        (
            acme(VALID_ENTRY.replace("dialect", "dialekt")),
            3,
            "unknown field `dialekt`",
        ),
        (
            acme(VALID_ENTRY.replace("USD", "DOGE")),
            4,
            "currency is not one of ISO 4217",
        ),
        (
            acme("dialect = \"generic\"\n".into()),
            1,
            "missing field `auth`",
        ),
        (
            acme("dialect = \"generic\"\nauth = []\n".into()),
            3,
            "auth is empty",
        ),
        (
            acme("dialect = \"generic\"\nauth = [{ addresses = [\"192.0.2.0/33\"] }]\n".into()),
            3,
            "invalid IP address syntax",
        ),
        (
            acme(VALID_ENTRY.replace("0123456789abcdef", "short")),
            5,
            "at least 16 bytes",
        ),
        (
            acme(VALID_ENTRY.replace("links = \"any\"", "links = 7")),
            2,
            "",
        ),
        (acme("dialect = \n".into()), 2, ""),
    ]
}

#[test]
fn invalid_advertisers_are_rejected_with_line_and_reason() {
    let directory = Directory::new();
    for (text, line, reason) in wrong_advertisers() {
        directory.write("advertisers.toml", &text);
        let said = directory.mistakes();
        assert!(
            said.contains(&format!("advertisers.toml:{line}: ")),
            "{text}: {said}"
        );
        assert!(said.contains(reason), "{text}: {said}");
    }
    directory.write("advertisers.toml", &format!("[acme]\n{VALID_ENTRY}"));
    let edge = directory.start();
    let refused = reloads("advertisers", "refused");
    for (count, (text, line, reason)) in (1..).zip(wrong_advertisers()) {
        replace(&edge, "advertisers.toml", &text);
        edge.await_metric("edge_reloads_total", &refused, count);
        let log = edge.await_log(&format!("advertisers.toml:{line}: "));
        assert!(log.contains(reason), "{reason}: {log}");
        // The advertiser of the earlier file is active: only the click id is missing.
        let response = edge.get("/postback/acme/0123456789abcdef");
        assert!(
            response.text().starts_with("refused: 104 "),
            "{}",
            response.text()
        );
    }
    replace(
        &edge,
        "advertisers.toml",
        &format!("[other]\n{VALID_ENTRY}"),
    );
    edge.await_metric("edge_reloads_total", &reloads("advertisers", "loaded"), 1);
    assert_eq!(edge.get("/postback/acme/0123456789abcdef").status, 403);
}

#[test]
fn check_reports_an_error_of_each_advertiser() {
    let directory = Directory::new();
    let doge = VALID_ENTRY.replace("USD", "DOGE");
    let text = format!(
        "[unclosed]\nauth = [\n[unknown]\n{doge}[valueless]\ndialect = \n[sound]\n{VALID_ENTRY}[misspelt]\ndialekt = 1\n"
    );
    directory.write("advertisers.toml", &text);
    let said = directory.mistakes();
    let lines: Vec<&str> = said
        .split("advertisers.toml:")
        .skip(1)
        .filter_map(|it| it.split(':').next())
        .collect();
    let line_of = |part: &str| text[..text.find(part).expect(part)].lines().count() + 1;
    let expected = [
        2,
        line_of("currency = \"DOGE\""),
        line_of("dialect = \n"),
        line_of("dialekt"),
    ];
    assert_eq!(lines, expected.map(|it| it.to_string()), "{said}");
}

#[test]
fn invalid_webhook_variables_are_rejected_with_line() {
    let wrong = [
        (
            "# keys\nkyc_keys = \"short\"\n",
            2,
            "kyc_keys: keys are at least 16 bytes long",
        ),
        ("kyc_keys = \"\"\n", 1, "kyc_keys is empty"),
        (
            "kyc_keys = \"a key of some length\"\nkyc_window = \"5m\"\n",
            2,
            "kyc_window: 1 to 86400",
        ),
        (
            "kyc_keys = \"a key of some length\"\nkyc_keyz = \"x\"\n",
            0,
            "kyc_keyz has a value but is not declared",
        ),
        (
            "kyc_keys = S3CRET\n",
            1,
            "lines of name = 'value' are expected",
        ),
    ];
    let directory = Directory::new();
    let place = |line: usize| match line {
        0 => String::new(),
        line => format!("variables.toml:{line}: "),
    };
    for (text, line, reason) in wrong {
        directory.write("variables.toml", text);
        let said = directory.mistakes();
        assert!(
            said.contains(&place(line)) && said.contains(reason),
            "{text}: {said}"
        );
        assert!(!said.contains("S3CRET"), "{said}");
    }
    directory.write("variables.toml", KYC);
    let edge = directory.start();
    for (count, (text, line, reason)) in (1..).zip(wrong) {
        replace(&edge, "variables.toml", text);
        edge.await_metric(
            "edge_reloads_total",
            &reloads("functions", "refused"),
            count,
        );
        let log = edge.await_log(&place(line));
        assert!(log.contains(reason) && !log.contains("S3CRET"), "{log}");
    }
    replace(&edge, "variables.toml", &format!("{KYC}# again\n"));
    edge.await_metric("edge_reloads_total", &reloads("functions", "loaded"), 1);
}

#[test]
fn check_reports_all_errors_at_once() {
    let directory = Directory::new();
    let sound = directory.check();
    assert!(sound.status.success(), "{sound:?}");
    assert!(!directory.at("secrets.toml").exists() && !directory.at("tls").exists());
    directory.write("secrets.toml", "[click_id]\nactive = 1\n");
    directory.write(
        "advertisers.toml",
        "[acme]\ndialect = \"generic\"\nauth = []\n",
    );
    directory.write("variables.toml", "kyc_keys = \"short\"\n");
    directory.write("links.toml", "[[link]]\nid = 1\nslug = \"a b\"\n");
    let text = settings("root_page = \"absent.html\"").replace("development = true\n", "")
        + "[unique]\nwindow = \"30h\"\n[geo]\ncountry = \"absent.mmdb\"\n\
         [visitor.agents]\nbrowsers = \"absent.yaml\"\n";
    directory.write("edge.toml", &text);
    let said = directory.mistakes();
    for wrong in [
        "secrets.toml:1: missing field `keys`",
        "advertisers.toml:3: auth is empty",
        "variables.toml:1: kyc_keys: keys are at least 16 bytes long",
        "links.toml:3: a slug is 1 to 64",
        "absent.html",
        "absent.mmdb",
        &*directory.at("absent.yaml").display().to_string(),
        "unique.window is longer than visitor.period",
        "issue-edge-certificate --node 7",
        "mistakes found: 9",
    ] {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
    // Without the variables' mistake the manifest is read.
    directory.write("variables.toml", KYC);
    directory.write(
        "spin.toml",
        "spin_manifest_version = 2\n[component.a]\nsource = \"edge.toml\"\n",
    );
    let said = directory.mistakes();
    assert!(
        said.contains("kyc_keys has a value but is not declared"),
        "{said}"
    );
    directory.write("variables.toml", "");
    let said = directory.mistakes();
    assert!(
        said.contains("edge.toml is not a WebAssembly component"),
        "{said}"
    );
}

#[test]
fn aggregator_address_is_host_and_port() {
    let directory = Directory::new();
    for wrong in [
        "localhost",
        "localhost:",
        ":7400",
        "localhost:0",
        "::1:7400",
        "https://a:7400",
    ] {
        directory.write(
            "edge.toml",
            &settings("").replace("127.0.0.1:1\"", &format!("{wrong}\"")),
        );
        let said = directory.mistakes();
        assert!(said.contains("write \"host:port\""), "{wrong}: {said}");
    }
    for right in ["localhost:7400", "[::1]:7400", "aggregator.example:1"] {
        directory.write(
            "edge.toml",
            &settings("").replace("127.0.0.1:1\"", &format!("{right}\"")),
        );
        assert!(directory.check().status.success(), "{right}");
    }
}

#[test]
fn numbers_and_addresses_are_explained_without_types_of_rust() {
    let directory = Directory::new();
    for (right, wrong, remedy) in [
        ("node = 7", "node = 0", "expected a number from 1 to 65535"),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"localhost:8080\"",
            "write an IP address and a port, such as 127.0.0.1:8080",
        ),
    ] {
        directory.write("edge.toml", &settings("").replacen(right, wrong, 1));
        let said = directory.mistakes();
        assert!(said.contains(remedy), "{wrong}: {said}");
    }
}

#[test]
fn certificates_are_created_only_in_development_mode() {
    let directory = Directory::new();
    directory.write(
        "edge.toml",
        &settings("").replace("development = true\n", ""),
    );
    let said = directory.refused_start();
    assert!(
        said.contains("issue-edge-certificate --node 7 --out"),
        "{said}"
    );
    assert!(!directory.at("tls").exists() && !directory.at("authority").exists());
}

#[test]
fn hangups_do_not_end_an_edge() {
    let mut edge = Directory::new().start();
    let hung_up = Command::new("kill")
        .args(["-HUP", &edge.pid().to_string()])
        .status();
    assert!(hung_up.expect("kill runs").success());
    edge.await_log("SIGHUP ignored");
    assert_eq!(edge.get("/c/spring").status, 302);
    assert!(edge.stop());
}

#[test]
fn second_edge_with_the_same_address_is_refused() {
    let first = Edge::start();
    let directory = Directory::new();
    let text = settings("").replacen("127.0.0.1:0", &first.listening, 1);
    directory.write("edge.toml", &text);
    let said = directory.refused_start();
    let taken = format!(
        "can't listen on {} (http.listen): Address already in use",
        first.listening
    );
    assert!(said.contains(&taken), "{said}");
    for _ in 0..20 {
        assert_eq!(first.get("/c/spring").status, 302);
    }
}

#[test]
fn doubtful_links_are_rejected_and_the_active_ones_kept() {
    let edge = Directory::new().start();
    let file = edge.dir.path().join("links.toml");
    let renamed = LINKS.replace("\"spring\"", "\"summer\"");
    let swapped = LINKS
        .replace("\"spring\"", "\"x\"")
        .replace("\"plain\"", "\"spring\"");
    let swapped = swapped.replace("\"x\"", "\"plain\"");
    let refused = reloads("links", "refused");
    std::fs::remove_file(&file).expect("removable");
    edge.await_metric("edge_reloads_total", &refused, 1);
    edge.await_log("links.toml: No such file");
    for (count, (text, reason)) in (2..).zip([
        ("", "must contain empty = true"),
        ("# all gone\n", "must contain empty = true"),
        (
            &renamed,
            "id 1 was the link \"spring\" and is \"summer\" now",
        ),
        (&swapped, "give the new link a number of its own"),
        (
            &format!("empty = true\n{LINKS}"),
            "must contain empty = true",
        ),
    ]) {
        replace(&edge, "links.toml", text);
        edge.await_metric("edge_reloads_total", &refused, count);
        edge.await_log(reason);
        assert_eq!(edge.get("/c/spring").status, 302, "{text}");
    }
    let confirmed = renamed.replace("\"summer\"", "\"summer\"\nrenamed_from = \"spring\"");
    replace(&edge, "links.toml", &confirmed);
    edge.await_metric("edge_reloads_total", &reloads("links", "loaded"), 1);
    assert_eq!(edge.get("/c/summer").status, 302);
    replace(&edge, "links.toml", "empty = true\n");
    edge.await_metric("edge_reloads_total", &reloads("links", "loaded"), 2);
    assert_eq!(edge.get("/c/summer").status, 404);
}

#[test]
fn bare_domain_responds_as_configured_without_functions() {
    let page = "<!doctype html><title>Fanz</title>";
    for (http, status, location, body) in [
        ("", 200, None, "ok\n"),
        (
            "root_redirect = \"https://www.example/\"",
            302,
            Some("https://www.example/"),
            "",
        ),
        ("root_page = \"index.html\"", 200, None, page),
    ] {
        let directory = Directory::new();
        directory.write("index.html", page);
        directory.write("edge.toml", &settings(http));
        let edge = directory.start();
        for target in ["/", "/?", "/?fbclid=1&utm_source=x"] {
            let response = edge.get(target);
            assert_eq!(
                (response.status, response.header("location")),
                (status, location),
                "{target}"
            );
            assert_eq!(response.text(), body, "{target}");
        }
        for target in [
            "/favicon.ico",
            "/robots.txt",
            "/wp-login.php",
            "/.env",
            "/admin/config",
        ] {
            let response = edge.request("GET", target, &[("User-Agent", CHROME)]);
            assert_eq!(response.status, 404, "{target}");
            assert!(
                !response.text().contains("advertiser"),
                "{}",
                response.text()
            );
        }
        assert_eq!(edge.metric("function_calls_total", ""), 0);
        assert_eq!(edge.metric("edge_rejections_total", ""), 0);
        // Everflow's form is a postback.
        assert_eq!(edge.get("/?nid=4f9a1c2").status, 403);
        assert_eq!(edge.metric("function_calls_total", ""), 1);
    }
}

#[test]
fn two_responses_for_the_bare_domain_are_rejected() {
    let directory = Directory::new();
    directory.write("index.html", "");
    let both = "root_redirect = \"https://www.example/\"\nroot_page = \"index.html\"";
    directory.write("edge.toml", &settings(both));
    assert!(directory.mistakes().contains("are both set: keep one"));
    directory.write("edge.toml", &settings("root_redirect = \"www.example\""));
    assert!(
        directory
            .mistakes()
            .contains("begins with https:// or http://")
    );
}

/// The examples of docs/advertisers.md: dialect, entry, and the request of a postback.
fn documented_advertisers() -> Vec<(&'static str, &'static str, &'static str)> {
    let text = include_str!("../../docs/advertisers.md");
    let block = |section: &'static str, language: &str| {
        let (_, rest) = section
            .split_once(&format!("```{language}\n"))
            .expect("block");
        rest.split_once("```").expect("closing fence").0
    };
    let example = |section: &'static str| {
        let (dialect, _) = section.split_once('\n').expect("heading");
        let request = block(section, "http").trim();
        let target = request.strip_prefix("GET ").expect("GET");
        (dialect, block(section, "toml"), target)
    };
    text.split("\n## ").skip(1).map(example).collect()
}

#[test]
fn documented_advertisers_convert_a_click_each() {
    let examples = documented_advertisers();
    let dialects: Vec<&str> = examples.iter().map(|(dialect, ..)| *dialect).collect();
    let known = "generic voluum keitaro everflow tune affise binom redtrack cake";
    assert_eq!(dialects.join(" "), known);
    let directory = Directory::new();
    let entries: Vec<&str> = examples.iter().map(|(_, entry, _)| *entry).collect();
    directory.write("advertisers.toml", &entries.join("\n"));
    let edge = directory.start();
    for (count, (dialect, entry, target)) in (1..).zip(examples) {
        assert!(
            entry.contains(&format!("dialect = \"{dialect}\"")),
            "{dialect}"
        );
        let click = edge.get("/c/spring");
        let (_, id) = click.location().split_once("cid=").expect("click id");
        let id = id.split('&').next().expect("end");
        let response = edge.get(&target.replace("{click_id}", id));
        assert_eq!(response.status, 200, "{dialect}: {}", response.text());
        assert_eq!(
            edge.metric("edge_reports_total", "outcome=\"durable\""),
            count,
            "{dialect}"
        );
    }
}
