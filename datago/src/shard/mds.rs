//! MDS, the format of mosaicml-streaming, version 2.
//!
//! A shard is: number of samples (u32), offsets of every sample and of the end (u32), the column description as JSON,
//! then the samples. A sample is the sizes (u32) of its columns of variable size, then the columns, sorted by name.
//! All numbers are little endian. A payload that a sample lacks is an empty column.

use serde_json::{Map, Value, json};

use super::output::Output;
use super::{Writer, canonical};
use crate::encode::Encoding;
use crate::error::{Error, Result};
use crate::sample::{Sample, Treatment};

struct Column {
    name: String,
    encoding: &'static str,
    size: Option<usize>,
}

pub struct Mds {
    output: Output,
    /// The samples, kept aside until their number is known.
    body: Output,
    sizes: Vec<u64>,
    columns: Vec<Column>,
}

impl Mds {
    pub fn new(mut output: Output, treatment: Treatment, payloads: Vec<String>) -> Result<Self> {
        output.hash_sha256();
        // The reader turns `jpeg` and `png` columns into pictures; what it has no word for stays bytes.
        let image = match treatment {
            Treatment::Fitted { encoding: Encoding::Jpeg, .. } => "jpeg",
            Treatment::Fitted { encoding: Encoding::Png, .. } => "png",
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
        let body = output.scratch()?;
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
            "hashes": ["sha256"],
            "size_limit": null,
            "version": 2,
        });
        value.as_object().cloned().unwrap_or_default()
    }
}

impl Writer for Mds {
    fn add(&mut self, sample: &Sample) -> Result<()> {
        let attributes = canonical(&sample.attributes)?;
        let width = i64::from(sample.width).to_le_bytes();
        let height = i64::from(sample.height).to_le_bytes();
        let values: Vec<&[u8]> = self
            .columns
            .iter()
            .map(|column| match column.name.as_str() {
                "id" => sample.id.as_bytes(),
                "image" => &sample.image,
                "width" => &width,
                "height" => &height,
                "attributes" => &attributes,
                name => sample.payloads.iter().find(|p| p.name == name).map_or(&[][..], |p| &p.data),
            })
            .collect();
        let before = self.body.bytes();
        for (column, value) in self.columns.iter().zip(&values) {
            if column.size.is_none() {
                self.body.put(&offset(value.len() as u64)?.to_le_bytes())?;
            }
        }
        for value in values {
            self.body.put(value)?;
        }
        self.sizes.push(self.body.bytes() - before);
        Ok(())
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
        let hashes = json!({"sha256": output.sha256()});
        let raw = json!({"basename": output.name(), "bytes": output.bytes(), "hashes": hashes});
        entry.insert("raw_data".into(), raw);
        Ok((output, Some(Value::Object(entry))))
    }
}

fn offset(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| {
        Error::Config(
            "an MDS shard can not hold more than 4 GiB: lower samples_per_shard in the recipe".into(),
        )
    })
}
