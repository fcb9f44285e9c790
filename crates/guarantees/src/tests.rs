//! Every rule's page is run: its example must be found, its remedy must not.

use std::collections::BTreeMap;

use bedplate_model::document::FileKind;
use bedplate_model::{Profile, profile::Level};

use crate::check::{Run, Source, check, survey};
use crate::{BuildContext, Neighbours, Rule, rules};

/// Files of a page's code blocks that carry a name: ```sh entrypoint.sh
struct Files(BTreeMap<String, String>);

impl BuildContext for Files {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path.trim_start_matches("./")).cloned()
    }
}

/// The code blocks of a section: language, name, text.
fn blocks(page: &str, section: &str) -> Vec<(String, String, String)> {
    let Some((_, after)) = page.split_once(&format!("## {section}\n")) else { return vec![] };
    let body = after.split("\n## ").next().unwrap_or_default();
    let mut found = vec![];
    let mut lines = body.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let (language, name) = info.split_once(' ').unwrap_or((info, ""));
            found.push((language.to_owned(), name.to_owned(), format!("{}\n", text.join("\n"))));
        }
    }
    found
}

fn messages(rule: &Rule, section: &str) -> Option<Vec<String>> {
    let page = rule.page();
    let all = blocks(&page, section);
    let (language, _, text) = all.first()?;
    let files = Files(all.iter().filter(|b| !b.1.is_empty()).map(|b| (b.1.clone(), b.2.clone())).collect());
    let kind = match language.as_str() {
        "yaml" => FileKind::Yaml,
        "dockerfile" => FileKind::Dockerfile,
        "corefile" => FileKind::Corefile,
        other => panic!("{}: a block of {other}", rule.name),
    };
    let mut neighbours = Neighbours::default();
    if kind == FileKind::Yaml {
        survey(text, &mut neighbours);
    }
    // Some rules hold only where a profile asks for them.
    let profile = all.iter().find(|(_, name, _)| name == "bedplate.yaml");
    let profile = profile.map(|(.., text)| Profile::parse(text, &crate::names()).unwrap()).unwrap_or_default();
    let checked = check(
        Source { text, kind, build: &files },
        Run { profile: &profile, neighbours: &neighbours, now: "2026-01-01" },
    );
    assert!(checked.skipped.is_none(), "{}: skipped", rule.name);
    for located in &checked.findings {
        assert_ne!(located.finding.rule, "syntax", "{}: {}", rule.name, located.finding.message);
        assert!(located.span.end as usize <= text.len());
    }
    Some(checked.findings.into_iter().filter(|l| l.finding.rule == rule.name).map(|l| l.finding.message).collect())
}

#[test]
fn every_example_is_found_and_every_remedy_is_clean() {
    for rule in rules() {
        let example = messages(rule, "Example").unwrap_or_else(|| panic!("{} has no example", rule.name));
        assert!(!example.is_empty(), "{}: the example is not found", rule.name);
        let remedy = messages(rule, "Use instead").unwrap_or_else(|| panic!("{} has no remedy", rule.name));
        assert_eq!(remedy, [] as [String; 0], "{}: the remedy is found", rule.name);
    }
}

#[test]
fn every_page_has_its_sections_and_every_name_is_unique() {
    let mut names = std::collections::BTreeSet::new();
    for rule in rules() {
        assert!(names.insert(rule.name), "{} twice", rule.name);
        let page = rule.page();
        for section in ["What it does", "Why", "Example", "Use instead", "Options", "Sources"] {
            assert!(page.contains(&format!("## {section}\n")), "{} has no section {section}", rule.name);
        }
        assert!(rule.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", rule.name);
    }
}

#[test]
fn levels_name_what_the_profile_takes() {
    assert_eq!(Level::Off.severity(), None);
}

#[test]
fn every_edit_of_an_example_makes_its_finding_go_away() {
    for rule in rules() {
        let page = rule.page();
        let Some((language, _, text)) = blocks(&page, "Example").into_iter().next() else { continue };
        if language == "yaml"
            && crate::testing::found(rule, &text)
                .iter()
                .all(|finding| finding.fix.as_ref().is_some_and(|fix| !fix.edits.is_empty()))
        {
            crate::testing::fixed(rule, &text);
        }
    }
}
