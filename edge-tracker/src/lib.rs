//! The edge node: serves redirects for links and pixels for impressions, journals each event before it responds, and
//! ships the journal to the aggregator.
//!
//! Invariant: no ClickHouse code here.
#![forbid(unsafe_code)]

pub mod check;
pub mod click_path;
pub mod config;
mod data_dir;
pub mod drain;
pub mod functions;
pub mod links;
pub mod metrics;
mod network_quota;
pub mod node;
pub mod query;
pub mod reference;
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
