//! From bytes to pixels: recognise the format, read the header, check the caps, and only then decode.

mod baseline;
mod bmp;
mod bmp_plain;
pub mod cost;
mod gif;
pub mod jpeg;
mod jpeg_cost;
mod jpeg_segments;
mod meter;
pub mod png;
mod tiff;
mod tiff_jpeg;
mod webp;
#[cfg(not(fuzzing))]
mod webp_codes;
#[cfg(fuzzing)]
pub mod webp_codes;

pub use self::cost::Cost;
use crate::picture::Picture;
use crate::reason::{Failure, Reason, Verdict};
use crate::stage::{Stage, timed};

/// Caps applied before anything is allocated. Those on memory and work are fixed: see [`cost`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_bytes: u64,
    pub max_pixels: u64,
}

impl Limits {
    pub fn new(max_bytes: u64, max_pixels: u64) -> Self {
        Limits { max_bytes, max_pixels }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Webp => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
        }
    }
}

/// What the header says, before any pixel is decoded. Width and height are as stored, not as displayed.
#[derive(Clone, Debug)]
pub struct Header {
    pub format: Format,
    pub width: u32,
    pub height: u32,
    /// Pillow's name for the kind of pixel.
    pub mode: &'static str,
    pub orientation: u8,
    pub cost: Cost,
}

/// Starts of formats we know and do not decode, with the offset where they stand.
const UNSUPPORTED: &[(usize, &[u8], &str)] = &[
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIF"),
    (4, b"ftyphev", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\x01\0", "icon"),
    (0, b"qoif", "QOI"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"DDS ", "DDS"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"P3\n", "PNM"),
    (0, b"P5\n", "PNM"),
    (0, b"P6\n", "PNM"),
    (0, b"<svg", "SVG"),
];

const MAGICS: &[(&[u8], Format)] = &[
    (b"\xff\xd8\xff", Format::Jpeg),
    (b"\x89PNG\r\n\x1a\n", Format::Png),
    (b"GIF87a", Format::Gif),
    (b"GIF89a", Format::Gif),
    (b"II*\0", Format::Tiff),
    (b"MM\0*", Format::Tiff),
    (b"II+\0", Format::Tiff),
    (b"MM\0+", Format::Tiff),
];

/// Recognises the format by its first bytes, never by a name.
pub fn recognise(data: &[u8]) -> Verdict<Format> {
    if data.is_empty() {
        return Err(Failure::new(Reason::Empty, "There are no bytes."));
    }
    for (magic, format) in MAGICS {
        if data.starts_with(magic) {
            return Ok(*format);
        }
        if data.len() >= 2 && magic.starts_with(data) {
            let name = format.name();
            return Err(Failure::truncated(format!(
                "Only the first {} bytes of a {name} are here.",
                data.len()
            )));
        }
    }
    if data.starts_with(b"RIFF") {
        if data.len() < 12 {
            return Err(Failure::truncated("The data ends within the first header."));
        }
        if &data[8..12] == b"WEBP" {
            return Ok(Format::Webp);
        }
    }
    if bmp::recognise(data) {
        return Ok(Format::Bmp);
    }
    for (offset, magic, name) in UNSUPPORTED {
        if data.get(*offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(Failure::unsupported(format!(
                "{name} files are not decoded; convert to PNG, WebP or JPEG."
            )));
        }
    }
    Err(Failure::new(Reason::NotAnImage, "The first bytes are of no picture format known here."))
}

/// Reads the header. Allocates nothing in proportion to what the header claims.
pub fn probe(data: &[u8], format: Format) -> Verdict<Header> {
    let header = match format {
        Format::Jpeg => jpeg::probe(data),
        Format::Png => png::probe(data),
        Format::Webp => webp::probe(data),
        Format::Gif => gif::probe(data),
        Format::Bmp => bmp::probe(data),
        Format::Tiff => tiff::probe(data),
    }?;
    if header.width == 0 || header.height == 0 {
        return Err(Failure::corrupt("The header claims a picture without area."));
    }
    Ok(header)
}

/// The header of a picture of any format.
pub fn header(data: &[u8]) -> Verdict<Header> {
    probe(data, recognise(data)?)
}

/// Refuses what the caps refuse, from the header alone.
pub fn check(header: &Header, limits: Limits) -> Verdict<()> {
    check_sides(header.width, header.height, limits)?;
    header.cost.check()
}

/// The caps on how large a picture is.
pub fn check_sides(width: u32, height: u32, limits: Limits) -> Verdict<()> {
    let refused = |detail: String| Err(Failure::new(Reason::TooManyPixels, detail));
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return refused(format!("{width}x{height} are more than the cap of {} pixels.", limits.max_pixels));
    }
    let long = width.max(height);
    if long > cost::MAX_SIDE {
        return refused(format!("A side of {long} pixels is more than the cap of {}.", cost::MAX_SIDE));
    }
    Ok(())
}

/// Decodes the first frame, not yet turned upright. `target` is the smallest (width, height), as stored, that the
/// caller needs: a JPEG may then come back smaller than its header says, never smaller than the target.
pub fn decode(data: &[u8], header: &Header, limits: Limits, target: Option<(u32, u32)>) -> Verdict<Picture> {
    check(header, limits)?;
    timed(Stage::Decode, || match header.format {
        Format::Jpeg => jpeg::decode(data, header, target),
        Format::Png => png::decode(data, header),
        Format::Webp => webp::decode(data, header, limits),
        Format::Gif => gif::decode(data, header, limits),
        Format::Bmp => bmp::decode(data, header),
        Format::Tiff => tiff::decode(data, header),
    })
}

/// `bytes` big-endian at `at`, or `None` past the end.
fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

fn le16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk::<2>().map(|b| u16::from_le_bytes(*b))
}

fn le32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}
