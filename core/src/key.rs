//! The 16 bytes that select a registered handler.

use core::fmt;
use core::str::FromStr;

/// Which registered handler a start packet is for: 16 bytes.
///
/// A key is either the MD5 digest of a name ([RFC 1321]), as in the original, or any 16 bytes, such as
/// random ones that only the intended client knows.
///
/// MD5 maps names to 16 bytes here, and keeps nothing secret: anyone who guesses the name can compute the
/// key.
///
/// ```
/// use dataserver_core::Key;
///
/// const START: Key = Key::from_name("start");
/// assert_eq!(START.to_string(), "ea2b2676c28c0db26d39331a336c6b92");
/// assert_eq!(START, Key::from_bytes(*START.as_bytes()));
/// ```
///
/// [RFC 1321]: https://www.rfc-editor.org/rfc/rfc1321
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; Key::LEN]);

impl Key {
    /// The length of a key: 16 bytes.
    ///
    /// ```
    /// assert_eq!(dataserver_core::Key::LEN, 16);
    /// ```
    pub const LEN: usize = 16;

    /// The key that consists of these 16 bytes.
    ///
    /// ```
    /// use dataserver_core::Key;
    ///
    /// assert_eq!(Key::from_bytes([7; 16]).as_bytes(), &[7; 16]);
    /// ```
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The key of a name: the MD5 digest of its UTF-8 bytes.
    ///
    /// ```
    /// use dataserver_core::Key;
    ///
    /// assert_eq!(Key::from_name("a").to_string(), "0cc175b9c0f1b6a831c399e269772661");
    /// ```
    pub const fn from_name(name: &str) -> Self {
        Self::from_name_bytes(name.as_bytes())
    }

    /// The key of a name that need not be UTF-8: the MD5 digest of these bytes.
    ///
    /// ```
    /// use dataserver_core::Key;
    ///
    /// assert_eq!(Key::from_name_bytes(b"start"), Key::from_name("start"));
    /// ```
    pub const fn from_name_bytes(name: &[u8]) -> Self {
        Self(md5(name))
    }

    /// The 16 bytes, as they go over the wire.
    ///
    /// ```
    /// use dataserver_core::Key;
    ///
    /// assert_eq!(Key::from_name("start").as_bytes()[0], 0xea);
    /// ```
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Key::LEN]> for Key {
    fn from(bytes: [u8; Self::LEN]) -> Self {
        Self::from_bytes(bytes)
    }
}

/// Parses 32 hexadecimal digits, in either case.
///
/// ```
/// use dataserver_core::Key;
///
/// let key: Key = "ea2b2676c28c0db26d39331a336c6b92".parse()?;
/// assert_eq!(key, Key::from_name("start"));
/// assert!("ea2b".parse::<Key>().is_err());
/// # Ok::<(), dataserver_core::InvalidKey>(())
/// ```
impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::LEN {
            return Err(InvalidKey::Length(text.len()));
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).map_err(|_| InvalidKey::Digit)?;
            let is_hexadecimal = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = match u8::from_str_radix(pair, 16) {
                Ok(value) if is_hexadecimal => value,
                _ => return Err(InvalidKey::Digit),
            };
        }
        Ok(Self(bytes))
    }
}

/// The text is not a key.
///
/// ```
/// use dataserver_core::{InvalidKey, Key};
///
/// assert_eq!("ea2b".parse::<Key>(), Err(InvalidKey::Length(4)));
/// assert_eq!("x".repeat(32).parse::<Key>(), Err(InvalidKey::Digit));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The text has this many bytes instead of 32.
    Length(usize),
    /// A character is not a hexadecimal digit.
    Digit,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "expected a key of 32 hexadecimal digits, got {length}")
            }
            Self::Digit => {
                f.write_str("expected a key of 32 hexadecimal digits, got another character")
            }
        }
    }
}

impl core::error::Error for InvalidKey {}

/// 32 lowercase hexadecimal digits.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(self, f)
    }
}

/// 32 lowercase hexadecimal digits.
impl fmt::LowerHex for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// MD5, RFC 1321. `const`, so without iterators; by patterns, so that nothing can be out of bounds.
const fn md5(message: &[u8]) -> [u8; 16] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut at = 0;
    let padded = message.len().saturating_add(9); // with a one bit, zeros, and the 64-bit length
    while at < padded {
        let mut words = [0; 16];
        let mut slots: &mut [u32] = &mut words;
        while let [slot, more @ ..] = slots {
            *slot = padded_word(message, at);
            at = at.saturating_add(4);
            slots = more;
        }
        if at >= padded {
            let bits = (message.len() as u64).wrapping_mul(8);
            words[14] = bits as u32;
            words[15] = (bits >> 32) as u32;
        }
        state = digest_block(state, words);
    }
    let [a, b, c, d] = state;
    (a as u128 | (b as u128) << 32 | (c as u128) << 64 | (d as u128) << 96).to_le_bytes()
}

