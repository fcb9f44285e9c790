//! The numbers of a run.

use bedplate_guarantees::find;
use bedplate_model::{Fix, Guarantee, Safety, Severity};

use crate::FileView;

/// Findings by severity.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Findings that are errors.
    pub errors: usize,
    /// Findings that are warnings.
    pub warnings: usize,
    /// Findings that are worth knowing.
    pub infos: usize,
}

/// The numbers of a run, counted file by file in any order.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files that were read.
    pub files: usize,
    /// Objects, Dockerfiles and Corefiles in them.
    pub subjects: usize,
    /// Findings that are errors.
    pub errors: usize,
    /// Findings that are warnings.
    pub warnings: usize,
    /// Findings that are worth knowing.
    pub infos: usize,
    /// Findings that `--fix` makes go away.
    pub fixable: usize,
    /// Findings that a comment suppressed.
    pub suppressed: usize,
    /// Findings that an exemption covers.
    pub exempt: usize,
    /// Files that have to be rendered first.
    pub skipped: usize,
    /// Findings by guarantee, in the order of [`Guarantee::ALL`]. Findings about text that
    /// cannot be read or about suppressions belong to none.
    pub guarantees: [Counts; Guarantee::ALL.len()],
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.errors + self.warnings + self.infos
    }

    fn of(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Info => &mut self.infos,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.infos += other.infos;
    }
}

impl Summary {
    /// Adds a file.
    pub fn add(&mut self, file: &FileView<'_>) {
        self.files += 1;
        self.subjects += file.checked.subjects;
        self.suppressed += file.checked.suppressed;
        self.exempt += file.checked.exempt;
        self.skipped += usize::from(file.checked.skipped.is_some());
        for located in &file.checked.findings {
            let finding = &located.finding;
            match finding.severity {
                Severity::Error => self.errors += 1,
                Severity::Warning => self.warnings += 1,
                Severity::Info => self.infos += 1,
            }
            self.fixable += usize::from(finding.fix.as_ref().is_some_and(is_automatic));
            if let Some(rule) = find(finding.rule) {
                *self.guarantees[rule.guarantee as usize].of(finding.severity) += 1;
            }
        }
    }

    /// Adds the numbers of other files.
    pub fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.subjects += other.subjects;
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.infos += other.infos;
        self.fixable += other.fixable;
        self.suppressed += other.suppressed;
        self.exempt += other.exempt;
        self.skipped += other.skipped;
        for (mine, other) in self.guarantees.iter_mut().zip(&other.guarantees) {
            mine.merge(other);
        }
    }

    /// All findings.
    #[must_use]
    pub const fn findings(&self) -> usize {
        self.errors + self.warnings + self.infos
    }

    /// The numbers in a line: `12 files, 30 findings: 4 errors, 26 warnings; 3 can be fixed with --fix`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{}, {}", count(self.files, "file"), count(self.findings(), "finding"));
        let severities = [(self.errors, "error"), (self.warnings, "warning"), (self.infos, "info")];
        let severities: Vec<_> = severities.into_iter().filter(|(n, _)| *n > 0).map(|(n, s)| count(n, s)).collect();
        if !severities.is_empty() {
            line.push_str(": ");
            line.push_str(&severities.join(", "));
        }
        let rest = [
            (self.fixable, "can be fixed with --fix"),
            (self.suppressed, "suppressed by comments"),
            (self.exempt, "exempt"),
            (self.skipped, "skipped (to be rendered first)"),
        ];
        for (n, what) in rest.into_iter().filter(|(n, _)| *n > 0) {
            line.push_str(&format!("; {n} {what}"));
        }
        line
    }
}

/// Whether `--fix` does it without being asked twice.
pub(crate) fn is_automatic(fix: &Fix) -> bool {
    fix.safety == Safety::Safe && !fix.edits.is_empty()
}

fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}
