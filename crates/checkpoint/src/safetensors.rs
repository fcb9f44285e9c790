//! The header of a safetensors file: 8 bytes with its length (little endian), JSON, spaces. Pure.
//!
//! Source: the format's description and its reference reader (crate `safetensors` 0.8, `tensor.rs`): the tensors lie one
//! after the other without a hole and the last ends with the file; at most 100,000,000 bytes of JSON; the JSON may end
//! in spaces. Ours is padded so that data begins on a page, which O_DIRECT needs.

use std::fmt::Write as _;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::dtype::DType;

/// Data begins at a multiple of this: what O_DIRECT needs on every device that is sold (512 or 4096 bytes a block).
pub(crate) const PAGE: u64 = 4096;

/// What the reference reader takes at most.
pub(crate) const MOST_HEADER: u64 = 100_000_000;

/// The key that is no tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// One tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The type of its elements.
    pub dtype: DType,
    /// Elements along each axis.
    pub shape: Vec<u64>,
    /// First byte and end, counted from where the data begins.
    pub data_offsets: (u64, u64),
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tensors, in the order of their data.
    pub tensors: Vec<(String, Entry)>,
    /// Where data begins in the file.
    pub start: u64,
    /// Bytes of data.
    pub length: u64,
}

/// What JSON has: names may come twice, which a map would hide.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl Header {
    /// Bytes of header that a file begins with, from its first 8 bytes: length and JSON.
    ///
    /// # Errors
    /// Half a sentence, when it is more than any reader takes.
    pub fn size(first: [u8; 8]) -> Result<u64, String> {
        let length = u64::from_le_bytes(first);
        if length > MOST_HEADER {
            return Err(format!("its header would have {length} bytes; at most {MOST_HEADER} are allowed"));
        }
        Ok(length + 8)
    }

    /// Reads a header: the first [`Header::size`] bytes of a file.
    ///
    /// # Errors
    /// Half a sentence that tells what no reader would take.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (first, json) = bytes.split_first_chunk::<8>().ok_or("it is shorter than 8 bytes")?;
        let start = Self::size(*first)?;
        if start != bytes.len() as u64 {
            return Err(format!("its header should have {start} bytes and has {}", bytes.len()));
        }
        let Entries(mut tensors) =
            serde_json::from_slice(json).map_err(|error| format!("its header is no header of tensors: {error}"))?;
        tensors.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut end = 0;
        for (name, entry) in &tensors {
            let (from, to) = entry.data_offsets;
            let bytes = entry.dtype.bytes(&entry.shape).ok_or_else(|| format!("`{name}` has an impossible shape"))?;
            if from != end || from.checked_add(bytes) != Some(to) {
                return Err(format!("`{name}` should be the bytes {end}.. and {bytes} long; it is {from}..{to}"));
            }
            end = to;
        }
        let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("`{}` is there twice", pair[0]));
        }
        Ok(Self { tensors, start, length: end })
    }
}

/// The order of tensors in a file: whole pages first, so that these begin on a page, too; then wide elements first, so that
/// each begins at a multiple of its element's size.
pub(crate) fn order<'a>(dtype: DType, shape: &[u64], name: &'a str) -> (bool, std::cmp::Reverse<u64>, &'a str) {
    let is_pages = dtype.bytes(shape).is_some_and(|bytes| bytes.is_multiple_of(PAGE));
    (!is_pages, std::cmp::Reverse(dtype.bits()), name)
}

/// The order (indexes) in which tensors are written: whoever still puts them into memory does best in that order.
#[must_use]
pub fn file_order(tensors: &[(&str, DType, &[u64])]) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..tensors.len()).collect();
    indexes.sort_by_key(|index| {
        let (name, dtype, shape) = tensors[*index];
        order(dtype, shape, name)
    });
    indexes
}

