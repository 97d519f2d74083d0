//! MDS, the format of mosaicml-streaming, version 2.
//!
//! A shard is: number of samples (u32), offsets of every sample and of the end (u32), the column description as JSON,
//! then the samples. A sample is the sizes (u32) of its columns of variable size, then the columns, sorted by name.
//! All numbers are little endian. A payload that a sample lacks is an empty column.

use std::sync::Mutex;

use serde_json::{Map, Value, json};

use super::compress::{Compression, Measure, Sink};
use super::output::Output;
use super::{Job, Writer, canonical};
use crate::encode::{Encoding, npy_pixels};
use crate::error::{Error, Result};
use crate::sample::{Record, Sample, Treatment};
use crate::source::Source;

/// How mosaicml-streaming calls an array of bytes whose shape comes with it.
const NDARRAY: &str = "ndarray:uint8";

struct Column {
    name: String,
    encoding: &'static str,
    size: Option<usize>,
}

/// The most bytes of samples that are held in memory.
const HELD: usize = 128 << 20;

/// The samples, kept aside until their number and sizes are known: in memory, and in a file once they are many.
#[derive(Default)]
struct Body {
    held: Vec<u8>,
    file: Option<Output>,
}

impl Body {
    fn add(&mut self, pieces: &[&[u8]], output: &Output) -> Result<()> {
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
        if self.held.len() < HELD {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(output.scratch()?),
        };
        file.put(&self.held)?;
        self.held.clear();
        Ok(())
    }

    fn pour_into(self, sink: &mut Sink) -> Result<()> {
        if let Some(file) = self.file {
            file.pour(&mut |piece| sink.put(piece))?;
        }
        sink.put(&self.held)
    }
}

enum Way {
    /// Sizes are not known yet.
    Aside(Output, Box<Body>),
    /// Sizes were foretold and stand in the file already, and samples follow them.
    Straight(Sink, Vec<u64>),
}

pub struct Mds {
    way: Way,
    sizes: Vec<u64>,
    layout: Layout,
}

struct Layout {
    columns: Vec<Column>,
    compression: Option<Compression>,
}

impl Mds {
    /// `foretold` are the sizes that all samples will have, as `foretell` gives them.
    pub fn new(
        mut output: Output,
        job: &Job<'_>,
        payloads: Vec<String>,
        foretold: Option<Vec<u64>>,
    ) -> Result<Self> {
        output.hash_xxh128();
        // The reader turns `jpeg` and `png` columns into pictures; what it has no word for stays bytes.
        let encoding = match job.treatment {
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
        let layout = Layout { columns, compression: job.compression };
        let way = match foretold {
            Some(sizes) => Way::Straight(layout.begin(output, &sizes)?, sizes),
            None => Way::Aside(output, Box::default()),
        };
        Ok(Mds { way, sizes: Vec::new(), layout })
    }
}

impl Layout {
    fn description(&self) -> Map<String, Value> {
        let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let encodings: Vec<&str> = self.columns.iter().map(|c| c.encoding).collect();
        let sizes: Vec<Option<usize>> = self.columns.iter().map(|c| c.size).collect();
        let value = json!({
            "column_encodings": encodings,
            "column_names": names,
            "column_sizes": sizes,
            "compression": self.compression.map(Compression::name),
            "format": "mds",
            "hashes": ["xxh128"],
            "size_limit": null,
            "version": 2,
        });
        value.as_object().cloned().unwrap_or_default()
    }

    /// Puts what stands before samples of these sizes.
    fn begin(&self, output: Output, sizes: &[u64]) -> Result<Sink> {
        let description = canonical(&self.description())?;
        let mut position = 4 + 4 * (sizes.len() as u64 + 1) + description.len() as u64;
        let mut numbers = Vec::with_capacity(8 + 4 * sizes.len());
        numbers.extend(offset(sizes.len() as u64)?.to_le_bytes());
        numbers.extend(offset(position)?.to_le_bytes());
        for size in sizes {
            position += size;
            numbers.extend(offset(position)?.to_le_bytes());
        }
        let mut sink = Sink::begin(output, self.compression, position)?;
        sink.put(&numbers)?;
        sink.put(&description)?;
        Ok(sink)
    }
}

impl Writer for Mds {
    fn add(&mut self, sample: &mut Sample) -> Result<()> {
        let attributes = canonical(&sample.attributes)?;
        let width = i64::from(sample.width).to_le_bytes();
        let height = i64::from(sample.height).to_le_bytes();
        let array = (sample.format == Encoding::Raw.name()).then(|| ndarray(sample));
        let payload = |name: &str| sample.payloads.iter().find(|p| p.name == name);
        let value = |column: &Column| match column.name.as_str() {
            "id" => sample.id.as_bytes(),
            "image" => array.as_deref().unwrap_or(&sample.image),
            "width" => &width,
            "height" => &height,
            "attributes" => &attributes,
            name => payload(name).map_or(&[][..], |p| &p.data),
        };
        let values: Vec<&[u8]> = self.layout.columns.iter().map(value).collect();
        let mut sizes = Vec::with_capacity(4 * values.len());
        for (column, value) in self.layout.columns.iter().zip(&values) {
            if column.size.is_none() {
                sizes.extend(offset(value.len() as u64)?.to_le_bytes());
            }
        }
        let pieces: Vec<&[u8]> = std::iter::once(&sizes[..]).chain(values).collect();
        self.sizes.push(pieces.iter().map(|piece| piece.len() as u64).sum());
        match &mut self.way {
            Way::Straight(_, foretold) if foretold.get(self.sizes.len() - 1) != self.sizes.last() => Ok(()),
            Way::Straight(sink, _) => pieces.iter().try_for_each(|piece| sink.put(piece)),
            Way::Aside(output, body) => body.add(&pieces, output),
        }
    }

    fn finish(self: Box<Self>) -> Result<Option<(Output, Option<Value>)>> {
        let Mds { way, sizes, layout } = *self;
        let sink = match way {
            Way::Straight(_, foretold) if foretold != sizes => return Ok(None),
            Way::Straight(sink, _) => sink,
            Way::Aside(output, body) => {
                let mut sink = layout.begin(output, &sizes)?;
                body.pour_into(&mut sink)?;
                sink
            }
        };
        let (mut output, raw) = sink.finish()?;
        let mut entry = layout.description();
        let name = output.name();
        let data = |name: &str, Measure { bytes, xxh128 }| json!({"basename": name, "bytes": bytes, "hashes": {"xxh128": xxh128}});
        let zip = layout.compression.map(|_| data(&name, output.measure()));
        let extension = layout.compression.map(|c| format!(".{}", c.name())).unwrap_or_default();
        entry.insert("samples".into(), sizes.len().into());
        entry.insert("zip_data".into(), zip.into());
        entry.insert("raw_data".into(), data(name.strip_suffix(&extension).unwrap_or(&name), raw));
        Ok(Some((output, Some(Value::Object(entry)))))
    }
}

/// The size that a sample of untouched bytes has, if its bytes are as many as they are said to be.
pub fn foretell(record: &Record, attributes: &Mutex<Map<String, Value>>, payloads: &[String]) -> Option<u64> {
    let attributes = canonical(&*attributes.lock().ok()?).ok()?;
    let text = record.sample_id.len() + attributes.len();
    let numbers = 4 * (3 + payloads.len()) + 16;
    let binaries = record.sources().map(Source::known_size).sum::<Option<u64>>()?;
    Some((text + numbers) as u64 + binaries)
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
