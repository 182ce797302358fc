//! The definition of enums of numbered reasons: one table of variants, numbers, names and statuses.

/// Defines an enum of numbered reasons, with `ALL`, `meaning` (its documentation), `name` and `status`; with a fifth column also `message`.
///
/// ```
/// tracker_api::numbered_reasons! {
///     /// Why a door stays closed. 2 is retired.
///     pub enum Closed: u16;
///
///     /// There is no key.
///     NoKey = 1, "no_key", 401, "bring a key";
///     /// It is night.
///     Night = 3, "night", 503, "come back in the morning";
/// }
/// assert_eq!((Closed::Night as u16, Closed::Night.name(), Closed::ALL.len()), (3, "night", 2));
/// assert_eq!((Closed::NoKey.status(), Closed::NoKey.message()), (401, "bring a key"));
/// ```
#[macro_export]
macro_rules! numbered_reasons {
    (@messages $enum:ident $($variant:ident)*) => {};
    (@messages $enum:ident $($variant:ident $message:literal)*) => {
        impl $enum {
            /// The text for the client.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
    (
        $(#[$doc:meta])* pub enum $enum:ident: $status_type:ty;
        $($(#[doc = $variant_doc:literal])*
        $variant:ident = $number:literal, $name:literal, $status:expr $(, $message:literal)?;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $($(#[doc = $variant_doc])* $variant = $number,)*
        }

        impl $enum {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What is wrong, and what would be right; for docs/refusals.md.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($variant_doc),*),)* }
            }

            /// The name in responses, metrics and tables.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status of the response.
            #[must_use]
            pub const fn status(self) -> $status_type {
                match self { $(Self::$variant => $status,)* }
            }
        }

        $crate::numbered_reasons!(@messages $enum $($variant $($message)?)*);
    };
}
