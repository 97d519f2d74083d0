//! Parquet: the footer and the index of pages are read on opening. Of a row group, ids and attributes are read when its
//! first row is asked for, and where each picture lies; a picture is then one read.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::reader::{get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::pages::Checked;
use super::{Place, Rows, Stored, Wanted, check_sizes, footer, size};
use crate::error::{Error, Result};

/// More than a page's header takes, as far as it is looked at.
const HEADER: u64 = 32;

/// What is kept of a row group.
struct Group {
    ids: Vec<ByteArray>,
    attributes: Vec<ByteArray>,
    /// Where in the file each picture lies; `None` when only the pages' own reader can tell.
    images: Option<Vec<(u64, u64)>>,
}

pub struct Parquet {
    place: Arc<Place>,
    metadata: ParquetMetaData,
    /// The first row of each group, and the number of rows.
    starts: Vec<usize>,
    groups: Vec<OnceLock<Group>>,
    id: usize,
    image: usize,
    attributes: usize,
}

impl Parquet {
    pub fn open(place: Place) -> Result<Self> {
        let place = Arc::new(place);
        let metadata = footer::metadata(&place)?;
        let (mut starts, mut rows) = (vec![0], 0_u64);
        for group in metadata.row_groups() {
            // A row takes more than a byte, so what is allocated for rows is bounded by the file.
            rows = rows.saturating_add(u64::try_from(group.num_rows()).unwrap_or(u64::MAX));
            if rows > place.length() {
                return Err(place.damaged("it claims more rows than it has bytes"));
            }
            starts.push(rows as usize);
        }
        let find = |name: &str| {
            column(&metadata, name).ok_or_else(|| place.damaged(&format!("it has no column {name:?}")))
        };
        let (id, image, attributes) = (find("sample_id")?, find("image")?, find("attributes")?);
        let groups = (0..metadata.num_row_groups()).map(|_| OnceLock::new()).collect();
        Ok(Parquet { place, metadata, starts, groups, id, image, attributes })
    }

    fn group(&self, number: usize) -> Result<&Group> {
        if let Some(group) = self.groups[number].get() {
            return Ok(group);
        }
        let rows = self.starts[number + 1] - self.starts[number];
        let all = |column| {
            let found: Vec<ByteArray> =
                self.values::<ByteArrayType>(number, column, 0, rows)?.into_iter().flatten().collect();
            match found.len() == rows {
                true => Ok(found),
                false => Err(self.place.damaged("a column has fewer values than rows")),
            }
        };
        let group = Group {
            ids: all(self.id)?,
            attributes: all(self.attributes)?,
            images: self.located(number, self.image, rows)?,
        };
        Ok(self.groups[number].get_or_init(|| group))
    }

    /// The values of some rows of a column of a row group. Skips whole pages by their index.
    fn values<T: DataType>(
        &self,
        group: usize,
        column: usize,
        first: usize,
        count: usize,
    ) -> Result<Vec<Option<T::T>>> {
        let read = || -> std::result::Result<_, ParquetError> {
            let chunk = self.metadata.row_group(group).column(column);
            if chunk.column_type() != T::get_physical_type() || chunk.column_descr().max_rep_level() > 0 {
                return Err(ParquetError::General("a column is of another type".to_owned()));
            }
            let pages = self.metadata.page_index_for_row_group(group).page_locations(column).cloned();
            let rows = self.starts[group + 1] - self.starts[group];
            let at = Arc::new(At(Arc::clone(&self.place)));
            let pages = Box::new(Checked(SerializedPageReader::new(at, chunk, rows, pages)?));
            let reader = get_column_reader(chunk.column_descr_ptr(), pages);
            let mut reader = get_typed_column_reader::<T>(reader);
            reader.skip_records(first)?;
            let (mut levels, mut found) = (Vec::new(), Vec::new());
            let optional = chunk.column_descr().max_def_level() > 0;
            let mut read = 0;
            while read < count {
                let left = count - read;
                match reader.read_records(left, optional.then_some(&mut levels), None, &mut found)?.0 {
                    0 => break,
                    n => read += n,
                }
            }
            let present = levels.iter().filter(|level| **level > 0).count();
            let (rows, values) = if optional { (levels.len(), present) } else { (found.len(), found.len()) };
            if (rows, values) != (count, found.len()) {
                return Err(ParquetError::General("a column has other rows than its group".to_owned()));
            }
            if !optional {
                return Ok(found.into_iter().map(Some).collect());
            }
            let mut found = found.into_iter();
            Ok(levels.iter().map(|&level| if level > 0 { found.next() } else { None }).collect())
        };
        read().map_err(|cause| unread(&self.place, &cause))
    }

