//! Turning and mirroring by the EXIF orientation.

use crate::picture::Picture;
use crate::spare;

/// Whether the orientation exchanges width and height.
pub fn swaps_sides(orientation: u8) -> bool {
    orientation >= 5
}

/// Width and height as displayed.
pub fn displayed(width: u32, height: u32, orientation: u8) -> (u32, u32) {
    if swaps_sides(orientation) { (height, width) } else { (width, height) }
}

/// The picture as it is meant to be seen. Orientation 1 costs nothing.
pub fn upright(mut picture: Picture, orientation: u8) -> Picture {
    if !(2..=8).contains(&orientation) {
        return picture;
    }
    if !swaps_sides(orientation) {
        match picture.channels {
            3 => mirror::<3>(&mut picture, orientation),
            _ => mirror::<4>(&mut picture, orientation),
        }
        return picture;
    }
    let (width, height) = displayed(picture.width, picture.height, orientation);
    let mut pixels = spare::take(picture.pixels.len());
    let stored = (picture.width as usize, picture.height as usize);
    match picture.channels {
        3 => turn::<3>(&picture.pixels, stored, orientation, &mut pixels),
        _ => turn::<4>(&picture.pixels, stored, orientation, &mut pixels),
    }
    spare::give(picture.pixels);
    Picture { width, height, channels: picture.channels, pixels }
}

/// Orientations 2 to 4, in place.
fn mirror<const N: usize>(picture: &mut Picture, orientation: u8) {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (pixels, _) = picture.pixels.as_chunks_mut::<N>();
    match orientation {
        2 => pixels.chunks_exact_mut(width).for_each(<[_]>::reverse),
        3 => pixels.reverse(),
        _ => {
            let (upper, lower) = pixels.split_at_mut(height / 2 * width);
            let below = lower.chunks_exact_mut(width).rev();
            upper.chunks_exact_mut(width).zip(below).for_each(|(a, b)| a.swap_with_slice(b));
        }
    }
}

/// Turns pixels of `N` bytes, `w` by `h` of them, into `out`. Orientations but 2 to 8 are not for it.
pub fn turn<const N: usize>(pixels: &[u8], (w, h): (usize, usize), orientation: u8, out: &mut [u8]) {
    let (width, height) = if swaps_sides(orientation) { (h, w) } else { (w, h) };
    let (from, _) = pixels.as_chunks::<N>();
    let (to, _) = out.as_chunks_mut::<N>();
    // Square blocks, so that a transposition stays within the cache.
    const BLOCK: usize = 64;
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            for y in top..(top + BLOCK).min(height) {
                for x in left..(left + BLOCK).min(width) {
                    let (sx, sy) = match orientation {
                        2 => (w - 1 - x, y),
                        3 => (w - 1 - x, h - 1 - y),
                        4 => (x, h - 1 - y),
                        5 => (y, x),
                        6 => (y, h - 1 - x),
                        7 => (w - 1 - y, h - 1 - x),
                        _ => (w - 1 - y, x),
                    };
                    to[y * width + x] = from[sy * w + sx];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Layout;

    #[test]
    fn a_quarter_turn_moves_the_first_row_to_the_last_column() {
        let picture = Picture::new(2, 1, Layout::Grey, vec![10, 20]);
        let turned = upright(picture, 6);
        assert_eq!((turned.width, turned.height), (1, 2));
        assert_eq!(turned.pixels, [10, 10, 10, 20, 20, 20]);
    }

    #[test]
    fn mirrors_work_in_place_whether_rows_are_even_or_odd() {
        let rows: Vec<u8> = (1..=6).collect();
        let first = |orientation| -> Vec<u8> {
            let turned = upright(Picture::new(2, 3, Layout::Grey, rows.clone()), orientation);
            turned.pixels.chunks_exact(3).map(|p| p[0]).collect()
        };
        assert_eq!(first(2), [2, 1, 4, 3, 6, 5]);
        assert_eq!(first(3), [6, 5, 4, 3, 2, 1]);
        assert_eq!(first(4), [5, 6, 3, 4, 1, 2]);
    }
}
