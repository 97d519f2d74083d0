//! YCbCr to RGB, 32 pixels at a time.

use std::arch::x86_64::*;

const BLOCK: usize = 32;

/// Where the bytes of red in each 16 bytes of interleaved pixels come from, of green, and of blue.
const fn spread(part: usize, channel: usize) -> [i8; 16] {
    let (mut from, mut at) = ([-1; 16], 0);
    while at < 16 {
        if (16 * part + at) % 3 == channel {
            from[at] = ((16 * part + at) / 3) as i8;
        }
        at += 1;
    }
    from
}

static SPREAD: [[[i8; 16]; 3]; 3] = {
    let mut all = [[[0; 16]; 3]; 3];
    let mut at = 0;
    while at < 9 {
        all[at / 3][at % 3] = spread(at / 3, at % 3);
        at += 1;
    }
    all
};

#[target_feature(enable = "avx2")]
pub fn blocks(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) -> usize {
    let (luma, blue, red) =
        (luma.as_chunks::<BLOCK>().0, blue.as_chunks::<BLOCK>().0, red.as_chunks::<BLOCK>().0);
    let (out, _) = out.as_chunks_mut::<{ 3 * BLOCK }>();
    let order = SPREAD.map(|channels| channels.map(|bytes| twice(bytes)));
    let mut done = 0;
    for (((out, y), cb), cr) in out.iter_mut().zip(luma).zip(blue).zip(red) {
        let channels = convert(load(y), load(cb), load(cr));
        let mut parts = [_mm256_setzero_si256(); 3];
        for (part, order) in parts.iter_mut().zip(&order) {
            for (channel, order) in channels.iter().zip(order) {
                *part = _mm256_or_si256(*part, _mm256_shuffle_epi8(*channel, *order));
            }
        }
        // Each half of a part is for the pixels in that half.
        let whole = [
            _mm256_permute2x128_si256::<0x20>(parts[0], parts[1]),
            _mm256_blend_epi32::<0xf0>(parts[2], parts[0]),
            _mm256_permute2x128_si256::<0x31>(parts[1], parts[2]),
        ];
        for (out, whole) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(whole) {
            store(whole, out);
        }
        done += BLOCK;
    }
    done
}

#[inline]
#[target_feature(enable = "avx2")]
fn convert(luma: __m256i, blue: __m256i, red: __m256i) -> [__m256i; 3] {
    let zero = _mm256_setzero_si256();
    let low = words(
        _mm256_unpacklo_epi8(luma, zero),
        _mm256_unpacklo_epi8(blue, zero),
        _mm256_unpacklo_epi8(red, zero),
    );
    let high = words(
        _mm256_unpackhi_epi8(luma, zero),
        _mm256_unpackhi_epi8(blue, zero),
        _mm256_unpackhi_epi8(red, zero),
    );
    let mut both = [zero; 3];
    for k in 0..3 {
        both[k] = _mm256_packus_epi16(low[k], high[k]);
    }
    both
}

/// Of 16 pixels, not yet cut to what a byte holds.
#[inline]
#[target_feature(enable = "avx2")]
fn words(y: __m256i, cb: __m256i, cr: __m256i) -> [__m256i; 3] {
    let middle = _mm256_set1_epi16(128);
    let (cb, cr) = (_mm256_sub_epi16(cb, middle), _mm256_sub_epi16(cr, middle));
    let (cb2, cr2) = (_mm256_add_epi16(cb, cb), _mm256_add_epi16(cr, cr));
    // Half of a product, rounded to nearest. Of a factor beyond a half, whole ones are split off.
    let half = |value, factor| {
        let product = _mm256_mulhi_epi16(value, _mm256_set1_epi16(factor));
        _mm256_srai_epi16::<1>(_mm256_add_epi16(product, _mm256_set1_epi16(1)))
    };
    let green = |pairs| {
        let factors = _mm256_set1_epi32(i32::from(-22_554i16 as u16) | 18_734 << 16);
        let sum = _mm256_add_epi32(_mm256_madd_epi16(pairs, factors), _mm256_set1_epi32(0x8000));
        _mm256_srai_epi32::<16>(sum)
    };
    let green =
        _mm256_packs_epi32(green(_mm256_unpacklo_epi16(cb, cr)), green(_mm256_unpackhi_epi16(cb, cr)));
    [
        _mm256_add_epi16(_mm256_add_epi16(y, cr), half(cr2, 26_345)),
        _mm256_add_epi16(_mm256_sub_epi16(y, cr), green),
        _mm256_add_epi16(_mm256_add_epi16(y, cb2), half(cb2, -14_942)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; BLOCK]) -> __m256i {
    let [a, b, c, d] = std::array::from_fn(|k| {
        let (quarters, _) = bytes.as_chunks::<8>();
        i64::from_le_bytes(quarters[k])
    });
    _mm256_setr_epi64x(a, b, c, d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn twice(bytes: [i8; 16]) -> __m256i {
    let bytes = bytes.map(|b| b as u8);
    let (halves, _) = bytes.as_chunks::<8>();
    let [a, b] = std::array::from_fn(|k| i64::from_le_bytes(halves[k]));
    _mm256_setr_epi64x(a, b, a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(value: __m256i, out: &mut [u8; BLOCK]) {
    let (low, high) = (_mm256_castsi256_si128(value), _mm256_extracti128_si256::<1>(value));
    let quarters = [
        _mm_cvtsi128_si64(low),
        _mm_extract_epi64::<1>(low),
        _mm_cvtsi128_si64(high),
        _mm_extract_epi64::<1>(high),
    ];
    for (out, quarter) in out.as_chunks_mut::<8>().0.iter_mut().zip(quarters) {
        *out = quarter.to_le_bytes();
    }
}
