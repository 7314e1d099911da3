//! Community vectors of ML-KEM-768 against the implementation X-Wing is built on:
//! intermediate values, a matrix that draws unusually many samples, and a
//! comparison that a string function would get wrong. Their keys were generated as
//! in the draft of FIPS 203 (the final text binds the seed to the parameter set), so
//! the keys are taken expanded; all that follows is unchanged. Origin:
//! testdata/README.md.

use ml_kem::array::Array;
use ml_kem::{Decapsulate, KeyExport, ml_kem_768};

/// The first value of that name in a file of `name = hex` lines.
fn value(text: &str, name: &str) -> Vec<u8> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    let hex = line.unwrap_or_else(|| panic!("no value {name}"));
    let mut out = vec![0; hex.len() / 2];
    vault_format::ids::hex_into(hex, &mut out).unwrap_or_else(|| panic!("{name} is not hex"));
    out
}

fn array<N: ml_kem::array::ArraySize>(text: &str, name: &str) -> Array<u8, N> {
    Array::try_from(value(text, name).as_slice()).unwrap_or_else(|_| panic!("length of {name}"))
}

#[test]
#[expect(deprecated, reason = "the vectors give expanded keys; the program keeps seeds")]
fn encapsulation_and_decapsulation() {
    let files = [
        include_str!("../testdata/ml-kem-768-intermediate.txt"),
        include_str!("../testdata/ml-kem-768-unluckysample.txt"),
    ];
    for text in files {
        let private = ml_kem_768::DecapsulationKey::from_expanded(&array(text, "dk")).unwrap();
        let public = ml_kem_768::EncapsulationKey::new(&array(text, "ek")).unwrap();
        assert_eq!(private.encapsulation_key(), &public);
        assert_eq!(public.to_bytes()[..], value(text, "ek"));
        let (ciphertext, shared) = public.encapsulate_deterministic(&array(text, "m"));
        assert_eq!(ciphertext[..], value(text, "c"));
        assert_eq!(shared[..], value(text, "K"));
        assert_eq!(private.decapsulate(&ciphertext)[..], value(text, "K"));
    }
}

#[test]
#[expect(deprecated, reason = "the vector gives an expanded key only; the program keeps seeds")]
fn implicit_rejection_compares_every_byte() {
    let text = include_str!("../testdata/ml-kem-768-strcmp.txt");
    let private = ml_kem_768::DecapsulationKey::from_expanded(&array(text, "dk")).unwrap();
    assert_eq!(private.decapsulate(&array(text, "c"))[..], value(text, "K"));
}
