//! The text of a key file: lines for people, the body in hex, a check value.
//!
//! ```text
//! holdfast key file v1
//! role: writer key
//! vault: 0123456789abcdef0123456789abcdef
//! note: Secret. ...
//! seal: none
//! body: 40 bytes
//!
//! 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
//! 2021222324252627
//!
//! check: 0123456789abcdef0123456789abcdef
//! ```
//! A sealed file says `seal: passphrase` and has the line `argon2id` after it.
//!
//! What always holds: there is one spelling; the check value covers every byte
//! before it, so a truncated or altered file is known before it is understood. It
//! is no protection against a forger: the signatures inside are.

use std::fmt::Write as _;

use vault_format::VaultId;
use zeroize::Zeroizing;

use crate::error::FileFault;
use crate::hash::short;
use crate::labels;
use crate::passphrase::{self, Cost, Passphrase, Stretch};
use crate::secret::{SecretBytes, SecretText};

/// The first line.
pub const TITLE: &str = "holdfast key file v1\n";
/// Most bytes of a key file.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the body on one line.
const LINE_BYTES: usize = 32;
/// What the last line begins with.
const CHECK: &str = "check: ";
/// What the line of the stretching begins with.
const ARGON2ID: &str = "argon2id";
/// Bytes of the last line: 32 hex digits and the line's end.
const CHECK_LINE_BYTES: usize = CHECK.len() + 33;

/// The lines above the body.
pub(crate) struct Title<'a> {
    pub(crate) role: &'a str,
    pub(crate) vault: VaultId,
    pub(crate) note: &'a str,
}

/// How a body is kept.
pub(crate) enum Body {
    /// As it is.
    Plain(SecretBytes),
    /// Under a passphrase.
    Sealed(SealedBody),
}

/// A body under a passphrase, with what opens it.
pub(crate) struct SealedBody {
    stretch: Stretch,
    head: Vec<u8>,
    bytes: SecretBytes,
}

impl SealedBody {
    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<SecretBytes, FileFault> {
        passphrase::open(passphrase, &self.stretch, &self.head, self.bytes.expose_secret())
    }
}

/// Writes a key file's text.
pub(crate) fn write(title: &Title<'_>, body: &SecretBytes) -> SecretText {
    let head = head(title, "none", body.expose_secret().len());
    finish(&head, body)
}

/// Writes the text of a sealed key file.
pub(crate) fn write_sealed(
    title: &Title<'_>,
    body: &SecretBytes,
    passphrase: &Passphrase,
    stretch: &Stretch,
) -> SecretText {
    let seal = format!("passphrase\n{}", stretch_line(stretch));
    let head = head(title, &seal, passphrase::sealed_length(body.expose_secret().len()));
    let sealed = passphrase::seal(passphrase, stretch, head.as_bytes(), body);
    finish(&head, &sealed)
}

fn head(title: &Title<'_>, seal: &str, length: usize) -> String {
    let Title { role, vault, note } = title;
    format!("{TITLE}role: {role}\nvault: {vault}\nnote: {note}\nseal: {seal}\nbody: {length} bytes\n\n")
}

fn finish(head: &str, body: &SecretBytes) -> SecretText {
    let body = body.expose_secret();
    // Hex and line ends, the lines above and the check line: it never grows.
    let mut text = String::with_capacity(head.len() + body.len() * 2 + body.len() / LINE_BYTES + 64);
    let infallible = "writing into a string does not fail";
    text.push_str(head);
    for line in body.chunks(LINE_BYTES) {
        line.iter().try_for_each(|byte| write!(text, "{byte:02x}")).expect(infallible);
        text.push('\n');
    }
    text.push('\n');
    let check = check_value(text.as_bytes());
    writeln!(text, "{CHECK}{check}").expect(infallible);
    SecretText::new(text)
}

/// `argon2id: 65536 KiB, 3 passes, 4 lanes, salt HEX`
fn stretch_line(stretch: &Stretch) -> String {
    let Stretch { cost: Cost { kib, passes, lanes }, salt } = stretch;
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{ARGON2ID}: {kib} KiB, {passes} passes, {lanes} lanes, salt {salt}")
}

/// What [`stretch_line`] writes, in that spelling only and within the bounds.
fn read_stretch(text: &str) -> Result<Stretch, FileFault> {
    let malformed = FileFault::Content("its line argon2id is not readable");
    let parts: Vec<&str> = text.split([' ', ',']).filter(|part| !part.is_empty()).collect();
    let [kib, "KiB", passes, "passes", lanes, "lanes", "salt", hex] = parts[..] else { return Err(malformed) };
    let mut salt = [0; passphrase::SALT_BYTES];
    let (Ok(kib), Ok(passes), Ok(lanes), Some(())) =
        (kib.parse(), passes.parse(), lanes.parse(), vault_format::ids::hex_into(hex, &mut salt))
    else {
        return Err(malformed);
    };
    let stretch = Stretch { cost: Cost { kib, passes, lanes }, salt };
    if !stretch.cost.is_acceptable() {
        return Err(FileFault::Cost { kib, passes, lanes });
    }
    let spelled = stretch_line(&stretch);
    if spelled.strip_prefix(ARGON2ID).and_then(|rest| rest.strip_prefix(": ")) == Some(text) {
        Ok(stretch)
    } else {
        Err(malformed)
    }
}

fn check_value(bytes: &[u8]) -> VaultId {
    // Sixteen bytes with a hex form; not an id.
    VaultId(short(labels::KEY_FILE, bytes))
}

/// What a file says that it holds; nothing is checked.
pub(crate) fn role(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes.strip_prefix(TITLE.as_bytes())?).ok()?;
    text.lines().next()?.strip_prefix("role: ")
}

