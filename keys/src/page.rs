//! A card as a page to print: numbered words, the card's text as a QR code, and lines
//! for people.
//!
//! What always holds: nothing on the page is fetched from elsewhere (no script, no
//! font, no image), so that opening it tells nobody; the QR code holds the card's
//! text as [`Card::parse`] and [`crate::hand::Hand::add_text`] read it; text that
//! comes from people is escaped. What the QR encoder keeps in memory while it works
//! is not wiped: make pages where the card itself would be shown.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

use crate::card::{Card, TITLE};
use crate::secret::SecretText;
use crate::slip39::words;

/// Bytes a page of one card stays below, so that its text never grows.
const PAGE_BYTES: usize = 192 << 10;
/// White modules around a QR code, as its standard asks.
const QUIET: usize = 4;
/// The column beside the code of an SVG page, in tenths of a millimetre.
const BESIDE_WIDE: usize = 1040;
const BESIDE_HIGH: usize = 720;
/// Words beside each other.
const COLUMNS: usize = 3;
const INFALLIBLE: &str = "writing into a string does not fail";

/// Page formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFormat {
    /// One HTML document; each card begins a sheet of paper.
    Html,
    /// One SVG picture, A4.
    Svg,
}

impl PageFormat {
    /// What its files are called.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Svg => "svg",
        }
    }
}

/// One card as a page. `title` stands above it: the holder's name, or what the sheet
/// is for; empty for none.
pub fn page(card: &Card, title: &str, format: PageFormat) -> SecretText {
    page_with(card, title, &[], format)
}

/// Likewise, with lines for people beside the code: where the vault lies, what to do. They
/// are no secret.
pub fn page_with(card: &Card, title: &str, lines: &[String], format: PageFormat) -> SecretText {
    match format {
        PageFormat::Html => html(card, title, lines),
        PageFormat::Svg => svg(card, title, lines),
    }
}

