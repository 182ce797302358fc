//! Enums of numbered reasons: why a request, report, message or connection is refused.
//!
//! Each enum is one table of variants, numbers and names, from which docs/refusals.md is generated too. Which reasons
//! exist is decided elsewhere.
#![forbid(unsafe_code)]

/// Defines an enum of numbered reasons with `ALL`, `number`, `name` and `meaning` (its documentation).
///
/// With a type after the enum's name, each reason has a status of that type and the enum the method `status`; with
/// a text after the status also `message`.
///
/// ```
/// numbered_reasons::numbered_reasons! {
///     /// Why a door stays closed. 2 is retired.
///     pub enum Closed: u16;
///
///     /// There is no key.
///     NoKey = 1, "no_key", 401, "bring a key";
///     /// It is night.
///     Night = 3, "night", 503, "come back in the morning";
/// }
/// assert_eq!((Closed::Night.number(), Closed::Night.name(), Closed::ALL.len()), (3, "night", 2));
/// assert_eq!((Closed::NoKey.status(), Closed::NoKey.message()), (401, "bring a key"));
///
/// numbered_reasons::numbered_reasons! {
///     /// Why a letter was returned.
///     #[derive(PartialOrd, Ord)]
///     enum Returned;
///
///     /// There is no such street.
///     NoStreet = 7, "no_street";
/// }
/// assert_eq!((Returned::NoStreet.number(), Returned::NoStreet.meaning()), (7, " There is no such street."));
/// ```
#[macro_export]
macro_rules! numbered_reasons {
    (
        $(#[$attribute:meta])* $vis:vis enum $enum:ident $(: $status_type:ty)?;
        $($(#[doc = $variant_doc:literal])*
        $variant:ident = $number:literal, $name:literal $(, $status:expr $(, $message:literal)?)?;)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $enum {
            $($(#[doc = $variant_doc])* $variant = $number,)*
        }

        impl $enum {
            /// Every reason.
            $vis const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What is wrong, and what would be right; for docs/refusals.md.
            #[must_use]
            $vis const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($variant_doc),*),)* }
            }

            /// The number in responses, messages and tables.
            #[must_use]
            $vis const fn number(self) -> u16 {
                self as u16
            }

            /// The name in responses, metrics, logs and tables.
            #[must_use]
            $vis const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        $crate::numbered_reasons!(@status [$($status_type)?] $vis $enum $($variant [$($status)?])*);
        $crate::numbered_reasons!(@message $vis $enum $($variant [$($($message)?)?])*);
    };
    (@status [] $($rest:tt)*) => {};
    (@status [$type:ty] $vis:vis $enum:ident $($variant:ident [$status:expr])*) => {
        impl $enum {
            /// The status of the response.
            #[must_use]
            $vis const fn status(self) -> $type {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
    (@message $vis:vis $enum:ident $($variant:ident [])*) => {};
    (@message $vis:vis $enum:ident $($variant:ident [$message:literal])*) => {
        impl $enum {
            /// The text for the client.
            #[must_use]
            $vis const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
}
