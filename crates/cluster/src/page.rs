//! A list, page by page, each answer taken apart while it comes: one item at a time, never the page.
//!
//! An answer is `{"kind":…,"metadata":{…},"items":[{…},{…}]}`. What stands in `items` is given out as soon as it is
//! complete; the rest is small and kept. So memory grows with the largest object, not with what the server thinks a page
//! may hold: a page of ConfigMaps can have hundreds of megabytes.

use http::{Request, header};
use serde_json::Value;

use crate::error::Failure;
use crate::{Cluster, Error, Place};

/// A list, page by page.
pub(crate) struct Pages<'a> {
    place: Place<'a>,
    metadata: bool,
    /// Where the next page begins.
    token: String,
    /// Objects that a page may have.
    limit: u64,
}

impl<'a> Pages<'a> {
    /// Bytes that a page should have: enough that few requests do, little enough for the server, which holds them all.
    const BYTES: u64 = 2 << 20;
    /// Objects of the first page, of whose size nothing is known, and of any page.
    const FIRST: u64 = 50;
    const MOST: u64 = 1000;

    pub(crate) const fn new(place: Place<'a>, metadata: bool) -> Self {
        Self { place, metadata, token: String::new(), limit: Self::FIRST }
    }

    /// Reads the next page, one object at a time, and tells whether there is one more.
    pub(crate) async fn next(&mut self, cluster: &Cluster, each: &mut impl FnMut(Value)) -> Result<bool, Error> {
        let (rest, count, bytes) = loop {
            match self.page(cluster, each).await {
                Ok(page) => break page,
                // The token outlived what etcd keeps; the answer has one that goes on from there.
                Err(Error::Expired(next)) if !next.is_empty() && next != self.token => self.token = next,
                Err(error) => return Err(error),
            }
        };
        // The next page by what these objects were like, but not at once: the last of them may have been small.
        let wanted = Self::BYTES * count.max(1) / bytes.max(1);
        self.limit = wanted.clamp(1, Self::MOST).min(self.limit * 4);
        match rest.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) if !next.is_empty() => {
                next.clone_into(&mut self.token);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// One page: what stands around its objects, their number, and the bytes of the answer.
    async fn page(&self, cluster: &Cluster, each: &mut impl FnMut(Value)) -> Result<(Value, u64, u64), Error> {
        const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let resource = self.place.resource;
        let mut path = format!("{}?limit={}", self.place.path(), self.limit);
        if !self.token.is_empty() {
            path.push_str("&continue=");
            path.push_str(&self.token);
        }
        let request =
            Request::get(path).header(header::ACCEPT, if self.metadata { METADATA } else { "application/json" });
        let request = request.body(Vec::new()).map_err(|error| Error::Request(error.to_string()))?;
        let failed = |failure| Error::of_request(&cluster.server, &cluster.user, self.place.asked("list"), failure);
        let mut body = cluster.answer(request).await.map_err(failed)?.into_body();
        let mut splitter = Splitter::default();
        let (mut count, mut bytes, mut garbled) = (0, 0, None);
        while let Some(part) = cluster.more(&mut body).await.map_err(failed)? {
            bytes += part.len() as u64;
            splitter.feed(&part, |item| match serde_json::from_slice::<Value>(item) {
                Ok(mut item) => {
                    // A list's items leave out what the list says.
                    if let Some(object) = item.as_object_mut() {
                        object.insert("apiVersion".to_owned(), resource.api_version().into());
                        object.insert("kind".to_owned(), resource.kind.clone().into());
                    }
                    count += 1;
                    each(item);
                }
                Err(error) => garbled = Some(error),
            });
        }
        let rest = splitter.finish();
        match (garbled, rest) {
            (None, Ok(rest)) => Ok((rest, count, bytes)),
            (Some(error), _) | (None, Err(error)) => Err(failed(Failure::Garbled(error.to_string()))),
        }
    }
}

/// Takes the bytes of an answer as they come.
#[derive(Debug, Default)]
struct Splitter {
    /// Everything outside `items`.
    rest: Vec<u8>,
    /// The item that is not complete yet.
    item: Vec<u8>,
    /// Brackets and braces that are open.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Where the last text began in `rest`, at the depth of the answer's own keys.
    text: usize,
    /// Whether what comes is the value of the answer's `items`.
    items: bool,
}

impl Splitter {
    /// Takes more bytes, and calls `each` with the text of every item that they complete.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for &byte in bytes {
            let inside = self.items && self.depth >= 2;
            if self.in_string {
                self.keep(inside, byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 {
                        self.text = self.rest.len();
                    }
                    self.keep(inside, byte);
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.keep(inside, byte);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    let inside = self.items && self.depth >= 2;
                    self.keep(inside, byte);
                    if inside && self.depth == 2 {
                        each(&self.item);
                        self.item.clear();
                    } else if self.depth == 1 {
                        self.items = false;
                    }
                }
                b':' if self.depth == 1 => {
                    self.items = self.rest.get(self.text..) == Some(b"\"items\"");
                    self.rest.push(byte);
                }
                // What stands between items belongs to none.
                b',' if inside && self.depth == 2 => {}
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => self.keep(inside, byte),
            }
        }
    }

    fn keep(&mut self, inside: bool, byte: u8) {
        if inside { self.item.push(byte) } else { self.rest.push(byte) }
    }

    /// The answer without its items.
    ///
    /// # Errors
    /// Where what came is no JSON.
    fn finish(self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Splitter;

    fn split(text: &[u8], chunk: usize) -> (Vec<Value>, Value) {
        let (mut splitter, mut items) = (Splitter::default(), Vec::new());
        for part in text.chunks(chunk.max(1)) {
            splitter.feed(part, |item| items.push(serde_json::from_slice(item).unwrap()));
        }
        (items, splitter.finish().unwrap())
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i32>().prop_map(|n| json!(n)),
            any::<bool>().prop_map(|b| json!(b)),
            r#"[a-z"\\\[\]{}:, é\n]{0,8}"#.prop_map(|text| json!(text)),
            Just(json!("items")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("items|a|\"b", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("items|metadata|b", value(), 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        /// However the answer is cut into packets, and whatever the objects hold.
        #[test]
        fn a_page_taken_apart_is_the_page(
            items in prop::collection::vec(object(), 0..5), metadata in object(), chunk in 1_usize..40, pretty: bool, last: bool,
        ) {
            let page = if last {
                json!({ "kind": "List", "metadata": metadata, "items": items })
            } else {
                json!({ "items": items, "kind": "items", "metadata": metadata })
            };
            let text = if pretty { serde_json::to_vec_pretty(&page) } else { serde_json::to_vec(&page) };
            let (found, rest) = split(&text.unwrap(), chunk);
            prop_assert_eq!(found, items);
            prop_assert_eq!(&rest["items"], &json!([]));
            prop_assert_eq!(&rest["metadata"], &metadata);
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_answer() {
        let mut splitter = Splitter::default();
        splitter.feed(br#"{"kind":"List","items":[{"a":1},{"b""#, |_| {});
        assert!(splitter.finish().is_err());
        assert_eq!(split(br#"{"kind":"List","items":null}"#, 3).0, [] as [Value; 0]);
    }
}
