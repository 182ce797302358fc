//! Conversions in format version 3, for reading only; their fields never change.

use crate::{ClickId, Event, SignedRequest, Stated};
use domain::{ConversionKind, ConversionStatus, Micros, Money};
use serde::Deserialize;

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
    stated: Stated,
    #[serde(borrow)]
    signed: Option<SignedRequest<'a>>,
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
            stated: old.stated,
            signed: old.signed,
            payout_as_sent: "",
        })
    }
}
