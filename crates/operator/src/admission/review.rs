//! `AdmissionReview` of `admission.k8s.io/v1`, in and out (`k8s.io/api/admission/v1/types.go`).

use std::borrow::Cow;

use bedplate_model::document::Limits;
use bedplate_model::{Entry, Node, Span, Style, Value};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::decide::Answer;

/// The version that is spoken.
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// An object comes.
    Create,
    /// An object changes.
    Update,
    /// An object goes.
    Delete,
    /// Something is done through an object.
    Connect,
}

impl Operation {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A request to the API server that wants to be admitted. Its objects borrow from the body.
#[derive(Clone, PartialEq, Debug)]
pub struct Request<'b> {
    /// Comes back in the answer.
    pub uid: String,
    /// What is asked for.
    pub operation: Operation,
    /// Kind of the object, such as `PyTorchJob`.
    pub kind: String,
    /// Name of the object; empty where the API server is to make one.
    pub name: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Who asks.
    pub user: String,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// The object as it is to be.
    pub object: Option<Node<'b>>,
    /// The object as it is.
    pub old: Option<Node<'b>>,
}

/// Why a body is no request that can be judged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not of the shape.
    #[error("not an AdmissionReview: {0}; expected one of admission.k8s.io/v1, as an API server sends it")]
    Shape(String),
    /// Another kind or version.
    #[error(
        "apiVersion `{api_version}`, kind `{kind}` is not understood; expected `{API_VERSION}`, `AdmissionReview`: set admissionReviewVersions: [v1]"
    )]
    Version {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// An answer, or nothing.
    #[error("the AdmissionReview has no `request`: nothing is asked")]
    NoRequest,
    /// A part of the request that cannot be read.
    #[error("the request's `{part}`: {why}")]
    Part {
        /// Which: `object`, `oldObject`, `uid`.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<RawRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    operation: Operation,
    #[serde(borrow)]
    kind: RawKind<'a>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    user_info: RawUser<'a>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawKind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
struct RawUser<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

/// A uid is a UUID; whatever comes goes back, but not a megabyte of it.
const MAX_UID: usize = 256;

/// Reads a body. Objects become trees of at most [`Limits::DEFAULT`]`.nodes` values each.
///
/// # Errors
/// [`Malformed`], in words for whoever set the webhook up.
pub fn read<'b>(body: &'b [u8]) -> Result<Request<'b>, Malformed> {
    let review: RawReview<'b> =
        serde_json::from_slice(body).map_err(|error| Malformed::Shape(cut(&error.to_string(), 300)))?;
    if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
        return Err(Malformed::Version { api_version: cut(&review.api_version, 100), kind: cut(&review.kind, 100) });
    }
    let request = review.request.ok_or(Malformed::NoRequest)?;
    if request.uid.is_empty() || request.uid.len() > MAX_UID {
        let why = format!("expected 1 to {MAX_UID} bytes, found {}", request.uid.len());
        return Err(Malformed::Part { part: "uid", why });
    }
    let tree = |part: &'static str, raw: Option<&'b RawValue>| -> Result<Option<Node<'b>>, Malformed> {
        let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
        let fail = |why: String| Malformed::Part { part, why };
        let mut node = Node::read_json(raw.get(), &Limits::DEFAULT).map_err(|why| fail(cut(&why, 300)))?;
        let Value::Map(entries) = &mut node.value else { return Err(fail("is no object".to_owned())) };
        // An API server always writes both; a recording by hand may leave them to the request.
        let group_version = match &*request.kind.group {
            "" => request.kind.version.to_string(),
            group => format!("{group}/{}", request.kind.version),
        };
        for (key, value) in [("kind", request.kind.kind.to_string()), ("apiVersion", group_version)] {
            if !entries.iter().any(|entry| &*entry.key == key) {
                entries.insert(0, entry(key, Value::String(value.into())));
            }
        }
        Ok(Some(node))
    };
    let (object, old) = (tree("object", request.object)?, tree("oldObject", request.old_object)?);
    Ok(Request {
        uid: request.uid.into_owned(),
        operation: request.operation,
        kind: request.kind.kind.into_owned(),
        name: request.name.into_owned(),
        namespace: request.namespace.into_owned(),
        user: request.user_info.username.into_owned(),
        dry_run: request.dry_run.unwrap_or(false),
        object,
        old,
    })
}

/// An entry of a tree without text.
pub(crate) fn entry<'b>(key: &'static str, value: Value<'b>) -> Entry<'b> {
    Entry { key: key.into(), key_span: Span::NONE, value: Node { value, span: Span::NONE, style: Style::Flow } }
}

/// The first `most` bytes of a text, at a character's end, with dots where more was there.
#[must_use]
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most.saturating_sub('…'.len_utf8()))])
}

impl Answer {
    /// The body of the answer to the request `uid`.
    #[must_use]
    pub fn body(&self, uid: &str) -> Vec<u8> {
        let mut response = json!({ "uid": uid, "allowed": self.allowed() });
        if let Some(refusal) = &self.refusal {
            let causes: Vec<_> = refusal
                .causes
                .iter()
                .map(|cause| json!({ "reason": cause.rule, "message": cause.message, "field": cause.field }))
                .collect();
            response["status"] = json!({
                "code": 403, "status": "Failure", "reason": "Forbidden", "message": refusal.message,
                "details": { "causes": causes },
            });
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        if !self.annotations.is_empty() {
            response["auditAnnotations"] = json!(self.annotations);
        }
        if !self.patch.is_empty() {
            let patch = serde_json::Value::Array(self.patch.clone()).to_string();
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(base64(patch.as_bytes()));
        }
        json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response }).to_string().into_bytes()
    }
}

/// RFC 4648, section 4: how JSON carries bytes in Kubernetes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_written_as_kubernetes_reads_them() {
        let cases = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| super::base64(text.as_bytes()));
        assert_eq!(cases, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
