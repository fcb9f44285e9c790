//! Running one rule on a text, in tests.

use bedplate_model::document::FileKind;
use bedplate_model::{Finding, Profile};

use crate::check::{Run, Source, check, survey};
use crate::context::NoContext;
use crate::{Neighbours, Rule};

/// What one rule finds in a YAML text, with the default profile and the text's own objects as neighbours.
pub(crate) fn found(rule: &Rule, text: &str) -> Vec<Finding> {
    let mut neighbours = Neighbours::default();
    survey(text, &mut neighbours);
    let checked = check(
        Source { text, kind: FileKind::Yaml, build: &NoContext },
        Run { profile: &Profile::default(), neighbours: &neighbours, now: "2026-01-01" },
    );
    let findings = checked.findings.into_iter().map(|located| located.finding);
    let (own, other): (Vec<_>, Vec<_>) = findings.partition(|finding| finding.rule == rule.name);
    assert!(other.iter().all(|finding| finding.rule != "syntax"), "{other:?}");
    own
}

/// The messages of what one rule finds.
pub(crate) fn messages(rule: &Rule, text: &str) -> Vec<String> {
    found(rule, text).into_iter().map(|finding| finding.message).collect()
}

/// The text after the edits of everything that one rule finds, one finding after the other.
/// Panics where a finding has no edit, an edit cannot be made, or something is still found.
pub(crate) fn fixed(rule: &Rule, text: &str) -> String {
    let mut text = text.to_owned();
    let mut neighbours = Neighbours::default();
    survey(&text, &mut neighbours);
    for _ in 0..8 {
        let checked = check(
            Source { text: &text, kind: FileKind::Yaml, build: &NoContext },
            Run { profile: &Profile::default(), neighbours: &neighbours, now: "2026-01-01" },
        );
        let Some(located) = checked.findings.iter().find(|located| located.finding.rule == rule.name) else {
            return text;
        };
        let fix = located.finding.fix.as_ref().expect("a fix");
        assert!(!fix.edits.is_empty(), "{}", fix.help);
        text = bedplate_model::edit::apply(&text, located.document, &fix.edits).expect("an edit that can be made");
    }
    panic!("{} is still found:\n{text}", rule.name);
}