fn html(card: &Card, title: &str, lines: &[String]) -> SecretText {
    let mut out = String::with_capacity(PAGE_BYTES + room(lines));
    let name = escaped(&card_name(card, title));
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\n<style>\n\
         body {{ font: 12pt monospace; margin: 2cm; }}\nh1 {{ font-size: 18pt; }}\n\
         td {{ padding: 0.15cm 0.5cm 0.15cm 0; }}\n.n {{ text-align: right; color: #555; }}\nsvg {{ width: 7cm; }}\n\
         pre {{ white-space: pre-wrap; }}\n\
         </style></head><body>\n<h1>{name}</h1>\n<table>\n"
    )
    .expect(INFALLIBLE);
    for (label, value) in head(card) {
        writeln!(out, "<tr><td>{label}</td><td>{value}</td></tr>").expect(INFALLIBLE);
    }
    out.push_str("</table>\n<table>\n");
    let indices = card.indices();
    let rows = indices.len().div_ceil(COLUMNS);
    for row in 0..rows {
        out.push_str("<tr>");
        for at in (row..indices.len()).step_by(rows) {
            let word = words::word(indices[at]);
            write!(out, "<td class=\"n\">{}</td><td>{word}</td>", at + 1).expect(INFALLIBLE);
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    let modules = Modules::of(card);
    let wide = modules.width + 2 * QUIET;
    write!(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {wide}\">").expect(INFALLIBLE);
    modules.draw(&mut out);
    out.push_str("</svg>\n");
    for line in advice(card) {
        writeln!(out, "<p>{line}</p>").expect(INFALLIBLE);
    }
    if !lines.is_empty() {
        out.push_str("<pre>\n");
        for line in lines {
            writeln!(out, "{}", escaped(line)).expect(INFALLIBLE);
        }
        out.push_str("</pre>\n");
    }
    out.push_str("</body></html>\n");
    SecretText::new(out)
}

/// A4 in tenths of a millimetre.
fn svg(card: &Card, title: &str, lines: &[String]) -> SecretText {
    let mut out = String::with_capacity(PAGE_BYTES + room(lines));
    let text = |out: &mut String, x: usize, y: usize, size: usize, text: &str| {
        writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\">{text}</text>").expect(INFALLIBLE);
    };
    out.push_str(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"210mm\" height=\"297mm\" viewBox=\"0 0 2100 2970\" \
         font-family=\"monospace\">\n<rect width=\"2100\" height=\"2970\" fill=\"#fff\"/>\n",
    );
    text(&mut out, 200, 250, 64, &escaped(&card_name(card, title)));
    let mut y = 360;
    for (label, value) in head(card) {
        text(&mut out, 200, y, 44, &format!("{label}: {value}"));
        y += 60;
    }
    y += 50;
    let indices = card.indices();
    let rows = indices.len().div_ceil(COLUMNS);
    for (at, &index) in indices.iter().enumerate() {
        let (column, row) = (at / rows, at % rows);
        text(&mut out, 200 + column * 580, y + row * 78, 50, &format!("{:>2}", at + 1));
        text(&mut out, 300 + column * 580, y + row * 78, 50, words::word(index));
    }
    y += rows * 78 + 20;
    let modules = Modules::of(card);
    let wide = modules.width + 2 * QUIET;
    write!(out, "<svg x=\"170\" y=\"{y}\" width=\"760\" height=\"760\" viewBox=\"0 0 {wide} {wide}\">")
        .expect(INFALLIBLE);
    modules.draw(&mut out);
    out.push_str("</svg>\n");
    let (lines, step) = fitted(lines);
    for (at, line) in lines.iter().enumerate() {
        text(&mut out, 960, y + 60 + at * step, step * 3 / 4, &escaped(line));
    }
    y += 830;
    for line in advice(card) {
        text(&mut out, 200, y, 34, line);
        y += 50;
    }
    out.push_str("</svg>\n");
    SecretText::new(out)
}

/// Bytes that escaped lines take at most, with what stands around each.
fn room(lines: &[String]) -> usize {
    lines.iter().map(|line| 2048 + 8 * line.len()).sum()
}

/// Lines for the column beside the code, cut where they are too long for it, and how far
/// apart they stand: closer if there are many, so that none is left out.
fn fitted(lines: &[String]) -> (Vec<String>, usize) {
    const STEPS: [usize; 4] = [34, 28, 22, 16];
    let cut = |step: usize| -> Vec<String> {
        // A letter is 0.6 of its size wide, and its size three quarters of a step.
        let columns = BESIDE_WIDE * 20 / (9 * step);
        let pieces = |line: &String| -> Vec<String> {
            let letters: Vec<char> = line.chars().collect();
            let pieces = letters.chunks(columns).map(|piece| piece.iter().collect());
            if letters.is_empty() { vec![String::new()] } else { pieces.collect() }
        };
        lines.iter().flat_map(pieces).collect()
    };
    let fits = STEPS.into_iter().find(|step| cut(*step).len() * step <= BESIDE_HIGH);
    let step = fits.unwrap_or_else(|| (BESIDE_HIGH / cut(STEPS[3]).len()).max(2));
    (cut(step), step)
}

fn card_name(card: &Card, title: &str) -> String {
    let dash = if title.is_empty() { "" } else { " - " };
    format!("{TITLE} {} of {}{dash}{title}", card.number(), card.head().total)
}

/// The lines above the words, with the names the card's text gives them.
fn head(card: &Card) -> [(&'static str, String); 6] {
    let head = card.head();
    [
        ("vault", head.vault.to_string()),
        ("generation", head.generation.0.to_string()),
        ("set", head.set.to_string()),
        ("card", format!("{} of {}", card.number(), head.total)),
        ("need", card.need().to_string()),
        ("key check", head.check.to_string()),
    ]
}

fn advice(card: &Card) -> [&'static str; 2] {
    let apart = match card.need() {
        1 => "This card alone is the key: whoever holds it can read every backup of the vault.",
        _ => "Cards of one set together are the key. Keep this one apart from the others.",
    };
    [apart, "The words are a SLIP-39 share without passphrase; other SLIP-39 tools read them too."]
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// The dark and light squares of a card's QR code.
struct Modules {
    width: usize,
    colors: Vec<Color>,
}

impl Modules {
    fn of(card: &Card) -> Self {
        let text = card.to_short_text();
        // A card's text has at most 500 bytes; a code holds 2,331 at this level.
        let code = QrCode::with_error_correction_level(text.expose_secret().as_bytes(), EcLevel::M)
            .expect("a card fits a QR code");
        Self { width: code.width(), colors: code.into_colors() }
    }

    /// One path over all dark runs, row by row.
    fn draw(&self, out: &mut String) {
        out.push_str("<path d=\"");
        for (y, row) in self.colors.chunks(self.width).enumerate() {
            let mut x = 0;
            while x < row.len() {
                let run = row[x..].iter().take_while(|&&color| color == row[x]).count();
                if row[x] == Color::Dark {
                    write!(out, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET).expect(INFALLIBLE);
                }
                x += run;
            }
        }
        out.push_str("\"/>");
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        self.colors.fill(Color::Light);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use vault_format::VaultId;

    use super::*;
    use crate::card::{SplitPlan, split};
    use crate::seed::{Generation, Seed};

    fn card(need: u8, total: u8) -> Card {
        let plan = SplitPlan { vault: VaultId([0x3c; 16]), generation: Generation(1), set: 2, need, total };
        split(&Seed::from_array([9; 32]), &plan, &mut ChaCha20Rng::from_seed([1; 32])).unwrap().remove(0)
    }

    #[test]
    fn a_page_holds_every_word_with_its_number_and_grows_never() {
        for card in [card(3, 5), card(1, 1)] {
            for format in [PageFormat::Html, PageFormat::Svg] {
                let page = page(&card, "Anna <script> & Sons", format);
                let page = page.expose_secret();
                assert!(page.len() < PAGE_BYTES);
                // Numbers stand above the words, too.
                let words_part = &page[page.find("key check").unwrap()..];
                let mut numbered = Vec::new();
                for (at, &index) in card.indices().iter().enumerate() {
                    let (number, word) = match format {
                        PageFormat::Html => (format!(">{}</td>", at + 1), format!("<td>{}</td>", words::word(index))),
                        PageFormat::Svg => {
                            (format!(">{:>2}</text>", at + 1), format!(">{}</text>", words::word(index)))
                        }
                    };
                    let found = words_part.find(&number).unwrap();
                    numbered.push(words_part[found..].find(&word).unwrap() < 100);
                }
                assert_eq!(numbered, [true; 33]);
                assert!(page.contains("Anna &lt;script&gt; &amp; Sons") && !page.contains("<script"));
                assert!(page.contains("vault") && page.contains(&card.head().check.to_string()));
            }
        }
    }

    #[test]
    fn lines_for_people_stand_on_the_page_whole_and_escaped() {
        let card = card(1, 1);
        for count in [0, 1, 12, 200] {
            let lines: Vec<String> =
                (0..count).map(|at| format!("place-{at:03}: s3://bucket/<{}>", "x".repeat(at % 150))).collect();
            for format in [PageFormat::Html, PageFormat::Svg] {
                let page = page_with(&card, "", &lines, format);
                let page = page.expose_secret();
                assert!(page.len() < PAGE_BYTES + room(&lines));
                assert!(!page.contains("<x") && lines.iter().all(|line| page.contains(&line[..10])));
            }
            let (cut, step) = fitted(&lines);
            assert!(cut.concat() == lines.concat() && cut.len() * step <= BESIDE_HIGH + step, "{count}");
        }
    }

    #[test]
    fn what_the_code_holds_is_a_card() {
        let card = card(3, 5);
        let short = card.to_short_text();
        assert!(short.expose_secret().len() < 500);
        assert_eq!(Card::parse(short.expose_secret()).unwrap().hash(), card.hash());
    }
}
