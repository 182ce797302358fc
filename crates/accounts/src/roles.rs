//! Roles and what they may do: one table of actions, the extent of each grant, and the decision about an object.
//!
//! Invariant: pure functions of a principal, an action and an object's owner; no SQL and no HTTP here.

mod actions;
mod authorize;
mod document;
mod membership;
mod scopes;

pub use actions::Action;
pub use authorize::{
    Credential, Denied, ObjectOwner, Principal, Visibility, authorize, visibility,
};
pub use document::document;
pub use membership::{Extent, InvalidMembership, Membership, Role};
pub use scopes::{Scopes, UnknownScope};
