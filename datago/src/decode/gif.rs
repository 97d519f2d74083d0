//! GIF: the first frame, composed onto the canvas.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Format, Header, Limits, le16};
use crate::picture::{Layout, Picture};
use crate::reason::{Failure, Verdict};

pub fn probe(data: &[u8]) -> Verdict<Header> {
    let (Some(width), Some(height)) = (le16(data, 6), le16(data, 8)) else {
        return Err(Failure::truncated("The data ends within the GIF header."));
    };
    let (width, height) = (u32::from(width), u32::from(height));
    Ok(Header { format: Format::Gif, width, height, mode: "P", orientation: 1 })
}

pub fn decode(data: &[u8], header: &Header, limits: Limits) -> Verdict<Picture> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.allow_unknown_blocks(true);
    options.check_frame_consistency(true);
    let bytes = NonZeroU64::new(limits.max_pixels.saturating_mul(4)).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(MemoryLimit::Bytes(bytes));
    let mut decoder = options.read_info(data).map_err(verdict)?;
    let frame = decoder.read_next_frame().map_err(verdict)?;
    let frame = frame.ok_or_else(|| Failure::corrupt("The GIF has no frame."))?;

    let (width, left, top) = (header.width as usize, usize::from(frame.left), usize::from(frame.top));
    let frame_width = usize::from(frame.width);
    if frame_width == width && left == 0 && top == 0 && u32::from(frame.height) == header.height {
        return Ok(Picture::new(header.width, header.height, Layout::Rgba, frame.buffer.to_vec()));
    }
    let mut canvas = vec![0; width * header.height as usize * 4];
    for (row, line) in frame.buffer.chunks_exact(frame_width.max(1) * 4).enumerate() {
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
