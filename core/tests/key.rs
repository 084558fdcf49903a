//! Keys: the MD5 digests of names, compared with RFC 1321 and with the `md-5` crate, and their
//! hexadecimal text.

use dataserver_core::{InvalidKey, Key};
use md5::{Digest, Md5};

/// The test suite of RFC 1321, appendix A.5.
const RFC_1321: [(&str, &str); 7] = [
    ("", "d41d8cd98f00b204e9800998ecf8427e"),
    ("a", "0cc175b9c0f1b6a831c399e269772661"),
    ("abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    (
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        "d174ab98d277d9f5a5611c2c9f419d9f",
    ),
    (
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        "57edf4a22be3c955ac49da2e2107b67a",
    ),
];

#[test]
fn the_rfc_test_suite_passes() {
    for (name, digest) in RFC_1321 {
        assert_eq!(Key::from_name(name).to_string(), digest, "{name:?}");
    }
}

#[test]
fn digests_of_all_lengths_around_the_padding_match_another_implementation() {
    let mut random = fastrand::Rng::with_seed(1321);
    for len in (0..=200).chain([255, 256, 257, 4_095, 4_096, 65_536 + 55, 100_003]) {
        let mut name = vec![0; len];
        random.fill(&mut name);
        let digest: [u8; 16] = Md5::digest(&name).into();
        assert_eq!(Key::from_name_bytes(&name), Key::from_bytes(digest), "{len} bytes");
    }
}

#[test]
fn a_key_can_be_computed_at_compile_time() {
    const KEY: Key = Key::from_name("start");
    const BYTES: [u8; 16] = *Key::from_name_bytes(b"start").as_bytes();
    assert_eq!(KEY.to_string(), "ea2b2676c28c0db26d39331a336c6b92");
    assert_eq!(KEY, Key::from_bytes(BYTES));
}

/// From 512 MiB on, the length in bits needs more than 32 bits.
#[test]
#[ignore = "takes a minute in a debug build"]
fn the_digest_of_a_name_longer_than_32_bits_can_count_matches() {
    let name = vec![0; 512 << 20];
    assert_eq!(Key::from_name_bytes(&name).as_bytes()[..], Md5::digest(&name)[..]);
}

#[test]
fn a_key_is_shown_as_32_lowercase_digits() {
    let key = Key::from_bytes([0x0f, 0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff]);
    let text = "0fa00102030405060708090a0b0c0dff";
    assert_eq!(key.to_string(), text);
    assert_eq!(format!("{key:x}"), text);
    assert_eq!(format!("{key:?}"), format!("Key({text})"));
}

#[test]
fn a_key_is_parsed_from_the_text_that_shows_it() {
    let mut random = fastrand::Rng::with_seed(16);
    for _ in 0..1_000 {
        let mut bytes = [0; Key::LEN];
        random.fill(&mut bytes);
        let key = Key::from(bytes);
        assert_eq!(key, Key::from_bytes(bytes));
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
    }
}

#[test]
fn a_text_of_another_length_is_not_a_key() {
    for length in (0..100).filter(|length| *length != 32) {
        assert_eq!("0".repeat(length).parse::<Key>(), Err(InvalidKey::Length(length)));
    }
    // 32 characters, but 64 bytes.
    assert_eq!("\u{e4}".repeat(32).parse::<Key>(), Err(InvalidKey::Length(64)));
    assert_eq!(
        InvalidKey::Length(31).to_string(),
        "expected a key of 32 hexadecimal digits, got 31"
    );
}

#[test]
fn a_text_with_any_other_character_is_not_a_key() {
    let digits = "0123456789abcdef0123456789ABCDEF";
    assert!(digits.parse::<Key>().is_ok());
    for at in 0..digits.len() {
        for other in ["g", "G", "+", "-", " ", "_", "/", ":", "@", "`", "\0", "\n"] {
            let mut text = digits.to_owned();
            text.replace_range(at..=at, other);
            assert_eq!(text.parse::<Key>(), Err(InvalidKey::Digit), "{text:?}");
        }
    }
    // 32 bytes that are not 32 characters, with characters at the even and the odd positions.
    for text in ["\u{e4}".repeat(16), format!("0{}0", "\u{e4}".repeat(15))] {
        assert_eq!(text.parse::<Key>(), Err(InvalidKey::Digit), "{text:?}");
    }
    assert_eq!(
        InvalidKey::Digit.to_string(),
        "expected a key of 32 hexadecimal digits, got another character"
    );
}
