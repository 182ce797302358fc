//! The edge node: answers links with redirects and impressions with pixels, logs each one before
//! it answers, and ships what it logged to the aggregator.
//!
//! ClickHouse and its schema never belong here.
#![forbid(unsafe_code)]

pub mod check;
pub mod click_path;
pub mod functions;
pub mod links;
pub mod metrics;
mod networks;
pub mod node;
pub mod query;
pub mod refusal;
pub mod request;
pub mod secrets;
pub mod server;
pub mod settings;
pub mod shed;
pub mod shipper;
pub mod spin_export;
pub mod unique;
pub mod visitor;
