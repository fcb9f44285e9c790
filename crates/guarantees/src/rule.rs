//! What a rule is: a name, its page, and functions from subjects to findings.

use bedplate_model::document::dockerfile::Dockerfile;
use bedplate_model::{Confidence, Finding, Guarantee, Object, Severity, Workload};

use crate::context::{BuildContext, Context};

/// A rule. Declared with [`rule!`](crate::rule!), whose doc comment becomes [`Rule::doc`].
#[derive(Debug)]
pub struct Rule {
    /// Its name, in kebab case; the same as its file's.
    pub name: &'static str,
    /// The guarantee that it belongs to.
    pub guarantee: Guarantee,
    /// How bad its findings are, unless the profile says otherwise.
    pub severity: Severity,
    /// How sure it is of them.
    pub confidence: Confidence,
    /// Its page, as Markdown.
    pub doc: &'static str,
    /// What it looks at.
    pub checks: &'static [Check],
}

/// A rule's function for one kind of subject.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Objects that hold pods.
    Workload(fn(&Workload<'_>, &Context<'_>, &mut Findings)),
    /// Any object, workloads too.
    Object(fn(&Object<'_>, &Context<'_>, &mut Findings)),
    /// Dockerfiles, with the files beside them.
    Dockerfile(fn(&Dockerfile, &dyn BuildContext, &Context<'_>, &mut Findings)),
    /// Corefiles, by themselves or in a ConfigMap.
    Corefile(fn(&str, &Context<'_>, &mut Findings)),
}

impl Rule {
    /// The first sentence of the page: what the rule does.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        let after = self.doc.split_once("## What it does\n").map_or(self.doc, |(_, after)| after);
        after.trim_start().split("\n\n").next().unwrap_or_default().trim()
    }

    /// The page with the leading blank of each line of a doc comment taken off.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::with_capacity(self.doc.len());
        for line in self.doc.lines() {
            page.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
            page.push('\n');
        }
        page
    }
}

/// Where a rule puts what it finds.
#[derive(Debug, Default)]
pub struct Findings {
    pub(crate) list: Vec<Finding>,
}

impl Findings {
    /// Adds a finding.
    pub fn push(&mut self, finding: Finding) {
        self.list.push(finding);
    }
}

/// Declares a rule: `rule! { /// page… pub static RULE = "name", Guarantee, Severity, Confidence, [Check::…]; }`
#[macro_export]
macro_rules! rule {
    ($(#[doc = $doc:literal])+ $name:literal, $guarantee:ident, $severity:ident, $confidence:ident, [$($kind:ident($check:path)),+ $(,)?]) => {
        $(#[doc = $doc])+
        pub(super) static RULE: $crate::Rule = $crate::Rule {
            name: $name,
            guarantee: bedplate_model::Guarantee::$guarantee,
            severity: bedplate_model::Severity::$severity,
            confidence: bedplate_model::Confidence::$confidence,
            doc: concat!($($doc, "\n"),+),
            checks: &[$($crate::Check::$kind($check)),+],
        };
    };
}
