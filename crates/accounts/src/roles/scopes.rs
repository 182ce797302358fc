//! Sets of scopes, as keys and tokens hold them.

use super::actions::Action;
use super::membership::{Extent, Role};
use thiserror::Error;

const _: () = assert!(
    Action::ALL.len() <= u64::BITS as usize,
    "a set has one bit per action"
);

const fn bit(action: Action) -> u64 {
    1 << action as u8
}

/// A set of actions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u64);

/// A scope that the table of actions does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a scope; docs/roles.md lists them")]
pub struct UnknownScope(pub String);

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

impl Scopes {
    /// No scopes.
    pub const NONE: Self = Self(0);
    /// All scopes.
    pub const ALL: Self = Self(u64::MAX >> (u64::BITS as usize - Action::ALL.len()));

    /// The scopes of these actions.
    #[must_use]
    pub fn of(actions: &[Action]) -> Self {
        actions.iter().copied().collect()
    }

    /// Every scope of a role.
    #[must_use]
    pub fn of_role(role: Role) -> Self {
        let actions = Action::ALL.iter().copied();
        actions
            .filter(|action| action.extent(role) != Extent::None)
            .collect()
    }

    /// Parses scopes separated by spaces.
    ///
    /// # Errors
    /// When one is unknown.
    pub fn parse(text: &str) -> Result<Self, UnknownScope> {
        let action = |scope: &str| {
            Action::from_scope(scope).ok_or_else(|| UnknownScope(scope.chars().take(64).collect()))
        };
        text.split_ascii_whitespace().map(action).collect()
    }

    /// The known ones among scopes separated by spaces: a stored set may name an action of another version.
    pub(crate) fn known_in(text: &str) -> Self {
        text.split_ascii_whitespace()
            .filter_map(Action::from_scope)
            .collect()
    }

    /// The scopes in the order of the table, separated by spaces.
    #[must_use]
    pub fn to_text(self) -> String {
        let scopes: Vec<_> = self.iter().map(Action::scope).collect();
        scopes.join(" ")
    }

    /// Its actions.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .iter()
            .copied()
            .filter(move |action| self.contains(*action))
    }

    /// Whether an action is in the set.
    #[must_use]
    pub const fn contains(self, action: Action) -> bool {
        self.0 & bit(action) != 0
    }

    /// The scopes in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The first scope that `other` lacks.
    #[must_use]
    pub fn first_outside(self, other: Self) -> Option<Action> {
        Self(self.0 & !other.0).iter().next()
    }

    /// Whether the set has no scope.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Action> for Scopes {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |set, action| set | bit(action)))
    }
}
