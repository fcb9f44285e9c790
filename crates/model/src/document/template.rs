//! Files that are not manifests yet: Helm templates, kustomizations.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::yaml::parse_some;
use super::{Limits, Parsed};

/// What has to render a file before it can be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unrendered {
    /// Go template actions stand in the text.
    HelmTemplate,
}

/// Names that only Helm's templates have.
const HELM: &[&str] = &[
    ".Values",
    ".Release",
    ".Chart",
    ".Capabilities",
    ".Files",
    ".Template",
    ".Subcharts",
    "include ",
    "toYaml ",
    "tpl ",
    "template ",
    "define ",
    "lookup ",
    "required ",
    "fail ",
];

/// Words that begin an action of any Go template. Argo and Katib have `{{` in plain strings
/// too, but with a name of theirs behind it (`{{inputs.parameters.x}}`, `{{item}}`).
const ACTIONS: &[&str] = &[
    "if ", "else", "end", "range ", "with ", "block ", "default ", "quote ", "printf ", "/*", "$", "(", ". ", ".}",
    "\"", "`",
];

/// Reads a text as [`parse`](super::parse) does, unless it is a template that another program has to render first.
/// Actions that stand inside a string of valid YAML (Katib's old trial templates) are data.
///
/// # Errors
/// What has to render the text.
pub fn read<'t>(text: &'t str, limits: &Limits) -> Result<Parsed<'t>, Unrendered> {
    read_some(text, limits, |_| true)
}

/// Reads of a text only the documents whose text is `wanted`.
///
/// # Errors
/// What has to render the text.
pub fn read_some<'t>(text: &'t str, limits: &Limits, wanted: impl Fn(&str) -> bool) -> Result<Parsed<'t>, Unrendered> {
    static ACTION: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("{{"));
    let bytes = text.as_bytes();
    let mut actions = false;
    for at in ACTION.find_iter(bytes) {
        // Comments may quote templates.
        let line_start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |i| i + 1);
        if text[line_start..at].trim_start().starts_with('#') {
            continue;
        }
        let action = text[at + 2..].trim_start_matches('-').trim_start_matches([' ', '\t']);
        if HELM.iter().any(|word| action.starts_with(word)) {
            return Err(Unrendered::HelmTemplate);
        }
        actions |= ACTIONS.iter().any(|word| action.starts_with(word));
    }
    // Where there are actions, every document tells whether the text is valid as it is.
    let parsed = parse_some(text, limits, |document| actions || wanted(document));
    if actions && !parsed.errors.is_empty() { Err(Unrendered::HelmTemplate) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_is_told_from_argo_and_from_templates_in_strings() {
        let unrendered = |text: &str| read(text, &Limits::DEFAULT).err();
        assert!(unrendered("a: {{ .Values.x }}\n").is_some());
        assert!(unrendered("{{- if $x }}\na: 1\n{{- end }}\n").is_some());
        assert!(unrendered("a: \"{{ \"{{\" }} x {{ \"}}\" }}\"\n").is_some());
        assert!(unrendered("a: \"{{inputs.parameters.x}} {{item}} {{=1+1}}\"\n# {{ .Values.x }}\n").is_none());
        assert!(unrendered("raw: |\n  {{- with .HyperParameters}}\n  x\n  {{- end}}\n").is_none());
    }
}
