//! What stands in a JPEG before its first scan's bits.

use super::be16;
use crate::reason::{Failure, Verdict};

/// A marker and what follows it.
pub struct Segment<'a> {
    pub marker: u8,
    pub body: &'a [u8],
    /// Where its length stands, and where it ends.
    pub at: usize,
    pub end: usize,
}

/// The segments of a JPEG, up to the first scan's header.
pub struct Segments<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Segments { data, at: 2 }
    }

    fn segment(&mut self) -> Verdict<Segment<'a>> {
        let ends = || Failure::truncated("The data ends within the JPEG header.");
        let data = self.data;
        loop {
            // Fill bytes (0xFF) may precede any marker.
            let marker = match (data.get(self.at), data.get(self.at + 1)) {
                (Some(0xff), Some(0xff)) => {
                    self.at += 1;
                    continue;
                }
                (Some(0xff), Some(&code)) => code,
                (Some(_), Some(_)) => {
                    return Err(Failure::corrupt("There is no JPEG marker where one must be."));
                }
                _ => return Err(ends()),
            };
            let at = self.at + 2;
            self.at = at;
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
            self.at = at + length;
            return Ok(Segment { marker, body, at, end: self.at });
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Verdict<Segment<'a>>;

    /// After a failure the data is at its end.
    fn next(&mut self) -> Option<Self::Item> {
        (self.at <= self.data.len()).then(|| {
            let found = self.segment();
            if found.as_ref().map_or(true, |segment| segment.marker == 0xda) {
                self.at = usize::MAX;
            }
            found
        })
    }
}
