//! GIF: the first frame, composed onto the canvas.

use std::cell::Cell;
use std::io::Read;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::meter::Meter;
use super::{Cost, Format, Header, Limits, cost, le16};
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

/// The signature and the description of the canvas.
const HEAD: usize = 13;
/// A graphic control extension, which says what is transparent.
const CONTROL: usize = 8;
/// Work for a pixel of the frame or the canvas, and for a byte of compressed data.
const WORK: u64 = 2;
const WORK_BYTE: u64 = 45;

/// Where the first frame stands.
struct Frame {
    at: usize,
    /// Its own graphic control, if it has one.
    control: Option<usize>,
    pixels: u64,
}

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let (Some(width), Some(height)) = (le16(data, 6), le16(data, 8)) else {
        return Err(Failure::truncated("The data ends within the GIF header."));
    };
    let (width, height) = (u32::from(width), u32::from(height));
    let pixels = cost::area(width, height);
    let frame = first(data)?.pixels;
    let decoding = pixels * 4 + frame * 5;
    let cost = Cost::new(
        data.len(),
        pixels,
        true,
        1,
        decoding,
        (pixels + frame) * WORK + most(frame).min(data.len() as u64) * WORK_BYTE,
    );
    Ok(Header { format: Format::Gif, width, height, mode: "P", orientation: 1, cost })
}

/// Most bytes that are read of a frame. A pixel takes at most twelve bits, and emptying the table some more.
fn most(frame: u64) -> u64 {
    frame.saturating_mul(3) / 2 + (1 << 20)
}

fn global_palette(data: &[u8]) -> usize {
    let flags = data.get(10).copied().unwrap_or(0);
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Steps over whatever stands before the first frame: there may be millions of extensions.
fn first(data: &[u8]) -> Verdict<Frame> {
    let ends = || Failure::truncated("The data ends before the first frame does.");
    let mut at = HEAD + global_palette(data);
    let mut control = None;
    loop {
        at = match data.get(at).ok_or_else(ends)? {
            b',' => break,
            b';' => return Err(Failure::corrupt("The GIF has no frame.")),
            b'!' => {
                if data.get(at + 1) == Some(&0xf9) {
                    let block = data.get(at..at + CONTROL).ok_or_else(ends)?;
                    if (block[2], block[CONTROL - 1]) != (4, 0) {
                        return Err(Failure::corrupt("A GIF graphic control has the wrong length."));
                    }
                    control = Some(at);
                }
                at + 2
            }
            // Of an unknown kind of block the first byte is taken for a length, as decoders do.
            _ => at,
        };
        loop {
            let length = usize::from(*data.get(at).ok_or_else(ends)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
    let (Some(width), Some(height)) = (le16(data, at + 5), le16(data, at + 7)) else {
        return Err(ends());
    };
    Ok(Frame { at, control, pixels: u64::from(width) * u64::from(height) })
}

pub fn decode(data: &[u8], header: &Header, limits: Limits) -> Verdict<Picture> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    let bytes = NonZeroU64::new(limits.max_pixels.saturating_mul(4)).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(MemoryLimit::Bytes(bytes));
    // The decoder gets the head, the frame's control and the frame.
    let found = first(data)?;
    let head = data.get(..HEAD + global_palette(data)).unwrap_or(data);
    let control = found.control.and_then(|at| data.get(at..at + CONTROL)).unwrap_or_default();
    let taken = Cell::new(0);
    let frame =
        Meter::new(&data[found.at..], usize::try_from(most(found.pixels)).unwrap_or(usize::MAX), &taken);
    let whole = head.chain(control).chain(frame);
    let mut decoder = options.read_info(whole).map_err(verdict)?;
    let frame = decoder.next_frame_info().map_err(verdict)?;
    let frame = frame.ok_or_else(|| Failure::corrupt("The GIF has no frame."))?;

    let (width, left, top) = (header.width as usize, usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let mut canvas = vec![0; width * header.height as usize * 4];
    if (frame_width, frame_height) == (width, header.height as usize) && (left, top) == (0, 0) {
        decoder.read_into_buffer(&mut canvas).map_err(verdict)?;
        return Ok(Picture::new(header.width, header.height, Layout::Rgba, canvas));
    }
    let mut pixels = vec![0; frame_width * frame_height * 4];
    if pixels.is_empty() {
        return Err(Failure::corrupt("The first GIF frame has no area."));
    }
    decoder.read_into_buffer(&mut pixels).map_err(verdict)?;
    for (row, line) in pixels.chunks_exact(frame_width * 4).enumerate() {
        let start = ((top + row) * width + left) * 4;
        if let Some(place) = canvas.get_mut(start..start + line.len()) {
            place.copy_from_slice(line);
        }
    }
    Ok(Picture::new(header.width, header.height, Layout::Rgba, canvas))
}

fn verdict(cause: DecodingError) -> Failure {
    match cause {
        DecodingError::Io(cause) => Failure::from_decoder_io(&cause),
        other => {
            let text = other.to_string();
            // The GIF decoder has no variant for an early end, only words.
            if text.to_lowercase().contains("unexpected end of file") {
                return Failure::truncated("The data ends before the first frame does.");
            }
            Failure::corrupt(format!("The GIF data is damaged ({text})."))
        }
    }
}
