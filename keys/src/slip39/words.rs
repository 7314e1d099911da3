//! The word list: 1,024 words of ten bits each, told apart by their first four
//! letters. Origin and licence: `testdata/README.md`.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::error::CardError;

/// Bits of one word.
pub(crate) const WORD_BITS: usize = 10;
/// Letters that are enough.
const UNIQUE_LETTERS: usize = 4;

static LIST: LazyLock<Vec<&'static str>> = LazyLock::new(|| include_str!("wordlist.txt").lines().collect());

/// The word of a ten-bit number.
pub(crate) fn word(index: u16) -> &'static str {
    LIST[usize::from(index)]
}

/// The number of a word: the whole word or exactly its first four letters, in
/// either case.
fn index(written: &str) -> Option<u16> {
    let lower = Zeroizing::new(written.to_ascii_lowercase());
    let found = LIST.partition_point(|word| *word < lower.as_str());
    let word = LIST.get(found)?;
    let matches = *word == lower.as_str() || (lower.len() == UNIQUE_LETTERS && word.starts_with(lower.as_str()));
    matches.then_some(found as u16)
}

/// The number of the word at a position, from 1; what is wrong with it otherwise.
pub(crate) fn find(position: usize, token: &str) -> Result<u16, CardError> {
    index(token).ok_or_else(|| unknown(position, token))
}

/// The number a token is, with or without its point: `7`, `7.`, `7)`, `7:`.
pub(crate) fn number(token: &str) -> Option<usize> {
    let digits = token.trim_end_matches(['.', ')', ':']);
    if digits.starts_with(|letter: char| letter.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The words of a card's text and their numbers: what stands in no line of its own.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let is_other = |line: &str| {
        let line = line.trim();
        let is_field = line.contains(':') && line.starts_with(|letter: char| letter.is_ascii_alphabetic());
        line.starts_with('#') || is_field || line.eq_ignore_ascii_case(crate::card::TITLE)
    };
    text.lines().filter(move |line| !is_other(line)).flat_map(str::split_whitespace)
}

/// Reads words that stand one after another, each perhaps behind its number
/// (`7`, `7.` or `7)`), which must then be right.
pub(crate) fn read<'a>(tokens: impl Iterator<Item = &'a str>) -> Result<Zeroizing<Vec<u16>>, CardError> {
    // Longer than any share, so that it never grows and leaves a copy behind.
    let mut indices = Zeroizing::new(Vec::with_capacity(WORDS_MAX));
    for token in tokens {
        let position = indices.len() + 1;
        if token.starts_with(|letter: char| letter.is_ascii_digit()) {
            let digits = token.trim_end_matches(['.', ')', ':']);
            match digits.parse::<usize>() {
                Ok(found) if found == position => continue,
                Ok(found) => return Err(CardError::WordNumber { position, found }),
                Err(_) => return Err(unknown(position, token)),
            }
        }
        if position > WORDS_MAX {
            return Err(CardError::WordCount { found: position });
        }
        indices.push(index(token).ok_or_else(|| unknown(position, token))?);
    }
    Ok(indices)
}

/// Words of the longest share any tool deals (512 bits).
const WORDS_MAX: usize = 59;

fn unknown(position: usize, token: &str) -> CardError {
    // A pasted file must not fill the screen.
    let word: String = token.chars().take(24).collect();
    let suggestion = nearest(&word.to_ascii_lowercase());
    CardError::UnknownWord { position, word, suggestion }
}

/// The only word within one mistake: a letter changed, dropped, added or two
/// neighbours swapped. Also a word that shares the first four letters.
fn nearest(written: &str) -> Option<&'static str> {
    if let Some(prefix) = written.get(..UNIQUE_LETTERS)
        && let Some(word) = LIST.iter().find(|word| word.starts_with(prefix))
    {
        return Some(word);
    }
    let mut near = LIST.iter().filter(|word| is_one_mistake(word.as_bytes(), written.as_bytes()));
    match (near.next(), near.next()) {
        (Some(word), None) => Some(word),
        _ => None,
    }
}

fn is_one_mistake(a: &[u8], b: &[u8]) -> bool {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[head..], &b[head..]);
    match (a, b) {
        ([_, rest_a @ ..], [_, rest_b @ ..]) if rest_a == rest_b => true,
        ([_, rest @ ..], other) if rest == other => true,
        (other, [_, rest @ ..]) if rest == other => true,
        ([x1, x2, rest_a @ ..], [y1, y2, rest_b @ ..]) => x1 == y2 && x2 == y1 && rest_a == rest_b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_official_one() {
        assert_eq!(LIST.len(), 1024);
        assert!(LIST.is_sorted());
        assert!(LIST.iter().all(|word| (4..=8).contains(&word.len())));
        let prefixes: std::collections::BTreeSet<_> = LIST.iter().map(|word| &word[..UNIQUE_LETTERS]).collect();
        assert_eq!(prefixes.len(), 1024);
        assert_eq!((word(0), word(1023)), ("academic", "zero"));
    }

    #[test]
    fn every_word_reads_back_whole_and_by_four_letters() {
        for (number, word) in LIST.iter().enumerate() {
            assert_eq!(index(word), Some(number as u16));
            assert_eq!(index(&word[..4].to_uppercase()), Some(number as u16));
            if word.len() > 5 {
                assert_eq!(index(&word[..5]), None, "five letters of {word} are neither");
            }
        }
        assert_eq!(index("aca"), None);
        assert_eq!(index(""), None);
    }

    #[test]
    fn unknown_words_are_named_with_a_suggestion() {
        let read = |text: &str| read(text.split_whitespace()).map(|found| found.to_vec());
        assert_eq!(read("1 academic 2. ACID 3) acne").unwrap(), [0, 1, 2]);
        let error =
            |position, word: &str, suggestion| CardError::UnknownWord { position, word: word.to_owned(), suggestion };
        assert_eq!(read("academic acadmic").unwrap_err(), error(2, "acadmic", Some("academic")));
        assert_eq!(read("zerp").unwrap_err(), error(1, "zerp", Some("zero")));
        assert_eq!(read("xylophone").unwrap_err(), error(1, "xylophone", None));
        assert_eq!(read("academic 3 acid").unwrap_err(), CardError::WordNumber { position: 2, found: 3 });
    }
}
