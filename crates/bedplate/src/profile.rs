//! Finding and reading `bedplate.yaml`.

use std::path::{Path, PathBuf};

use bedplate_guarantees::{Checked, Located, rules};
use bedplate_model::{Finding, Profile, Severity, SyntaxError};

use crate::commands::Error;
use crate::files;

/// The name of the profile's file.
pub(crate) const NAME: &str = "bedplate.yaml";

/// A profile and where it came from.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The profile.
    pub(crate) profile: Profile,
    /// Its file and text; nothing for the defaults.
    pub(crate) source: Option<(PathBuf, String)>,
}

/// The names of all rules, as the profile may use them.
pub(crate) fn rule_names() -> Vec<&'static str> {
    rules().map(|rule| rule.name).collect()
}

/// Reads the profile that is named, or the nearest upward from `start`, or the defaults.
///
/// # Errors
/// A profile with mistakes stops the run: checking by the wrong limits would be worse.
pub(crate) fn load(named: Option<&Path>, start: &Path) -> Result<Loaded, Error> {
    let Some(path) = named.map(Path::to_owned).or_else(|| upward(start)) else { return Ok(Loaded::default()) };
    let text = files::read(&path)?;
    match Profile::parse(&text, &bedplate_guarantees::names()) {
        Ok(profile) => Ok(Loaded { profile, source: Some((path, text)) }),
        Err(errors) => {
            let count = errors.len();
            let checked = Checked { findings: errors.into_iter().map(mistake).collect(), ..Checked::default() };
            let view = bedplate_report::FileView { path: &path.display().to_string(), text: &text, checked: &checked };
            let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            let report = bedplate_report::report(bedplate_report::Format::Text, color, env!("CARGO_PKG_VERSION"));
            anstream::eprint!("{}", report.file(&view));
            Err(Error::Profile { path, count })
        }
    }
}

fn upward(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    let found = start.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file())?;
    // Shown relative to where the user stands, where that is possible.
    let here = std::env::current_dir().ok();
    Some(here.and_then(|here| found.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(found))
}

fn mistake(error: SyntaxError) -> Located {
    let mut finding = Finding::new(error.span, error.message);
    finding.rule = "profile";
    finding.severity = Severity::Error;
    if let Some(help) = error.help {
        finding = finding.help(help);
    }
    Located { span: error.span, related: Vec::new(), document: None, finding }
}

impl Loaded {
    /// Exemptions that have lapsed, as findings in the profile's own text.
    pub(crate) fn expired(&self, today: &str) -> Checked {
        let expired = self.profile.exemptions.iter().filter(|(exemption, _)| exemption.expired(today));
        let findings = expired.map(|(exemption, span)| {
            let subject = &exemption.subject.name;
            let mut finding = Finding::new(
                *span,
                format!("the exemption of `{subject}` from `{}` lapsed on {}", exemption.rule, exemption.expires),
            )
            .help("fix what it exempts and take it away, or give it a new end with its reason");
            finding.rule = "exemption-expired";
            finding.severity = Severity::Error;
            Located { span: *span, related: Vec::new(), document: None, finding }
        });
        Checked { findings: findings.collect(), ..Checked::default() }
    }
}
