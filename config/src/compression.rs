//! How hard a source is compressed.

use crate::error::{Result as Checked, Text};
use crate::raw::Word;

/// How hard chunks are compressed; what does not shrink is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: for what is compressed or encrypted already.
    Off,
    /// zstd at this level, 1 to 19.
    Level(i32),
}

impl Compression {
    /// The fastest level, and the default: it keeps pace with the rest of a backup.
    pub const FAST: Self = Self::Level(1);
    /// Smaller, at a fraction of the speed.
    pub const BETTER: Self = Self::Level(7);
    /// As small as it gets: for what is written once and kept for years.
    pub const MAX: Self = Self::Level(19);

    /// Reads `off`, `fast`, `better`, `max` or a level of zstd.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "fast" => Ok(Self::FAST),
            "better" => Ok(Self::BETTER),
            "max" => Ok(Self::MAX),
            other => match other.parse() {
                Ok(level @ 1..=19) => Ok(Self::Level(level)),
                Ok(_) | Err(_) => {
                    Err(format!("it is off, fast, better, max, or a level of zstd from 1 to 19; {other:?} is not"))
                }
            },
        }
    }

    pub(crate) fn check(text: Text<'_>, key: &str, word: Option<&Word>) -> Checked<Option<Self>> {
        word.map(|word| Self::parse(word.get_ref()).or_else(|what| text.bad(&word.span(), key, what))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_levels() {
        assert_eq!(Compression::parse("off"), Ok(Compression::Off));
        assert_eq!(Compression::parse("fast"), Ok(Compression::Level(1)));
        assert_eq!(Compression::parse("12"), Ok(Compression::Level(12)));
        for bad in ["", "0", "20", "-1", "Off", "best", "1.5"] {
            assert!(Compression::parse(bad).is_err(), "{bad}");
        }
    }
}
