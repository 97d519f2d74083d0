//! Planes made smaller by the means of boxes, whose sides are powers of two: exact sums, rounded to nearest.
//!
//! Boxes that reach beyond the right or lower edge are the means of what there is.

use multiversion::multiversion;

/// The longest side of a box: a column of it adds up in 16 bits.
pub const MAX_FACTOR: usize = 256;

/// The largest side of a box, at most `most`, of which `length` pixels are at least `least`.
pub fn factor(length: f64, least: f64, most: usize) -> usize {
    let mut factor = 1;
    while factor < most && length >= least * (2 * factor) as f64 {
        factor *= 2;
    }
    factor
}

/// The sums of one row of boxes.
#[derive(Default)]
pub struct Boxes {
    columns: Vec<u16>,
    halves: Vec<u32>,
    quarters: Vec<u32>,
}

impl Boxes {
    /// Begins with the first row of a row of boxes that are `across` pixels wide.
    #[inline(always)]
    pub fn begin(&mut self, row: &[u8], across: usize) {
        self.columns.resize(row.len().next_multiple_of(across), 0);
        self.columns[row.len()..].fill(0);
        for (sum, &value) in self.columns.iter_mut().zip(row) {
            *sum = u16::from(value);
        }
    }

    #[inline(always)]
    pub fn add(&mut self, row: &[u8]) {
        for (sum, &value) in self.columns.iter_mut().zip(row) {
            *sum = sum.wrapping_add(u16::from(value));
        }
    }

    /// Writes the means, of `width` pixels in `rows` rows.
    #[inline(always)]
    pub fn means(&mut self, width: usize, across: usize, rows: usize, out: &mut [u8]) {
        let Boxes { columns, halves, quarters } = self;
        halves.clear();
        if across == 1 {
            halves.extend(columns.iter().map(|&sum| u32::from(sum)));
        } else {
            halves.extend(columns.as_chunks::<2>().0.iter().map(|[a, b]| u32::from(*a) + u32::from(*b)));
        }
        let mut side = 2;
        while side < across {
            quarters.clear();
            quarters.extend(halves.as_chunks::<2>().0.iter().map(|[a, b]| a + b));
            std::mem::swap(halves, quarters);
            side *= 2;
        }
        let area = (across * rows) as u32;
        if area.is_power_of_two() {
            let shift = area.trailing_zeros();
            for (out, sum) in out.iter_mut().zip(halves.iter()) {
                *out = ((sum + area / 2) >> shift) as u8;
            }
        } else {
            mean(halves, area, out);
        }
        let rest = width % across;
        if let (true, Some(last), Some(out)) = (rest > 0, halves.last(), out.last_mut()) {
            mean(&[*last], (rest * rows) as u32, std::slice::from_mut(out));
        }
    }
}

#[inline(always)]
fn mean(sums: &[u32], area: u32, out: &mut [u8]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = ((sum + area / 2) / area).min(255) as u8;
    }
}

/// Shrinks a plane of the given width by boxes of `factors` (across, down). Fills as many rows as `out` has room for.
#[multiversion(targets("x86_64+avx2", "x86_64+ssse3"))]
pub fn shrink(plane: &[u8], width: usize, factors: (usize, usize), boxes: &mut Boxes, out: &mut [u8]) {
    let (across, down) = factors;
    let strips = plane.chunks(width * down);
    for (strip, out) in strips.zip(out.chunks_exact_mut(width.div_ceil(across))) {
        let mut rows = strip.chunks_exact(width);
        if let Some(first) = rows.next() {
            boxes.begin(first, across);
        }
        rows.for_each(|row| boxes.add(row));
        boxes.means(width, across, strip.len() / width, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_the_rounded_mean_of_the_pixels_that_it_has() {
        let (width, height) = (37_usize, 21_usize);
        let plane: Vec<u8> = (0..width * height).map(|i| (i * 7919 % 256) as u8).collect();
        for factors in [(1, 1), (2, 2), (8, 4), (1, 16), (64, 1), (256, 256)] {
            let (columns, rows) = (width.div_ceil(factors.0), height.div_ceil(factors.1));
            let mut out = vec![0; columns * rows];
            shrink(&plane, width, factors, &mut Boxes::default(), &mut out);
            for (at, &found) in out.iter().enumerate() {
                let (x, y) = (at % columns * factors.0, at / columns * factors.1);
                let inside: Vec<u32> = (y..(y + factors.1).min(height))
                    .flat_map(|y| (x..(x + factors.0).min(width)).map(move |x| (x, y)))
                    .map(|(x, y)| u32::from(plane[y * width + x]))
                    .collect();
                let area = inside.len() as u32;
                assert_eq!(u32::from(found), (inside.iter().sum::<u32>() + area / 2) / area, "{factors:?}");
            }
        }
    }

    #[test]
    fn white_stays_white_in_the_largest_boxes() {
        let mut out = [0; 9];
        shrink(&vec![255; 600 * 600], 600, (MAX_FACTOR, MAX_FACTOR), &mut Boxes::default(), &mut out);
        assert_eq!(out, [255; 9]);
    }

    #[test]
    fn a_factor_leaves_at_least_what_is_asked_for() {
        assert_eq!([511.0, 1023.0, 1024.0, 5000.0].map(|l| factor(l, 512.0, MAX_FACTOR)), [1, 1, 2, 8]);
        assert_eq!(factor(1e6, 1.0, MAX_FACTOR), MAX_FACTOR);
    }
}
