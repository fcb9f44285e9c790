//! Files that are not manifests yet: Helm templates, kustomizations.

/// What has to render a file before it can be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unrendered {
    /// Go template actions stand in the text.
    HelmTemplate,
}

/// Words that begin an action in a Helm template. Argo and Katib have `{{` in plain strings
/// too, but always with a name of theirs behind it (`{{inputs.parameters.x}}`, `{{item}}`).
const ACTIONS: &[&str] = &[
    "if ",
    "else",
    "end",
    "range ",
    "with ",
    "define ",
    "include ",
    "template ",
    "block ",
    "tpl ",
    "toYaml ",
    "default ",
    "quote ",
    "required ",
    "printf ",
    "lookup ",
    "fail ",
    "/*",
    "$",
    ".Values",
    ".Release",
    ".Chart",
    ".Capabilities",
    ".Files",
    ".Template",
    ".Subcharts",
    "(",
    ". ",
    ".}",
];

/// Whether a text is a template that another program has to render first.
#[must_use]
pub fn unrendered(text: &str) -> Option<Unrendered> {
    let bytes = text.as_bytes();
    memchr::memmem::find_iter(bytes, b"{{").find_map(|at| {
        // `{{ "{{" }}`, and everything in a comment line, is how templates and manifests quote.
        let line_start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |i| i + 1);
        if text[line_start..at].trim_start().starts_with('#') {
            return None;
        }
        let action = text[at + 2..].trim_start_matches('-').trim_start_matches([' ', '\t']);
        ACTIONS.iter().any(|word| action.starts_with(word)).then_some(Unrendered::HelmTemplate)
    })
}
