//! Kubernetes quantities (`k8s.io/apimachinery/pkg/api/resource/quantity.go`).

use crate::value::Value;

/// The value of a quantity such as `500m`, `16Gi` or `1e3`, or nothing where it is not one.
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let plain = |text: &str| {
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        if numeric { text.parse::<f64>().ok() } else { None }
    };
    plain(text).or_else(|| {
        SUFFIXES.iter().find_map(|(suffix, factor)| plain(text.strip_suffix(suffix)?).map(|number| number * factor))
    })
}

/// The value of a quantity in a document, written as a number or as a string.
#[must_use]
pub fn of(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(f) => Some(*f),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// The value of a quantity that counts whole things (accelerators): not negative, rounded up as `Quantity.Value`
/// does for the scheduler.
#[must_use]
pub fn count(value: &Value) -> Option<u64> {
    let number = of(value)?;
    (number >= 0.0 && number <= u64::MAX as f64).then_some(number.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        let cases =
            [("8", 8.0), ("500m", 0.5), ("16Gi", 17_179_869_184.0), ("1e3", 1000.0), ("2E", 2e18), ("1k", 1000.0)];
        for (text, value) in cases {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "x", "1Gib", "1 Gi", "infinity", "${gpus}"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
