//! Huffman codes of a scan, and the bits that they are found in.

/// Bits that the table of all codes decides; longer codes are searched.
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
    /// By the next bits: the symbol and, below it, the code's length; 0 where the code is longer.
    short: Box<[u16; 1 << SHORT]>,
    /// By length: the first code, moved to 16 bits, that is no longer of it; what to add to a code to get its symbol's place.
    limits: [u32; 17],
    places: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// `None` if there are more codes of a length than fit, or fewer symbols than codes.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Codes> {
        let (mut short, mut limits, mut places) = (Box::new([0; 1 << SHORT]), [0; 17], [0; 17]);
        let (mut code, mut at) = (0u32, 0usize);
        for (length, &count) in (1..).zip(counts) {
            places[length as usize] = at as i32 - code as i32;
            for &symbol in symbols.get(at..at + usize::from(count))? {
                if code >> length != 0 {
                    return None;
                }
                if length <= SHORT {
                    let span = 1 << (SHORT - length);
                    let first = code as usize * span;
                    short[first..first + span].fill(u16::from(symbol) << 8 | length as u16);
                }
                code += 1;
            }
            at += usize::from(count);
            limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Codes { short, limits, places, symbols: symbols.to_vec() })
    }

    /// The symbol that `next` begins with, and the length of its code.
    #[inline(always)]
    pub fn find(&self, next: u64) -> Option<(u8, u32)> {
        match self.short[(next >> (64 - SHORT)) as usize] {
            0 => self.search(next),
            found => Some(((found >> 8) as u8, u32::from(found & 0xff))),
        }
    }

    #[cold]
    fn search(&self, next: u64) -> Option<(u8, u32)> {
        let top = (next >> 48) as u32;
        let length = (SHORT + 1..=16).find(|length| top < self.limits[*length as usize])?;
        let place = (top >> (16 - length)) as i32 + self.places[length as usize];
        Some((*self.symbols.get(usize::try_from(place).ok()?)?, length))
    }

    pub fn symbols(&self) -> &[u8] {
        &self.symbols
    }
}

/// One look: the bits used (4 bits of it); how far the position moves to the first coefficient, and in all (6 bits each); both
/// coefficients (8 bits each). Of a look at a single coefficient the second is written first, to the same place.
#[derive(Clone, Copy)]
pub struct Look(u32);

impl Look {
    const SLOW: Look = Look(BEYOND << 4);

    fn new(used: u32, first: (u32, i32), second: (u32, i32)) -> Look {
        let byte = |value: i32| u32::from(value as u8);
        Look(used | first.0 << 4 | second.0 << 10 | byte(first.1) << 16 | byte(second.1) << 24)
    }

    #[inline(always)]
    pub fn used(self) -> u32 {
        self.0 & 15
    }

    #[inline(always)]
    pub fn to_first(self) -> u8 {
        (self.0 >> 4 & 63) as u8
    }

    #[inline(always)]
    pub fn to_last(self) -> u8 {
        (self.0 >> 10 & 63) as u8
    }

    #[inline(always)]
    pub fn first(self) -> i16 {
        i16::from((self.0 >> 16) as i8)
    }

    #[inline(always)]
    pub fn second(self) -> i16 {
        i16::from((self.0 >> 24) as i8)
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
        let single: Vec<(u32, u32, i32)> = (0..1u64 << LOOK)
            .map(|index| match coefficient(&codes, index << (64 - LOOK)) {
                Some(c) if c.used <= LOOK && i8::try_from(c.value).is_ok() => {
                    (c.used, u32::from(c.step), i32::from(c.value))
                }
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
    #[cold]
    #[inline(never)]
    pub fn one(&self, next: u64) -> Option<Coefficient> {
        coefficient(&self.codes, next)
    }
}

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
