//! The metadata of a Parquet file. What the parquet crate takes on trust, and allocates or recurses by, is checked before:
//! the schema, the lengths of lists of pages, and that no bytes are claimed twice.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::Place;
use super::parquet::{At, unread};
use super::thrift::{I32, LIST, STRUCT, TEXT, Thrift};
use crate::error::Result;

/// Columns within columns.
const DEEPEST: usize = 32;
/// The length of the footer and the magic.
const TAIL: u64 = 8;

pub fn metadata(place: &Arc<Place>) -> Result<ParquetMetaData> {
    let before = place.length().checked_sub(TAIL).ok_or_else(|| place.damaged("it is no Parquet file"))?;
    let tail = place.read(before, TAIL)?;
    let (Some(size), true) = (tail.first_chunk::<4>(), tail.ends_with(b"PAR1")) else {
        return Err(place.damaged("it is no Parquet file"));
    };
    let size = u64::from(u32::from_le_bytes(*size));
    let start = before.checked_sub(size).ok_or_else(|| place.damaged("its footer is longer than itself"))?;
    let footer = place.read(start, size)?;
    let schema = schema(&footer).ok_or_else(|| place.damaged("its schema is none"))?;
    let options = ParquetMetaDataOptions::new().with_schema(Arc::new(schema));
    let failed = |cause| unread(place, &cause);
    let metadata =
        ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options)).map_err(failed)?;
    let twice = || place.damaged("it claims bytes or rows twice");
    let spans = spans(metadata.row_groups(), place.length()).ok_or_else(twice)?;
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    reader.read_page_indexes(&Indexes { at: At(Arc::clone(place)), spans }).map_err(failed)?;
    let metadata = reader.finish().map_err(failed)?;
    apart(&metadata).ok_or_else(twice)?;
    Ok(metadata)
}

/// Where the lists of pages lie; `None` where these, or the columns, claim more bytes than there are.
fn spans(groups: &[RowGroupMetaData], length: u64) -> Option<Vec<Range<u64>>> {
    let (mut spans, mut listed, mut stored) = (Vec::new(), 0_u64, 0_u64);
    for chunk in groups.iter().flat_map(RowGroupMetaData::columns) {
        stored = stored.checked_add(u64::try_from(chunk.compressed_size()).ok()?)?;
        if let (Some(at), Some(size)) = (chunk.offset_index_offset(), chunk.offset_index_length()) {
            let (at, size) = (u64::try_from(at).ok()?, u64::try_from(size).ok()?);
            listed = listed.checked_add(size)?;
            spans.push(at..at + size);
        }
    }
    (stored <= length && listed <= length).then_some(spans)
}

/// Whether no column's pages claim more bytes than the column, and they begin at rows of their group, in order.
fn apart(metadata: &ParquetMetaData) -> Option<()> {
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let index = metadata.page_index_for_row_group(number);
        for (column, chunk) in group.columns().iter().enumerate() {
            let mut left = u64::try_from(chunk.compressed_size()).ok()?;
            let mut row = 0;
            for page in index.page_locations(column).into_iter().flatten() {
                left = left.checked_sub(u64::try_from(page.compressed_page_size).ok()?)?;
                (row..=group.num_rows()).contains(&page.first_row_index).then_some(())?;
                row = page.first_row_index;
            }
        }
    }
    Some(())
}

/// The file as far as the lists of pages are read.
struct Indexes {
    at: At,
    spans: Vec<Range<u64>>,
}

impl Length for Indexes {
    fn len(&self) -> u64 {
        self.at.len()
    }
}

impl ChunkReader for Indexes {
    type T = <At as ChunkReader>::T;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        self.at.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        let data = self.at.get_bytes(start, length)?;
        for span in &self.spans {
            let within = span.start.checked_sub(start).zip(span.end.checked_sub(start));
            let found = within.and_then(|(from, to)| data.get(from as usize..to as usize));
            if found.is_some_and(|list| pages(list).is_none()) {
                return Err(ParquetError::General("a list of pages is longer than its bytes".to_owned()));
            }
        }
        Ok(data)
    }
}

/// The number of pages that a list of them claims: the first field of a struct.
fn pages(data: &[u8]) -> Option<usize> {
    let mut thrift = Thrift(data);
    thrift.field(&mut 0)?;
    Some(thrift.list()?.0)
}

/// A column, or a group of them.
#[derive(Default)]
struct Element<'a> {
    kind: Option<i64>,
    length: Option<i64>,
    repetition: Option<i64>,
    name: &'a [u8],
    children: i64,
}

