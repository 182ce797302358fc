//! Reports in format version 2, for reading only; their fields never change.

use crate::{ClickId, Event, Stated};
use domain::{ConversionKind, ConversionStatus, KycStatus, Micros, Money};
use serde::Deserialize;

/// The first byte of a [`Conversion`]: its index among the kinds of events.
pub(crate) const CONVERSION: u8 = 2;
/// The first byte of a [`KycUpdate`].
pub(crate) const KYC_UPDATE: u8 = 3;

#[derive(Deserialize)]
pub(crate) struct Conversion<'a> {
    time: Micros,
    advertiser: &'a str,
    click: ClickId,
    kind: ConversionKind,
    kind_name: &'a str,
    transaction: &'a str,
    status: ConversionStatus,
    payout: Money,
    dialect: &'a str,
    address: [u8; 16],
}

#[derive(Deserialize)]
pub(crate) struct KycUpdate<'a> {
    time: Micros,
    happened: Micros,
    provider: &'a str,
    delivery: &'a str,
    affiliate: &'a str,
    status: KycStatus,
    tier: u8,
}

impl<'a> From<Conversion<'a>> for Event<'a> {
    fn from(old: Conversion<'a>) -> Self {
        Self::Conversion(crate::Conversion {
            time: old.time,
            advertiser: old.advertiser,
            click: old.click,
            kind: old.kind,
            kind_name: old.kind_name,
            transaction: old.transaction,
            status: old.status,
            payout: old.payout,
            dialect: old.dialect,
            address: old.address,
            stated: Stated::ALL,
            signed: None,
            payout_as_sent: "",
        })
    }
}

impl<'a> From<KycUpdate<'a>> for Event<'a> {
    fn from(old: KycUpdate<'a>) -> Self {
        Self::KycUpdate(crate::KycUpdate {
            time: old.time,
            happened: old.happened,
            provider: old.provider,
            delivery: old.delivery,
            affiliate: old.affiliate,
            status: old.status,
            tier: old.tier,
            signed: None,
        })
    }
}
