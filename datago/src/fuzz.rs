//! What the targets of `datago/fuzz` do: bytes go in, a verdict comes out, and no verdict is a panic.

mod shards;

use turbojpeg::Subsamp;

pub use self::shards::shard;
pub use crate::decode::Format;
use crate::decode::{self, Limits};
use crate::encode::Encoding;
use crate::reason::{Reason, Verdict, caught};
pub use crate::shard::ShardFormat;
use crate::{exif, fit, mask, orient};

/// Small enough for thousands of pictures a second.
fn limits() -> Limits {
    Limits::new(1 << 24, 1 << 20)
}

/// `caught` keeps the panic from ending the process, as in the product; here it then does.
fn judged<T>(work: impl FnOnce() -> Verdict<T>) {
    if let Err(failure) = caught(work) {
        assert!(failure.reason != Reason::Internal, "{}", failure.detail);
    }
}

/// The whole way of a picture of one format: header, caps, pixels, upright, over white.
pub fn picture(format: Format, data: &[u8]) {
    judged(|| {
        let header = decode::probe(data, format)?;
        let small = (header.width.div_ceil(16), header.height.div_ceil(16));
        let scaled = decode::decode(data, &header, limits(), Some(small));
        let picture = decode::decode(data, &header, limits(), None)?;
        assert!(scaled.is_ok() || format == Format::Jpeg, "a target decides between a picture and none");
        assert_eq!((picture.width, picture.height), (header.width, header.height));
        let upright = orient::upright(picture, header.orientation);
        assert_eq!(upright.pixels.len(), upright.width as usize * upright.height as usize * upright.channels);
        assert_eq!(upright.flattened().len(), upright.pixels.len() / upright.channels * 3);
        Ok(())
    });
}

pub fn any(data: &[u8]) {
    if let Ok(format) = decode::recognise(data) {
        picture(format, data);
    }
}

/// The way of a picture into a batch and into a shard. The first bytes are the size of the bucket, and how it is encoded.
pub fn fit(data: &[u8]) {
    let Some(([a, b, how], data)) = data.split_first_chunk::<3>() else {
        return;
    };
    let target = (u32::from(*a) + 1, u32::from(*b) + 1);
    let subsampling = if how & 1 == 0 { Subsamp::None } else { Subsamp::Sub2x2 };
    let encoding = if how & 2 == 0 { Encoding::Jpeg } else { Encoding::Raw };
    judged(|| {
        let mut pixels = vec![0; target.0 as usize * target.1 as usize * 3];
        fit::pixels_into(data, target, limits(), &mut pixels)?;
        let header = decode::probe(data, decode::recognise(data)?)?;
        let how = fit::Encode { encoding, quality: 90, subsampling };
        let file = fit::encoded(data, &header, target, limits(), how)?;
        if encoding == Encoding::Jpeg {
            let found = decode::probe(&file, Format::Jpeg)?;
            assert_eq!((found.width, found.height), target);
        }
        Ok(())
    });
}

pub fn exif(data: &[u8]) {
    assert!((1..=8).contains(&exif::orientation(data)));
    if let Some((tag, block)) = data.split_first_chunk::<2>() {
        let _ = exif::Tag::find(block, u16::from_le_bytes(*tag));
    }
}

/// The first bytes are the sizes of the picture and of the bucket.
pub fn mask(data: &[u8]) {
    let Some(([a, b, c, d], data)) = data.split_first_chunk::<4>() else {
        return;
    };
    let side = |value: &u8| u32::from(*value) + 1;
    judged(|| mask::fit(data, (side(a), side(b)), (side(c), side(d)), limits()));
}

/// The first bytes are the size of the picture.
pub fn webp_codes(data: &[u8]) {
    let Some(([a, b], data)) = data.split_first_chunk::<2>() else {
        return;
    };
    let found = decode::webp_codes::groups(data, usize::from(*a) * 4 + 1, usize::from(*b) * 4 + 1);
    assert!(found.is_none_or(|groups| (1..=1 << 16).contains(&groups)));
}
