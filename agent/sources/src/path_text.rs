//! A path as text for people. Paths are bytes; what is not UTF-8, and control
//! characters that a terminal would obey, are shown as `\xNN`.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The path, safe to print.
pub fn path_text(path: &Path) -> String {
    let mut out = String::new();
    for piece in path.as_os_str().as_bytes().utf8_chunks() {
        for character in piece.valid().chars() {
            if character.is_control() {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().for_each(|byte| push_escaped(&mut out, byte));
            } else {
                out.push(character);
            }
        }
        piece.invalid().iter().for_each(|byte| push_escaped(&mut out, *byte));
    }
    out
}

fn push_escaped(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("writing into a string does not fail");
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn odd_bytes_and_terminal_controls_are_escaped() {
        let shown = path_text(Path::new(OsStr::from_bytes(b"caf\xc3\xa9/\xff\x1b[2J\n")));
        assert_eq!(shown, "café/\\xff\\x1b[2J\\x0a");
    }
}
