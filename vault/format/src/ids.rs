//! Identifiers. Each is its own type, so that a pack id cannot be passed where
//! a writer id is meant. All are opaque bytes, stored as they are and shown in
//! lower-case hex; none reveals anything about what it names.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

const HEX: &[u8; 16] = b"0123456789abcdef";

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $len;

            /// Takes the bytes as they are stored; `None` if the length differs.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Reads the hex form that [`fmt::Display`] writes.
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut out = [0; $len];
                crate::ids::hex_into(text, &mut out)?;
                Some(Self(out))
            }

            /// The first hex digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Vaults list millions of names with ids in them.
                let mut text = [0; 2 * $len];
                for (pair, byte) in text.chunks_exact_mut(2).zip(&self.0) {
                    pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
                }
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: encode::Write>(
                &self,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                let at = d.position();
                Self::from_slice(d.bytes()?)
                    .ok_or_else(|| decode::Error::message(concat!(stringify!($name), " length")).at(at))
            }
        }
    };
}

id! {
    /// A vault: all locations, keys and points that belong together.
    VaultId, 16
}
id! {
    /// A writer: one agent's identity in one vault.
    WriterId, 16
}
id! {
    /// A pack: the unit of sealing and coding.
    PackId, 16
}
id! {
    /// A point: a restorable state of one source.
    PointId, 16
}
id! {
    /// A location: one bucket or folder.
    LocationId, 16
}
id! {
    /// A KEM public key, by a hash of its bytes.
    RecipientId, 16
}
id! {
    /// A stream, keyed so that its name says nothing.
    StreamId, 16
}
id! {
    /// A lineage of a stream: a sequence number is unique within one.
    LineageId, 16
}
id! {
    /// A dedup scope: the writers that share chunk ids.
    ScopeId, 16
}
id! {
    /// A content-defined piece, by a keyed hash of its plain bytes.
    ChunkId, 32
}
id! {
    /// A 32-byte digest under the suite's hash.
    Hash, 32
}

/// A byte string of any length, stored as CBOR bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl<C> Encode<C> for Blob {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Blob {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self(d.bytes()?.to_vec()))
    }
}

/// Fills `out` from hex text of exactly its length.
pub fn hex_into(text: &str, out: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != out.len() * 2 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_other_lengths() {
        let id = PackId([0xa7; 16]);
        assert_eq!(PackId::from_hex(&id.to_string()), Some(id));
        assert_eq!(PackId::from_hex("a7"), None);
        assert_eq!(PackId::from_hex(&"zz".repeat(16)), None);
        assert_eq!(id.short(), "a7a7a7a7");
    }
}
