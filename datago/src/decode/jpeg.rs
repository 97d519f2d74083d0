//! JPEG: markers by hand (size, orientation), pixels by libjpeg-turbo.

use std::cell::RefCell;

use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use super::jpeg_cost::{Frame, MAX_SCANS};
use super::{Cost, Format, Header, be16};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// Decoding may stop at a fraction that still leaves this much more than the target, so that the
/// resampling filter, not the DCT, decides how the result looks.
const HEADROOM: u32 = 2;

thread_local! { static DECODER: RefCell<Option<Decompressor>> = const { RefCell::new(None) }; }

/// Walks the markers up to the first scan.
pub fn probe(data: &[u8]) -> Verdict<Header> {
    let ends = || Failure::truncated("The data ends within the JPEG header.");
    let mut at = 2;
    let mut frame = None;
    let mut orientation = 1;
    loop {
        let marker = loop {
            // Fill bytes (0xFF) may precede any marker.
            match (data.get(at), data.get(at + 1)) {
                (Some(0xff), Some(0xff)) => at += 1,
                (Some(0xff), Some(&code)) => break code,
                (Some(_), Some(_)) => {
                    return Err(Failure::corrupt("There is no JPEG marker where one must be."));
                }
                _ => return Err(ends()),
            }
        };
        at += 2;
        match marker {
            0xd8 | 0x01 | 0xd0..=0xd7 => continue,
            0xd9 => return Err(Failure::corrupt("The JPEG ends before its first scan.")),
            _ => {}
        }
        let length = usize::from(be16(data, at).ok_or_else(ends)?);
        if length < 2 {
            return Err(Failure::corrupt("A JPEG segment claims a length below two."));
        }
        let body = data.get(at + 2..at + length).ok_or_else(ends)?;
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                frame = Some((marker, body));
                if marker == 0xc3 || marker > 0xc3 && !matches!(marker, 0xc9 | 0xca) {
                    return Err(Failure::unsupported("Lossless and hierarchical JPEGs are not decoded."));
                }
            }
            0xe1 if body.starts_with(b"Exif\0\0") => orientation = exif::orientation(body),
            0xda => break,
            _ => {}
        }
        at += length;
    }
    let (marker, frame) =
        frame.ok_or_else(|| Failure::corrupt("The JPEG has a scan but no frame header."))?;
    let (Some(&depth), Some(height), Some(width), Some(&components)) =
        (frame.first(), be16(frame, 1), be16(frame, 3), frame.get(5))
    else {
        return Err(Failure::corrupt("The JPEG frame header is too short."));
    };
    if depth != 8 {
        return Err(Failure::unsupported(format!("{depth} bit JPEGs are not decoded.")));
    }
    if height == 0 {
        return Err(Failure::unsupported("JPEGs that tell their height only at the end are not decoded."));
    }
    let mode = match components {
        1 => "L",
        3 => "RGB",
        4 => "CMYK",
        n => {
            return Err(Failure::unsupported(format!("JPEGs with {n} components are not decoded.")));
        }
    };
    let cost = Cost::default();
    let (wide, high) = (u32::from(width), u32::from(height));
    let header = Header { format: Format::Jpeg, width: wide, height: high, mode, orientation, cost };
    let cost = Frame::read(marker, frame, width, height)?.cost(data, at, &header)?;
    Ok(Header { cost, ..header })
}

pub fn decode(data: &[u8], header: &Header, target: Option<(u32, u32)>) -> Verdict<Picture> {
    // Every CMYK JPEG in the wild is Adobe's, with inverted inks.
    decode_inks(data, header, target, Layout::Cmyk { inverted: true })
}

/// Decodes; four components are inks as `inks` says.
pub fn decode_inks(
    data: &[u8],
    header: &Header,
    target: Option<(u32, u32)>,
    inks: Layout,
) -> Verdict<Picture> {
    DECODER.with(|slot| {
        // After a failure the decoder is dropped rather than trusted.
        let mut decoder = match slot.borrow_mut().take() {
            Some(ready) => ready,
            None => {
                let mut new = Decompressor::new().map_err(|e| Failure::corrupt(e.to_string()))?;
                new.set_scan_limit(MAX_SCANS).map_err(|e| Failure::corrupt(e.to_string()))?;
                new
            }
        };
        let picture = decode_with(&mut decoder, data, header, target, inks)?;
        *slot.borrow_mut() = Some(decoder);
        Ok(picture)
    })
}

fn decode_with(
    decoder: &mut Decompressor,
    data: &[u8],
    header: &Header,
    target: Option<(u32, u32)>,
    inks: Layout,
) -> Verdict<Picture> {
    decoder.set_scaling_factor(fraction(header, target)).map_err(|e| verdict(data, &e))?;
    let (format, layout) = match header.mode {
        "L" => (PixelFormat::GRAY, Layout::Grey),
        "RGB" => (PixelFormat::RGB, Layout::Rgb),
        _ => (PixelFormat::CMYK, inks),
    };
    let found = decoder.read_header(data).map_err(|e| verdict(data, &e))?;
    if (found.width, found.height) != (header.width as usize, header.height as usize) {
        return Err(Failure::corrupt("The JPEG has two frame headers that disagree."));
    }
    let size = found.scaled(decoder.scaling_factor());
    let pitch = size.width * format.size();
    let mut pixels = vec![0; pitch * size.height];
    let image = Image { pixels: &mut pixels[..], width: size.width, pitch, height: size.height, format };
    if let Err(cause) = decoder.decompress(data, image)
        && !only_padding(&cause)
    {
        return Err(verdict(data, &cause));
    }
    Ok(Picture::new(size.width as u32, size.height as u32, layout, pixels))
}

/// The strongest of 1/8, 1/4, 1/2 that keeps the headroom over the target.
fn fraction(header: &Header, target: Option<(u32, u32)>) -> ScalingFactor {
    let Some((width, height)) = target else {
        return ScalingFactor::ONE;
    };
    [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF]
        .into_iter()
        .find(|f| {
            f.scale(header.width as usize) >= (width * HEADROOM) as usize
                && f.scale(header.height as usize) >= (height * HEADROOM) as usize
        })
        .unwrap_or(ScalingFactor::ONE)
}

/// libjpeg reports its *first* warning. If that one is stray bytes right before the end marker, every pixel
/// had been decoded without a warning by then: harmless padding, which real cameras write.
fn only_padding(cause: &turbojpeg::Error) -> bool {
    let text = cause.to_string();
    text.contains("extraneous bytes before marker 0xd9")
}

fn verdict(data: &[u8], cause: &turbojpeg::Error) -> Failure {
    let text = cause.to_string();
    let text = text.strip_prefix("TurboJPEG error: ").unwrap_or(&text);
    if text.contains("Premature end of JPEG") || !ends_with_marker(data) {
        return Failure::truncated(format!("The data ends before the picture does ({text})."));
    }
    if text.contains("Unsupported") || text.contains("not implemented") {
        return Failure::unsupported(format!("This kind of JPEG is not decoded ({text})."));
    }
    Failure::corrupt(format!("The JPEG data is damaged ({text})."))
}

/// Whether an end-of-image marker stands anywhere near the end; trailing bytes after it are common.
fn ends_with_marker(data: &[u8]) -> bool {
    let tail = &data[data.len().saturating_sub(1 << 16)..];
    tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}
