//! Enumerations whose variants have one fixed name on the wire.

/// Declares a fieldless enum with `ALL`, `NAMES`, `name` and `parse`.
///
/// One declaration per vocabulary keeps the name in Rust, in Python and in evidence the same.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $( $(#[$variant_meta:meta])* $Variant:ident => $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Name {
            $( $(#[$variant_meta])* #[doc = concat!("`", $text, "`.")] $Variant ),+
        }

        impl $Name {
            /// Every variant in declaration order.
            pub const ALL: &'static [Self] = &[ $( Self::$Variant ),+ ];

            /// Every name in declaration order.
            pub const NAMES: &'static [&'static str] = &[ $( $text ),+ ];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$Variant => $text ),+
                }
            }

            /// The variant of that name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.name() == name)
            }
        }
    };
}

pub(crate) use named_enum;
