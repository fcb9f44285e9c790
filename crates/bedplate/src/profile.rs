//! Finding and reading `bedplate.yaml`.

use std::path::{Path, PathBuf};

use bedplate_guarantees::check::{PROFILE, mistake};
use bedplate_guarantees::{Checked, rules};
use bedplate_model::Profile;

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
            let checked = Checked {
                findings: errors.into_iter().map(|error| mistake(error, PROFILE)).collect(),
                ..Checked::default()
            };
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
