use super::*;

const CHEAP: Cost = Cost { kib: Cost::KIB_MIN, passes: 1, lanes: 1 };

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(SecretBytes::new(text.as_bytes().to_vec())).unwrap()
}

fn stretch(salt: u8) -> Stretch {
    Stretch { cost: CHEAP, salt: [salt; SALT_BYTES] }
}

#[test]
fn one_line_with_or_without_its_end_is_one_passphrase() {
    for same in ["five random words", "five random words\n", "five random words\r\n"] {
        assert!(passphrase(same).is_same(&passphrase("five random words")));
    }
    assert!(!passphrase("five random words ").is_same(&passphrase("five random words")));
    let long = "x".repeat(PASSPHRASE_BYTES_MAX + 1);
    for bad in ["", "\n", "\r\n", "two\nlines", "two\n\n", "nul\0", &long] {
        assert!(Passphrase::new(SecretBytes::new(bad.as_bytes().to_vec())).is_err(), "{bad:?}");
    }
    assert!(passphrase("eleven char").check_new().is_err());
    assert!(passphrase("twelve chars").check_new().is_ok());
    assert!(passphrase("zwölf zeichän").check_new().is_ok());
}

#[test]
fn only_the_same_passphrase_salt_numbers_and_head_open() {
    let body = SecretBytes::new(b"a body of some bytes".to_vec());
    let sealed = seal(&passphrase("right"), &stretch(1), b"head", &body);
    let sealed = sealed.expose_secret();
    assert_eq!(sealed.len(), sealed_length(20));
    let open = |word: &str, stretch: &Stretch, head: &[u8]| open(&passphrase(word), stretch, head, sealed);
    assert_eq!(open("right", &stretch(1), b"head").unwrap().expose_secret(), body.expose_secret());
    assert!(matches!(open("wrong", &stretch(1), b"head").err(), Some(FileFault::WrongPassphrase)));
    assert!(matches!(open("right", &stretch(2), b"head").err(), Some(FileFault::WrongPassphrase)));
    let dearer = Stretch { cost: Cost { passes: 2, ..CHEAP }, ..stretch(1) };
    assert!(matches!(open("right", &dearer, b"head").err(), Some(FileFault::WrongPassphrase)));
    assert!(matches!(open("right", &stretch(1), b"Head").err(), Some(FileFault::Content(_))));
}

#[test]
fn every_flipped_byte_and_every_truncation_is_refused() {
    let body = SecretBytes::new(b"body".to_vec());
    let sealed = seal(&passphrase("right"), &stretch(1), b"head", &body);
    let sealed = sealed.expose_secret();
    for at in 0..sealed.len() {
        let mut bad = sealed.to_vec();
        bad[at] ^= 1;
        assert!(open(&passphrase("right"), &stretch(1), b"head", &bad).is_err(), "byte {at}");
        assert!(open(&passphrase("right"), &stretch(1), b"head", &sealed[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn a_repeated_salt_repeats_no_nonce_over_other_content() {
    let seal = |body: &[u8]| seal(&passphrase("right"), &stretch(1), b"", &SecretBytes::new(body.to_vec()));
    let (one, two) = (seal(b"one"), seal(b"two"));
    assert_eq!(one.expose_secret()[..32], two.expose_secret()[..32], "the same commitment");
    assert_ne!(one.expose_secret()[32..FRONT_BYTES], two.expose_secret()[32..FRONT_BYTES]);
}

#[test]
fn numbers_that_would_take_the_host_or_protect_nothing_are_not_accepted() {
    assert!(Cost::DEFAULT.is_acceptable() && CHEAP.is_acceptable());
    let cost = |kib, passes, lanes| Cost { kib, passes, lanes };
    for bad in [
        cost(0, 1, 1),
        cost(Cost::KIB_MIN - 1, 3, 4),
        cost(Cost::KIB_MAX + 1, 1, 1),
        cost(u32::MAX, u32::MAX, u32::MAX),
        cost(Cost::KIB_MIN, 0, 1),
        cost(Cost::KIB_MIN, Cost::PASSES_MAX + 1, 1),
        cost(Cost::KIB_MIN, 1, 0),
        cost(Cost::KIB_MIN, 1, Cost::LANES_MAX + 1),
        cost(Cost::KIB_MAX, 5, 1),
    ] {
        assert!(!bad.is_acceptable(), "{bad:?}");
    }
    assert!(cost(Cost::KIB_MAX, 4, 16).is_acceptable());
}
