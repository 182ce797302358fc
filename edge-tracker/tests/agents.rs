//! Devices, browsers and bots by the shipped rules and by files, measured on published lists, and memory bounds.
#![allow(missing_docs)]

use daemon::files::SETTLE_TIME;
use edge_tracker::visitor::VisitorSettings;
use edge_tracker::visitor::agent::{Agents, RuleFiles, SentHints, WorkerCache};
use edge_tracker::visitor::identity::AgentDigest;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracking_events::{Device, Flags};

fn agents() -> Agents {
    Agents::new(64, 512)
}

/// device | os | browser | agent
const KNOWN: &str = "\
desktop | macOS | Chrome | Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36
desktop | Windows | Firefox | Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0
desktop | Windows | Edge | Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0
desktop | Windows | Internet Explorer | Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2; .NET CLR 2.0.50727)
desktop | Linux | Firefox | Mozilla/5.0 (X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0
desktop | Linux | Midori | Midori/0.2 (X11; Linux; U; fr-fr) WebKit/531.2+
desktop | Linux | Opera | Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16
phone | iOS | Safari | Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1
phone | Android | Chrome | Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36
phone | Android | Chrome | Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36
phone | Android | Dalvik | Dalvik/1.6.0 (Linux; U; Android 4.1.2; GT-I8190 Build/JZO54K)
phone |  | MAXX_MAUI WAP Browser | MAXX_MAUI WAP Browser
tablet | iOS | Safari | Mozilla/5.0 (iPad; CPU OS 7_0_4 like Mac OS X) AppleWebKit/537.51.1 (KHTML, like Gecko) Version/7.0 Mobile/11B554a Safari/9537.53
tablet | Android | Android Browser | Mozilla/5.0 (Linux; U; Android 4.1.2; en-gb; GT-N8020 Build/JZO54K) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Safari/534.30
tablet | Android | Firefox | Mozilla/5.0 (Android; Tablet; rv:27.0) Gecko/27.0 Firefox/27.0
tv | Android | Chrome | Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36
phone | Android | Chrome | Mozilla/5.0 (Linux; Android 7.0; M bot 60 Build/NRD90M) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/74.0.3729.157 Mobile Safari/537.36
phone | Android | Chrome | Mozilla/5.0 (Linux; Android 5.1; B BOT 550 Build/LMY47I) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/74.0.3729.157 Mobile Safari/537.36
phone | Android | Chrome | Mozilla/5.0 (Linux; Android 9; CUBOT) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36
phone | Android | Instagram | Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 Instagram 390.0.0.43.81 Android (34/14; 420dpi; 1080x2205; Google/google; Pixel 8; shiba; shiba; en_US; 772048121)
phone | Android | Instagram | Mozilla/5.0 (Linux; Android 15; CPH2557 Build/AP3A.240617.008; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/142.0.7444.142 Mobile Safari/537.36 Instagram 406.0.0.58.159 Android
phone | iOS | TikTok | Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 musical_ly_40.4.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/en Region/US BytedanceWebview/d8a21c6
phone | iOS | Facebook | Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/518.0.0.52.100;FBBV/753112391;FBDV/iPhone14,5;FBMD/iPhone;FBSN/iOS;FBSV/18.5;FBSS/3;FBCR/;FBID/phone;FBLC/en_US;FBOP/80]
phone | iOS | Snapchat | Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.6.1 Mobile/15E148 Snapchat/14.25.0.48 (like Safari/8624.5.1.10.3, panda)
console | PlayStation | Safari | Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15
console | Windows | Edge | Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox Series X) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edge/44.18363.8131
tv | Roku | Roku | Roku/DVP-14.5 (14.5.4.5934-46)
tv | Tizen | Safari | Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36
desktop | Windows | Microsoft Office | Mozilla/4.0 (compatible; ms-office; MSOffice 16)
bot |  |  | 
bot |  |  | -
bot |  |  | Mozilla/5.0
bot |  | curl | curl/8.14.1
bot |  | Wget | Wget/1.14 (linux-gnu)
bot |  | python-requests | python-requests/1.2.0 CPython/2.7.4 Linux/3.8.0-33-generic
bot |  | Go-http-client | Go-http-client/2.0
bot |  | Java | Java/17.0.2
bot |  | libwww-perl | libwww-perl/6.05
bot |  | UniversalFeedParser | UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/
bot |  | Tiny Tiny RSS | Tiny Tiny RSS/1.11 (http://tt-rss.org/)
bot |  | FeedBurner | FeedBurner/1.0 (http://www.FeedBurner.com)
bot |  | Chef Client | Chef Client/10.18.2 (ruby-1.9.3-p327; ohai-6.16.0; x86_64-linux; +http://opscode.com)
bot |  | Feedbin | Feedbin - 1 subscribers
bot |  | WhatsApp | WhatsApp/2.23.20.0
bot |  | facebookexternalhit | facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)
bot |  | bingbot | Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)
bot |  | Googlebot | Mozilla/5.0 (iPhone; CPU iPhone OS 6_0 like Mac OS X) AppleWebKit/536.26 (KHTML, like Gecko) Version/6.0 Mobile/10A5376e Safari/8536.25 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
bot |  | AhrefsBot | Mozilla/5.0 (compatible; AhrefsBot/5.0; +http://ahrefs.com/robot/)
bot |  | Embedly | Mozilla/5.0 (compatible; Embedly/0.2; +http://support.embed.ly/)
bot |  | HeadlessChrome | Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/138.0.0.0 Safari/537.36
bot |  | GoogleOther | Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.6422.175 Mobile Safari/537.36 (compatible; GoogleOther)
bot |  | Claude-User | Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; +Claude-User@anthropic.com)
bot |  |  | Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 pageburst
bot |  | Slackbot | Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)
bot |  | TelegramBot | TelegramBot (like TwitterBot)
";

#[test]
fn known_agents_are_recognised() {
    let agents = agents();
    let mut wrong = Vec::new();
    for line in KNOWN.lines() {
        let agent = line.splitn(4, " | ").nth(3).unwrap_or_default();
        let found = agents.get(agent);
        assert_eq!(found.bot, found.device == Device::Bot);
        let device = found.device.as_str();
        let result = format!("{device} | {} | {} | {agent}", found.os, found.browser);
        if result != line {
            wrong.push(result);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn recognition_is_cached() {
    let agents = agents();
    let first = agents.get("curl/8.14.1");
    let second = agents.get("curl/8.14.1");
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((agents.misses(), agents.entries()), (1, 1));
    let event = second.as_event();
    assert_eq!((event.browser, event.raw), ("curl", "curl/8.14.1"));
    assert_eq!(second.digest, AgentDigest::of("curl/8.14.1"));
}

#[test]
fn flood_of_new_agents_keeps_cache_bound_and_active_agent() {
    let agents = agents();
    let used = agents.get("curl/8.14.1");
    for number in 0..1000 {
        let _ = agents.get(&format!("flood/{number}"));
        if number % 16 == 0 {
            assert!(
                Arc::ptr_eq(&used, &agents.get("curl/8.14.1")),
                "after {number}"
            );
        }
        assert!(agents.entries() <= 64, "{}", agents.entries());
    }
    assert_eq!(agents.misses(), 1001);
}

#[test]
fn threads_keep_the_cache_bound_together() {
    let agents = Agents::new(64, 512);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let agents = &agents;
            scope.spawn(move || {
                for number in 0..300 {
                    let _ = agents.get(&format!("flood/{thread}-{number}"));
                    assert!(agents.entries() <= 64 + 2 * 4, "{}", agents.entries());
                }
            });
        }
    });
    assert_eq!(agents.misses(), 1200);
}

#[test]
fn worker_cache_returns_the_same_results() {
    let agents = agents();
    let mut recent = WorkerCache::new(&agents);
    // Twice as many agents as cache slots: some evict each other.
    let names: Vec<String> = (0..2_048).map(|number| format!("tool/{number}")).collect();
    for name in names.iter().chain(&names) {
        let (result, cut) = recent.get(name.as_bytes(), SentHints::default(), &agents);
        assert_eq!((result.raw(), cut), (&**name, false));
        assert_eq!(result.digest, AgentDigest::of(name));
    }
    let (before, agent) = (agents.misses(), &names[2_047]);
    for _ in 0..3 {
        let (result, _) = recent.get(agent.as_bytes(), SentHints::default(), &agents);
        assert_eq!(result.raw(), agent.as_str());
    }
    assert_eq!(agents.misses(), before, "the last one is at hand");
}

#[test]
fn long_agents_are_truncated_at_characters() {
    let agents = Agents::new(64, 10);
    assert_eq!(agents.cut("123456789é"), "123456789");
    assert_eq!(agents.cut("12345678é"), "12345678é");
    let first = agents.get("curl/8.14.1");
    assert!(
        Arc::ptr_eq(&first, &agents.get("curl/8.14.9")),
        "both are curl/8.14."
    );
    let mut recent = WorkerCache::new(&agents);
    for _ in 0..2 {
        let (agent, cut) = recent.get(b"curl/8.14.9", SentHints::default(), &agents);
        assert_eq!((agent.raw(), cut), ("curl/8.14.", true));
        let (agent, cut) = recent.get(b"caf\xe9/1", SentHints::default(), &agents);
        assert_eq!((agent.raw(), cut), ("caf\u{fffd}/1", false));
    }
}

const LINUX_CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36";
const ANDROID_CHROME: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36";

/// `Sec-CH-UA` with `brand` between the two that every browser sends.
fn brands(brand: &str) -> String {
    format!("\"Not;A=Brand\";v=\"99\", \"{brand}\";v=\"139\", \"Chromium\";v=\"139\"")
}

#[test]
fn client_hints_complete_frozen_agents() {
    let agents = agents();
    let mut recent = WorkerCache::new(&agents);
    let plain = agents.get(LINUX_CHROME);
    for (agent, brand, mobile, platform, expected) in [
        (LINUX_CHROME, "", "", "", "desktop Linux Chrome"),
        (
            LINUX_CHROME,
            "Google Chrome",
            "?0",
            "\"Linux\"",
            "desktop Linux Chrome",
        ),
        (
            LINUX_CHROME,
            "Brave",
            "?0",
            "\"Linux\"",
            "desktop Linux Brave",
        ),
        (
            LINUX_CHROME,
            "Opera",
            "?0",
            "\"Linux\"",
            "desktop Linux Opera",
        ),
        (
            LINUX_CHROME,
            "Microsoft Edge",
            "?0",
            "\"Chrome OS\"",
            "desktop Chrome OS Edge",
        ),
        (
            LINUX_CHROME,
            "Google Chrome",
            "?0",
            "\"Android\"",
            "tablet Android Chrome",
        ),
        (
            LINUX_CHROME,
            "Google Chrome",
            "?1",
            "\"Android\"",
            "phone Android Chrome",
        ),
        (
            ANDROID_CHROME,
            "Samsung Internet",
            "?1",
            "\"Android\"",
            "phone Android Samsung Internet",
        ),
        (
            LINUX_CHROME,
            "HeadlessChrome",
            "?0",
            "\"Linux\"",
            "bot  HeadlessChrome",
        ),
        (
            LINUX_CHROME,
            "Invented",
            "?2",
            "Linux",
            "desktop Linux Chrome",
        ),
        (
            "curl/8.14.1",
            "Google Chrome",
            "?0",
            "\"Windows\"",
            "bot  curl",
        ),
    ] {
        let brand = if brand.is_empty() {
            String::new()
        } else {
            brands(brand)
        };
        let hints = SentHints {
            brands: brand.as_bytes(),
            mobile: mobile.as_bytes(),
            platform: platform.as_bytes(),
        };
        for _ in 0..2 {
            let (found, cut) = recent.get(agent.as_bytes(), hints, &agents);
            let result = format!("{} {} {}", found.device.as_str(), found.os, found.browser);
            assert_eq!((&*result, cut), (expected, false), "{agent} {brand}");
            assert_eq!(found.raw(), agent);
            assert!(
                agent != LINUX_CHROME || found.digest == plain.digest,
                "one visitor"
            );
        }
    }
    let misses = agents.misses();
    let other_order = "\"Chromium\";v=\"140\", \"Not_A Brand\";v=\"8\", \"Brave\";v=\"140\"";
    let hints = SentHints {
        brands: other_order.as_bytes(),
        mobile: b"?0",
        platform: b"\"Linux\"",
    };
    assert_eq!(
        &*recent
            .get(LINUX_CHROME.as_bytes(), hints, &agents)
            .0
            .browser,
        "Brave"
    );
    assert_eq!(
        agents.misses(),
        misses,
        "equal hints in another spelling must hit the cache"
    );
}

/// Settings with files of rules in `dir`.
fn settings(dir: &std::path::Path) -> VisitorSettings {
    VisitorSettings {
        agents: RuleFiles {
            crawlers: Some(dir.join("crawlers.json")),
            browsers: Some(dir.join("regexes.yaml")),
            words: None,
        },
        ..VisitorSettings::default()
    }
}

const BROWSERS: &str = "\
user_agent_parsers:\n  - regex: '(Nova)/(\\d+)'\n  - regex: 'Chrome/'\n    family_replacement: 'It''s Chrome'\n\
os_parsers:\n  - regex: '(Plan9)'\ndevice_parsers:\n  - regex: '(x)'\n    device_replacement: 'Spider'\n";

#[test]
fn changed_rule_files_are_used_and_invalid_ones_rejected() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let crawlers = dir.path().join("crawlers.json");
    let browsers = dir.path().join("regexes.yaml");
    let write = |path: &std::path::Path, text: &str| {
        // A new inode each time, so that the change is detected under any resolution of the clock.
        let aside = path.with_extension("aside");
        std::fs::write(&aside, text).expect("writable");
        std::fs::rename(aside, path).expect("renamed");
    };
    write(
        &crawlers,
        r#"[{"pattern": "Probe\\/", "url": "x", "instances": []}]"#,
    );
    write(&browsers, BROWSERS);
    let agents = Agents::open(&settings(dir.path()));
    let mut recent = WorkerCache::new(&agents);
    let visitor = "Mozilla/5.0 (Plan9) Nova/7 Comet/1";
    let mut seen = || {
        let (found, _) = recent.get(visitor.as_bytes(), SentHints::default(), &agents);
        format!("{} {} {}", found.device.as_str(), found.os, found.browser)
    };
    assert_eq!(seen(), "unknown Plan9 Nova");
    assert!(!agents.refresh().expect("nothing changed"));
    let refreshed = || {
        let deadline = Instant::now() + 20 * SETTLE_TIME;
        let mut outcome = agents.refresh();
        assert!(!matches!(outcome, Ok(true)), "it may still be written");
        while matches!(outcome, Ok(false)) && Instant::now() < deadline {
            thread::sleep(SETTLE_TIME / 50);
            outcome = agents.refresh();
        }
        outcome
    };
    write(&crawlers, r#"[{"pattern": "Comet"}]"#);
    assert!(refreshed().expect("valid rules"));
    assert_eq!(seen(), "bot  Comet");
    for (file, text, named) in [
        (&crawlers, "[]", "list of crawlers"),
        (&crawlers, r#"[{"pattern": "("}]"#, "list of crawlers: (: "),
        (&crawlers, "{", "list of crawlers"),
        (&browsers, "user_agent_parsers: [", "list of browsers"),
        (&browsers, "os_parsers: []", "list of browsers"),
        (
            &browsers,
            &BROWSERS.replace("(Nova)", "(Nova"),
            "list of browsers",
        ),
    ] {
        let good = std::fs::read_to_string(file).expect("readable");
        write(file, text);
        let error = refreshed().expect_err(text).to_string();
        assert!(error.contains(named), "{text}: {error}");
        assert_eq!(seen(), "bot  Comet", "the rules in use stay");
        write(file, &good);
        assert!(refreshed().expect("valid rules again"));
    }
    std::fs::remove_file(&crawlers).expect("removable");
    let error = refreshed().expect_err("gone").to_string();
    assert!(error.contains("crawlers.json"), "{error}");
    // A node that starts without them uses the shipped ones.
    let shipped = Agents::open(&settings(dir.path()));
    assert!(
        shipped
            .get("Googlebot/2.1 (+http://www.google.com/bot.html)")
            .bot
    );
}

/// The agents of a list, an agent a line.
fn published(list: &[u8]) -> Vec<String> {
    let text = zstd::decode_all(list).expect("list");
    let text = String::from_utf8(text).expect("UTF-8");
    text.lines().map(String::from).collect()
}

/// The percentage of `agents` that satisfy `holds`; the others are printed.
fn share(agents: &[String], holds: impl Fn(&str) -> bool) -> f64 {
    let (held, others): (Vec<&String>, Vec<&String>) =
        agents.iter().partition(|agent| holds(agent));
    for other in &others {
        eprintln!("  {other}");
    }
    held.len() as f64 * 100.0 / agents.len() as f64
}

#[test]
fn published_agents_are_recognised_as_documented() {
    let agents = Agents::new(8_192, 512);
    let crawlers = published(include_bytes!("agents/crawlers.txt.zst"));
    let browsers = published(include_bytes!("agents/browsers.txt.zst"));
    assert_eq!((crawlers.len(), browsers.len()), (2_118, 952));
    let found = share(&crawlers, |agent| agents.get(agent).bot);
    eprintln!("{found:.2}% of the crawlers are found");
    let people = share(&browsers, |agent| !agents.get(agent).bot);
    eprintln!("{people:.2}% of the browsers are not flagged");
    let known = share(&browsers, |agent| {
        let found = agents.get(agent);
        found.device != Device::Unknown && !found.os.is_empty() && !found.browser.is_empty()
    });
    eprintln!("{known:.2}% of the browsers have device, system and name");
    assert!(found >= 98.5, "{found}");
    assert!(people >= 99.9, "{people}");
    assert!(known >= 99.5, "{known}");
}

#[test]
fn words_alone_find_most_crawlers() {
    // The crawler list contains all its own agents, so the other rules are tested without it.
    let dir = tempfile::tempdir().expect("temporary directory");
    let none = dir.path().join("crawlers.json");
    std::fs::write(&none, r#"[{"pattern": "no such crawler"}]"#).expect("writable");
    let settings = VisitorSettings {
        agents: RuleFiles {
            crawlers: Some(none),
            ..RuleFiles::default()
        },
        ..VisitorSettings::default()
    };
    let agents = Agents::open(&settings);
    let crawlers = published(include_bytes!("agents/crawlers.txt.zst"));
    let found = share(&crawlers, |agent| agents.get(agent).bot);
    eprintln!("{found:.2}% of the crawlers are found without their list");
    assert!(found >= 85.0, "{found}");
}

#[test]
fn mail_image_proxies_are_marked_and_counted() {
    let agents = agents();
    for (agent, name) in [
        (
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            "Gmail Image Proxy",
        ),
        (
            "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
            "Yahoo Mail Proxy",
        ),
    ] {
        let found = agents.get(agent);
        assert_eq!((found.bot, found.mail_proxy), (false, true), "{agent}");
        assert_eq!((&*found.browser, found.device), (name, Device::Unknown));
        assert_eq!(found.marks(), Flags::MAIL_PROXY);
        assert!(!found.marks().any(Flags::UNCOUNTED), "it counts");
    }
    // Previews of links are fetched without a person.
    for agent in [
        "Slack-ImgProxy 1.138 (+https://api.slack.com/robots)",
        "WhatsApp/2.23.20.0",
    ] {
        assert_eq!(agents.get(agent).marks(), Flags::BOT, "{agent}");
    }
}

/// Agents of 512 bytes made of pieces of the published ones: as many patterns as possible are tried on each.
fn hostile(number: usize, pieces: &[String]) -> String {
    let mut state = number as u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut agent = String::new();
    while agent.len() < 512 {
        let piece = &pieces[next(pieces.len())];
        let from = piece.floor_char_boundary(next(piece.len()));
        let to = piece.ceil_char_boundary((from + 4 + next(24)).min(piece.len()));
        agent.push_str(&piece[from..to]);
    }
    agent
}

#[test]
fn hostile_agents_take_bounded_time_and_memory() {
    let agents = Agents::new(64, 512);
    let mut pieces = published(include_bytes!("agents/crawlers.txt.zst"));
    pieces.extend(published(include_bytes!("agents/browsers.txt.zst")));
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    let before = resident_bytes();
    for number in 0..HOSTILE_AGENTS {
        let agent = hostile(number, &pieces);
        let start = Instant::now();
        let _ = agents.get(&agent);
        slowest = slowest.max(start.elapsed());
    }
    let mean = start.elapsed() / HOSTILE_AGENTS as u32;
    let grown = resident_bytes().saturating_sub(before) >> 20;
    eprintln!("{mean:?} each, {slowest:?} at most, {grown} MiB more");
    assert!(mean < Duration::from_millis(20), "{mean:?}");
    assert!(grown < 256, "{grown} MiB");
}

const HOSTILE_AGENTS: usize = 3_000;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = status.split(' ').nth(1).expect("resident pages");
    pages.parse::<u64>().expect("number") * 4_096
}
