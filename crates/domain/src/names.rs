//! Enums whose values have names: in messages, in SQL and in ClickHouse.

use thiserror::Error;

/// A text that names no value of its enum.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not the name of a known value")]
pub struct UnknownName(pub String);

/// Defines an enum with names. Its order is part of binary formats, so variants are only appended.
macro_rules! named_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$each])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in messages, in SQL and in ClickHouse.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The value with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::UnknownName;

            fn try_from(name: String) -> Result<Self, Self::Error> {
                Self::from_name(&name).ok_or(crate::UnknownName(name))
            }
        }
    };
}
pub(crate) use named_values;
