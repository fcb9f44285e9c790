//! Files that are not manifests yet: Helm templates, kustomizations.

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

/// Whether a text is a template that another program has to render first. Actions that stand
/// inside a string of valid YAML (Katib's old trial templates) are data.
#[must_use]
pub fn unrendered(text: &str) -> Option<Unrendered> {
    let bytes = text.as_bytes();
    let mut actions = false;
    for at in memchr::memmem::find_iter(bytes, b"{{") {
        // Comments may quote templates.
        let line_start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |i| i + 1);
        if text[line_start..at].trim_start().starts_with('#') {
            continue;
        }
        let action = text[at + 2..].trim_start_matches('-').trim_start_matches([' ', '\t']);
        if HELM.iter().any(|word| action.starts_with(word)) {
            return Some(Unrendered::HelmTemplate);
        }
        actions |= ACTIONS.iter().any(|word| action.starts_with(word));
    }
    (actions && !super::parse(text, &super::Limits::DEFAULT).errors.is_empty()).then_some(Unrendered::HelmTemplate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_is_told_from_argo_and_from_templates_in_strings() {
        assert!(unrendered("a: {{ .Values.x }}\n").is_some());
        assert!(unrendered("{{- if $x }}\na: 1\n{{- end }}\n").is_some());
        assert!(unrendered("a: \"{{ \"{{\" }} x {{ \"}}\" }}\"\n").is_some());
        assert!(unrendered("a: \"{{inputs.parameters.x}} {{item}} {{=1+1}}\"\n# {{ .Values.x }}\n").is_none());
        assert!(unrendered("raw: |\n  {{- with .HyperParameters}}\n  x\n  {{- end}}\n").is_none());
    }
}
