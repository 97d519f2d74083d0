//! MDS: the table of offsets is read on opening, a sample with one read, or one for each column when it has payloads.

use serde_json::Value;

use super::{Place, Rows, Stored, Wanted, check_sizes, size};
use crate::error::Result;
use crate::loader::raw::npy_of_mds;

/// Where a column's value lies, once its sample's sizes are known.
struct Column {
    name: String,
    size: Option<u64>,
}

pub struct Mds {
    place: Place,
    offsets: Vec<u32>,
    columns: Vec<Column>,
    id: usize,
    image: usize,
    attributes: usize,
    /// Bytes of the sizes at the head of each sample.
    head: usize,
    /// Whether there is more in a sample than what is always read.
    payloads: bool,
    /// Whether pictures are stored as arrays of pixels.
    arrays: bool,
}

const BASE: &[&str] = &["id", "image", "width", "height", "attributes"];

impl Mds {
    pub fn open(place: Place) -> Result<Self> {
        let count = u64::from(le32(&place.read(0, 4)?, 0));
        let offsets: Vec<u32> = place
            .read(4, 4 * (count + 1))?
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let begin = 4 + 4 * (count + 1);
        let first = u64::from(offsets[0]);
        let ordered = offsets.is_sorted() && u64::from(offsets[count as usize]) == place.length();
        if first < begin || !ordered {
            return Err(place.damaged("its table of offsets contradicts its length"));
        }
        let description: Value = serde_json::from_slice(&place.read(begin, first - begin)?)
            .map_err(|_| place.damaged("the description of its columns is no JSON"))?;
        let (Some(names), Some(sizes)) =
            (description["column_names"].as_array(), description["column_sizes"].as_array())
        else {
            return Err(place.damaged("it does not say which columns it has"));
        };
        let columns: Vec<Column> = names
            .iter()
            .zip(sizes)
            .map(|(name, size)| Column {
                name: name.as_str().unwrap_or_default().to_owned(),
                size: size.as_u64(),
            })
            .collect();
        let find = |name: &str| {
            let found = columns.iter().position(|column| column.name == name);
            found.ok_or_else(|| place.damaged(&format!("it has no column {name:?}")))
        };
        let (id, image, attributes) = (find("id")?, find("image")?, find("attributes")?);
        let head = 4 * columns.iter().filter(|column| column.size.is_none()).count();
        let payloads = columns.iter().any(|column| !BASE.contains(&column.name.as_str()));
        let arrays = description["column_encodings"][image] == "ndarray:uint8";
        Ok(Mds { place, offsets, columns, id, image, attributes, head, payloads, arrays })
    }

    /// Where each column lies, counted from the sample's start.
    fn layout(&self, head: &[u8], length: u64) -> Result<Vec<(u64, u64)>> {
        let mut at = self.head as u64;
        let mut sizes = head.chunks_exact(4);
        let mut found = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let size = column.size.unwrap_or_else(|| sizes.next().map_or(0, |s| u64::from(le32(s, 0))));
            found.push((at, size));
            at = at.saturating_add(size);
        }
        if at != length {
            return Err(self.place.damaged("a sample's columns do not fill it"));
        }
        Ok(found)
    }
}

impl Rows for Mds {
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn sizes(&self) -> Result<Vec<(u32, u32)>> {
        let find = |name: &str| self.columns.iter().position(|column| column.name == name);
        let (Some(width), Some(height)) = (find("width"), find("height")) else {
            return Err(self.place.damaged("it has no columns of widths and heights"));
        };
        let one = |pair: &[u32]| {
            let (start, end) = (u64::from(pair[0]), u64::from(pair[1]));
            let layout = self.layout(&self.place.read(start, self.head as u64)?, end - start)?;
            let side = |(at, size): (u64, u64)| -> Result<Option<u32>> {
                let value = self.place.read(start + at, size.min(8))?;
                let value = value.first_chunk::<8>().map(|b| i64::from_le_bytes(*b));
                Ok(value.and_then(|value| u32::try_from(value).ok()))
            };
            size(side(layout[width])?, side(layout[height])?, &self.place)
        };
        self.offsets.windows(2).map(one).collect()
    }

    fn row(&self, row: usize, wanted: &Wanted) -> Result<Stored> {
        let (start, end) = (u64::from(self.offsets[row]), u64::from(self.offsets[row + 1]));
        let length = end - start;
        if length < self.head as u64 {
            return Err(self.place.damaged("a sample is shorter than the sizes of its columns"));
        }
        // Without payloads a sample is little more than its picture; a large one is looked at before it is read.
        let whole = (!self.payloads || self.place.is_far()) && length <= wanted.max_bytes;
        let data = self.place.read(start, if whole { length } else { self.head as u64 })?;
        let layout = self.layout(&data[..self.head], length)?;
        let value = |column: usize| -> Result<Vec<u8>> {
            let (at, size) = layout[column];
            match whole {
                true => Ok(data[at as usize..(at + size) as usize].to_vec()),
                false => self.place.read(start + at, size),
            }
        };
        let text = |data| String::from_utf8(data).map_err(|_| self.place.damaged("an id is no text"));
        let mut stored = Stored { id: text(value(self.id)?)?, ..Stored::default() };
        let chosen: Vec<Option<usize>> = (wanted.payloads.iter())
            .map(|name| self.columns.iter().position(|column| column.name == *name))
            .collect();
        let lengths = chosen.iter().flatten().chain([&self.image]).map(|&column| layout[column].1);
        if let Err(failure) = check_sizes(lengths, wanted) {
            stored.failure = Some(failure);
            return Ok(stored);
        }
        stored.attributes = value(self.attributes)?;
        for column in chosen {
            let found = column.map(value).transpose()?;
            stored.payloads.push(found.filter(|data| !data.is_empty()));
        }
        let (at, size) = layout[self.image];
        (stored.data, stored.image) = match whole {
            true => (data, at as usize..(at + size) as usize),
            false => (value(self.image)?, 0..size as usize),
        };
        if self.arrays {
            stored.data = npy_of_mds(&stored.data[stored.image])
                .ok_or_else(|| self.place.damaged("an array of pixels is none"))?;
            stored.image = 0..stored.data.len();
        }
        Ok(stored)
    }
}

fn le32(data: &[u8], at: usize) -> u32 {
    data.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |b| u32::from_le_bytes(*b))
}
