//! A reader over bytes in memory that knows how much was read in all and stops at a budget.

use std::cell::Cell;
use std::io::{BufRead, Error, ErrorKind, Read, Result, Seek, SeekFrom};

/// Most bytes handed over at once: a decoder that reads ahead for each of many strips reads only so far.
pub const PORTION: usize = 1024;

pub struct Meter<'a> {
    data: &'a [u8],
    at: usize,
    /// Two bytes that read otherwise than they stand, and where.
    changed: Option<(usize, [u8; 2])>,
    budget: usize,
    read: &'a Cell<usize>,
}

impl<'a> Meter<'a> {
    /// `read` counts the bytes that were taken, again for each time. Beyond `budget` reading fails with
    /// `ErrorKind::QuotaExceeded`.
    pub fn new(data: &'a [u8], budget: usize, read: &'a Cell<usize>) -> Self {
        read.set(0);
        Meter { data, at: 0, changed: None, budget, read }
    }

    pub fn changed(self, at: usize, bytes: [u8; 2]) -> Self {
        Meter { changed: Some((at, bytes)), ..self }
    }
}

impl BufRead for Meter<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.read.get() > self.budget {
            return Err(Error::new(ErrorKind::QuotaExceeded, "it reads more than any picture needs"));
        }
        let at = self.at.min(self.data.len());
        Ok(match &self.changed {
            Some((start, _)) if at < *start => &self.data[at..(*start).min(self.data.len())],
            Some((start, bytes)) if at < start + 2 => &bytes[at - start..],
            _ => &self.data[at..],
        })
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
        self.read.set(self.read.get() + amount);
    }
}

impl Read for Meter<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let portion = buf.len().min(PORTION);
        let taken = self.fill_buf()?.read(&mut buf[..portion])?;
        self.consume(taken);
        Ok(taken)
    }
}

impl Seek for Meter<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => usize::try_from(at).ok(),
            SeekFrom::End(by) => {
                isize::try_from(by).ok().and_then(|by| self.data.len().checked_add_signed(by))
            }
            SeekFrom::Current(by) => isize::try_from(by).ok().and_then(|by| self.at.checked_add_signed(by)),
        };
        self.at = at.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a seek to nowhere"))?;
        Ok(self.at as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_changed_and_only_as_often_as_the_budget_allows() {
        let read = Cell::new(0);
        let mut meter = Meter::new(b"abcdef", 9, &read).changed(2, *b"XY");
        let mut found = String::new();
        meter.read_to_string(&mut found).expect("within the budget");
        assert_eq!((found.as_str(), read.get()), ("abXYef", 6));
        meter.seek(SeekFrom::Start(0)).expect("a place");
        let cause = meter.read_to_string(&mut found).expect_err("over the budget");
        assert_eq!(cause.kind(), ErrorKind::QuotaExceeded);
    }
}
