//! Deterministic CBOR (RFC 8949, section 4.2). A record is a definite array of
//! its fields in order. Whatever is signed or hashed has exactly one encoding:
//! decoding re-encodes and compares, so a second spelling of the same value is
//! refused. Every list is read item by item, so a forged length allocates
//! nothing.

use minicbor::{Decode, Encode};

use crate::FormatError;

/// Encodes a record. Writing to memory cannot fail.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory does not fail")
}

/// Decodes a record and insists on its one canonical encoding.
pub fn decode<T>(what: &'static str, bytes: &[u8]) -> Result<T, FormatError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    let value: T = minicbor::decode(bytes).map_err(|_| FormatError::NotCanonical { what })?;
    if encode(&value) == bytes { Ok(value) } else { Err(FormatError::NotCanonical { what }) }
}

/// Declares a record: a struct, its CBOR array, and the field table that
/// FORMAT.md is compared with.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $n:literal $field:ident : $ty:ty, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
        #[cbor(array)]
        pub struct $name {
            $( $(#[$field_meta])* #[n($n)] pub $field: $ty, )*
        }

        impl $name {
            /// Positions, names and Rust types of the fields, in order.
            pub const FIELDS: &'static [(u8, &'static str, &'static str)] =
                &[$( ($n, stringify!($field), stringify!($ty)) ),*];
        }
    };
}

/// Declares a closed enumeration stored as its number.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $n:literal $variant:ident, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(index_only)]
        pub enum $name {
            $( $(#[$variant_meta])* #[n($n)] $variant = $n, )*
        }

        impl $name {
            /// Numbers and names of the variants, in order.
            pub const VARIANTS: &'static [(u8, &'static str)] = &[$( ($n, stringify!($variant)) ),*];

            /// Reads the stored number.
            pub fn from_number(number: u8) -> Result<Self, $crate::FormatError> {
                match number {
                    $( $n => Ok(Self::$variant), )*
                    value => Err($crate::FormatError::Unassigned { what: stringify!($name), value: value.into() }),
                }
            }
        }
    };
}

pub(crate) use {numbered, record};