/// Reads a key file's text: its vault and body.
pub(crate) fn read(role: &'static str, bytes: &[u8]) -> Result<(VaultId, Body), FileFault> {
    if !bytes.starts_with(TITLE.as_bytes()) {
        let cut = TITLE.as_bytes().starts_with(bytes);
        return Err(if cut { FileFault::Truncated } else { FileFault::NotAKeyFile });
    }
    let covered = bytes.len().checked_sub(CHECK_LINE_BYTES).ok_or(FileFault::Truncated)?;
    let (covered, last) = bytes.split_at(covered);
    let found = last.strip_prefix(CHECK.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
    let found = found.and_then(|hex| std::str::from_utf8(hex).ok()).ok_or(FileFault::Truncated)?;
    // Compared as text: one spelling, so no upper-case digits.
    if found != check_value(covered).to_string() {
        return Err(FileFault::Altered);
    }
    let text = std::str::from_utf8(covered).map_err(|_| FileFault::Content("it is not UTF-8"))?;
    read_covered(role, text)
}

fn read_covered(role: &'static str, text: &str) -> Result<(VaultId, Body), FileFault> {
    let (head, body) = text.split_once("\n\n").ok_or(FileFault::Content("it has no body"))?;
    let mut lines = head[TITLE.len().min(head.len())..].lines();
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(": "));
        line.ok_or(FileFault::Content("a line above the body is missing"))
    };
    let found = field("role")?;
    if found != role {
        return Err(FileFault::Role { wanted: role, found: found.to_owned() });
    }
    let vault = VaultId::from_hex(field("vault")?).ok_or(FileFault::Content("its vault id is not readable"))?;
    field("note")?;
    let stretch = match field("seal")? {
        "none" => None,
        "passphrase" => Some(read_stretch(field(ARGON2ID)?)?),
        _ => return Err(FileFault::Content("it is sealed in a way this program does not know. Use a newer holdfast")),
    };
    let count = field("body")?;
    let length = count.strip_suffix(" bytes").and_then(|count| count.parse::<usize>().ok());
    let length = length.filter(|length| format!("{length} bytes") == count);
    let length = length.ok_or(FileFault::Content("its length is not readable"))?;
    if lines.next().is_some() {
        return Err(FileFault::Content("there is a line too many above the body"));
    }
    let bytes = read_body(body, length)?;
    Ok(match stretch {
        None => (vault, Body::Plain(bytes)),
        // The head with the empty line, as it was when it was sealed.
        Some(stretch) => (vault, Body::Sealed(SealedBody { stretch, head: text[..head.len() + 2].into(), bytes })),
    })
}

fn read_body(text: &str, length: usize) -> Result<SecretBytes, FileFault> {
    let malformed = FileFault::Content("its body is not readable");
    if length > text.len() / 2 {
        return Err(malformed);
    }
    let mut body = Zeroizing::new(vec![0; length]);
    let mut lines = text.lines();
    for piece in body.chunks_mut(LINE_BYTES) {
        let line = lines.next().unwrap_or_default();
        if vault_format::ids::hex_into(line, piece).is_none() {
            return Err(malformed);
        }
    }
    match (lines.next(), lines.next()) {
        (Some(""), None) => Ok(SecretBytes::new(std::mem::take(&mut *body))),
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "master seed";

    fn text(length: u8) -> SecretText {
        let title = Title { role: ROLE, vault: VaultId([0xab; 16]), note: "Secret." };
        write(&title, &SecretBytes::new((0..length).collect()))
    }

    #[test]
    fn bodies_of_any_length_read_back() {
        for length in [0, 1, 31, 32, 33, 64, 255] {
            let (vault, Body::Plain(body)) = read(ROLE, text(length).expose_secret().as_bytes()).unwrap() else {
                panic!("nothing was sealed")
            };
            assert_eq!(vault, VaultId([0xab; 16]));
            assert_eq!(body.expose_secret(), (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_truncation_and_every_altered_byte_is_refused() {
        let text = text(70);
        let bytes = text.expose_secret().as_bytes();
        for length in 0..bytes.len() {
            let fault = read(ROLE, &bytes[..length]).err().expect("truncated");
            assert!(matches!(fault, FileFault::Truncated | FileFault::Altered), "{length} bytes: {fault}");
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut bad = bytes.to_vec();
                bad[at] ^= flip;
                assert!(read(ROLE, &bad).is_err(), "byte {at}");
            }
        }
        assert!(read(ROLE, &[bytes, b"\n"].concat()).is_err());
    }

    #[test]
    fn another_role_is_named() {
        let fault = read("writer key", text(3).expose_secret().as_bytes()).err().unwrap();
        assert!(matches!(fault, FileFault::Role { wanted: "writer key", found } if found == ROLE));
        assert!(matches!(read(ROLE, b"-----BEGIN").err(), Some(FileFault::NotAKeyFile)));
        assert!(matches!(read(ROLE, b"").err(), Some(FileFault::Truncated)));
    }

    #[test]
    fn a_valid_check_over_nonsense_is_still_refused() {
        let good = text(40);
        let good = good.expose_secret();
        let covered = &good[..good.len() - CHECK_LINE_BYTES];
        for (from, to) in [("seal: none", "seal: scrypt"), ("40 bytes", "41 bytes"), ("40 bytes", "8 bytes")] {
            let bad = covered.replacen(from, to, 1);
            let bad = format!("{bad}{CHECK}{}\n", check_value(bad.as_bytes()));
            assert!(matches!(read(ROLE, bad.as_bytes()).err(), Some(FileFault::Content(_))), "{to}");
        }
    }
}
