//! `check --fix` and `--diff`: one fix after the other, each proved before it is kept.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use bedplate_guarantees::check::{Run, SYNTAX, Source, check};
use bedplate_guarantees::{Checked, Located};
use bedplate_model::{Safety, edit};

use super::{Error, print};
use crate::files::{FileError, Folder, Input};

/// Fixes files, or shows how.
pub(crate) fn run(
    files: &[Input],
    run: Run<'_>,
    write: bool,
    diff: bool,
    unsafe_too: bool,
    read: &dyn Fn(&Input) -> Result<String, FileError>,
) -> Result<(), Error> {
    for file in files.iter().filter(|file| file.path.as_os_str() != "-") {
        let Ok(before) = read(file) else { continue };
        let (after, fixed) = fixed(file, &before, run, unsafe_too);
        if fixed == 0 {
            continue;
        }
        if diff {
            let path = file.path.display().to_string();
            let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
            let changes = similar::TextDiff::from_lines(&before, &after);
            print(&changes.unified_diff().header(&format!("a/{path}"), &format!("b/{path}")).to_string())?;
        } else if write {
            replace(&file.path, &after)?;
            anstream::eprintln!("fixed {fixed} in {}", file.path.display());
        }
    }
    Ok(())
}

/// The text with every fix that could be proved: it parses, the finding is gone, and no other
/// has come.
fn fixed(file: &Input, text: &str, run: Run<'_>, unsafe_too: bool) -> (String, usize) {
    let folder = Folder(file.path.parent());
    let look = |text: &str| check(Source { text, kind: file.kind.into(), build: &folder }, run);
    let key = |located: &Located| {
        (located.finding.rule, format!("{:?}", located.finding.place), located.finding.message.clone())
    };
    let mut text = text.to_owned();
    let mut checked = look(&text);
    let mut refused = BTreeSet::new();
    let mut fixed = 0;
    loop {
        let next = checked.findings.iter().find(|located| {
            let fix = located.finding.fix.as_ref();
            fix.is_some_and(|fix| {
                !fix.edits.is_empty() && (fix.safety == Safety::Safe || unsafe_too && fix.safety == Safety::Unsafe)
            }) && !refused.contains(&key(located))
        });
        let Some(located) = next else { return (text, fixed) };
        let (id, edits) = (key(located), located.finding.fix.as_ref().map(|fix| fix.edits.clone()).unwrap_or_default());
        let attempt = edit::apply(&text, located.document, &edits).ok().map(|text| (look(&text), text));
        match attempt {
            Some((after, new)) if better(&checked, &after, &id, key) => {
                (text, checked) = (new, after);
                fixed += 1;
            }
            _ => {
                refused.insert(id);
            }
        }
    }
}

fn better<K: PartialEq>(before: &Checked, after: &Checked, id: &K, key: impl Fn(&Located) -> K) -> bool {
    !after.findings.iter().any(|located| located.finding.rule == SYNTAX || key(located) == *id)
        && after.findings.len() < before.findings.len()
}

/// Replaces a file's text in one step, with its permissions.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let fail = |e: &dyn std::fmt::Display| Error::Other(format!("{}: {e}; the file is unchanged", path.display()));
    // A link is followed: the file that it names is the one to change.
    let path = std::fs::canonicalize(path).map_err(|e| fail(&e))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| fail(&e))?;
    file.write_all(text.as_bytes()).map_err(|e| fail(&e))?;
    let permissions = std::fs::metadata(&path).map_err(|e| fail(&e))?.permissions();
    file.as_file().set_permissions(permissions).map_err(|e| fail(&e))?;
    file.as_file().sync_all().map_err(|e| fail(&e))?;
    file.persist(&path).map_err(|e| fail(&e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bedplate_guarantees::Neighbours;
    use bedplate_model::Profile;
    use proptest::prelude::*;

    use super::*;
    use crate::files::Kind;

    /// Manifests with something to fix in each.
    const TEXTS: &[&str] = &[
        include_str!("../../../../examples/platform/training/sweep.yaml"),
        include_str!("../../../../examples/platform/training/finetune.yaml"),
        include_str!("../../../../examples/platform/serving/chat.yaml"),
        include_str!("../../../../examples/kinds/jobset.yaml"),
        include_str!("../../../../examples/kinds/tfjob.yaml"),
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Whatever is missing from a manifest: the fixed one parses, has fewer findings, none that could
        /// have been fixed, and every comment and line end of before.
        #[test]
        fn fix_then_check_is_clean(
            which in 0..TEXTS.len(),
            gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
            windows in any::<bool>(),
            unsafe_too in any::<bool>(),
        ) {
            let mut lines: Vec<String> = TEXTS[which].lines().map(str::to_owned).collect();
            for index in gone {
                lines.remove(index.index(lines.len()));
            }
            let plain = |line: &&mut String| !line.contains('#') && !line.trim().is_empty() && !line.ends_with(['|', '>']);
            for (i, line) in lines.iter_mut().filter(plain).enumerate() {
                line.push_str(&format!(" # kept-{i}."));
            }
            let end = if windows { "\r\n" } else { "\n" };
            let text: String = lines.iter().map(|line| format!("{line}{end}")).collect();

            let (profile, neighbours) = (Profile::default(), Neighbours::default());
            let run = Run { profile: &profile, neighbours: &neighbours, now: "2026-01-01" };
            let file = Input { path: "a.yaml".into(), kind: Kind::Yaml };
            let look = |text: &str| check(Source { text, kind: file.kind.into(), build: &Folder(None) }, run);
            let before = look(&text);
            let (after, count) = fixed(&file, &text, run, unsafe_too);
            if count == 0 {
                prop_assert_eq!(&after, &text);
            } else {
                let now = look(&after);
                prop_assert!(now.findings.len() + count <= before.findings.len());
                let broken = |checked: &Checked| checked.findings.iter().filter(|l| l.finding.rule == SYNTAX).count();
                prop_assert_eq!(broken(&now), broken(&before));
            }
            for comment in text.split('#').skip(1).filter_map(|rest| rest.split_once('.').map(|(comment, _)| comment)) {
                prop_assert!(after.contains(comment), "lost `{}`:\n{}", comment, after);
            }
            prop_assert!(!windows || !after.replace("\r\n", "").contains('\n'), "line ends are mixed:\n{}", after);
            let (again, more) = fixed(&file, &after, run, unsafe_too);
            prop_assert_eq!((again, more), (after, 0));
        }
    }
}
