//! Decoded pixels, and the conversions from what decoders give to 8-bit RGB or RGBA.

/// 8-bit interleaved pixels, three (RGB) or four (RGBA, straight alpha) channels.
/// Four channels only if some pixel is not opaque.
#[derive(Clone, Debug)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

/// How a decoder's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
    /// Ink amounts, 0 = none. Adobe JPEGs store the inverse.
    Cmyk {
        inverted: bool,
    },
}

impl Layout {
    pub fn channels(self) -> usize {
        match self {
            Layout::Grey => 1,
            Layout::GreyAlpha => 2,
            Layout::Rgb => 3,
            Layout::Rgba | Layout::Cmyk { .. } => 4,
        }
    }
}

impl Picture {
    /// Takes a decoder's bytes. Fully opaque alpha is dropped, so that the same picture saved with and
    /// without a redundant alpha channel has one pixel digest.
    pub fn new(width: u32, height: u32, layout: Layout, data: Vec<u8>) -> Self {
        let (channels, pixels) = match layout {
            Layout::Rgb => (3, data),
            Layout::Grey => (3, data.iter().flat_map(|&v| [v, v, v]).collect()),
            Layout::Rgba => match data.chunks_exact(4).all(|p| p[3] == 255) {
                true => (3, shrunk(data, |p| [p[0], p[1], p[2]])),
                false => (4, data),
            },
            Layout::GreyAlpha => match data.chunks_exact(2).all(|p| p[1] == 255) {
                true => (3, data.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0]]).collect()),
                false => (4, data.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect()),
            },
            Layout::Cmyk { inverted } => (3, cmyk_to_rgb(data, inverted)),
        };
        Picture { width, height, channels, pixels }
    }

    pub fn has_alpha(&self) -> bool {
        self.channels == 4
    }

    /// The picture over white, three channels.
    pub fn flattened(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.channels == 3 {
            return std::borrow::Cow::Borrowed(&self.pixels);
        }
        let mut flat = Vec::with_capacity(self.pixels.len() / 4 * 3);
        for p in self.pixels.chunks_exact(4) {
            flat.extend(p[..3].iter().map(|&value| over_white(value, p[3])));
        }
        std::borrow::Cow::Owned(flat)
    }
}

/// A channel's value over white.
#[inline(always)]
pub fn over_white(value: u8, alpha: u8) -> u8 {
    div255(u32::from(value) * u32::from(alpha) + 255 * (255 - u32::from(alpha)))
}

/// Rounded division by 255, exact for products of two bytes.
#[inline(always)]
fn div255(value: u32) -> u8 {
    let t = value + 128;
    ((t + (t >> 8)) >> 8) as u8
}

/// The plain ink model (no colour profile), as Pillow's `convert("RGB")` does it.
fn cmyk_to_rgb(data: Vec<u8>, inverted: bool) -> Vec<u8> {
    let flip = if inverted { 255 } else { 0 };
    shrunk(data, |p| {
        let light = u32::from(255 - (p[3] ^ flip));
        [p[0], p[1], p[2]].map(|v| (light as u8).saturating_sub(div255(u32::from(v ^ flip) * light)))
    })
}

/// Four channels to three, in place: a picture at the caps leaves no room for a second one.
fn shrunk(mut data: Vec<u8>, convert: impl Fn([u8; 4]) -> [u8; 3]) -> Vec<u8> {
    let pixels = data.len() / 4;
    for index in 0..pixels {
        if let Some(&pixel) = data[index * 4..].first_chunk::<4>() {
            data[index * 3..index * 3 + 3].copy_from_slice(&convert(pixel));
        }
    }
    data.truncate(pixels * 3);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundant_alpha_is_dropped_and_real_alpha_is_kept() {
        let opaque = Picture::new(1, 1, Layout::Rgba, vec![1, 2, 3, 255]);
        assert_eq!((opaque.channels, opaque.pixels), (3, vec![1, 2, 3]));
        let clear = Picture::new(1, 1, Layout::GreyAlpha, vec![7, 0]);
        assert!(clear.has_alpha());
        assert_eq!(clear.flattened().as_ref(), [255, 255, 255]);
    }
}