/// The little-endian word at byte `at` of the message, followed by a one bit and zeros (3.1).
const fn padded_word(message: &[u8], at: usize) -> u32 {
    let Some((_, rest)) = message.split_at_checked(at) else {
        return 0;
    };
    u32::from_le_bytes(match rest {
        [a, b, c, d, ..] => [*a, *b, *c, *d],
        [a, b, c] => [*a, *b, *c, 0x80],
        [a, b] => [*a, *b, 0x80, 0],
        [a] => [*a, 0x80, 0, 0],
        [] => [0x80, 0, 0, 0],
    })
}

/// Section 3.4: four rounds over one block of sixteen words, each round in an order of its own.
const fn digest_block(start: [u32; 4], block: [u32; 16]) -> [u32; 4] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15] = block;
    let [k1, k2, k3, k4] = &SINES;
    let mut state = start;

    let order = [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15];
    let mut steps = Steps::new(&order, k1, [7, 12, 17, 22]);
    while let Some((word, shift)) = steps.next() {
        let [_, b, c, d] = state;
        state = rotate(state, b & c | !b & d, word, shift);
    }
    let order = [x1, x6, x11, x0, x5, x10, x15, x4, x9, x14, x3, x8, x13, x2, x7, x12];
    let mut steps = Steps::new(&order, k2, [5, 9, 14, 20]);
    while let Some((word, shift)) = steps.next() {
        let [_, b, c, d] = state;
        state = rotate(state, b & d | c & !d, word, shift);
    }
    let order = [x5, x8, x11, x14, x1, x4, x7, x10, x13, x0, x3, x6, x9, x12, x15, x2];
    let mut steps = Steps::new(&order, k3, [4, 11, 16, 23]);
    while let Some((word, shift)) = steps.next() {
        let [_, b, c, d] = state;
        state = rotate(state, b ^ c ^ d, word, shift);
    }
    let order = [x0, x7, x14, x5, x12, x3, x10, x1, x8, x15, x6, x13, x4, x11, x2, x9];
    let mut steps = Steps::new(&order, k4, [6, 10, 15, 21]);
    while let Some((word, shift)) = steps.next() {
        let [_, b, c, d] = state;
        state = rotate(state, c ^ (b | !d), word, shift);
    }

    let [a, b, c, d] = state;
    let [a0, b0, c0, d0] = start;
    [a.wrapping_add(a0), b.wrapping_add(b0), c.wrapping_add(c0), d.wrapping_add(d0)]
}

/// One step: `a = b + ((a + mixed + word) <<< shift)`, and the four registers move up by one.
const fn rotate([a, b, c, d]: [u32; 4], mixed: u32, word: u32, shift: u32) -> [u32; 4] {
    let sum = a.wrapping_add(mixed).wrapping_add(word);
    [d, b.wrapping_add(sum.rotate_left(shift)), b, c]
}

/// The sixteen steps of a round: the word to add (with its sine), and how far to rotate.
struct Steps<'a> {
    words: &'a [u32],
    sines: &'a [u32],
    shifts: [u32; 4],
}

impl<'a> Steps<'a> {
    const fn new(words: &'a [u32; 16], sines: &'a [u32; 16], shifts: [u32; 4]) -> Self {
        Self { words, sines, shifts }
    }

    const fn next(&mut self) -> Option<(u32, u32)> {
        let ([word, words @ ..], [sine, sines @ ..]) = (self.words, self.sines) else {
            return None;
        };
        let [shift, second, third, fourth] = self.shifts;
        *self = Self { words, sines, shifts: [second, third, fourth, shift] };
        Some((word.wrapping_add(*sine), shift))
    }
}

/// `floor(2^32 * abs(sin(i)))` for i from 1 to 64 in radians, sixteen a round (3.4).
#[rustfmt::skip]
const SINES: [[u32; 16]; 4] = [
    [
        0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee,
        0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
        0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be,
        0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    ],
    [
        0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa,
        0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
        0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed,
        0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    ],
    [
        0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c,
        0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
        0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05,
        0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    ],
    [
        0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039,
        0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
        0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1,
        0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
    ],
];
