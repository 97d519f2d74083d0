//! WebDataset: the headers of the tar are read once, on opening; a sample then with one read or few.

use serde_json::{Map, Value};

use super::{Place, Rows, Stored, Wanted, check_sizes, size};
use crate::error::Result;

const BLOCK: u64 = 512;
/// A longer name is not ours.
const LONGEST: u64 = 1 << 16;
/// Bytes between two members that are better read along than skipped with a second read.
const GAP: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Member {
    at: u64,
    length: u64,
}

struct Entry {
    id: String,
    image: Option<Member>,
    attributes: Option<Member>,
    payloads: Vec<(String, Member)>,
}

pub struct Tar {
    place: Place,
    entries: Vec<Entry>,
}

impl Tar {
    pub fn open(place: Place) -> Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = 0;
        let mut long = None;
        let mut header = [0; BLOCK as usize];
        loop {
            if at + BLOCK > place.length() {
                return Err(place.damaged("the tar has no end"));
            }
            place.read_into(at, &mut header)?;
            if header.iter().all(|&byte| byte == 0) {
                break;
            }
            let length = check(&header).ok_or_else(|| place.damaged("a header of the tar is none"))?;
            at += BLOCK;
            let next = at.saturating_add(length.next_multiple_of(BLOCK));
            if next > place.length() {
                return Err(place.damaged("the tar ends within a member"));
            }
            match header[156] {
                b'x' if length <= LONGEST => {
                    let record = place.read(at, length)?;
                    let path = pax_path(&record).ok_or_else(|| place.damaged("a PAX record is none"))?;
                    long = Some(path);
                }
                b'0' => {
                    let short = header[..100].split(|&byte| byte == 0).next().unwrap_or_default();
                    let name = long.take().unwrap_or_else(|| String::from_utf8_lossy(short).into_owned());
                    take(&mut entries, &name, Member { at, length });
                }
                _ => return Err(place.damaged("a member of the tar is no plain file")),
            }
            at = next;
        }
        if entries.iter().any(|entry| entry.image.is_none()) {
            return Err(place.damaged("a sample has no picture"));
        }
        Ok(Tar { place, entries })
    }
}

impl Rows for Tar {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn sizes(&self) -> Result<Vec<(u32, u32)>> {
        let one = |entry: &Entry| {
            let json = entry.attributes.unwrap_or(Member { at: 0, length: 0 });
            let text = self.place.read(json.at, json.length)?;
            let map: Value = serde_json::from_slice(&text).unwrap_or_default();
            let side = |name: &str| map[name].as_u64().and_then(|side| u32::try_from(side).ok());
            size(side("width"), side("height"), &self.place)
        };
        self.entries.iter().map(one).collect()
    }

    fn row(&self, row: usize, wanted: &Wanted) -> Result<Stored> {
        let entry = &self.entries[row];
        let mut stored = Stored { id: entry.id.clone(), ..Stored::default() };
        let chosen: Vec<Option<Member>> = (wanted.payloads.iter())
            .map(|name| entry.payloads.iter().find(|(found, _)| found == name).map(|(_, member)| *member))
            .collect();
        let image = entry.image.unwrap_or(Member { at: 0, length: 0 });
        let lengths = chosen.iter().flatten().chain([&image]).map(|member| member.length);
        if let Err(failure) = check_sizes(lengths, wanted) {
            stored.failure = Some(failure);
            return Ok(stored);
        }
        let json = entry.attributes.unwrap_or(Member { at: image.at, length: 0 });
        let end = image.at + image.length;
        stored.image = 0..image.length as usize;
        let near = json.at >= end && json.at - end <= GAP && json.length <= wanted.max_bytes;
        let text = if near {
            let all = json.at + json.length - image.at;
            stored.data = self.place.read(image.at, all)?;
            stored.data[(json.at - image.at) as usize..].to_vec()
        } else {
            stored.data = self.place.read(image.at, image.length)?;
            self.place.read(json.at, json.length)?
        };
        stored.attributes = attributes(&text).ok_or_else(|| self.place.damaged("a sample's json is none"))?;
        for member in chosen {
            let found = member.map(|member| self.place.read(member.at, member.length));
            stored.payloads.push(found.transpose()?);
        }
        Ok(stored)
    }
}

/// A member belongs to the sample whose id is the part of the name before the first dot.
fn take(entries: &mut Vec<Entry>, name: &str, member: Member) {
    let (id, rest) = name.split_once('.').unwrap_or((name, ""));
    if entries.last().is_none_or(|entry| entry.id != id) {
        let entry = Entry { id: id.to_owned(), image: None, attributes: None, payloads: Vec::new() };
        entries.push(entry);
    }
    let Some(entry) = entries.last_mut() else { return };
    match (rest, rest.split_once('.')) {
        ("json", _) => entry.attributes = Some(member),
        ("txt", _) => {}
        (_, Some((payload, _))) => entry.payloads.push((payload.to_owned(), member)),
        (_, None) => entry.image = Some(member),
    }
}

/// The attributes without the size, which the writer of a tar puts among them.
fn attributes(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(b"{}".to_vec());
    }
    let mut map: Map<String, Value> = serde_json::from_slice(text).ok()?;
    map.remove("width");
    map.remove("height");
    serde_json::to_vec(&map).ok()
}

/// The length that a header gives, if it is one.
fn check(header: &[u8; BLOCK as usize]) -> Option<u64> {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u64::from(byte) })
        .sum();
    (octal(&header[148..156])? == sum).then_some(())?;
    octal(&header[124..136])
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

/// The path in the records of a PAX header, each `<length> <key>=<value>\n`.
fn pax_path(mut data: &[u8]) -> Option<String> {
    while !data.is_empty() {
        let space = data.iter().position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        let record = std::str::from_utf8(data.get(space + 1..length)?).ok()?.strip_suffix('\n')?;
        if let Some(path) = record.strip_prefix("path=") {
            return Some(path.to_owned());
        }
        data = &data[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_among_the_records_of_a_pax_header() {
        assert_eq!(pax_path(b"13 mtime=123\n14 path=a.jpg\n").as_deref(), Some("a.jpg"));
        for bad in [&b"x"[..], b"99 path=a\n", b"3 path=a\n", b"0 path=a\n", b" path=a\n"] {
            assert_eq!(pax_path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_size_is_no_attribute() {
        let text = br#"{"caption":"a","height":1,"score":0.50,"width":2}"#;
        assert_eq!(attributes(text).as_deref(), Some(&br#"{"caption":"a","score":0.50}"#[..]));
        assert_eq!(attributes(b"[]"), None);
    }
}
