//! A picture made to measure: cut to the target's proportions, one Lanczos3 resample, upright, over white.

use fast_image_resize::FilterType;
use turbojpeg::Subsamp;

use crate::convolve::{Axes, Convolver};
use crate::decode::{self, Format, Header, Limits, jpeg};
use crate::encode::{self, Encoding};
use crate::orient::{swaps_sides, turn};
use crate::reason::{Failure, Reason, Verdict};
use crate::resize::{Crop, View, cover, resample_into};
use crate::spare::{self, KEPT_BYTES, Rooms};
use crate::stage::{Stage, timed};
use crate::weights::Filter;
use crate::ycc::Fitted;

/// How a fitted picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encode {
    pub encoding: Encoding,
    pub quality: u8,
    pub subsampling: Subsamp,
}

/// How much smaller a JPEG may be decoded, at most.
const STRONGEST: f64 = 8.0;

/// Working memory for one picture. Fresh pages cost as much as a resample.
#[derive(Default)]
struct Room {
    decoded: Vec<u8>,
    fitted: Fitted,
    convolver: Convolver,
    pixels: Vec<u8>,
}

static ROOMS: Rooms<Room> = Rooms::new();

/// What is to be made of a picture of the header's size.
struct Plan {
    /// The target before it is turned upright.
    stored: (u32, u32),
    crop: Crop,
    /// What the whole picture measures, at least, when its crop measures the target.
    needed: (u32, u32),
}

impl Plan {
    fn new(header: &Header, target: (u32, u32)) -> Plan {
        let stored = if swaps_sides(header.orientation) { (target.1, target.0) } else { target };
        let crop = cover(header.width, header.height, stored);
        let whole = |side: u32, part: f64, all: u32| (f64::from(side) * f64::from(all) / part).ceil() as u32;
        let needed = (whole(stored.0, crop.width, header.width), whole(stored.1, crop.height, header.height));
        Plan { stored, crop, needed }
    }
}

/// Fills `out` (`target.0 * target.1 * 3` bytes, RGB) with the picture in `data`.
pub fn pixels_into(data: &[u8], target: (u32, u32), limits: Limits, out: &mut [u8]) -> Verdict<()> {
    let header = decode::header(data)?;
    decode::check(&header, limits)?;
    rgb_into(data, &header, target, limits, out)
}

/// The picture in `data` as a file.
pub fn encoded(
    data: &[u8],
    header: &Header,
    target: (u32, u32),
    limits: Limits,
    how: Encode,
) -> Verdict<Vec<u8>> {
    decode::check(header, limits)?;
    with_room(|room| {
        let even = target.0.is_multiple_of(2) && target.1.is_multiple_of(2);
        // Planes of half an odd side do not exist.
        let subsampling = if even { how.subsampling } else { Subsamp::None };
        let how = Encode { subsampling, ..how };
        if how.encoding == Encoding::Jpeg {
            let sparse = if subsampling == Subsamp::Sub2x2 { 2 } else { 1 };
            if planes(data, header, target, sparse, room)? {
                let Room { fitted, .. } = room;
                return timed(Stage::Encode, || encode::planes(fitted, target, how.quality, subsampling));
            }
        }
        let mut pixels = std::mem::take(&mut room.pixels);
        pixels.resize(target.0 as usize * target.1 as usize * 3, 0);
        let done = fill(data, header, target, limits, room, &mut pixels);
        let file = done.and_then(|()| encode::encode(&pixels, target.0, target.1, how));
        room.pixels = pixels;
        file
    })
}

/// As [`pixels_into`], of a picture whose header was read.
pub fn rgb_into(
    data: &[u8],
    header: &Header,
    target: (u32, u32),
    limits: Limits,
    out: &mut [u8],
) -> Verdict<()> {
    if out.len() != target.0 as usize * target.1 as usize * 3 {
        return Err(Failure::new(Reason::Internal, "The room for the pixels has another size than they."));
    }
    with_room(|room| fill(data, header, target, limits, room, out))
}

fn fill(
    data: &[u8],
    header: &Header,
    target: (u32, u32),
    limits: Limits,
    room: &mut Room,
    out: &mut [u8],
) -> Verdict<()> {
    let Plan { stored, crop, needed } = Plan::new(header, target);
    // Of the target's size a picture has the decoder's own pixels, whatever its orientation.
    let as_it_is = (header.width, header.height) == stored;
    if as_it_is && header.orientation == 1 && jpeg::is_rgb(header) {
        return timed(Stage::Decode, || jpeg::decode_into(data, header, out));
    }
    if !as_it_is && planes(data, header, target, 1, room)? {
        timed(Stage::Resize, || room.fitted.rgb_into(out));
        return Ok(());
    }
    let picture = decode::decode(data, header, limits, Some(needed))?;
    let flat = picture.flattened();
    let view = View { pixels: &flat, width: picture.width, height: picture.height };
    let crop = Some(at_scale(crop, header, (picture.width, picture.height)));
    if (2..=8).contains(&header.orientation) {
        // Turned last: the turn then costs as little as the target is small.
        let mut small = vec![0; out.len()];
        resample_into(view, crop, stored, FilterType::Lanczos3, &mut small)?;
        turn::<3>(&small, (stored.0 as usize, stored.1 as usize), header.orientation, out);
    } else {
        resample_into(view, crop, stored, FilterType::Lanczos3, out)?;
    }
    spare::give(picture.pixels);
    Ok(())
}

/// A crop in pixels of a picture that may have been decoded at a fraction: the last of its pixels may then be for less
/// than a whole one of the fraction's.
fn at_scale(crop: Crop, header: &Header, size: (u32, u32)) -> Crop {
    let fits = |n: u32| (header.width.div_ceil(n), header.height.div_ceil(n)) == size;
    let scale = 1.0 / f64::from([1, 2, 4, 8].into_iter().find(|n| fits(*n)).unwrap_or(1));
    Crop {
        left: crop.left * scale,
        top: crop.top * scale,
        width: crop.width * scale,
        height: crop.height * scale,
    }
}

/// Fits by the JPEG's own planes, into `room.fitted`; false, with nothing done, where that is not possible.
fn planes(data: &[u8], header: &Header, target: (u32, u32), sparse: u32, room: &mut Room) -> Verdict<bool> {
    if header.format != Format::Jpeg || !jpeg::is_rgb(header) {
        return Ok(false);
    }
    let Plan { stored, crop, needed } = Plan::new(header, target);
    let least = Crop { width: crop.width / STRONGEST, height: crop.height / STRONGEST, ..crop };
    if !Axes::exist(Filter::Lanczos3, least, stored) {
        return Ok(false);
    }
    let Room { decoded, fitted, convolver, .. } = room;
    let found = timed(Stage::Decode, || jpeg::planes(data, header, needed, sparse, decoded))?;
    let Some(planes) = found else { return Ok(false) };
    Ok(timed(Stage::Resize, || planes.fit(crop, stored, sparse, header.orientation, convolver, fitted)))
}

fn with_room<T>(work: impl FnOnce(&mut Room) -> T) -> T {
    let small = |room: &Room| room.decoded.capacity().max(room.pixels.capacity()) <= KEPT_BYTES;
    ROOMS.with(small, work)
}
