//! JPEG: markers by hand (size, orientation), pixels by libjpeg-turbo.

use std::cell::RefCell;

use turbojpeg::{
    Colorspace, DecompressHeader, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp, YuvImage,
    yuv_pixels_len,
};

use super::baseline::Baseline;
use super::jpeg_cost::{Frame, MAX_SCANS};
use super::jpeg_segments::{Segment, Segments};
use super::{Cost, Format, Header, be16};
use crate::exif;
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};
use crate::spare;
use crate::ycc::{Extent, Planes};

thread_local! { static DECODER: RefCell<Option<Decompressor>> = const { RefCell::new(None) }; }

/// Walks the markers up to the first scan.
pub fn probe(data: &[u8]) -> Verdict<Header> {
    let mut frame = None;
    let mut orientation = 1;
    let mut scan = 0;
    for segment in Segments::new(data) {
        let Segment { marker, body, at, .. } = segment?;
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                frame = Some((marker, body));
                if marker == 0xc3 || marker > 0xc3 && !matches!(marker, 0xc9 | 0xca) {
                    return Err(Failure::unsupported("Lossless and hierarchical JPEGs are not decoded."));
                }
            }
            0xe1 if body.starts_with(b"Exif\0\0") => orientation = exif::orientation(body),
            0xda => scan = at,
            _ => {}
        }
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
    let cost = Frame::read(marker, frame, width, height)?.cost(data, scan, &header)?;
    Ok(Header { cost, ..header })
}

/// Whether the decoder makes RGB of it (of grey, three equal channels), and not inks.
pub fn is_rgb(header: &Header) -> bool {
    header.format == Format::Jpeg && header.mode != "CMYK"
}

pub fn decode(data: &[u8], header: &Header, target: Option<(u32, u32)>) -> Verdict<Picture> {
    if target.is_none() && is_rgb(header) {
        let mut pixels = spare::take(header.width as usize * header.height as usize * 3);
        decode_into(data, header, &mut pixels)?;
        return Ok(Picture::new(header.width, header.height, Layout::Rgb, pixels));
    }
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
    let (format, layout) = match header.mode {
        "L" => (PixelFormat::GRAY, Layout::Grey),
        "RGB" => (PixelFormat::RGB, Layout::Rgb),
        _ => (PixelFormat::CMYK, inks),
    };
    let scale = fraction(header, target);
    let (width, height) = (scale.scale(header.width as usize), scale.scale(header.height as usize));
    // Not cleared: a decoder that succeeds has written every byte.
    let mut pixels = spare::take(width * height * format.size());
    unpack(data, header, scale, format, &mut pixels)?;
    Ok(Picture::new(width as u32, height as u32, layout, pixels))
}

/// Decodes at full size, as RGB, into `out`, which holds exactly the picture's pixels as stored.
pub fn decode_into(data: &[u8], header: &Header, out: &mut [u8]) -> Verdict<()> {
    if baseline(data, header).is_some_and(|found| found.rgb(data, out).is_some()) {
        return Ok(());
    }
    unpack(data, header, ScalingFactor::ONE, PixelFormat::RGB, out)
}

/// What we decode ourselves.
fn baseline(data: &[u8], header: &Header) -> Option<Baseline> {
    let size = (header.width as usize, header.height as usize);
    Baseline::read(data).filter(|found| (found.width, found.height) == size)
}

fn unpack(
    data: &[u8],
    header: &Header,
    scale: ScalingFactor,
    format: PixelFormat,
    pixels: &mut [u8],
) -> Verdict<()> {
    with_decoder(data, header, scale, |decoder, found| {
        let pitch = found.width * format.size();
        let image = Image { pixels, width: found.width, pitch, height: found.height, format };
        decoder.decompress(data, image)
    })
}

/// Decodes to the JPEG's own planes, at the smallest scale that leaves `needed`, and `needed` divided by `sparse` of colour, into
/// `buffer`. `None` for a JPEG that has no luma, or colour in an unusual arrangement.
pub fn planes<'a>(
    data: &[u8],
    header: &Header,
    needed: (u32, u32),
    sparse: u32,
    buffer: &'a mut Vec<u8>,
) -> Verdict<Option<Planes<'a>>> {
    if let Some(found) = baseline(data, header) {
        let less = (needed.0.div_ceil(sparse), needed.1.div_ceil(sparse));
        let needs = [needed, less, less];
        let extents: Vec<Extent> = (0..found.components()).map(|i| found.extent(i, needs[i])).collect();
        let length = extents.iter().map(Extent::bytes).sum();
        grow(buffer, length);
        if found.planes(data, &extents, &mut buffer[..length]).is_some() {
            return Ok(Some(Planes { values: &buffer[..length], extents }));
        }
    }
    planes_by_turbo(data, header, needed, sparse == 1, buffer)
}

fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// All planes at one scale; with `full_colour` only where that leaves sparse colour with at least three quarters of `needed`: the
/// way to RGB decodes it at twice the scale of luma, and loses nothing.
fn planes_by_turbo<'a>(
    data: &[u8],
    header: &Header,
    needed: (u32, u32),
    full_colour: bool,
    buffer: &'a mut Vec<u8>,
) -> Verdict<Option<Planes<'a>>> {
    let scale = fraction(header, Some(needed));
    let mut size = None;
    with_decoder(data, header, scale, |decoder, found| {
        let block = match (found.colorspace, found.subsamp) {
            (Colorspace::Gray, Subsamp::Gray) => None,
            (
                Colorspace::YCbCr,
                Subsamp::None | Subsamp::Sub2x1 | Subsamp::Sub2x2 | Subsamp::Sub1x2 | Subsamp::Sub4x1,
            ) if !full_colour || scale == ScalingFactor::ONE || enough(found, needed) => {
                Some(found.subsamp.size())
            }
            _ => return Ok(()),
        };
        let (width, height, subsamp) = (found.width, found.height, found.subsamp);
        let length = yuv_pixels_len(width, 1, height, subsamp)?;
        grow(buffer, length);
        size = Some((width, height, block, length));
        decoder.decompress_to_yuv(
            data,
            YuvImage { pixels: &mut buffer[..length], width, align: 1, height, subsamp },
        )
    })?;
    Ok(size.map(|(width, height, block, length)| {
        let (across, down) = block.unwrap_or((1, 1));
        let (stride, rows) = (width.next_multiple_of(across), height.next_multiple_of(down));
        let side = 8 * scale.num() / scale.denom();
        let extent = |width, height, across, down| {
            let part = side as f64 / 8.0;
            let scale = (part / across as f64, part / down as f64);
            Extent { side, width, height, stride: stride / across, rows: rows / down, scale }
        };
        let colour = || extent(stride / across, rows / down, across, down);
        let mut extents = vec![extent(width, height, 1, 1)];
        extents.extend(block.iter().flat_map(|_| [colour(), colour()]));
        Planes { values: &buffer[..length], extents }
    }))
}

/// Whether colour at the scale of `found` has three quarters of `needed` in both directions.
fn enough(found: &DecompressHeader, needed: (u32, u32)) -> bool {
    let (across, down) = found.subsamp.size();
    let has = |side: usize, block: usize, needed: u32| 4 * (side / block) >= 3 * needed as usize;
    has(found.width, across, needed.0) && has(found.height, down, needed.1)
}

/// Lends the thread's decoder. `work` gets the header as the decoder reads it, at the chosen scale.
fn with_decoder(
    data: &[u8],
    header: &Header,
    scale: ScalingFactor,
    work: impl FnOnce(&mut Decompressor, &DecompressHeader) -> turbojpeg::Result<()>,
) -> Verdict<()> {
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
        decoder.set_scaling_factor(scale).map_err(|e| verdict(data, &e))?;
        let found = decoder.read_header(data).map_err(|e| verdict(data, &e))?;
        if (found.width, found.height) != (header.width as usize, header.height as usize) {
            return Err(Failure::corrupt("The JPEG has two frame headers that disagree."));
        }
        if let Err(cause) = work(&mut decoder, &found.scaled(scale))
            && !only_padding(&cause)
        {
            return Err(verdict(data, &cause));
        }
        *slot.borrow_mut() = Some(decoder);
        Ok(())
    })
}

/// The strongest of 1/8, 1/4, 1/2 that leaves at least the target. The others have no fast inverse transform.
fn fraction(header: &Header, target: Option<(u32, u32)>) -> ScalingFactor {
    let Some((width, height)) = target else {
        return ScalingFactor::ONE;
    };
    [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF]
        .into_iter()
        .find(|f| {
            f.scale(header.width as usize) >= width as usize
                && f.scale(header.height as usize) >= height as usize
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
