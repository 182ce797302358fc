//! Real agents with the answers expected, and the bounds of the memory.

use super::*;

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
tablet | Android | Safari | Mozilla/5.0 (Linux; U; Android 4.1.2; en-gb; GT-N8020 Build/JZO54K) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Safari/534.30
tablet | Android | Firefox | Mozilla/5.0 (Android; Tablet; rv:27.0) Gecko/27.0 Firefox/27.0
appliance | Android | Chrome | Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36
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
bot |  | Google FeedBurner | FeedBurner/1.0 (http://www.FeedBurner.com)
bot |  | Chef Client | Chef Client/10.18.2 (ruby-1.9.3-p327; ohai-6.16.0; x86_64-linux; +http://opscode.com)
bot |  | Feedbin - 1 subscribers | Feedbin - 1 subscribers
bot |  | WhatsApp | WhatsApp/2.23.20.0
bot |  | facebook | facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)
bot |  | bingbot | Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)
bot |  | Googlebot | Mozilla/5.0 (iPhone; CPU iPhone OS 6_0 like Mac OS X) AppleWebKit/536.26 (KHTML, like Gecko) Version/6.0 Mobile/10A5376e Safari/8536.25 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)
bot |  | ahref AhrefsBot | Mozilla/5.0 (compatible; AhrefsBot/5.0; +http://ahrefs.com/robot/)
bot |  | Embedly | Mozilla/5.0 (compatible; Embedly/0.2; +http://support.embed.ly/)
bot |  | Chrome | Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/138.0.0.0 Safari/537.36
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
        let answer = format!("{device} | {} | {} | {agent}", found.os, found.browser);
        if answer != line {
            wrong.push(answer);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_answer_is_remembered() {
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
fn a_flood_of_new_agents_takes_no_more_room_and_spares_the_one_in_use() {
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
fn threads_together_keep_the_bound() {
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
fn a_worker_s_own_memory_gives_the_same_answers() {
    let agents = agents();
    let mut recent = Recent::new(&agents);
    // Twice as many as it has places: some share one and take it from each other.
    let names: Vec<String> = (0..2_048).map(|number| format!("tool/{number}")).collect();
    for name in names.iter().chain(&names) {
        let (answer, cut) = recent.get(name.as_bytes(), &agents);
        assert_eq!((&*answer.raw, cut), (&**name, false));
        assert_eq!(answer.digest, AgentDigest::of(name));
    }
    let (before, agent) = (agents.misses(), &names[2_047]);
    for _ in 0..3 {
        assert_eq!(
            &*recent.get(agent.as_bytes(), &agents).0.raw,
            agent.as_str()
        );
    }
    assert_eq!(agents.misses(), before, "the last one is at hand");
}

#[test]
fn long_agents_are_cut_between_characters() {
    let agents = Agents::new(64, 10);
    assert_eq!(agents.cut("123456789é"), "123456789");
    assert_eq!(agents.cut("12345678é"), "12345678é");
    let first = agents.get("curl/8.14.1");
    assert!(
        Arc::ptr_eq(&first, &agents.get("curl/8.14.9")),
        "both are curl/8.14."
    );
    let mut recent = Recent::new(&agents);
    for _ in 0..2 {
        let (agent, cut) = recent.get(b"curl/8.14.9", &agents);
        assert_eq!((&*agent.raw, cut), ("curl/8.14.", true));
        let (agent, cut) = recent.get(b"caf\xe9/1", &agents);
        assert_eq!((&*agent.raw, cut), ("caf\u{fffd}/1", false));
    }
}
