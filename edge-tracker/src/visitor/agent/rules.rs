//! Rules for what the libraries don't know: tablets, televisions, programs and plain names.
//!
//! A rule stands here when a real agent needed it; lists of crawlers belong to the libraries.

use std::borrow::Cow;
use tracking_events::Device;

/// What woothee says when it knows nothing.
const UNKNOWN: &str = "UNKNOWN";

/// The longest name taken from an agent itself.
const MAX_NAME_BYTES: usize = 64;

/// Feed readers, libraries and monitors that call themselves `Mozilla` or look like a phone.
const PROGRAMS: [&str; 15] = [
    "crawler",
    "spider",
    "feed",
    "rss/",
    "monitor",
    "uptime",
    "pingdom",
    "fetcher",
    "http-client",
    "httpclient",
    "python",
    "libwww",
    "headless",
    "validator",
    "phantomjs",
];

/// What proxies and scripts send that name no system at all.
const BARE: [&str; 4] = ["", "compatible", "compatible;", "compatible; "];

/// Old phones and small browsers that don't begin like everybody else.
const BROWSERS: [&str; 14] = [
    "mozilla/",
    "opera/",
    "midp",
    "wap browser",
    "up.browser",
    "midori",
    "dalvik/",
    "ucweb",
    "ucbrowser",
    "docomo/",
    "blackberry",
    "nokia",
    "softbank/",
    "safari/",
];

const TELEVISIONS: [&str; 12] = [
    "smart-tv",
    "smarttv",
    "googletv",
    "google tv",
    "android tv",
    "appletv",
    "apple tv",
    "hbbtv",
    "web0s",
    "crkey",
    "bravia",
    "; aft",
];

/// Whether a program rather than a person's browser calls itself so.
pub(super) fn is_program(agent: &str, category: &str) -> bool {
    let agent = agent.trim();
    if matches!(agent, "" | "-") || matches!(category, "crawler" | "misc") {
        return true;
    }
    let lower = agent.to_ascii_lowercase();
    contains_any(&lower, &PROGRAMS) || !contains_any(&lower, &BROWSERS) || is_bare(&lower)
}

/// The agent to ask the libraries about: they take phones of the make Cubot for crawlers.
pub(super) fn without_false_friends(agent: &str) -> Cow<'_, str> {
    match agent.to_ascii_lowercase().find("cubot") {
        Some(at) if agent.contains("Android") => {
            Cow::Owned(format!("{}{}", &agent[..at], &agent[at + "cubot".len()..]))
        }
        _ => Cow::Borrowed(agent),
    }
}

fn is_bare(lower: &str) -> bool {
    lower.strip_prefix("mozilla/").is_some_and(|rest| {
        let comment = rest
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
            .trim();
        BARE.contains(&comment.trim_matches(['(', ')']))
    })
}

/// The kind of device of something that is not a program.
pub(super) fn device(agent: &str, category: &str) -> Device {
    let lower = agent.to_ascii_lowercase();
    let android = lower.contains("android");
    if category == "appliance" || contains_any(&lower, &TELEVISIONS) {
        return Device::Appliance;
    }
    // Android tablets differ from phones by the absence of a word.
    if contains_any(&lower, &["ipad", "tablet;", "kindle", "silk/", "playbook"])
        || (android && !contains_any(&lower, &["mobile", "opera mini", "dalvik"]))
    {
        return Device::Tablet;
    }
    match category {
        "pc" => Device::Desktop,
        "smartphone" | "mobilephone" => Device::Phone,
        _ if android || contains_any(&lower, &["mobile", "midp", "wap browser", "opera mini"]) => {
            Device::Phone
        }
        _ if contains_any(&lower, &["windows nt", "macintosh", "x11;"]) => Device::Desktop,
        _ => Device::Unknown,
    }
}

/// The system's name, the same for all versions.
pub(super) fn os<'a>(agent: &str, known: &'a str) -> &'a str {
    match known {
        "" | UNKNOWN if agent.contains("Windows") => "Windows",
        "" | UNKNOWN if agent.contains("Android") => "Android",
        "" | UNKNOWN if agent.contains("Linux") => "Linux",
        "" | UNKNOWN => "",
        "iPhone" | "iPad" | "iPod" | "iOS" => "iOS",
        "Mac OSX" => "macOS",
        name if name.starts_with("Windows Phone") => "Windows Phone",
        name if name.starts_with("Windows") => "Windows",
        name => name,
    }
}

/// The browser's name.
pub(super) fn browser<'a>(agent: &'a str, known: &'a str) -> &'a str {
    match known {
        "" | UNKNOWN if agent.starts_with("Mozilla/") => "",
        "" | UNKNOWN => first_product(agent),
        name => name,
    }
}

/// The program's name: the library's, else what it calls itself.
pub(super) fn program_name<'a>(agent: &'a str, known: &'a str) -> &'a str {
    let agent = agent.trim();
    if !matches!(
        known,
        "" | UNKNOWN | "HTTP Library" | "misc crawler" | "RSSReader"
    ) {
        return known;
    }
    match agent.split_once("ompatible; ") {
        Some((_, rest)) => first_product(rest),
        None if agent == "-" || agent.starts_with("Mozilla/") => "",
        None => first_product(agent),
    }
}

/// The text before version, comment or the like.
fn first_product(text: &str) -> &str {
    let end = text
        .find(['/', ';', '(', ')', '+', ','])
        .unwrap_or(text.len());
    let name = text[..end].trim();
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

fn contains_any(lower: &str, words: &[&str]) -> bool {
    words.iter().any(|word| lower.contains(word))
}
