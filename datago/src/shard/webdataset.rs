//! WebDataset: a tar whose members of one sample stand together and share the part before the first dot.

use serde_json::Value;

use super::output::Output;
use super::{Writer, canonical};
use crate::error::Result;
use crate::sample::Sample;

const BLOCK: usize = 512;
const NAME: usize = 100;

pub struct Tar {
    output: Output,
}

impl Tar {
    pub fn new(output: Output) -> Self {
        Tar { output }
    }

    fn member(&mut self, name: &str, data: &[u8]) -> Result<()> {
        if name.len() > NAME {
            let record = pax(name);
            self.entry("pax", b'x', &record)?;
        }
        self.entry(name, b'0', data)
    }

    fn entry(&mut self, name: &str, kind: u8, data: &[u8]) -> Result<()> {
        self.output.put(&header(name, kind, data.len() as u64))?;
        self.output.put(data)?;
        self.output.put(&[0; BLOCK][..data.len().next_multiple_of(BLOCK) - data.len()])
    }
}

impl Writer for Tar {
    fn add(&mut self, sample: &mut Sample) -> Result<()> {
        let id = &sample.id;
        let caption = match sample.attributes.get("caption") {
            Some(Value::String(caption)) => Some(caption.clone()),
            _ => None,
        };
        let mut attributes = std::mem::take(&mut sample.attributes);
        attributes.insert("width".into(), sample.width.into());
        attributes.insert("height".into(), sample.height.into());
        self.member(&format!("{id}.{}", sample.extension), &sample.image)?;
        self.member(&format!("{id}.json"), &canonical(&attributes)?)?;
        if let Some(caption) = caption {
            self.member(&format!("{id}.txt"), caption.as_bytes())?;
        }
        for payload in &sample.payloads {
            self.member(&format!("{id}.{}.{}", payload.name, payload.extension), &payload.data)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Option<(Output, Option<Value>)>> {
        self.output.put(&[0; 2 * BLOCK])?;
        Ok(Some((self.output, None)))
    }
}

/// A ustar header in which everything but name, kind and size is fixed.
fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(NAME)]);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A PAX record counts its own length, digits included.
fn pax(name: &str) -> Vec<u8> {
    let rest = format!(" path={name}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_itself() {
        for size in [1, 89, 90, 91, 92, 990, 991, 992] {
            let record = pax(&"x".repeat(size));
            let digits = record.iter().position(|&b| b == b' ').expect("a space");
            let claimed: usize = std::str::from_utf8(&record[..digits]).unwrap().parse().unwrap();
            assert_eq!(claimed, record.len());
        }
    }
}
