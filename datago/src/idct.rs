//! Inverse cosine transforms, to the last bit those of libjpeg's "islow" at full size and of its reductions to 4, 2 and 1 pixels.
//!
//! Source: the algorithm of C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical Fast 1-D DCT Algorithms with 11 Multiplications"
//! (ICASSP 1989), in whole numbers; reduced ones are means of the pixels that the full one has in their place.

use std::num::Wrapping;

/// Fractional bits of the factors, and those that the first pass keeps.
const BITS: u32 = 13;
const KEPT: u32 = 2;
/// Rows of two blocks side by side.
pub type Two<T> = [[T; 16]; 8];
/// Rows of pixels of two blocks, eight to a number, the left one lowest.
pub type Rows = [[u64; 8]; 2];

/// Pixels of two blocks, of `side` 8, 4, 2 or 1, from coefficients times `factors`.
pub fn pair(side: usize, coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
    let mut rows = [[0; 8]; 2];
    for (half, rows) in rows.iter_mut().enumerate() {
        let block: [[i32; 8]; 8] = std::array::from_fn(|y| {
            std::array::from_fn(|x| {
                let at = 8 * half + x;
                i32::from(coefficients[y][at].wrapping_mul(factors[y][at]))
            })
        });
        match side {
            8 => store(twice(&block, 0, eight), rows),
            4 => store(twice(&block, 1, four), rows),
            2 => store(twice(&block, 2, two), rows),
            _ => rows[0] = u64::from(pixel((block[0][0] + 4) >> 3)),
        }
    }
    rows
}

/// Numbers beyond what a picture has wrap around, here as in registers.
type Number = Wrapping<i32>;

fn pixel(value: i32) -> u8 {
    (value + 128).clamp(0, 255) as u8
}

/// Down the columns, then along the rows. A pass adds `extra` fractional bits of its own.
fn twice<const N: usize>(
    block: &[[i32; 8]; 8],
    extra: u32,
    pass: fn([Number; 8]) -> [Number; N],
) -> [[i32; N]; N] {
    let rounded = |value: Number, bits: u32| {
        let whole = (value + Wrapping(1 << (bits - 1))).0 >> bits;
        whole.clamp(i16::MIN.into(), i16::MAX.into())
    };
    let mut between = [[Wrapping(0); 8]; N];
    for x in 0..8 {
        let column = pass(std::array::from_fn(|y| Wrapping(block[y][x])));
        for y in 0..N {
            between[y][x] = Wrapping(rounded(column[y], BITS - KEPT + extra));
        }
    }
    between.map(|row| pass(row).map(|value| rounded(value, BITS + KEPT + 3 + extra)))
}

fn store<const N: usize>(pixels: [[i32; N]; N], rows: &mut [u64; 8]) {
    for (row, pixels) in rows.iter_mut().zip(pixels) {
        let mut bytes = [0; 8];
        for (byte, value) in bytes.iter_mut().zip(pixels) {
            *byte = pixel(value);
        }
        *row = u64::from_le_bytes(bytes);
    }
}

fn eight(x: [Number; 8]) -> [Number; 8] {
    let short = |value: Number| Wrapping(i32::from(value.0 as i16));
    let k = Wrapping;
    let (sum, difference) = (short(x[0] + x[4]) << BITS as usize, short(x[0] - x[4]) << BITS as usize);
    let (c, d) = (x[2] * k(10703) + x[6] * k(4433), x[2] * k(4433) - x[6] * k(10704));
    let even = [sum + c, difference + d, difference - d, sum - c];
    let (e, f) = (short(x[7] + x[3]), short(x[5] + x[1]));
    let (e, f) = (f * k(9633) - e * k(6436), e * k(9633) + f * k(6437));
    let odd = [
        x[1] * k(4926) - x[7] * k(7373) + f,
        x[3] * k(4177) - x[5] * k(20995) + e,
        f - x[5] * k(4176) - x[3] * k(20995),
        e - x[7] * k(4927) - x[1] * k(7373),
    ];
    std::array::from_fn(|i| if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] })
}

fn four(x: [Number; 8]) -> [Number; 4] {
    let k = Wrapping;
    let (a, b) = (x[0] << (BITS + 1) as usize, x[2] * k(15137) - x[6] * k(6270));
    let c = x[5] * k(11893) - x[7] * k(1730) - x[3] * k(17799) + x[1] * k(8697);
    let d = x[3] * k(7373) - x[7] * k(4176) - x[5] * k(4926) + x[1] * k(20995);
    [a + b + d, a - b + c, a - b - c, a + b - d]
}

fn two(x: [Number; 8]) -> [Number; 2] {
    let k = Wrapping;
    let a = x[0] << (BITS + 2) as usize;
    let b = x[5] * k(6967) - x[7] * k(5906) - x[3] * k(10426) + x[1] * k(29692);
    [a + b, a - b]
}
