//! Huffman codes of a scan, and the bits that they are found in.

/// Bits that decide most codes.
const SHORT: u32 = 9;
/// Bits that the table of whole coefficients decides.
const LOOK: u32 = 11;
/// Looks that one refill is enough for.
pub const LOOKS: usize = (FULL / LOOK) as usize;
/// Bits that a refill leaves at least.
const FULL: u32 = 56;
/// A step beyond the last position of a block from wherever it is taken: the block ends, or the look was not enough.
const BEYOND: u32 = 63;

/// Codes and their symbols.
pub struct Codes {
    /// Symbol and, below it, length of the code; 0 where there is no code. First by the next [`SHORT`] bits; then, for longer codes,
    /// by how far the next 16 bits are beyond `limit`.
    table: Vec<u16>,
    /// The first longer code, moved to 16 bits.
    limit: u32,
}

impl Codes {
    /// `None` if there are more codes of a length than fit, or fewer symbols than codes.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Codes> {
        let mut table = Vec::with_capacity(1 << (SHORT + 1));
        let mut limit = 1 << 16;
        let mut symbols = symbols.iter();
        for (length, &count) in (1..).zip(counts) {
            let bits = if length <= SHORT { SHORT } else { 16 };
            for _ in 0..count {
                let entry = u16::from(*symbols.next()?) << 8 | length as u16;
                table.resize(table.len() + (1 << (bits - length)), entry);
            }
            if length == SHORT && table.len() <= 1 << SHORT {
                limit = (table.len() as u32) << (16 - SHORT);
                table.resize(1 << SHORT, 0);
            }
        }
        // As many codes as there are bits for.
        (table.len() as u32 <= (1 << SHORT) + (1 << 16) - limit).then_some(Codes { table, limit })
    }

    /// The symbol that `next` begins with, and the length of its code.
    #[inline(always)]
    pub fn find(&self, next: u64) -> Option<(u8, u32)> {
        let top = (next >> 48) as u32;
        let index = if top < self.limit { top >> (16 - SHORT) } else { (1 << SHORT) + top - self.limit };
        let found = *self.table.get(index as usize)?;
        (found != 0).then_some(((found >> 8) as u8, u32::from(found & 0xff)))
    }
}

/// One look: the bits used; how far the position moves to the first coefficient, and in all (6 bits each); both coefficients
/// (7 bits each). Of a look at a single coefficient the second is written first, to the same place.
#[derive(Clone, Copy)]
pub struct Look(u32);

/// The largest coefficient that a look holds.
const LARGEST: i16 = 63;

impl Look {
    const SLOW: Look = Look(BEYOND << 6);

    fn new(used: u32, first: (u32, i16), second: (u32, i16)) -> Look {
        let seven = |value: i16| u32::from(value as u16 & 127);
        Look(used | first.0 << 6 | second.0 << 12 | seven(first.1) << 18 | seven(second.1) << 25)
    }

    #[inline(always)]
    pub fn used(self) -> u32 {
        // A shift takes no more of a number than these bits, so that taking them costs nothing.
        self.0 & 63
    }

    #[inline(always)]
    pub fn to_first(self) -> u8 {
        (self.0 >> 6 & 63) as u8
    }

    #[inline(always)]
    pub fn to_last(self) -> u8 {
        (self.0 >> 12 & 63) as u8
    }

    #[inline(always)]
    pub fn first(self) -> i16 {
        ((self.0 << 7) as i32 >> 25) as i16
    }

    #[inline(always)]
    pub fn second(self) -> i16 {
        (self.0 as i32 >> 25) as i16
    }
}

/// A coefficient other than the first of a block.
pub struct Coefficient {
    pub used: u32,
    pub step: u8,
    pub value: i16,
}

/// Codes of coefficients other than a block's first: one look decides as many as two, each with its value.
pub struct Coefficients {
    codes: Codes,
    looks: Box<[Look; 1 << LOOK]>,
}

impl Coefficients {
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Coefficients> {
        let codes = Codes::new(counts, symbols)?;
        let single: Vec<(u32, u32, i16)> = (0..1u64 << LOOK)
            .map(|index| match coefficient(&codes, index << (64 - LOOK)) {
                Some(c) if c.used <= LOOK && c.value.abs() <= LARGEST => (c.used, u32::from(c.step), c.value),
                _ => (0, 0, 0),
            })
            .collect();
        let mut looks = Box::new([Look::SLOW; 1 << LOOK]);
        for (index, look) in looks.iter_mut().enumerate() {
            let (used, step, value) = single[index];
            if used == 0 {
                continue;
            }
            let (more, further, other) = single[index << used & ((1 << LOOK) - 1)];
            *look = if step == BEYOND {
                Look::new(used, (1, 0), (BEYOND, 0))
            } else if more > 0 && used + more <= LOOK {
                let last = if further == BEYOND { BEYOND } else { step + further };
                Look::new(used + more, (step, value), (last, other))
            } else {
                Look::new(used, (step, value), (step, 0))
            };
        }
        Some(Coefficients { codes, looks })
    }

    #[inline(always)]
    pub fn look(&self, next: u64) -> Look {
        self.looks[(next >> (64 - LOOK)) as usize]
    }

    /// A single coefficient, of any length.
    #[inline(always)]
    pub fn one(&self, next: u64) -> Option<Coefficient> {
        coefficient(&self.codes, next)
    }
}

#[inline(always)]
fn coefficient(codes: &Codes, next: u64) -> Option<Coefficient> {
    let (symbol, length) = codes.find(next)?;
    let (zeros, size) = (symbol >> 4, u32::from(symbol & 15));
    let step = match (zeros, size) {
        (15, 0) => 16,
        (_, 0) => BEYOND as u8,
        _ => zeros + 1,
    };
    Some(Coefficient { used: length + size, step, value: value(next << length, size) as i16 })
}

/// The value that `size` bits tell, at most 15: those that begin with 0 are negative.
#[inline(always)]
pub fn value(next: u64, size: u32) -> i32 {
    let bits = (next >> 1 >> (63 - size)) as i32;
    let negative = (next >> 63) as i32 - 1;
    bits - (negative & ((1 << size) - 1))
}

/// Reads bits from bytes that are not stuffed.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits come first.
    pub next: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8], at: usize) -> Bits<'a> {
        Bits { data, at, next: 0, count: 0 }
    }

    /// At least [`FULL`] bits. `None` at the end of the data, which is eight bytes longer than what is decoded.
    #[inline(always)]
    pub fn refilled(mut self) -> Option<Bits<'a>> {
        let bytes = self.data.get(self.at..)?.first_chunk::<8>()?;
        self.next |= u64::from_be_bytes(*bytes) >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= FULL;
        Some(self)
    }

    /// From another byte on.
    pub fn moved(self, at: usize) -> Bits<'a> {
        Bits::new(self.data, at)
    }

    #[inline(always)]
    pub fn skip(&mut self, bits: u32) {
        self.next <<= bits;
        self.count -= bits;
    }

    /// Where the first byte is of which nothing was used.
    pub fn position(&self) -> usize {
        self.at - (self.count / 8) as usize
    }
}
