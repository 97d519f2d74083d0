//! MDS, the format of mosaicml-streaming, version 2.
//!
//! A shard is: number of samples (u32), offsets of every sample and of the end (u32), the column description as JSON,
//! then the samples. A sample is the sizes (u32) of its columns of variable size, then the columns, sorted by name.
//! All numbers are little endian. A payload that a sample lacks is an empty column.

use serde_json::{Map, Value, json};

use super::output::Output;
use super::{Writer, canonical};
use crate::encode::{Encoding, npy_pixels};
use crate::error::{Error, Result};
use crate::sample::{Binary, Sample, Treatment};

/// How mosaicml-streaming calls an array of bytes whose shape comes with it.
const NDARRAY: &str = "ndarray:uint8";

struct Column {
    name: String,
    encoding: &'static str,
    size: Option<usize>,
}

/// The most bytes of samples that are held in memory.
const HELD: u64 = 128 << 20;

/// The samples, kept aside until their number is known: in memory, and in a file once they are many.
struct Body {
    held: Vec<Vec<u8>>,
    bytes: u64,
    file: Option<Output>,
}

impl Body {
    fn add(&mut self, piece: Vec<u8>) {
        self.bytes += piece.len() as u64;
        self.held.push(piece);
    }

    /// Makes room once too much is held.
    fn settle(&mut self, output: &Output) -> Result<()> {
        if self.bytes < HELD {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(output.scratch()?),
        };
        self.bytes = 0;
        self.held.drain(..).try_for_each(|piece| file.put(&piece))
    }

    fn pour_into(self, output: &mut Output) -> Result<()> {
        if let Some(file) = self.file {
            file.pour_into(output)?;
        }
        self.held.iter().try_for_each(|piece| output.put(piece))
    }
}

pub struct Mds {
    output: Output,
    body: Body,
    sizes: Vec<u64>,
    columns: Vec<Column>,
}

impl Mds {
    pub fn new(mut output: Output, treatment: Treatment, payloads: Vec<String>) -> Result<Self> {
        output.hash_xxh128();
        // The reader turns `jpeg` and `png` columns into pictures; what it has no word for stays bytes.
        let encoding = match treatment {
            Treatment::Fitted { encode, .. } => Some(encode.encoding),
            Treatment::Bytes => None,
        };
        let image = match encoding {
            Some(Encoding::Jpeg) => "jpeg",
            Some(Encoding::Png) => "png",
            Some(Encoding::Raw) => NDARRAY,
            _ => "bytes",
        };
        let fixed = [
            ("id", "str", None),
            ("image", image, None),
            ("width", "int", Some(8)),
            ("height", "int", Some(8)),
            ("attributes", "json", None),
        ];
        let column = |(name, encoding, size): (&str, _, _)| Column { name: name.to_owned(), encoding, size };
        let mut columns: Vec<Column> = fixed.into_iter().map(column).collect();
        columns.extend(payloads.into_iter().map(|name| Column { name, encoding: "bytes", size: None }));
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        let body = Body { held: Vec::new(), bytes: 0, file: None };
        Ok(Mds { output, body, sizes: Vec::new(), columns })
    }

    fn description(&self) -> Map<String, Value> {
        let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let encodings: Vec<&str> = self.columns.iter().map(|c| c.encoding).collect();
        let sizes: Vec<Option<usize>> = self.columns.iter().map(|c| c.size).collect();
        let value = json!({
            "column_encodings": encodings,
            "column_names": names,
            "column_sizes": sizes,
            "compression": null,
            "format": "mds",
            "hashes": ["xxh128"],
            "size_limit": null,
            "version": 2,
        });
        value.as_object().cloned().unwrap_or_default()
    }
}

impl Writer for Mds {
    fn add(&mut self, mut sample: Sample) -> Result<()> {
        let mut attributes = canonical(&sample.attributes)?;
        let width = i64::from(sample.width).to_le_bytes();
        let height = i64::from(sample.height).to_le_bytes();
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let payload = |p: &Binary| p.name == column.name;
            values.push(match column.name.as_str() {
                "id" => sample.id.as_bytes().to_vec(),
                "image" if sample.format == Encoding::Raw.name() => ndarray(&sample),
                "image" => std::mem::take(&mut sample.image),
                "width" => width.to_vec(),
                "height" => height.to_vec(),
                "attributes" => std::mem::take(&mut attributes),
                _ => sample
                    .payloads
                    .iter_mut()
                    .find(|p| payload(p))
                    .map(|p| std::mem::take(&mut p.data))
                    .unwrap_or_default(),
            });
        }
        let mut sizes = Vec::with_capacity(4 * values.len());
        for (column, value) in self.columns.iter().zip(&values) {
            if column.size.is_none() {
                sizes.extend(offset(value.len() as u64)?.to_le_bytes());
            }
        }
        self.sizes.push(sizes.len() as u64 + values.iter().map(|v| v.len() as u64).sum::<u64>());
        self.body.add(sizes);
        values.into_iter().for_each(|value| self.body.add(value));
        self.body.settle(&self.output)
    }

    fn finish(self: Box<Self>) -> Result<(Output, Option<Value>)> {
        let mut entry = self.description();
        let description = canonical(&entry)?;
        let Mds { mut output, body, sizes, .. } = *self;
        let mut position = 4 + 4 * (sizes.len() as u64 + 1) + description.len() as u64;
        output.put(&offset(sizes.len() as u64)?.to_le_bytes())?;
        output.put(&offset(position)?.to_le_bytes())?;
        for size in &sizes {
            position += size;
            output.put(&offset(position)?.to_le_bytes())?;
        }
        output.put(&description)?;
        body.pour_into(&mut output)?;
        entry.insert("samples".into(), sizes.len().into());
        entry.insert("zip_data".into(), Value::Null);
        let hashes = json!({"xxh128": output.xxh128()});
        let raw = json!({"basename": output.name(), "bytes": output.bytes(), "hashes": hashes});
        entry.insert("raw_data".into(), raw);
        Ok((output, Some(Value::Object(entry))))
    }
}

/// The number of axes and the width of their lengths in one byte, the lengths, the values.
fn ndarray(sample: &Sample) -> Vec<u8> {
    let shape = [sample.height, sample.width, 3];
    let pixels = npy_pixels(&sample.image);
    let mut data = Vec::with_capacity(pixels.len() + 8);
    if let [Ok(height), Ok(width), Ok(channels)] = shape.map(u8::try_from) {
        data.extend([3 << 2, height, width, channels]);
    } else {
        data.push(3 << 2 | 1);
        data.extend(shape.iter().flat_map(|&side| (side as u16).to_le_bytes()));
    }
    data.extend_from_slice(pixels);
    data
}

fn offset(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| {
        Error::Config(
            "an MDS shard can not hold more than 4 GiB: lower samples_per_shard in the recipe".into(),
        )
    })
}
