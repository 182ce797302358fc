//! Postbacks of who is who it says, and does not say what may be said: clicks, amounts, words, texts, paths.
//! Each is made of an authentic one by a change whose number only this file knows.

use super::attacks::{Make, any, authentic, refused, unsigned};
use super::case::Case;
use super::postbacks::{Place, Postback, World};
use super::random::Random;
use super::senders::{Proof, Sender, WITHOUT_LINKS, WITHOUT_LINKS_SECRET};

const DAY: i64 = 86_400_000_000;

/// The kinds, each with how often it comes.
pub(super) const KINDS: &[(usize, Make)] = &[
    (60, forged_click),
    (40, no_click_id),
    (30, click_out_of_time),
    (30, said_twice),
    (30, unexpanded_macro),
    (50, bad_amount),
    (30, bad_currency),
    (30, unknown_word),
    (40, unreadable_text),
    (20, too_much),
    (20, unknown_path),
    (10, without_links),
];

fn forged_click(world: &World, random: &mut Random, number: u64) -> Case {
    const ALPHABET: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let good = postback.click().to_owned();
    let forged = match random.below(5) {
        0 => world.click_of(&world.foreign, DAY, random),
        1 => world.click_of(&world.unknown, DAY, random),
        2 => (0..good.len())
            .map(|_| char::from(*random.of(ALPHABET)))
            .collect(),
        3 => {
            // The time of one, the signature of another.
            let other = world.click(postback.sender, random);
            if good == other {
                return authentic(world, random, number);
            }
            let at = random.within(1, good.len() - 1);
            format!("{}{}", &good[..at], &other[at..])
        }
        _ => {
            let mut bytes = good.clone().into_bytes();
            let at = random.below(bytes.len());
            bytes[at] = *random.of(ALPHABET);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let known = |id: &str| {
        let id = tracking_events::ClickId::parse(id.as_bytes());
        id.is_ok_and(|id| world.ring.verify(&id).is_ok())
    };
    if known(&forged) {
        return authentic(world, random, number);
    }
    postback.say(postback.sender.click, forged);
    let request = postback.request(random);
    refused("forged click", &request, &[105, 106, 126], random)
}

fn no_click_id(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
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
        postback.said.retain(|(said, _)| said != name);
    } else {
        postback.say(name, value);
    }
    let request = postback.request(random);
    refused("no click id", &request, by, random)
}

fn click_out_of_time(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let days = postback.sender.days.cast_signed();
    let age = match random.below(3) {
        // A run takes at most some hours.
        0 => -DAY * random.within(1, 900) as i64,
        1 => days * DAY + 1_000_000,
        _ => DAY * (days + random.within(1, 10_000) as i64),
    };
    let click = world.click_of(&world.ring, age, random);
    postback.say(postback.sender.click, click);
    let request = postback.request(random);
    refused("click out of time", &request, &[107], random)
}

fn said_twice(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let (name, value) = random.of(&postback.said);
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
    // A query of its own goes with any body.
    let pair = format!("{shouted}={other}");
    request.query = match request.query.as_str() {
        "" => pair,
        before if random.once_in(2) => format!("{pair}&{before}"),
        before => format!("{before}&{pair}"),
    };
    refused("said twice", &request, &[119], random)
}

fn unexpanded_macro(world: &World, random: &mut Random, number: u64) -> Case {
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let sender = postback.sender;
    let names = [
        sender.click,
        sender.transaction,
        sender.payout,
        sender.code,
        sender.status,
        sender.event,
    ];
    let word = random.of(&["click_id", "payout", "aff_sub:1", "a b", "TID", "s2"]);
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
    postback.say(names[name], value);
    let request = postback.request(random);
    refused("macro not filled in", &request, &[112], random)
}

fn bad_amount(world: &World, random: &mut Random, number: u64) -> Case {
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
    let mut postback = Postback::honest(world, random, 'x', number, any);
    let sender = postback.sender;
    postback.say(sender.code, "USD");
    postback.say(sender.payout, *random.of(AMOUNTS));
    // What takes a sale back may have a minus.
    let words = [sender.status, sender.event];
    postback
        .said
        .retain(|(name, _)| !words.contains(&name.as_str()));
    let request = postback.request(random);
    refused("amount that is none", &request, &[109], random)
}

fn bad_currency(world: &World, random: &mut Random, number: u64) -> Case {
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
    let mut postback = Postback::honest(world, random, 'x', number, any);
    postback.say(postback.sender.code, *random.of(CODES));
    let request = postback.request(random);
    refused("currency that is none", &request, &[108], random)
}

fn unknown_word(world: &World, random: &mut Random, number: u64) -> Case {
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
    let mut postback = Postback::honest(world, random, 'x', number, generic);
    let (name, by): (&str, &[u16]) = if random.once_in(2) {
        (postback.sender.status, &[110])
    } else {
        (postback.sender.event, &[111])
    };
    postback.say(name, *random.of(WORDS));
    let request = postback.request(random);
    refused("word that nobody knows", &request, by, random)
}

/// Bytes that are no text, or control something, in what is read.
fn unreadable_text(world: &World, random: &mut Random, number: u64) -> Case {
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
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let sender = postback.sender;
    let read = [sender.transaction, sender.payout, sender.code, sender.click];
    let (name, bytes) = (random.of(&read), random.of(BYTES));
    let pair = format!("{name}=a{bytes}b");
    request.query = match request.query.as_str() {
        "" => pair,
        before => format!("{before}&{pair}"),
    };
    refused("bytes that are no text", &request, &[115], random)
}

fn too_much(world: &World, random: &mut Random, number: u64) -> Case {
    let movable = |it: &Sender| !matches!(it.proof, Proof::Body(_));
    let mut postback = Postback::honest(world, random, 'x', number, movable);
    let sender = postback.sender;
    let by: &[u16] = match random.below(6) {
        0 => {
            postback.say(sender.transaction, "y".repeat(random.within(129, 512)));
            &[113]
        }
        1 => {
            postback.say(sender.event, "y".repeat(random.within(65, 512)));
            &[113]
        }
        2 => {
            postback.say(sender.status, "y".repeat(random.within(513, 4_000)));
            &[113]
        }
        3 => {
            postback.say(sender.code, "y".repeat(random.within(513, 4_000)));
            &[113]
        }
        4 => {
            let pairs =
                std::iter::repeat_n(("p".into(), String::new()), random.within(1_025, 1_200));
            postback.said.extend(pairs);
            &[114]
        }
        _ => {
            // Below what a head may be long, above what a query may, and mostly what a target may.
            postback.place = Place::Query;
            let pad = (0..random.within(18, 26)).map(|at| (format!("pad{at}"), "z".repeat(500)));
            postback.said.extend(pad);
            &[120, 6]
        }
    };
    let request = postback.request(random);
    refused("more than is read", &request, by, random)
}

fn unknown_path(world: &World, random: &mut Random, number: u64) -> Case {
    let postback = Postback::honest(world, random, 'x', number, unsigned);
    let mut request = postback.request(random);
    let (path, by): (String, &[u16]) = match random.below(10) {
        0 => ("/postback/nobody".into(), &[103]),
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
    // Whoever is named by a parameter is named.
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
    refused("path of nobody", &request, by, random)
}

fn without_links(world: &World, random: &mut Random, number: u64) -> Case {
    let fits = |it: &Sender| unsigned(it) && it.is_generic();
    let postback = Postback::honest(world, random, 'x', number, fits);
    let mut request = postback.request(random);
    request.path = format!("/postback/{WITHOUT_LINKS}/{WITHOUT_LINKS_SECRET}");
    refused("advertiser without links", &request, &[122], random)
}
