//! Reports of advertisers and identity providers, by sequence: each conversion is new, repeated, revised or rejected;
//! each identity check is new, late or repeated.

use super::edge::{click_id, event};
use domain::{ConversionKind, ConversionStatus, Currency, KycStatus, Micros, Money};
use std::net::Ipv4Addr;
use tracking_events::{Conversion, Event, KycUpdate, Rejection, Stated};

/// The number of events that together have every outcome, identically in each cycle.
pub const CYCLE: u64 = 10;

/// The rows of one cycle, by table.
pub const OUTCOMES: [(&str, u64); 6] = [
    ("clicks", 1),
    ("impressions", 1),
    ("conversions", 2),
    ("conversion_repeats", 1),
    ("kyc_events", 3),
    ("rejections", 2),
];

/// The event at a sequence of a lane. Events of one cycle belong together.
pub fn report(seq: u64, node: u16, lane: u8) -> Event<'static> {
    let step = (seq - 1) % CYCLE;
    let name = format!("{node}-{lane}-{}", (seq - 1) / CYCLE);
    let name: &'static str = Box::leak(name.into_boxed_str());
    match step {
        // One click and one impression.
        0 => event(1, node),
        1 => event(4, node),
        2 | 3 => conversion(name, ConversionStatus::Pending),
        4 => conversion(name, ConversionStatus::Approved),
        // The conversion is final: this report is refused.
        5 => conversion(name, ConversionStatus::Pending),
        6 => check(name, "one", 20, KycStatus::Approved),
        7 => check(name, "two", 10, KycStatus::Pending),
        8 => check(name, "one", 20, KycStatus::Approved),
        _ => rejection(name),
    }
}

fn address() -> [u8; 16] {
    Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped().octets()
}

/// A report of the conversion of one cycle.
pub fn conversion(transaction: &'static str, status: ConversionStatus) -> Event<'static> {
    Event::Conversion(Conversion {
        time: Micros::now(),
        advertiser: "shop",
        click: click_id(),
        kind: ConversionKind::Sale,
        kind_name: "order",
        transaction,
        status,
        payout: Money {
            minor: 1999,
            currency: Currency(*b"EUR"),
        },
        dialect: "generic",
        address: address(),
        stated: Stated::ALL,
        signed: None,
        payout_as_sent: "",
    })
}

/// A refund of a part of that conversion.
pub fn refund(transaction: &'static str, minor: i64) -> Event<'static> {
    let Event::Conversion(sale) = conversion(transaction, ConversionStatus::Chargeback) else {
        unreachable!("always a conversion")
    };
    let payout = Money {
        minor,
        ..sale.payout
    };
    Event::Conversion(Conversion { payout, ..sale })
}

fn check(
    affiliate: &'static str,
    delivery: &'static str,
    happened: u64,
    status: KycStatus,
) -> Event<'static> {
    let delivery = format!("{affiliate}-{delivery}");
    Event::KycUpdate(KycUpdate {
        time: Micros::now(),
        happened: Micros(1_750_000_000_000_000 + happened),
        provider: "verifymy",
        delivery: Box::leak(delivery.into_boxed_str()),
        affiliate,
        status,
        tier: 2,
        signed: None,
    })
}

fn rejection(detail: &'static str) -> Event<'static> {
    Event::Rejection(Rejection {
        time: Micros::now(),
        source: "postback",
        party: "shop",
        reason: 101,
        reason_name: "forged_click_id",
        detail,
        request: "GET /postback?click_id=…",
        status: 403,
        address: address(),
    })
}
