//! The orientation tag of an EXIF block. Nothing else of EXIF is read.

const ORIENTATION: u16 = 0x0112;

/// The orientation (1..8) in a TIFF-structured EXIF block, with or without the `Exif\0\0` prefix.
/// Anything missing or malformed means 1, as every viewer has it.
pub fn orientation(block: &[u8]) -> u8 {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    read(tiff).filter(|value| (1..=8).contains(value)).unwrap_or(1)
}

fn read(tiff: &[u8]) -> Option<u8> {
    let tag = Tag::find(tiff, ORIENTATION)?;
    u8::try_from(tag.value).ok()
}

/// A tag of the first directory that holds one whole number.
pub struct Tag {
    /// Where the number stands, from the start of the block.
    pub at: usize,
    pub value: u32,
    pub little: bool,
}

impl Tag {
    pub fn find(tiff: &[u8], wanted: u16) -> Option<Tag> {
        let little = match tiff.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let u16_at = |at: usize| -> Option<u16> {
            let raw = <[u8; 2]>::try_from(tiff.get(at..at.checked_add(2)?)?).ok()?;
            Some(if little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) })
        };
        let u32_at = |at: usize| -> Option<u32> {
            let raw = <[u8; 4]>::try_from(tiff.get(at..at.checked_add(4)?)?).ok()?;
            Some(if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
        };
        if u16_at(2)? != 42 {
            return None;
        }
        let directory = u32_at(4)? as usize;
        for entry in 0..usize::from(u16_at(directory)?) {
            let start = directory.checked_add(2 + 12 * entry)?;
            if u16_at(start)? == wanted {
                let at = start + 8;
                let value = match (u16_at(start + 2)?, u32_at(start + 4)?) {
                    (3, 1) => u32::from(u16_at(at)?),
                    (4, 1) => u32_at(at)?,
                    _ => return None,
                };
                return Some(Tag { at, value, little });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::orientation;

    #[test]
    fn both_byte_orders_are_read_and_nonsense_means_upright() {
        let little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0";
        assert_eq!(orientation(little), 6);
        assert_eq!(orientation(big), 8);
        assert_eq!(orientation(b""), 1);
        assert_eq!(orientation(&little[..20]), 1);
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), 1);
    }
}
