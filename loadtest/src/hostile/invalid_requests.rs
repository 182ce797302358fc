//! Postbacks of authentic senders with invalid content: clicks, amounts, statuses, texts, paths. Each is an
//! authentic postback with one change whose reason number is known.

use super::attacks::{BuildCase, any, authentic, refused, unsigned};
use super::case::Case;
use super::postbacks::{ParameterLocation, Postback, TestData};
use super::random::Random;
use super::senders::{Proof, Sender, WITHOUT_LINKS, WITHOUT_LINKS_SECRET};

const DAY: i64 = 86_400_000_000;

/// The kinds with their weights.
pub(super) const KINDS: &[(usize, BuildCase)] = &[
    (60, forged_click),
    (40, malformed_click_id),
    (30, click_out_of_time),
    (30, repeated_parameter),
    (30, unexpanded_macro),
    (50, bad_amount),
    (30, bad_currency),
    (30, unknown_status_or_event),
    (40, unreadable_text),
    (20, above_limit),
    (20, unknown_path),
    (10, advertiser_without_links),
];

fn forged_click(data: &TestData, random: &mut Random, number: u64) -> Case {
    const ALPHABET: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    let good = postback.click().to_owned();
    let forged = match random.below(5) {
        0 => data.click_of(&data.foreign, DAY, random),
        1 => data.click_of(&data.unknown, DAY, random),
        2 => (0..good.len())
            .map(|_| char::from(*random.pick(ALPHABET)))
            .collect(),
        3 => {
            // The first part of one id and the signature of another.
            let other = data.click(postback.sender, random);
            if good == other {
                return authentic(data, random, number);
            }
            let at = random.within(1, good.len() - 1);
            format!("{}{}", &good[..at], &other[at..])
        }
        _ => {
            let mut bytes = good.clone().into_bytes();
            let at = random.below(bytes.len());
            bytes[at] = *random.pick(ALPHABET);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let is_known = |id: &str| {
        let id = tracking_events::ClickId::parse(id.as_bytes());
        id.is_ok_and(|id| data.ring.verify(&id).is_ok())
    };
    if is_known(&forged) {
        return authentic(data, random, number);
    }
    postback.set(postback.sender.click, forged);
    let request = postback.request(random);
    refused("forged click", &request, &[105, 106, 126], random)
}

fn malformed_click_id(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    let good = postback.click().to_owned();
    let (name, at) = (postback.sender.click, random.below(36));
    let (value, by): (String, &[u16]) = match random.below(7) {
        0 => (good[..at].into(), if at == 0 { &[104] } else { &[105] }),
        1 => (format!("{good}A"), &[105]),
        2 => (format!(" {good}"), &[105]),
        3 => (format!("{}é{}", &good[..at], &good[at + 1..]), &[105]),
        4 => (format!("{}={}", &good[..at], &good[at + 1..]), &[105]),
        5 => (random.next().to_string(), &[105]),
        _ => (String::new(), &[104]),
    };
    if value.is_empty() && random.once_in(2) {
        postback.parameters.retain(|(known, _)| known != name);
    } else {
        postback.set(name, value);
    }
    let request = postback.request(random);
    refused("no click id", &request, by, random)
}

fn click_out_of_time(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    let days = postback.sender.days.cast_signed();
    let age = match random.below(3) {
        // A run takes at most some hours.
        0 => -DAY * random.within(1, 900) as i64,
        1 => days * DAY + 1_000_000,
        _ => DAY * (days + random.within(1, 10_000) as i64),
    };
    let click = data.click_of(&data.ring, age, random);
    postback.set(postback.sender.click, click);
    let request = postback.request(random);
    refused("click out of time", &request, &[107], random)
}

fn repeated_parameter(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let (name, value) = random.pick(&postback.parameters);
    let fields = [sender.click, sender.transaction, sender.payout, sender.code];
    let (name, first) = if fields.contains(&name.as_str()) {
        (name.clone(), value.clone())
    } else {
        (sender.click.to_owned(), postback.click().to_owned())
    };
    let mut other = first.clone();
    other.push('1');
    let shouted = if random.once_in(2) {
        name.to_uppercase()
    } else {
        name
    };
    // A query is allowed with any body.
    let pair = format!("{shouted}={other}");
    request.query = match request.query.as_str() {
        "" => pair,
        before if random.once_in(2) => format!("{pair}&{before}"),
        before => format!("{before}&{pair}"),
    };
    refused("parameter given twice", &request, &[119], random)
}

fn unexpanded_macro(data: &TestData, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    let sender = postback.sender;
    let names = [
        sender.click,
        sender.transaction,
        sender.payout,
        sender.code,
        sender.status,
        sender.event,
    ];
    let word = random.pick(&["click_id", "payout", "aff_sub:1", "a b", "TID", "s2"]);
    let value = match random.below(8) {
        0 => format!("{{{word}}}"),
        1 => format!("{{{{{word}}}}}"),
        2 => format!("${{{word}}}"),
        3 => format!("#{word}#"),
        4 => format!("[{word}]"),
        5 => format!("<{word}>"),
        6 => format!("%{word}%"),
        _ => "REPLACE".into(),
    };
    let name = random.below(names.len());
    postback.set(names[name], value);
    let request = postback.request(random);
    refused("macro not replaced", &request, &[112], random)
}

fn bad_amount(data: &TestData, random: &mut Random, number: u64) -> Case {
    const AMOUNTS: &[&str] = &[
        "-1",
        "+1",
        "1e3",
        "1E400",
        "1e-2",
        "1,50",
        "1.234,50",
        "1.2.3",
        " 1",
        "1 ",
        "0x10",
        "NaN",
        "Infinity",
        "-inf",
        "\u{661}\u{662}",
        "\u{ff11}",
        "1_000",
        "1'000",
        "$5",
        "5USD",
        "10000000000.01",
        "99999999999999999999",
        "9223372036854775807",
        "18446744073709551616",
        "00000000000000000000000000000000000000000000000000000000000000001",
        "1.0000000000000000000000000000000000000000000000000000000000000001",
        ".",
        "..",
        "--",
        "null",
        "true",
        "٫5",
        "1\u{a0}000",
        "1/2",
        "1%",
        "٠",
        "²",
        "1.5.",
        "0b1",
        "1;2",
        "1 000",
    ];
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    let sender = postback.sender;
    postback.set(sender.code, "USD");
    postback.set(sender.payout, *random.pick(AMOUNTS));
    // Reversals may have a negative amount.
    let words = [sender.status, sender.event];
    postback
        .parameters
        .retain(|(name, _)| !words.contains(&name.as_str()));
    let request = postback.request(random);
    refused("invalid amount", &request, &[109], random)
}

fn bad_currency(data: &TestData, random: &mut Random, number: u64) -> Case {
    const CODES: &[&str] = &[
        "XXQ",
        "US",
        "USDT",
        "XAU",
        "XXX",
        "XTS",
        "dollars",
        "$",
        "U$D",
        "USD ",
        "\u{ff35}\u{ff33}\u{ff24}",
        "BTC",
        "0",
        "840",
        "ÜSD",
        "usdd",
        "EU",
        "u",
        "ſGD",
    ];
    let mut postback = Postback::authentic_from(data, random, 'x', number, any);
    postback.set(postback.sender.code, *random.pick(CODES));
    let request = postback.request(random);
    refused("invalid currency", &request, &[108], random)
}

fn unknown_status_or_event(data: &TestData, random: &mut Random, number: u64) -> Case {
    const WORDS: &[&str] = &[
        "maybe",
        "approved;",
        "approve d",
        "0x1",
        "ｏｋ",
        "APPROVED\u{200b}",
        "-",
        "apprοved",
        "1=1",
        "'",
        "99",
    ];
    let generic = |it: &Sender| it.event == "event" && it.click != "cnv_id" && it.click != "subid";
    let mut postback = Postback::authentic_from(data, random, 'x', number, generic);
    let (name, by): (&str, &[u16]) = if random.once_in(2) {
        (postback.sender.status, &[110])
    } else {
        (postback.sender.event, &[111])
    };
    postback.set(name, *random.pick(WORDS));
    let request = postback.request(random);
    refused("unknown status or event", &request, by, random)
}

/// Invalid UTF-8 and control characters in fields that are read.
fn unreadable_text(data: &TestData, random: &mut Random, number: u64) -> Case {
    const BYTES: &[&str] = &[
        "%00",
        "%0a",
        "%0D%0A",
        "%1b",
        "%7f",
        "%C2%85",
        "%ff",
        "%C0%AF",
        "%ED%A0%80",
        "%F5%80%80%80",
        "%80",
        "%e2%82",
    ];
    let postback = Postback::authentic_from(data, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let read = [sender.transaction, sender.payout, sender.code, sender.click];
    let (name, bytes) = (random.pick(&read), random.pick(BYTES));
    let pair = format!("{name}=a{bytes}b");
    request.query = match request.query.as_str() {
        "" => pair,
        before => format!("{before}&{pair}"),
    };
    refused("bytes that are not text", &request, &[115], random)
}

fn above_limit(data: &TestData, random: &mut Random, number: u64) -> Case {
    let movable = |it: &Sender| !matches!(it.proof, Proof::Body(_));
    let mut postback = Postback::authentic_from(data, random, 'x', number, movable);
    let sender = postback.sender;
    let by: &[u16] = match random.below(6) {
        0 => {
            postback.set(sender.transaction, "y".repeat(random.within(129, 512)));
            &[113]
        }
        1 => {
            postback.set(sender.event, "y".repeat(random.within(65, 512)));
            &[113]
        }
        2 => {
            postback.set(sender.status, "y".repeat(random.within(513, 4_000)));
            &[113]
        }
        3 => {
            postback.set(sender.code, "y".repeat(random.within(513, 4_000)));
            &[113]
        }
        4 => {
            let pairs =
                std::iter::repeat_n(("p".into(), String::new()), random.within(1_025, 1_200));
            postback.parameters.extend(pairs);
            &[114]
        }
        _ => {
            // Below the limit of a request head, above that of a query, and mostly above that of a target.
            postback.location = ParameterLocation::Query;
            let pad = (0..random.within(18, 26)).map(|at| (format!("pad{at}"), "z".repeat(500)));
            postback.parameters.extend(pad);
            &[120, 6]
        }
    };
    let request = postback.request(random);
    refused("value above its limit", &request, by, random)
}

fn unknown_path(data: &TestData, random: &mut Random, number: u64) -> Case {
    let postback = Postback::authentic_from(data, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let (path, by): (String, &[u16]) = match random.below(10) {
        0 => ("/postback/absent".into(), &[103]),
        1 => ("/postback/key%2F321".into(), &[101]),
        2 => (format!("/postback/..%2F{}", postback.sender.name), &[101]),
        3 => ("/postback/..".into(), &[103]),
        4 => (format!("/postback/{}/a/b", postback.sender.name), &[100]),
        5 => (
            // A path key may be as long as a name.
            format!("/{}/postback", "k".repeat(random.within(1, 64))),
            &[103],
        ),
        6 => (
            format!("/postback/{}", "n".repeat(random.within(65, 2_000))),
            &[101],
        ),
        7 => (format!("/postback/{}%00", postback.sender.name), &[101]),
        8 => ("/postback//".into(), &[101]),
        _ => (
            format!("/postback/{}", postback.sender.name.to_uppercase()),
            &[103],
        ),
    };
    request.path = path;
    // Without parameters that name the advertiser.
    let named = |it: &&str| {
        !["adv=", "advertiser=", "nid="]
            .iter()
            .any(|name| it.starts_with(name))
    };
    request.query = request
        .query
        .split('&')
        .filter(named)
        .collect::<Vec<_>>()
        .join("&");
    refused("unknown path", &request, by, random)
}

fn advertiser_without_links(data: &TestData, random: &mut Random, number: u64) -> Case {
    let fits = |it: &Sender| unsigned(it) && it.is_generic();
    let postback = Postback::authentic_from(data, random, 'x', number, fits);
    let mut request = postback.request(random);
    request.path = format!("/postback/{WITHOUT_LINKS}/{WITHOUT_LINKS_SECRET}");
    refused("advertiser without links", &request, &[122], random)
}
