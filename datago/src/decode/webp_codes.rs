//! How many groups of prefix codes a lossless WebP has. The decoder makes tables for all of them before it decodes a
//! pixel, and a few bytes of code lengths become four kilobytes of table: this is the one cost that no header tells.
//! So the stream is read as far as the image that says which group holds where, in the decoder's own way.

const LENGTH_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Most pixels of an image beside the picture; encoders make them some hundredth of it.
const MAX_PIXELS: usize = 1 << 21;
const LITERALS: usize = 256;
const LENGTHS: usize = 24;
const DISTANCES: usize = 40;

/// The first 120 distances are pixels nearby: (columns to the left, rows up).
#[rustfmt::skip]
const NEARBY: [(i32, i32); 120] = [
    (0, 1),  (1, 0),  (1, 1),  (-1, 1), (0, 2),  (2, 0),  (1, 2),  (-1, 2), (2, 1),  (-2, 1), (2, 2),  (-2, 2),
    (0, 3),  (3, 0),  (1, 3),  (-1, 3), (3, 1),  (-3, 1), (2, 3),  (-2, 3), (3, 2),  (-3, 2), (0, 4),  (4, 0),
    (1, 4),  (-1, 4), (4, 1),  (-4, 1), (3, 3),  (-3, 3), (2, 4),  (-2, 4), (4, 2),  (-4, 2), (0, 5),  (3, 4),
    (-3, 4), (4, 3),  (-4, 3), (5, 0),  (1, 5),  (-1, 5), (5, 1),  (-5, 1), (2, 5),  (-2, 5), (5, 2),  (-5, 2),
    (4, 4),  (-4, 4), (3, 5),  (-3, 5), (5, 3),  (-5, 3), (0, 6),  (6, 0),  (1, 6),  (-1, 6), (6, 1),  (-6, 1),
    (2, 6),  (-2, 6), (6, 2),  (-6, 2), (4, 5),  (-4, 5), (5, 4),  (-5, 4), (3, 6),  (-3, 6), (6, 3),  (-6, 3),
    (0, 7),  (7, 0),  (1, 7),  (-1, 7), (5, 5),  (-5, 5), (7, 1),  (-7, 1), (4, 6),  (-4, 6), (6, 4),  (-6, 4),
    (2, 7),  (-2, 7), (7, 2),  (-7, 2), (3, 7),  (-3, 7), (7, 3),  (-7, 3), (5, 6),  (-5, 6), (6, 5),  (-6, 5),
    (8, 0),  (4, 7),  (-4, 7), (7, 4),  (-7, 4), (8, 1),  (8, 2),  (6, 6),  (-6, 6), (8, 3),  (5, 7),  (-5, 7),
    (7, 5),  (-7, 5), (8, 4),  (6, 7),  (-6, 7), (7, 6),  (-7, 6), (8, 5),  (7, 7),  (-7, 7), (8, 6),  (8, 7),
];

/// The number of groups in a stream that begins with its transforms. `None`: the stream can not be read so far.
pub fn groups(data: &[u8], mut width: usize, height: usize) -> Option<u32> {
    let mut bits = Bits { data, at: 0 };
    // Each kind of transform comes at most once.
    let mut seen = [false; 4];
    while bits.take(1)? == 1 {
        let kind = bits.take(2)? as usize;
        if std::mem::replace(&mut seen[kind], true) {
            return None;
        }
        match kind {
            0 | 1 => {
                let size = bits.take(3)? + 2;
                image(&mut bits, width.div_ceil(1 << size), height.div_ceil(1 << size))?;
            }
            3 => {
                let colours = bits.take(8)? as usize + 1;
                image(&mut bits, colours, 1)?;
                width = match colours {
                    0..=2 => width.div_ceil(8),
                    3..=4 => width.div_ceil(4),
                    5..=16 => width.div_ceil(2),
                    _ => width,
                };
            }
            _ => {}
        }
    }
    if bits.take(1)? == 1 {
        bits.take(4)?;
    }
    if bits.take(1)? == 0 {
        return Some(1);
    }
    let size = bits.take(3)? + 2;
    let found = image(&mut bits, width.div_ceil(1 << size), height.div_ceil(1 << size))?;
    found.into_iter().map(|colour| (colour >> 8 & 0xffff) + 1).max()
}

/// Bits, least significant first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.data.get(self.at / 8)?;
            value |= u32::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }
}

