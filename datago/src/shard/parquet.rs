//! Parquet: one row for a sample, in row groups small enough for random access. No compression: the pictures are.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use serde_json::Value;

use super::output::Output;
use super::{Writer, canonical};
use crate::error::{Error, Result};
use crate::sample::Sample;

const GROUP_ROWS: usize = 64;
const GROUP_BYTES: usize = 32 << 20;
const PAGE_BYTES: usize = 256 << 10;

struct Row {
    id: ByteArray,
    image: ByteArray,
    format: ByteArray,
    width: i32,
    height: i32,
    attributes: ByteArray,
    payloads: Vec<Option<ByteArray>>,
}

pub struct Parquet {
    writer: SerializedFileWriter<Output>,
    payloads: Vec<String>,
    /// The extension of each payload, once one was seen.
    extensions: Vec<Option<String>>,
    rows: Vec<Row>,
    held: usize,
}

impl Parquet {
    pub fn new(output: Output, payloads: Vec<String>) -> Result<Self> {
        let schema = schema(&payloads).map_err(failed)?;
        let mut properties = WriterProperties::builder()
            .set_created_by("datago".into())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_size_limit(PAGE_BYTES)
            // Pages are closed between batches, so a batch of one row lets a page hold few pictures.
            .set_write_batch_size(1);
        for name in payloads.iter().map(String::as_str).chain(["image", "attributes"]) {
            let column = ColumnPath::from(name);
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
        let writer =
            SerializedFileWriter::new(output, schema, Arc::new(properties.build())).map_err(failed)?;
        let extensions = vec![None; payloads.len()];
        Ok(Parquet { writer, payloads, extensions, rows: Vec::new(), held: 0 })
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.held = 0;
        write_group(&mut self.writer, &rows, self.payloads.len()).map_err(failed)
    }
}

impl Writer for Parquet {
    fn add(&mut self, sample: &mut Sample) -> Result<()> {
        let mut payloads = vec![None; self.payloads.len()];
        self.held += sample.image.len() + sample.payloads.iter().map(|p| p.data.len()).sum::<usize>();
        for payload in &mut sample.payloads {
            let Some(at) = self.payloads.iter().position(|name| *name == payload.name) else { continue };
            let known = self.extensions[at].get_or_insert_with(|| payload.extension.clone());
            if *known != payload.extension {
                return Err(Error::Input(format!(
                    "sample {}: payload {:?} is {:?} here and {:?} elsewhere; one column has one kind",
                    sample.id, payload.name, payload.extension, known
                )));
            }
            payloads[at] = Some(ByteArray::from(std::mem::take(&mut payload.data)));
        }
        self.rows.push(Row {
            id: sample.id.as_str().into(),
            image: std::mem::take(&mut sample.image).into(),
            format: sample.format.into(),
            width: sample.width.cast_signed(),
            height: sample.height.cast_signed(),
            attributes: canonical(&sample.attributes)?.into(),
            payloads,
        });
        if self.rows.len() >= GROUP_ROWS || self.held >= GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Option<(Output, Option<Value>)>> {
        self.flush()?;
        for (name, extension) in self.payloads.iter().zip(&self.extensions) {
            let note = KeyValue::new(format!("payload.{name}"), extension.clone());
            self.writer.append_key_value_metadata(note);
        }
        Ok(Some((self.writer.into_inner().map_err(failed)?, None)))
    }
}

fn schema(payloads: &[String]) -> std::result::Result<TypePtr, ParquetError> {
    let column = |name: &str, kind: Physical, text: bool, repetition: Repetition| {
        Type::primitive_type_builder(name, kind)
            .with_repetition(repetition)
            .with_logical_type(text.then_some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    let (required, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let mut fields = vec![
        column("sample_id", Physical::BYTE_ARRAY, true, required)?,
        column("image", Physical::BYTE_ARRAY, false, required)?,
        column("format", Physical::BYTE_ARRAY, true, required)?,
        column("width", Physical::INT32, false, required)?,
        column("height", Physical::INT32, false, required)?,
        column("attributes", Physical::BYTE_ARRAY, true, required)?,
    ];
    for name in payloads {
        fields.push(column(name, Physical::BYTE_ARRAY, false, optional)?);
    }
    Ok(Arc::new(Type::group_type_builder("sample").with_fields(fields).build()?))
}

fn write_group(
    writer: &mut SerializedFileWriter<Output>,
    rows: &[Row],
    payloads: usize,
) -> std::result::Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    binary(&mut group, rows.iter().map(|r| Some(r.id.clone())), false)?;
    binary(&mut group, rows.iter().map(|r| Some(r.image.clone())), false)?;
    binary(&mut group, rows.iter().map(|r| Some(r.format.clone())), false)?;
    number(&mut group, rows.iter().map(|r| r.width))?;
    number(&mut group, rows.iter().map(|r| r.height))?;
    binary(&mut group, rows.iter().map(|r| Some(r.attributes.clone())), false)?;
    for index in 0..payloads {
        binary(&mut group, rows.iter().map(|r| r.payloads[index].clone()), true)?;
    }
    group.close().map(|_| ())
}

type Group<'a> = SerializedRowGroupWriter<'a, Output>;

fn binary(
    group: &mut Group<'_>,
    values: impl Iterator<Item = Option<ByteArray>>,
    optional: bool,
) -> std::result::Result<(), ParquetError> {
    let values: Vec<Option<ByteArray>> = values.collect();
    let levels: Option<Vec<i16>> = optional.then(|| values.iter().map(|v| i16::from(v.is_some())).collect());
    let present: Vec<ByteArray> = values.into_iter().flatten().collect();
    let mut column = next(group)?;
    column.typed::<ByteArrayType>().write_batch(&present, levels.as_deref(), None)?;
    column.close()
}

fn number(group: &mut Group<'_>, values: impl Iterator<Item = i32>) -> std::result::Result<(), ParquetError> {
    let values: Vec<i32> = values.collect();
    let mut column = next(group)?;
    column.typed::<Int32Type>().write_batch(&values, None, None)?;
    column.close()
}

fn next<'a>(
    group: &'a mut Group<'_>,
) -> std::result::Result<parquet::file::writer::SerializedColumnWriter<'a>, ParquetError> {
    group.next_column()?.ok_or_else(|| ParquetError::General("the schema has fewer columns".into()))
}

fn failed(cause: ParquetError) -> Error {
    Error::Storage(format!("could not write the Parquet shard: {cause}"))
}
