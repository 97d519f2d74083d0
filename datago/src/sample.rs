//! One record made ready for a shard: read, cut, resized, encoded.

use std::sync::Mutex;

use pyo3::prelude::*;
use serde_json::{Map, Value};

use crate::decode::{self, Limits};
use crate::error::{Error, Result};
use crate::fit::{self, Encode};
use crate::mask;
use crate::orient::displayed;
use crate::reason::{Failure, Verdict};
use crate::source::Source;
use crate::spare::Shelf;

/// What becomes of the picture.
#[derive(Clone, Copy, Debug)]
pub enum Treatment {
    /// The source's bytes, untouched.
    Bytes,
    /// Upright, over white, cut and resized to exactly `target`, encoded anew.
    Fitted { target: (u32, u32), encode: Encode },
}

/// What becomes of a payload when its picture is fitted.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    Untouched,
    /// Cut and resized as the picture is, by nearest neighbour, and PNG.
    Mask,
    /// Cut and resized as a picture of its own, and encoded so.
    Picture(Encode),
}

/// A binary beside the picture, as handed over by Python.
#[derive(FromPyObject)]
pub struct Payload {
    pub name: String,
    pub extension: String,
    pub data: Source,
    pub is_mask: bool,
}

impl Role {
    fn extension(self, own: &str) -> String {
        match self {
            Role::Untouched => own,
            Role::Mask => "png",
            Role::Picture(encode) => encode.encoding.extension(),
        }
        .to_owned()
    }
}

impl Payload {
    /// `extra_images` names the payloads that become what the picture becomes.
    pub fn role(&self, extra_images: &[String], encode: Encode) -> Role {
        match (self.is_mask, extra_images.contains(&self.name)) {
            (true, _) => Role::Mask,
            (false, true) => Role::Picture(encode),
            (false, false) => Role::Untouched,
        }
    }
}

/// One sample, as handed over by Python.
#[derive(FromPyObject)]
pub struct Record {
    pub sample_id: String,
    pub image: Source,
    pub extension: String,
    pub attributes: Vec<u8>,
    pub payloads: Vec<Payload>,
}

impl Record {
    /// Everything to be read for it, in the order in which `prepare` reads.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.image).chain(self.payloads.iter().map(|payload| &payload.data))
    }
}

/// One sample, ready to be written.
pub struct Sample {
    pub id: String,
    pub image: Vec<u8>,
    pub extension: String,
    /// The format's name, as in the `format` column of an inspection.
    pub format: &'static str,
    pub width: u32,
    pub height: u32,
    pub attributes: Map<String, Value>,
    pub payloads: Vec<Binary>,
}

pub struct Binary {
    pub name: String,
    pub extension: String,
    pub data: Vec<u8>,
}

/// Names that a payload can not have, because a column or member of a shard has them.
const RESERVED: &[&str] =
    &["id", "sample_id", "image", "format", "width", "height", "attributes", "json", "txt"];

/// Refuses what could escape a folder, break a WebDataset key or collide inside a shard.
pub fn check(record: &Record) -> Result<Map<String, Value>> {
    let id = &record.sample_id;
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let bad = |what: String| Err(Error::Input(format!("sample {id:?}: {what}")));
    if !word(id) {
        return bad("a sample id may only hold letters, digits, '_' and '-'".into());
    }
    if !word(&record.extension) || matches!(record.extension.as_str(), "json" | "txt") {
        return bad(format!("{:?} can not be the extension of an image", record.extension));
    }
    for (index, payload) in record.payloads.iter().enumerate() {
        let name = &payload.name;
        if !word(name) || !word(&payload.extension) {
            let extension = &payload.extension;
            return bad(format!(
                "payload {name:?} with extension {extension:?}: only letters, digits, '_' and '-' may stand there"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return bad(format!("{name:?} is a name of our own and can not be a payload's; rename it"));
        }
        if record.payloads[..index].iter().any(|other| other.name == *name) {
            return bad(format!("two payloads are called {name:?}"));
        }
    }
    match serde_json::from_slice(&record.attributes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => bad("its attributes must be a JSON object".into()),
        Err(cause) => bad(format!("its attributes are not JSON: {cause}")),
    }
}

/// Does the work for one record. `attributes` is taken out, because each record is prepared once. `extra_images` names the
/// payloads that become what the picture becomes. Files are read into buffers of `shelf`.
pub fn prepare(
    record: &Record,
    attributes: &Mutex<Map<String, Value>>,
    treatment: Treatment,
    extra_images: &[String],
    limits: Limits,
    shelf: &Shelf,
) -> Verdict<Sample> {
    let data = record.image.load_in(shelf.take(), limits.max_bytes)?;
    let header = decode::header(&data)?;
    decode::check(&header, limits)?;
    let shown = displayed(header.width, header.height, header.orientation);
    let (image, extension, format, size) = match treatment {
        Treatment::Bytes => (data.into_vec(), record.extension.clone(), header.format.name(), shown),
        Treatment::Fitted { target, encode } => {
            let image = fit::encoded(&data, &header, target, limits, encode)?;
            let encoding = encode.encoding;
            (image, encoding.extension().to_owned(), encoding.name(), target)
        }
    };
    let mut payloads = Vec::with_capacity(record.payloads.len());
    for payload in &record.payloads {
        let data = payload.data.load_in(shelf.take(), limits.max_bytes)?;
        let fitted = match treatment {
            Treatment::Fitted { target, encode } => {
                let role = payload.role(extra_images, encode);
                fitted(&payload.name, &data, role, shown, target, limits)?
                    .map(|data| (data, role.extension(&payload.extension)))
            }
            Treatment::Bytes => None,
        };
        let (data, extension) = fitted.unwrap_or_else(|| (data.into_vec(), payload.extension.clone()));
        payloads.push(Binary { name: payload.name.clone(), extension, data });
    }
    payloads.sort_by(|a, b| a.name.cmp(&b.name));
    let attributes = attributes.lock().map(|mut held| std::mem::take(&mut *held)).unwrap_or_default();
    Ok(Sample {
        id: record.sample_id.clone(),
        image,
        extension,
        format,
        width: size.0,
        height: size.1,
        attributes,
        payloads,
    })
}

/// What a payload of this name becomes beside a picture that is displayed at `shown` and fitted to `target`; `None` if it
/// stays as it is.
pub fn fitted(
    name: &str,
    data: &[u8],
    role: Role,
    shown: (u32, u32),
    target: (u32, u32),
    limits: Limits,
) -> Verdict<Option<Vec<u8>>> {
    match role {
        Role::Untouched => return Ok(None),
        Role::Mask => mask::fit(data, shown, target, limits),
        Role::Picture(encode) => {
            decode::header(data).and_then(|header| fit::encoded(data, &header, target, limits, encode))
        }
    }
    .map(Some)
    .map_err(|mut failure: Failure| {
        failure.detail = format!("Payload {name}: {}", failure.detail);
        failure
    })
}