/// Writes a header for tensors that come in this order; its length is a multiple of [`PAGE`].
pub(crate) fn header<'a>(tensors: impl Iterator<Item = (&'a str, DType, &'a [u64])>) -> Result<Vec<u8>, String> {
    // The first 8 bytes are kept free for the length.
    let mut text = "        {".to_owned();
    let _ = write!(text, "\"{METADATA}\":{{\"writer\":\"bedplate-checkpoint\"}}");
    let mut end = 0_u64;
    for (name, dtype, shape) in tensors {
        let length = dtype.bytes(shape).ok_or_else(|| format!("`{name}` has an impossible shape {shape:?}"))?;
        let next = end.checked_add(length).ok_or("the tensors are more than a file can hold")?;
        let entry = Entry { dtype, shape: shape.to_vec(), data_offsets: (end, next) };
        let json = |value: Result<String, serde_json::Error>| value.map_err(|error| error.to_string());
        let _ = write!(text, ",{}:{}", json(serde_json::to_string(name))?, json(serde_json::to_string(&entry))?);
        end = next;
    }
    text.push('}');
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(PAGE as usize), b' ');
    let length = bytes.len() as u64 - 8;
    if length > MOST_HEADER {
        return Err(format!("the names and shapes of the tensors take {length} bytes; a file takes {MOST_HEADER}"));
    }
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Header, String> {
        Header::parse(&[&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat())
    }

    #[test]
    fn our_header_is_read_by_us_and_by_the_reference() {
        let tensors = [("wide", DType::F64, &[2_u64, 3][..]), ("a\"b", DType::BF16, &[0, 7]), ("s", DType::U8, &[])];
        let mut file = header(tensors.iter().copied()).unwrap();
        assert_eq!(file.len() % 4096, 0);
        let ours = Header::parse(&file).unwrap();
        assert_eq!((ours.start, ours.length), (4096, 49));
        file.resize(file.len() + 49, 7);
        let reference = safetensors::SafeTensors::deserialize(&file).unwrap();
        for (name, dtype, shape) in tensors {
            let view = reference.tensor(name).unwrap();
            assert_eq!(view.dtype().to_string(), dtype.name());
            assert_eq!(view.shape().iter().map(|side| *side as u64).collect::<Vec<_>>(), shape);
        }
    }

    #[test]
    fn element_types_are_those_of_the_reference() {
        for dtype in DType::ALL {
            let other: safetensors::Dtype = serde_json::from_str(&format!("\"{}\"", dtype.name())).unwrap();
            assert_eq!(other.bitsize() as u64, dtype.bits(), "{}", dtype.name());
        }
    }

    #[test]
    fn a_hostile_header_is_refused_with_its_reason() {
        let entry = |from: u64, to: u64| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":[{from},{to}]}}"#);
        let cases = [
            of(&format!(r#"{{"a":{},"b":{}}}"#, entry(0, 4), entry(3, 7))),
            of(&format!(r#"{{"a":{},"b":{}}}"#, entry(0, 4), entry(5, 9))),
            of(&format!(r#"{{"a":{},"a":{}}}"#, entry(0, 4), entry(4, 8))),
            of(&format!(r#"{{"a":{}}}"#, entry(4, 0))),
            of(r#"{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#),
            of(r#"{"a":{"dtype":"F64","shape":[0,4294967296,4294967296,4294967296],"data_offsets":[0,0]}}"#),
            of(r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#),
            of("[]"),
            Header::parse(&u64::MAX.to_le_bytes()),
            Header::parse(&[1, 2]),
            Header::parse(&[9, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']),
        ];
        let reasons: Vec<String> = cases.into_iter().map(Result::unwrap_err).collect();
        insta::assert_snapshot!(reasons.join("\n"), @r"
        `b` should be the bytes 4.. and 4 long; it is 3..7
        `b` should be the bytes 4.. and 4 long; it is 5..9
        `a` is there twice
        `a` should be the bytes 0.. and 4 long; it is 4..0
        `a` has an impossible shape
        `a` has an impossible shape
        `a` has an impossible shape
        its header is no header of tensors: invalid type: sequence, expected an object of tensors at line 1 column 0
        its header would have 18446744073709551615 bytes; at most 100000000 are allowed
        it is shorter than 8 bytes
        its header should have 17 bytes and has 10
        ");
    }
}
