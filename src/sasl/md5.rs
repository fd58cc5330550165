//! MD5 (RFC 1321) and HMAC-MD5 (RFC 2104), for CRAM-MD5 and nothing else: MD5 is broken as a hash.
//!
//! Written out here because CRAM-MD5 keeps the state of the hash after its first block, which lets a server verify
//! without the password, and which libraries do not give out.

use zeroize::Zeroize;

/// Octets of a block.
const BLOCK: usize = 64;

/// `floor(2^32 * abs(sin(n + 1)))` (RFC 1321 3.4).
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// Rotations of the four rounds.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The four words of the state.
#[derive(Clone, Copy)]
struct State([u32; 4]);

impl State {
    /// RFC 1321 3.3.
    const START: State = State([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]);

    fn block(&mut self, block: &[u8]) {
        let mut words = [0u32; 16];
        for (word, octets) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = octets.iter().rev().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
        }
        let [mut a, mut b, mut c, mut d] = self.0;
        for (n, sine) in SINES.iter().enumerate() {
            let (round, mix, at) = match n / 16 {
                0 => (0, (b & c) | (!b & d), n),
                1 => (1, (d & b) | (!d & c), 5 * n + 1),
                2 => (2, b ^ c ^ d, 3 * n + 5),
                _ => (3, c ^ (b | !d), 7 * n),
            };
            let word = words.get(at % 16).copied().unwrap_or_default();
            let turn = TURNS.get(round).and_then(|turns| turns.get(n % 4)).copied().unwrap_or(0);
            let sum = a.wrapping_add(mix).wrapping_add(*sine).wrapping_add(word);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(turn)));
        }
        for (word, add) in self.0.iter_mut().zip([a, b, c, d]) {
            *word = word.wrapping_add(add);
        }
        words.zeroize();
    }

    /// Takes the rest of a message of which `before` octets, whole blocks, were taken already.
    fn finish(mut self, before: usize, rest: &[u8]) -> [u8; 16] {
        let bits = (before as u64).wrapping_add(rest.len() as u64).wrapping_mul(8);
        let mut blocks = rest.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.block(block);
        }
        let mut tail = blocks.remainder().to_vec();
        tail.push(0x80);
        while tail.len() % BLOCK != BLOCK - 8 {
            tail.push(0);
        }
        tail.extend_from_slice(&bits.to_le_bytes());
        for block in tail.chunks_exact(BLOCK) {
            self.block(block);
        }
        tail.zeroize();
        self.octets()
    }

    fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (to, word) in octets.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        octets
    }

    fn of(octets: &[u8; 16]) -> State {
        let mut state = State([0; 4]);
        for (word, octets) in state.0.iter_mut().zip(octets.chunks_exact(4)) {
            *word = octets.iter().rev().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
        }
        state
    }
}

/// The MD5 digest.
fn digest(message: &[u8]) -> [u8; 16] {
    State::START.finish(0, message)
}

/// The two states of HMAC-MD5 after the key's block: inner, outer.
pub(super) fn hmac_states(key: &[u8]) -> ([u8; 16], [u8; 16]) {
    let mut block = [0u8; BLOCK];
    let long;
    let key = if key.len() > BLOCK {
        long = digest(key);
        &long
    } else {
        key
    };
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let state = |pad: u8| {
        let mut padded = block.map(|octet| octet ^ pad);
        let mut state = State::START;
        state.block(&padded);
        padded.zeroize();
        state.octets()
    };
    let states = (state(0x36), state(0x5c));
    block.zeroize();
    states
}

/// HMAC-MD5 from the states of [`hmac_states`].
pub(super) fn hmac(inner: &[u8; 16], outer: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let digest = State::of(inner).finish(BLOCK, message);
    State::of(outer).finish(BLOCK, &digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// RFC 1321 A.5.
    #[test]
    fn digests_are_those_of_the_rfc() {
        for (text, expected) in [
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
        ] {
            assert_eq!(hex(&digest(text.as_bytes())), expected, "{text}");
        }
    }

    /// RFC 2202 2: a short key, and one that is longer than a block.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let of = |key: &[u8], message: &[u8]| {
            let (inner, outer) = hmac_states(key);
            hex(&hmac(&inner, &outer, message))
        };
        assert_eq!(
            of(b"Jefe", b"what do ya want for nothing?"),
            "750c783e6ab0b503eaa86e310a5db738"
        );
        assert_eq!(
            of(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"
        );
    }
}
