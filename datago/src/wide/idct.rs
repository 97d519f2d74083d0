//! The transforms of [`crate::idct`] in 256-bit registers, one block in each half.

use std::arch::x86_64::*;

use crate::idct::{self, Rows, Two};

/// Pixels of two blocks.
#[target_feature(enable = "avx2")]
pub fn pair(side: usize, coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
    match side {
        8 => eight(coefficients, factors),
        4 => four(coefficients, factors),
        2 => two(coefficients, factors),
        _ => idct::pair(side, coefficients, factors),
    }
}

/// Where each half of a pair of 32-bit numbers holds one of two factors.
#[inline]
#[target_feature(enable = "avx2")]
fn factors(even: i16, odd: i16) -> __m256i {
    _mm256_set1_epi32(i32::from(even as u16) | i32::from(odd) << 16)
}

#[inline]
#[target_feature(enable = "avx2")]
fn madd(pairs: __m256i, even: i16, odd: i16) -> __m256i {
    _mm256_madd_epi16(pairs, factors(even, odd))
}

#[inline]
#[target_feature(enable = "avx2")]
fn lo(a: __m256i, b: __m256i) -> __m256i {
    _mm256_unpacklo_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn hi(a: __m256i, b: __m256i) -> __m256i {
    _mm256_unpackhi_epi16(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[i16; 16]) -> __m256i {
    let four = |at: usize| (0..4).fold(0, |all, i| all | i64::from(values[4 * at + i] as u16) << (16 * i));
    _mm256_setr_epi64x(four(0), four(1), four(2), four(3))
}

/// Rows of coefficients times factors.
#[inline]
#[target_feature(enable = "avx2")]
fn rows(coefficients: &Two<i16>, factors: &Two<i16>) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for ((row, values), factors) in rows.iter_mut().zip(coefficients).zip(factors) {
        *row = _mm256_mullo_epi16(load(values), load(factors));
    }
    rows
}

#[inline]
#[target_feature(enable = "avx2")]
fn eight(coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
    let columns = transposed(pass::<11>(rows(coefficients, factors), 1 << 10));
    let r = pass::<18>(columns, 1 << 17);
    let bytes = |a, b| _mm256_xor_si256(_mm256_packs_epi16(a, b), _mm256_set1_epi8(-128));
    let p = [bytes(r[0], r[4]), bytes(r[1], r[5]), bytes(r[2], r[6]), bytes(r[3], r[7])];
    let (a, b) = (_mm256_unpacklo_epi8(p[0], p[1]), _mm256_unpacklo_epi8(p[2], p[3]));
    let (c, d) = (_mm256_unpackhi_epi8(p[0], p[1]), _mm256_unpackhi_epi8(p[2], p[3]));
    let (left, right) = ([lo(a, b), hi(a, b)], [lo(c, d), hi(c, d)]);
    let mut out = [[0; 8]; 2];
    for half in 0..2 {
        let quarters =
            [_mm256_unpacklo_epi32(left[half], right[half]), _mm256_unpackhi_epi32(left[half], right[half])];
        for (quarter, values) in quarters.into_iter().enumerate() {
            let (first, second) = halves(values);
            for (rows, values) in out.iter_mut().zip([first, second]) {
                rows[4 * half + 2 * quarter] = _mm_cvtsi128_si64(values) as u64;
                rows[4 * half + 2 * quarter + 1] = _mm_extract_epi64::<1>(values) as u64;
            }
        }
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn halves(values: __m256i) -> (__m128i, __m128i) {
    (_mm256_castsi256_si128(values), _mm256_extracti128_si256::<1>(values))
}

/// One pass over eight rows, of which each column is transformed.
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const DOWN: i32>(r: [__m256i; 8], round: i32) -> [__m256i; 8] {
    let (zero, round) = (_mm256_setzero_si256(), _mm256_set1_epi32(round));
    let (sum, difference) = (_mm256_add_epi16(r[0], r[4]), _mm256_sub_epi16(r[0], r[4]));
    let (e, f) = (_mm256_add_epi16(r[7], r[3]), _mm256_add_epi16(r[5], r[1]));
    // Four columns of each block, as 32-bit numbers.
    let half = |sum, difference, x26, x71, x53, ef| {
        let wide = |value| _mm256_add_epi32(_mm256_srai_epi32::<3>(value), round);
        let (sum, difference) = (wide(sum), wide(difference));
        let (c, d) = (madd(x26, 10703, 4433), madd(x26, 4433, -10704));
        let even = [
            _mm256_add_epi32(sum, c),
            _mm256_add_epi32(difference, d),
            _mm256_sub_epi32(difference, d),
            _mm256_sub_epi32(sum, c),
        ];
        let (e, f) = (madd(ef, -6436, 9633), madd(ef, 9633, 6437));
        let odd = [
            _mm256_add_epi32(madd(x71, -7373, 4926), f),
            _mm256_add_epi32(madd(x53, -20995, 4177), e),
            _mm256_add_epi32(madd(x53, -4176, -20995), f),
            _mm256_add_epi32(madd(x71, -4927, -7373), e),
        ];
        let mut out = [zero; 8];
        for k in 0..4 {
            out[k] = _mm256_srai_epi32::<DOWN>(_mm256_add_epi32(even[k], odd[k]));
            out[7 - k] = _mm256_srai_epi32::<DOWN>(_mm256_sub_epi32(even[k], odd[k]));
        }
        out
    };
    let low =
        half(lo(zero, sum), lo(zero, difference), lo(r[2], r[6]), lo(r[7], r[1]), lo(r[5], r[3]), lo(e, f));
    let high =
        half(hi(zero, sum), hi(zero, difference), hi(r[2], r[6]), hi(r[7], r[1]), hi(r[5], r[3]), hi(e, f));
    let mut out = [zero; 8];
    for k in 0..8 {
        out[k] = _mm256_packs_epi32(low[k], high[k]);
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn transposed(r: [__m256i; 8]) -> [__m256i; 8] {
    let mut a = r;
    for k in 0..4 {
        (a[2 * k], a[2 * k + 1]) = (lo(r[2 * k], r[2 * k + 1]), hi(r[2 * k], r[2 * k + 1]));
    }
    let mut b = a;
    for (k, (x, y)) in [(0, 2), (1, 3), (4, 6), (5, 7)].into_iter().enumerate() {
        (b[2 * k], b[2 * k + 1]) = (_mm256_unpacklo_epi32(a[x], a[y]), _mm256_unpackhi_epi32(a[x], a[y]));
    }
    let mut c = b;
    for k in 0..4 {
        (c[2 * k], c[2 * k + 1]) =
            (_mm256_unpacklo_epi64(b[k], b[k + 4]), _mm256_unpackhi_epi64(b[k], b[k + 4]));
    }
    c
}

#[inline]
#[target_feature(enable = "avx2")]
fn four(coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
    let r = rows(coefficients, factors);
    let zero = _mm256_setzero_si256();
    let round = _mm256_set1_epi32(1 << 11);
    let low = four_pass::<12>(lo(zero, r[0]), lo(r[2], r[6]), lo(r[3], r[7]), lo(r[1], r[5]), round);
    let high = four_pass::<12>(hi(zero, r[0]), hi(r[2], r[6]), hi(r[3], r[7]), hi(r[1], r[5]), round);
    let mut between = [zero; 4];
    for k in 0..4 {
        between[k] = _mm256_packs_epi32(low[k], high[k]);
    }
    let (a, b) = (lo(between[0], between[1]), lo(between[2], between[3]));
    let (c, d) = (hi(between[0], between[1]), hi(between[2], between[3]));
    // Four rows of two columns each.
    let (x01, x23) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (x45, x67) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let round = _mm256_set1_epi32(1 << 18);
    let x = four_pass::<19>(lo(zero, x01), lo(x23, x67), hi(x23, x67), hi(x01, x45), round);
    let words = (_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
    let bytes = _mm256_xor_si256(_mm256_packs_epi16(words.0, words.1), _mm256_set1_epi8(-128));
    let order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let (first, second) = halves(_mm256_shuffle_epi8(bytes, order));
    let mut out = [[0; 8]; 2];
    for (rows, values) in out.iter_mut().zip([first, second]) {
        let (upper, lower) = (_mm_cvtsi128_si64(values) as u64, _mm_extract_epi64::<1>(values) as u64);
        (rows[0], rows[1], rows[2], rows[3]) = (upper, upper >> 32, lower, lower >> 32);
    }
    out
}

/// `x0` is in the upper half of each number; of the others the pairs are 2 and 6, 3 and 7, 1 and 5.
#[inline]
#[target_feature(enable = "avx2")]
fn four_pass<const DOWN: i32>(
    x0: __m256i,
    x26: __m256i,
    x37: __m256i,
    x15: __m256i,
    round: __m256i,
) -> [__m256i; 4] {
    let (a, b) = (_mm256_add_epi32(_mm256_srai_epi32::<2>(x0), round), madd(x26, 15137, -6270));
    let (sum, difference) = (_mm256_add_epi32(a, b), _mm256_sub_epi32(a, b));
    let c = _mm256_add_epi32(madd(x37, -17799, -1730), madd(x15, 8697, 11893));
    let d = _mm256_add_epi32(madd(x37, 7373, -4176), madd(x15, 20995, -4926));
    let out = [
        _mm256_add_epi32(sum, d),
        _mm256_add_epi32(difference, c),
        _mm256_sub_epi32(difference, c),
        _mm256_sub_epi32(sum, d),
    ];
    out.map(|value| _mm256_srai_epi32::<DOWN>(value))
}

#[inline]
#[target_feature(enable = "avx2")]
fn two(coefficients: &Two<i16>, factors: &Two<i16>) -> Rows {
    let r = rows(coefficients, factors);
    let (zero, round) = (_mm256_setzero_si256(), _mm256_set1_epi32(1 << 12));
    let half = |x0, x75, x31| {
        let a = _mm256_add_epi32(_mm256_srai_epi32::<1>(x0), round);
        let b = _mm256_add_epi32(madd(x75, -5906, 6967), madd(x31, -10426, 29692));
        (_mm256_srai_epi32::<13>(_mm256_add_epi32(a, b)), _mm256_srai_epi32::<13>(_mm256_sub_epi32(a, b)))
    };
    let low = half(lo(zero, r[0]), lo(r[7], r[5]), lo(r[3], r[1]));
    let high = half(hi(zero, r[0]), hi(r[7], r[5]), hi(r[3], r[1]));
    // Both rows of a block: of each column its value and, beside it, that of the next.
    let (upper, lower) = (_mm256_packs_epi32(low.0, high.0), _mm256_packs_epi32(low.1, high.1));
    let odd = _mm256_broadcastsi128_si256(_mm_setr_epi16(0, 29692, 0, -10426, 0, 6967, 0, -5906));
    let pairs = _mm256_hadd_epi32(_mm256_madd_epi16(upper, odd), _mm256_madd_epi16(lower, odd));
    let b = _mm256_hadd_epi32(pairs, pairs);
    let a = _mm256_srai_epi32::<1>(lo(zero, _mm256_unpacklo_epi16(upper, lower)));
    let a = _mm256_add_epi32(a, _mm256_set1_epi32(1 << 19));
    let (left, right) =
        (_mm256_srai_epi32::<20>(_mm256_add_epi32(a, b)), _mm256_srai_epi32::<20>(_mm256_sub_epi32(a, b)));
    // Left and right of the upper row, then of the lower.
    let words = _mm256_packs_epi32(_mm256_unpacklo_epi32(left, right), zero);
    let bytes = _mm256_xor_si256(_mm256_packs_epi16(words, zero), _mm256_set1_epi8(-128));
    let (first, second) = halves(bytes);
    let mut out = [[0; 8]; 2];
    for (rows, values) in out.iter_mut().zip([first, second]) {
        let both = _mm_cvtsi128_si64(values) as u64;
        (rows[0], rows[1]) = (both, both >> 16);
    }
    out
}