/// The schema in a footer: names, types, and what is optional or repeated.
fn schema(footer: &[u8]) -> Option<SchemaDescriptor> {
    let mut thrift = Thrift(footer);
    let mut last = 0;
    loop {
        match thrift.field(&mut last)?? {
            (2, LIST) => break,
            (_, kind) => thrift.skip(kind, 0)?,
        }
    }
    let (count, STRUCT) = thrift.list()? else { return None };
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(element(&mut thrift)?);
    }
    let mut elements = elements.into_iter();
    let children = elements.next()?.children;
    let root = group(&mut elements, children, None, 0)?;
    elements.next().is_none().then(|| SchemaDescriptor::new(root))
}

fn element<'a>(thrift: &mut Thrift<'a>) -> Option<Element<'a>> {
    let mut element = Element::default();
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        match (id, kind) {
            (1, I32) => element.kind = Some(thrift.number()?),
            (2, I32) => element.length = Some(thrift.number()?),
            (3, I32) => element.repetition = Some(thrift.number()?),
            (4, TEXT) => element.name = thrift.text()?,
            (5, I32) => element.children = thrift.number()?,
            (1..=5, _) => return None,
            _ => thrift.skip(kind, 0)?,
        }
    }
    Some(element)
}

/// A group of columns; nobody asks for its name.
fn group<'a>(
    elements: &mut impl Iterator<Item = Element<'a>>,
    children: i64,
    repetition: Option<Repetition>,
    depth: usize,
) -> Option<Arc<Type>> {
    if depth > DEEPEST {
        return None;
    }
    let mut fields = Vec::new();
    for _ in 0..children {
        let element = elements.next()?;
        let repetition = match element.repetition? {
            0 => Repetition::REQUIRED,
            1 => Repetition::OPTIONAL,
            2 => Repetition::REPEATED,
            _ => return None,
        };
        fields.push(match element.children {
            1.. => group(&mut *elements, element.children, Some(repetition), depth + 1)?,
            _ => column(&element, repetition)?,
        });
    }
    let builder = Type::group_type_builder("").with_fields(fields);
    let builder = match repetition {
        Some(repetition) => builder.with_repetition(repetition),
        None => builder,
    };
    builder.build().ok().map(Arc::new)
}

fn column(element: &Element<'_>, repetition: Repetition) -> Option<Arc<Type>> {
    const KINDS: [Physical; 8] = [
        Physical::BOOLEAN,
        Physical::INT32,
        Physical::INT64,
        Physical::INT96,
        Physical::FLOAT,
        Physical::DOUBLE,
        Physical::BYTE_ARRAY,
        Physical::FIXED_LEN_BYTE_ARRAY,
    ];
    let kind = *KINDS.get(usize::try_from(element.kind?).ok()?)?;
    let length = element.length.and_then(|length| i32::try_from(length).ok()).unwrap_or(-1);
    let builder = Type::primitive_type_builder(std::str::from_utf8(element.name).ok()?, kind);
    builder.with_repetition(repetition).with_length(length).build().ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer of a version and a schema whose root has `children` and whose other elements are given.
    fn footer(children: u8, count: u8, elements: &[u8]) -> Vec<u8> {
        let mut data = vec![0x15, 2, 0x19, count << 4 | STRUCT, 0x48, 1, b'r', 0x15, children << 1, 0];
        data.extend_from_slice(elements);
        data.push(0);
        data
    }

    #[test]
    fn a_schema_is_read_by_names_and_types() {
        let two = [0x15, 12, 0x25, 0, 0x18, 1, b'a', 0, 0x15, 2, 0x25, 2, 0x18, 1, b'b', 0];
        let found = schema(&footer(2, 3, &two)).expect("schema");
        let columns: Vec<_> = found.columns().iter().map(|c| (c.name(), c.physical_type())).collect();
        assert_eq!(columns, [("a", Physical::BYTE_ARRAY), ("b", Physical::INT32)]);
        assert!(schema(&footer(3, 3, &two)).is_none());
        assert!(schema(&footer(1, 3, &two)).is_none());
    }

    #[test]
    fn a_schema_that_claims_more_columns_than_there_are_allocates_none() {
        let huge = [0x35, 0, 0x18, 1, b'g', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(schema(&footer(1, 2, &huge)).is_none());
    }

    #[test]
    fn a_schema_of_very_many_levels_is_none() {
        let mut data = vec![0x15, 2, 0x19, 0xf0 | STRUCT, 0xa1, 0x8d, 0x06];
        data.extend([0x35, 0, 0x18, 1, b'g', 0x15, 2, 0].repeat(100_001));
        data.push(0);
        assert!(schema(&data).is_none());
    }

    #[test]
    fn a_list_of_pages_is_not_longer_than_its_bytes() {
        assert_eq!(pages(&[0x19, 0x2c, 0x16, 0, 0, 0]), Some(2));
        assert_eq!(pages(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]), None);
    }
}
