//! Thrift's compact protocol, as far as the footer of a Parquet file is looked at. `None` is where data is none.

pub const I32: u8 = 5;
pub const TEXT: u8 = 8;
pub const LIST: u8 = 9;
pub const STRUCT: u8 = 12;

/// Levels of structs and lists in one another.
const DEEPEST: usize = 32;

/// What is left to read.
pub struct Thrift<'a>(pub &'a [u8]);

impl<'a> Thrift<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(found)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// An integer of any width but a byte.
    pub fn number(&mut self) -> Option<i64> {
        // Zigzag: the sign is the lowest bit.
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.bytes(length)
    }

    /// The number and kind of a struct's next field, `last` being that of the one before; `Some(None)` at its end.
    pub fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let head = self.byte()?;
        if head & 0xf == 0 {
            return Some(None);
        }
        *last = if head >> 4 == 0 { self.number()? } else { last.checked_add(i64::from(head >> 4))? };
        Some(Some((*last, head & 0xf)))
    }

    /// The length and kind of a list, which is no longer than there are bytes left.
    pub fn list(&mut self) -> Option<(usize, u8)> {
        let head = self.byte()?;
        let count =
            if head >> 4 == 15 { usize::try_from(self.varint()?).ok()? } else { usize::from(head >> 4) };
        (count <= self.0.len()).then_some((count, head & 0xf))
    }

    /// Passes over a field's value.
    pub fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            // The kind of a field of truth is its value.
            1 | 2 => Some(()),
            _ => self.skip_element(kind, depth),
        }
    }

    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.bytes(8).map(drop),
            TEXT => self.text().map(drop),
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_passed_over_by_their_kinds() {
        let data = [
            0x11, 0x16, 3, 0x18, 2, b'a', b'b', 0x19, 0x2c, 0x15, 1, 0, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9,
        ];
        let mut thrift = Thrift(&data);
        assert!(thrift.skip(STRUCT, 0).is_some());
        assert_eq!(thrift.0, [9]);
        assert_eq!(Thrift(&[3]).number(), Some(-2));
        assert!(Thrift(&[0xff; 20]).number().is_none());
    }

    #[test]
    fn lists_within_lists_end() {
        assert!(Thrift(&[0x19; 1 << 20]).skip(LIST, 0).is_none());
    }
}
