//! The configuration of edges: resources under one version, and their way from an aggregator to each edge.
//!
//! A [`Publisher`] holds every version that an edge may need and decides what to send to which edge: a delta from the
//! version that the edge holds, or a snapshot. A [`Subscriber`] applies updates to a [`Target`], and confirms or refuses
//! each. The discipline is that of Envoy's xDS (<https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>):
//! every update has a version and a nonce, a refused update changes nothing, and the last good version stays in use.
//!
//! Both are state machines without sockets, clocks and files. Messages travel in the frames of `event-shipping`.
//!
//! Invariant: an edge holds exactly one published version, whose checksum over all resources was compared, or none.
#![forbid(unsafe_code)]

mod link;
mod message;
mod publisher;
mod resource;
mod state;
mod subscriber;

pub use link::{LinkRecord, NamedId, RecordError};
pub use message::{
    Base, CONFIG_PROTOCOL_VERSION, HeldVersion, MAX_CONFIG_MESSAGE_BYTES, Outcome,
    PublisherMessage, Response, Subscribe, SubscriberMessage, UpdatePart, UpdateRefusal,
};
pub use publisher::{EdgeStatus, PartError, Parts, Publisher, RefusedUpdate, Update};
pub use resource::{Change, Checksum, Digest, KIND_LINK, ResourceKey};
pub use state::ConfigVersion;
pub use subscriber::{Subscriber, Target, TargetError};