/// A canonical prefix code.
struct Code {
    /// How many codes have each length.
    counts: [u32; 16],
    /// In the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    fn of(lengths: &[u8]) -> Option<Code> {
        let mut counts = [0; 16];
        for &length in lengths.iter().filter(|length| **length > 0) {
            *counts.get_mut(usize::from(length))? += 1;
        }
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|&s| lengths[usize::from(s)] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[usize::from(symbol)]);
        if symbols.is_empty() {
            return None;
        }
        Some(Code { counts, symbols })
    }

    fn read(bits: &mut Bits<'_>, alphabet: usize) -> Option<Code> {
        if bits.take(1)? == 1 {
            let two = bits.take(1)? == 1;
            let wide = bits.take(1)?;
            let mut symbols = vec![bits.take(1 + 7 * wide)? as u16];
            if two {
                symbols.push(bits.take(8)? as u16);
            }
            let mut counts = [0; 16];
            counts[1] = symbols.len() as u32;
            return symbols.iter().all(|&s| usize::from(s) < alphabet).then_some(Code { counts, symbols });
        }
        let mut lengths = [0; 19];
        for place in LENGTH_ORDER.iter().take(4 + bits.take(4)? as usize) {
            lengths[*place] = bits.take(3)? as u8;
        }
        let code = Code::of(&lengths)?;
        let told = match bits.take(1)? {
            0 => alphabet,
            _ => {
                let width = 2 + 2 * bits.take(3)?;
                2 + bits.take(width)? as usize
            }
        };
        let (mut lengths, mut previous) = (Vec::with_capacity(alphabet), 8);
        for _ in 0..told {
            if lengths.len() >= alphabet {
                break;
            }
            let (length, repeats) = match code.symbol(bits)? {
                16 => (previous, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                18 => (0, 11 + bits.take(7)?),
                length => (length as u8, 1),
            };
            if length > 0 {
                previous = length;
            }
            lengths.extend(std::iter::repeat_n(length, repeats as usize));
        }
        if lengths.len() > alphabet {
            return None;
        }
        Code::of(&lengths)
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u16> {
        if self.symbols.len() == 1 {
            return self.symbols.first().copied();
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get((index + code - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// The pixels, as alpha, red, green, blue in one number, of an image with one group of codes.
fn image(bits: &mut Bits<'_>, width: usize, height: usize) -> Option<Vec<u32>> {
    if width * height > MAX_PIXELS {
        return None;
    }
    let cache_bits = match bits.take(1)? {
        0 => 0,
        _ => bits.take(4).filter(|found| (1..=11).contains(found))?,
    };
    let mut cache = vec![0u32; if cache_bits > 0 { 1 << cache_bits } else { 0 }];
    let green = Code::read(bits, LITERALS + LENGTHS + cache.len())?;
    let red = Code::read(bits, LITERALS)?;
    let blue = Code::read(bits, LITERALS)?;
    let alpha = Code::read(bits, LITERALS)?;
    let distance = Code::read(bits, DISTANCES)?;
    let mut pixels: Vec<u32> = Vec::with_capacity(width * height);
    while pixels.len() < width * height {
        let start = pixels.len();
        match usize::from(green.symbol(bits)?) {
            g @ ..LITERALS => {
                let (r, b) = (red.symbol(bits)?, blue.symbol(bits)?);
                let a = alpha.symbol(bits)?;
                pixels.push(u32::from(a) << 24 | u32::from(r) << 16 | (g as u32) << 8 | u32::from(b));
            }
            symbol if symbol < LITERALS + LENGTHS => {
                let length = number(bits, (symbol - LITERALS) as u32)? as usize;
                let code = u32::from(distance.symbol(bits)?);
                let back = back(number(bits, code)?, width);
                if back > start || length > width * height - start {
                    return None;
                }
                for index in start..start + length {
                    pixels.push(pixels[index - back]);
                }
            }
            symbol => pixels.push(*cache.get(symbol - LITERALS - LENGTHS)?),
        }
        if cache_bits > 0 {
            for &pixel in &pixels[start..] {
                cache[(0x1e35_a7bd_u32.wrapping_mul(pixel) >> (32 - cache_bits)) as usize] = pixel;
            }
        }
    }
    Some(pixels)
}

/// A length or a distance, from its prefix and the bits that follow.
fn number(bits: &mut Bits<'_>, prefix: u32) -> Option<u32> {
    if prefix < 4 {
        return Some(prefix + 1);
    }
    let extra = (prefix - 2) >> 1;
    Some(((2 + (prefix & 1)) << extra) + bits.take(extra)? + 1)
}

/// How many pixels back a distance leads.
fn back(distance: u32, width: usize) -> usize {
    match NEARBY.get(distance as usize - 1) {
        Some((left, up)) => usize::try_from(left + up * width as i32).unwrap_or(0).max(1),
        None => distance as usize - NEARBY.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_nearby_pixels_are_numbers() {
        let mut none = Bits { data: &[], at: 0 };
        assert_eq!(
            [0, 1, 2, 3].map(|prefix| number(&mut none, prefix)),
            [Some(1), Some(2), Some(3), Some(4)]
        );
        assert_eq!(number(&mut Bits { data: &[1], at: 0 }, 4), Some(6));
        assert_eq!([1, 2, 3, 4, 121].map(|distance| back(distance, 10)), [10, 1, 11, 9, 1]);
    }
}
