//! The macro behind every table of wire numbers: a newtype, named constants and a `Display` that
//! gives the name of the RFC, all from one list. Invariant: an unknown number survives unchanged.

/// Defines newtypes over wire numbers; each entry is `CONST = value "name in the RFC"`.
macro_rules! codes {
    ($($(#[$doc:meta])* $type:ident($int:ty) { $($konst:ident = $value:literal $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub $int);

        impl $type {
            $(
                #[doc = concat!("`", $name, "` (", stringify!($value), ").")]
                pub const $konst: Self = Self($value);
            )*

            /// Every number that has a name, in the order of the table.
            pub const KNOWN: &'static [Self] = &[$(Self::$konst),*];

            /// The name used by the RFC, or `None` for a number without one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "unknown({})", self.0),
                }
            }
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }

        impl From<$int> for $type {
            fn from(number: $int) -> Self {
                Self(number)
            }
        }
    )*};
}

pub(crate) use codes;
