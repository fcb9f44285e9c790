//! `bedplate rules`: the rules, their pages, and the folder of pages that is published.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bedplate_guarantees::{Rule, find, rules};
use bedplate_model::Guarantee;
use bedplate_model::profile::nearest;

use super::{Error, print};
use crate::profile::rule_names;

/// Options of `rules`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print the page of this rule
    rule: Option<String>,
    /// Write a page a rule, and their index, into this folder
    #[arg(long, value_name = "DIR")]
    markdown: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    if let Some(folder) = &args.markdown {
        write_pages(folder)?;
    } else if let Some(name) = &args.rule {
        let rule = find(name).ok_or_else(|| {
            let near = nearest(name, &rule_names());
            let hint = near.map_or("`bedplate rules` lists them".to_owned(), |near| format!("did you mean `{near}`?"));
            Error::Other(format!("there is no rule `{name}`; {hint}"))
        })?;
        print(&page(rule))?;
    } else {
        let mut out = String::new();
        for guarantee in Guarantee::ALL {
            let _ = writeln!(out, "{guarantee}: {}", guarantee.sentence());
            for rule in rules().filter(|rule| rule.guarantee == guarantee) {
                let _ = writeln!(out, "  {:<30} {:<8} {}", rule.name, rule.severity, one_line(rule));
            }
            out.push('\n');
        }
        print(&out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one_line(rule: &Rule) -> String {
    let summary = rule.summary().split_whitespace().collect::<Vec<_>>().join(" ");
    summary.split_once(". ").map_or(summary.trim_end_matches('.').to_owned(), |(first, _)| first.to_owned())
}

fn page(rule: &Rule) -> String {
    format!(
        "# {}\n\nGuarantee: **{}** ({}). Severity: {}. Confidence: {}.\n\n{}",
        rule.name,
        rule.guarantee,
        rule.guarantee.sentence(),
        rule.severity,
        rule.confidence,
        rule.page()
    )
}

fn write_pages(folder: &Path) -> Result<(), Error> {
    let fail = |path: &Path, e: std::io::Error| Error::Other(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(folder).map_err(|e| fail(folder, e))?;
    let mut index = "# Rules\n\nGenerated from the rules' doc comments by `cargo xtask generate`.\n".to_owned();
    let mut keep = BTreeSet::from(["README.md".to_owned()]);
    for guarantee in Guarantee::ALL {
        let _ = write!(
            index,
            "\n## {guarantee}\n\n{}.\n\n| rule | severity | what it finds |\n| --- | --- | --- |\n",
            guarantee.sentence()
        );
        for rule in rules().filter(|rule| rule.guarantee == guarantee) {
            let _ = writeln!(
                index,
                "| [{0}]({0}.md) | {1} | {2} |",
                rule.name,
                rule.severity,
                one_line(rule).replace('|', "\\|")
            );
            let path = folder.join(format!("{}.md", rule.name));
            std::fs::write(&path, page(rule)).map_err(|e| fail(&path, e))?;
            keep.insert(format!("{}.md", rule.name));
        }
    }
    std::fs::write(folder.join("README.md"), index).map_err(|e| fail(folder, e))?;
    // The page of a rule that is gone goes too.
    for entry in std::fs::read_dir(folder).map_err(|e| fail(folder, e))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && !keep.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(|e| fail(&entry.path(), e))?;
        }
    }
    Ok(())
}
