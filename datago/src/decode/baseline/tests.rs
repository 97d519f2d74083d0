//! Our pixels are libjpeg-turbo's.

use turbojpeg::{
    Compressor, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp, YuvImage, yuv_pixels_len,
};

use super::Baseline;
use crate::idct::{Two, pair};
use crate::ycc::Extent;

const KINDS: [Subsamp; 6] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Sub4x1, Subsamp::Gray];

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Stripes, and noise of some strength.
fn jpeg(width: usize, height: usize, noise: u64, quality: i32, kind: Subsamp) -> Vec<u8> {
    let mut dice = Dice(noise);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for at in 0..width * height {
        let (x, y) = (at % width, at / width);
        for channel in 0..3 {
            let stripe = (3 * x + 5 * y * channel) % 256;
            pixels.push((stripe as u64 + dice.roll() % (noise + 1)).min(255) as u8);
        }
    }
    let mut compressor = Compressor::new().expect("a compressor");
    compressor.set_quality(quality).expect("a quality");
    compressor.set_subsamp(kind).expect("a subsampling");
    compressor.set_optimize(quality % 2 == 0).expect("a choice");
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(image).expect("a file")
}

#[test]
fn rgb_is_that_of_libjpeg_turbo_whatever_the_size_and_the_colour() {
    for kind in KINDS {
        for (width, height) in [(16, 1), (17, 16), (31, 33), (64, 64), (130, 47)] {
            for (noise, quality) in [(0, 50), (40, 90), (255, 99), (255, 100)] {
                let file = jpeg(width, height, noise, quality, kind);
                let found = Baseline::read(&file).expect("one of ours");
                let (mut ours, mut theirs) = (vec![1; width * height * 3], vec![2; width * height * 3]);
                found.rgb(&file, &mut ours).expect("whole");
                let pixels = &mut theirs[..];
                let format = PixelFormat::RGB;
                let image = Image { pixels, width, pitch: 3 * width, height, format };
                Decompressor::new().and_then(|mut d| d.decompress(&file, image)).expect("decoded");
                assert_eq!(ours, theirs, "{kind:?} {width}x{height} noise {noise} quality {quality}");
            }
        }
    }
}

#[test]
fn reduced_planes_are_those_of_libjpeg_turbo() {
    let (width, height) = (150, 83);
    for kind in KINDS {
        for (side, scale) in
            [(1, ScalingFactor::ONE_EIGHTH), (2, ScalingFactor::ONE_QUARTER), (4, ScalingFactor::ONE_HALF)]
        {
            let file = jpeg(width, height, 60, 91, kind);
            let found = Baseline::read(&file).expect("one of ours");
            let (scaled, tall) = (scale.scale(width), scale.scale(height));
            let needed = (scaled as u32, tall as u32);
            let (across, down) = if kind == Subsamp::Gray { (1, 1) } else { kind.size() };
            let less = (needed.0.div_ceil(across as u32), needed.1.div_ceil(down as u32));
            let extents: Vec<Extent> = [needed, less, less]
                .into_iter()
                .enumerate()
                .take(found.components())
                .map(|(index, needed)| found.extent(index, needed))
                .collect();
            assert!(extents.iter().all(|e| e.side == side), "{kind:?}");
            let mut ours = vec![1; extents.iter().map(Extent::bytes).sum()];
            found.planes(&file, &extents, &mut ours).expect("whole");

            let length = yuv_pixels_len(scaled, 1, tall, kind).expect("a length");
            let mut theirs = vec![2; length];
            let mut decoder = Decompressor::new().expect("a decoder");
            decoder.set_scaling_factor(scale).expect("a scale");
            let pixels = &mut theirs[..];
            let image = YuvImage { pixels, width: scaled, align: 1, height: tall, subsamp: kind };
            decoder.decompress_to_yuv(&file, image).expect("decoded");

            let (mut ours, mut theirs) = (&ours[..], &theirs[..]);
            for (index, extent) in extents.iter().enumerate() {
                let (across, down) = if index == 0 { (1, 1) } else { (across, down) };
                let pitch =
                    scaled.next_multiple_of(if kind == Subsamp::Gray { 1 } else { kind.size().0 }) / across;
                let rows =
                    tall.next_multiple_of(if kind == Subsamp::Gray { 1 } else { kind.size().1 }) / down;
                for row in 0..extent.height {
                    let (a, b) = (&ours[row * extent.stride..], &theirs[row * pitch..]);
                    assert_eq!(
                        a[..extent.width],
                        b[..extent.width],
                        "{kind:?} {side} plane {index} row {row}"
                    );
                }
                (ours, theirs) = (&ours[extent.bytes()..], &theirs[pitch * rows..]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_machine_makes_the_same_pixels_of_any_coefficients() {
    let Some(wide) = crate::wide::Wide::here() else { return };
    let mut dice = Dice(7);
    for round in 0..4000 {
        // From what pictures have to what only an attack has.
        let reach = [3, 40, 300, 2000, 65_536][round % 5];
        let mut some = |reach: u64| -> Two<i16> {
            std::array::from_fn(|_| {
                std::array::from_fn(|_| match dice.roll() % 3 {
                    0 => (dice.roll() % reach) as i64 - reach as i64 / 2,
                    _ => 0,
                })
                .map(|value| value as i16)
            })
        };
        let (coefficients, factors) = (some(reach), some(500));
        for side in [8, 4, 2, 1] {
            let (ours, theirs) =
                (pair(side, &coefficients, &factors), wide.pair(side, &coefficients, &factors));
            let mask = if side == 8 { u64::MAX } else { (1 << (8 * side)) - 1 };
            for (a, b) in ours.iter().zip(&theirs) {
                for row in 0..side {
                    assert_eq!(a[row] & mask, b[row] & mask, "side {side} in round {round}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_whole_is_left_to_others() {
    let file = jpeg(64, 64, 80, 90, Subsamp::Sub2x2);
    let found = Baseline::read(&file).expect("one of ours");
    let mut out = vec![0; 64 * 64 * 3];
    assert!(found.rgb(&file, &mut out).is_some());
    for end in found.at..file.len() - 1 {
        assert!(found.rgb(&file[..end], &mut out).is_none(), "cut at {end}");
    }
    let mut padded = file[..file.len() - 2].to_vec();
    padded.extend_from_slice(&[0x55, 0x55, 0xff, 0xd9]);
    assert!(found.rgb(&padded, &mut out).is_some());
    assert!((2..found.at).all(|end| Baseline::read(&file[..end]).is_none()));
}