    /// Where the values of a plain, uncompressed column lie. A value is its length (u32) and its bytes.
    fn located(&self, group: usize, column: usize, rows: usize) -> Result<Option<Vec<(u64, u64)>>> {
        let chunk = self.metadata.row_group(group).column(column);
        let index = self.metadata.page_index_for_row_group(group);
        let Some(pages) = index.page_locations(column).filter(|_| plain(chunk)) else {
            return Ok(None);
        };
        let mut found = Vec::with_capacity(rows);
        for page in pages {
            let (Ok(start), Ok(size)) =
                (u64::try_from(page.offset), u64::try_from(page.compressed_page_size))
            else {
                return Ok(None);
            };
            let header = self.place.read(start, HEADER.min(size))?;
            let Some(mut at) = body(&header).and_then(|body| (start + size).checked_sub(body)) else {
                return Ok(None);
            };
            while at < start + size {
                let mut length = [0; 4];
                self.place.read_into(at, &mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if found.len() == rows {
                    return Ok(None);
                }
                found.push((at + 4, length));
                at += 4 + length;
            }
            if at != start + size {
                return Ok(None);
            }
        }
        Ok((found.len() == rows).then_some(found))
    }
}

impl Rows for Parquet {
    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    fn sizes(&self) -> Result<Vec<(u32, u32)>> {
        let mut found = Vec::with_capacity(self.len());
        let side = |group: usize, name: &str| {
            let column = column(&self.metadata, name)
                .ok_or_else(|| self.place.damaged(&format!("it has no column {name:?}")))?;
            let rows = self.starts[group + 1] - self.starts[group];
            let sides = self.values::<Int32Type>(group, column, 0, rows)?;
            Ok(sides.into_iter().map(|side| side.and_then(|side| u32::try_from(side).ok())))
        };
        for group in 0..self.groups.len() {
            for (width, height) in side(group, "width")?.zip(side(group, "height")?) {
                found.push(size(width, height, &self.place)?);
            }
        }
        Ok(found)
    }

    fn row(&self, row: usize, wanted: &Wanted) -> Result<Stored> {
        let number = self.starts.partition_point(|&start| start <= row) - 1;
        let at = row - self.starts[number];
        let group = self.group(number)?;
        let id = String::from_utf8(group.ids[at].data().to_vec());
        let id = id.map_err(|_| self.place.damaged("an id is no text"))?;
        let attributes = group.attributes[at].data().to_vec();
        let mut stored = Stored { id, attributes, ..Stored::default() };
        let known = group.images.as_ref().map(|images| images[at]);
        if let Err(failure) = check_sizes(known.map(|(_, size)| size), wanted) {
            stored.failure = Some(failure);
            return Ok(stored);
        }
        let one = |column| -> Result<Option<ByteArray>> {
            Ok(self.values::<ByteArrayType>(number, column, at, 1)?.into_iter().next().flatten())
        };
        stored.data = match known {
            Some((start, size)) => self.place.read(start, size)?,
            None => one(self.image)?.map(|value| value.data().to_vec()).unwrap_or_default(),
        };
        stored.image = 0..stored.data.len();
        for name in &wanted.payloads {
            let value = column(&self.metadata, name).map(one).transpose()?.flatten();
            stored.payloads.push(value.map(|value| value.data().to_vec()));
        }
        let lengths = stored.payloads.iter().flatten().chain([&stored.data]).map(|data| data.len() as u64);
        if let Err(failure) = check_sizes(lengths, wanted) {
            stored.failure = Some(failure);
        }
        Ok(stored)
    }
}

fn column(metadata: &ParquetMetaData, name: &str) -> Option<usize> {
    metadata.file_metadata().schema_descr().columns().iter().position(|column| column.name() == name)
}

fn plain(chunk: &ColumnChunkMetaData) -> bool {
    chunk.compression() == Compression::UNCOMPRESSED
        && chunk.dictionary_page_offset().is_none()
        && chunk.encodings().all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE))
        && chunk.column_descr().max_def_level() == 0
}

/// The number of bytes after a page's header: its third field, all three being i32 in Thrift's compact protocol.
fn body(header: &[u8]) -> Option<u64> {
    const NEXT_I32: u8 = 0x15;
    let mut bytes = header.iter();
    let mut value = 0;
    for _ in 0..3 {
        (*bytes.next()? == NEXT_I32).then_some(())?;
        value = 0;
        for shift in (0..35).step_by(7) {
            let byte = *bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
    }
    // Zigzag: the sign is the lowest bit.
    (value & 1 == 0).then_some(value >> 1)
}

pub fn unread(place: &Place, cause: &ParquetError) -> Error {
    match cause {
        ParquetError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(Error::Storage(text)) => Error::Storage(text.clone()),
            _ => place.damaged(&inner.to_string()),
        },
        other => place.damaged(&other.to_string()),
    }
}

/// The file as the parquet crate reads it. (`File` itself shares one position among all threads.)
pub struct At(pub Arc<Place>);

impl Length for At {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for At {
    type T = io::BufReader<From>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        Ok(io::BufReader::with_capacity(512, From { place: Arc::clone(&self.0), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let data = self.0.read(start, length as u64);
        data.map(Bytes::from).map_err(|cause| ParquetError::External(Box::new(cause)))
    }
}

pub struct From {
    place: Arc<Place>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let count = self.place.read_some(self.at, data)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_page_is_the_third_number_of_its_header() {
        assert_eq!(body(&[0x15, 0, 0x15, 0xd0, 0x0f, 0x15, 0xd0, 0x0f, 0x2c]), Some(1000));
        assert_eq!(body(&[0x15, 0, 0x15, 2, 0x15, 3]), None);
        assert_eq!(body(&[0x15, 0, 0x15, 2, 0x25, 2]), None);
        assert_eq!(body(&[0x15, 0, 0x15, 0x80]), None);
    }
}
