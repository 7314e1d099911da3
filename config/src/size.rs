//! Sizes and rates, as people write them: `2GiB`, `500 MB`, `2MiB/s`.

use crate::error::{Result as Checked, Text};
use crate::raw::Word;

/// Units, longest first: `MiB` ends in `B` too.
const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A positive number of bytes with its unit. The error says how one is written.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("a size is written like 512KiB, 2GiB or 500MB; {text:?} is not");
    let trimmed = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, bytes)| trimmed.strip_suffix(name).map(|number| (number.trim(), *bytes)))
        .ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|digit| digit.is_ascii_digit());
    // More digits than these change no byte of what people mean.
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 {
        return Err(wrong());
    }
    let scale = 10_u64.pow(part.len() as u32);
    let parts: u64 = format!("{whole}{part}").parse().map_err(|_| wrong())?;
    let bytes = u128::from(parts) * u128::from(unit) / u128::from(scale);
    match u64::try_from(bytes) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("a size is larger than nothing and fits 64 bits; {text:?} does not")),
    }
}

/// Bytes a second. The error says how a rate is written.
pub fn rate(text: &str) -> Result<u64, String> {
    match text.trim().strip_suffix("/s") {
        Some(bytes) => size(bytes),
        None => Err(format!("a rate is written like 2MiB/s; {text:?} is not")),
    }
}

/// A limit of the file, if it has one.
pub(crate) fn limit(text: Text<'_>, key: &str, word: Option<&Word>) -> Checked<Option<u64>> {
    word.map(|word| rate(word.get_ref()).or_else(|what| text.bad(&word.span(), key, what))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates() {
        for (text, bytes) in
            [("1B", 1), ("512KiB", 512 << 10), ("2GiB", 2 << 30), ("1.5 MiB", 3 << 19), ("500 MB", 500_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(rate("2MiB/s"), Ok(2 << 20));
        for bad in ["", "5", "GiB", "-1GiB", "0B", "1.2.3MB", "1e3MB", "99999999999TiB", "2 GiBs", "1,5MB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(rate("2MiB").is_err());
    }
}
