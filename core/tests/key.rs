//! The key of a name is its MD5 digest: against RFC 1321 and against the `md-5` crate.

use dataserver_core::Key;
use md5::{Digest, Md5};

/// RFC 1321, A.5.
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
fn the_test_suite_of_the_rfc_passes() {
    for (name, digest) in RFC_1321 {
        assert_eq!(Key::from_name(name).to_string(), digest, "{name:?}");
    }
}

#[test]
fn every_length_around_the_padding_agrees_with_another_implementation() {
    let mut random = fastrand::Rng::with_seed(1321);
    for len in (0..=200).chain([255, 256, 257, 4_095, 4_096, 65_536 + 55, 100_003]) {
        let mut name = vec![0; len];
        random.fill(&mut name);
        let digest: [u8; 16] = Md5::digest(&name).into();
        assert_eq!(Key::from_name_bytes(&name), Key::new(digest), "{len} bytes");
    }
}

#[test]
fn a_key_is_made_at_compile_time() {
    const KEY: Key = Key::from_name("start");
    const BYTES: [u8; 16] = *Key::from_name_bytes(b"start").as_bytes();
    assert_eq!(KEY.to_string(), "ea2b2676c28c0db26d39331a336c6b92");
    assert_eq!(KEY, Key::new(BYTES));
}

/// From there on, the length in bits needs more than 32 of them.
#[test]
#[ignore = "takes a minute without --release"]
fn a_length_that_fits_no_32_bits_agrees_too() {
    let name = vec![0; 512 << 20];
    assert_eq!(Key::from_name_bytes(&name).as_bytes()[..], Md5::digest(&name)[..]);
}
