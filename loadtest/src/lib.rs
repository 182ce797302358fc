//! Load and fault tests: replays traffic against edges, runs the real processes, runs the demo. Invariant: no
//! product crate depends on this one.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod affiliates;
pub mod bench;
pub mod chaos;
pub mod clickhouse;
pub mod demo;
pub mod function_files;
pub mod interrupt;
pub mod links;
pub mod process;
pub mod replay;
pub mod sales;
pub mod stack;
pub mod traffic;
pub mod verify;
