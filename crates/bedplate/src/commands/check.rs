//! `bedplate check`: two passes over the files. The first learns what files may ask of one
//! another and reads only those that can tell; the second checks and writes, in order, so that
//! memory does not grow with the number of files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bedplate_cluster::clock;
use bedplate_guarantees::check::{Run, Source, check, survey};
use bedplate_guarantees::{Checked, Located, Neighbours};
use bedplate_model::{Finding, Severity, Span};
use bedplate_report::{FileView, Format, Report, Summary, report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

use super::{Error, fix, print};
use crate::files::{self, Folder, Input, Kind};
use crate::profile;

/// Options of `check`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Files and folders; `-` is standard input
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// How to write what is found: text, json, sarif, junit, github or html
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Write the report to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The profile [default: the nearest bedplate.yaml upward from the first path]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Make the safe fixes, in place, keeping every other byte
    #[arg(long)]
    fix: bool,
    /// Show what --fix would change, and change nothing
    #[arg(long)]
    diff: bool,
    /// With --fix or --diff: fixes that may change behaviour too
    #[arg(long)]
    unsafe_fixes: bool,
    /// Only findings, no notes and no summary
    #[arg(long, short)]
    quiet: bool,
    /// Read files that .gitignore and the like leave out
    #[arg(long)]
    no_ignore: bool,
}

/// Files that are checked before their output is written: bounds memory, keeps all cores busy.
const BATCH: usize = 1024;

/// Files whose output is one piece: small enough that no core waits long for another.
const PIECE: usize = 8;

/// Bytes of text that are kept from the first pass for the second: it saves most runs half of their reading, and
/// bounds what the largest cost.
const KEPT: usize = 32 << 20;

/// The texts of the first pass, each given out once.
struct Kept {
    texts: Vec<Mutex<Option<String>>>,
    room: AtomicUsize,
}

impl Kept {
    fn new(files: usize) -> Self {
        Self { texts: (0..files).map(|_| Mutex::default()).collect(), room: AtomicUsize::new(KEPT) }
    }

    fn keep(&self, index: usize, text: String) {
        let taken = self.room.try_update(Relaxed, Relaxed, |room| room.checked_sub(text.len()));
        if let (Ok(_), Some(Ok(mut slot))) = (taken, self.texts.get(index).map(Mutex::lock)) {
            *slot = Some(text);
        }
    }

    fn take(&self, index: usize) -> Option<String> {
        let text = self.texts.get(index)?.lock().ok()?.take()?;
        self.room.fetch_add(text.len(), Relaxed);
        Some(text)
    }
}

/// What the check of files leaves: their part of the report.
#[derive(Default)]
struct Done {
    text: String,
    summary: Summary,
    read: bool,
}

impl Done {
    /// With what came of a file behind these.
    fn and(mut self, next: Self, separator: &str) -> Self {
        if self.text.is_empty() {
            self.text = next.text;
        } else if !next.text.is_empty() {
            self.text.push_str(separator);
            self.text.push_str(&next.text);
        }
        self.summary.merge(&next.summary);
        self.read |= next.read;
        self
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let inputs = files::find(&args.paths, args.no_ignore);
    let start = args.paths.first().filter(|path| path.as_os_str() != "-").map_or(Path::new("."), PathBuf::as_path);
    let loaded = profile::load(args.profile.as_deref(), start)?;
    let now = clock::timestamp();
    // Standard input can be read once only.
    let stdin = match inputs.files.iter().find(|file| file.path.as_os_str() == "-") {
        Some(file) => Some(files::read(&file.path)?),
        None => None,
    };
    let read = |file: &Input| match &stdin {
        Some(text) if file.path.as_os_str() == "-" => Ok(text.clone()),
        _ => files::read(&file.path),
    };

    let bar = progress(inputs.files.len(), args.quiet);
    // What --fix writes has to be read again.
    let kept = Kept::new(if args.fix { 0 } else { inputs.files.len() });
    let neighbours = inputs
        .files
        .par_iter()
        .enumerate()
        .filter(|(_, file)| file.kind == Kind::Yaml)
        .fold(Neighbours::default, |mut known, (index, file)| {
            if let Ok(text) = read(file) {
                survey(&text, &mut known);
                kept.keep(index, text);
            }
            known
        })
        .reduce(Neighbours::default, Neighbours::merge);
    let run = Run { profile: &loaded.profile, neighbours: &neighbours, now: &now };

    if args.fix || args.diff {
        fix::run(&inputs.files, run, args.fix, args.diff, args.unsafe_fixes, &read)?;
        if args.diff {
            return Ok(ExitCode::SUCCESS);
        }
    }

    let mut out = Output::open(args.output.as_deref())?;
    let color =
        args.output.is_none() && anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let report = report(args.format, color, env!("CARGO_PKG_VERSION"));
    out.write(&report.begin())?;
    let mut summary = Summary::default();
    let mut written = false;
    let mut emit = |out: &mut Output, done: Done, summary: &mut Summary| -> Result<(), Error> {
        summary.merge(&done.summary);
        if !done.text.is_empty() {
            if std::mem::replace(&mut written, true) {
                out.write(report.separator())?;
            }
            out.write(&done.text)?;
        }
        Ok(())
    };

    if let Some((path, text)) = &loaded.source {
        let expired = bedplate_guarantees::check::lapsed(&loaded.profile, &now);
        emit(&mut out, done(&*report, path, text, expired), &mut summary)?;
    }
    for error in &inputs.errors {
        emit(&mut out, unreadable(&*report, error), &mut summary)?;
    }
    for path in &inputs.kustomizations {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !args.quiet {
            bar.suspend(|| {
                anstream::eprintln!(
                    "note: {}: skipped, a kustomization: run `kustomize build {} | bedplate check -`",
                    path.display(),
                    folder.display()
                );
            });
        }
        summary.skipped += 1;
    }
    let mut any_read = inputs.files.is_empty() && inputs.errors.is_empty();
    let check_file = |(index, file): (usize, &Input)| match kept.take(index).map_or_else(|| read(file), Ok) {
        Err(error) => unreadable(&*report, &error),
        Ok(text) => one(&*report, file, &text, run),
    };
    for (number, batch) in inputs.files.chunks(BATCH).enumerate() {
        let pieces = batch.par_chunks(PIECE).enumerate();
        let results: Vec<Done> = pieces
            .map(|(piece, files)| {
                let first = number * BATCH + piece * PIECE;
                let all = (first..).zip(files).map(check_file);
                all.fold(Done::default(), |all, next| all.and(next, report.separator()))
            })
            .collect();
        for result in results {
            any_read |= result.read;
            emit(&mut out, result, &mut summary)?;
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    if !(args.quiet && args.format == Format::Text) {
        out.write(&report.end(&summary))?;
    }
    out.close()?;
    if !any_read {
        return Ok(ExitCode::from(2));
    }
    if inputs.files.is_empty() && !args.quiet {
        anstream::eprintln!("note: no manifests, Dockerfiles or Corefiles found");
    }
    let found = summary.errors + summary.warnings + summary.infos > 0;
    Ok(ExitCode::from(u8::from(found)))
}

/// Checks one file.
fn one(report: &dyn Report, file: &Input, text: &str, run: Run<'_>) -> Done {
    let folder = Folder(file.path.parent());
    let checked = check(Source { text, kind: file.kind.into(), build: &folder }, run);
    done(report, &file.path, text, checked)
}

fn done(report: &dyn Report, path: &Path, text: &str, checked: Checked) -> Done {
    let path = path.display().to_string();
    let path = if path == "-" { "<stdin>" } else { path.strip_prefix("./").unwrap_or(&path) };
    let view = FileView { path, text, checked: &checked };
    let mut summary = Summary::default();
    summary.add(&view);
    let text = report.file(&view);
    Done { text, summary, read: true }
}

/// A file that could not be read, as a finding: whoever reads the report has to see it.
fn unreadable(report: &dyn Report, error: &files::FileError) -> Done {
    let (path, message) = match error {
        files::FileError::Io { path, source } => (path.clone(), source.to_string()),
        files::FileError::NotText { path, why } => (path.clone(), why.clone()),
        files::FileError::Walk(why) => (PathBuf::from("."), why.clone()),
    };
    let mut finding = Finding::new(Span::new(0, 0), message);
    finding.rule = "unreadable";
    finding.severity = Severity::Error;
    let located = Located { span: Span::new(0, 0), related: Vec::new(), document: None, finding };
    let checked = Checked { findings: vec![located], ..Checked::default() };
    Done { read: false, ..done(report, &path, "", checked) }
}

fn progress(files: usize, quiet: bool) -> ProgressBar {
    // Short runs show nothing.
    if quiet || files < 2000 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(files as u64), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("checking {bar:30} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}

/// Where the report goes.
enum Output {
    Stdout,
    /// What is no ordinary file is written to: a pipe, a terminal, `/dev/null`. To move a file there would replace it.
    Special(std::fs::File, PathBuf),
    /// Written beside its place and moved there at the end, so that nobody reads half of it.
    File(std::io::BufWriter<tempfile::NamedTempFile>, PathBuf),
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let fail = |e: std::io::Error| Error::Other(format!("{}: {e}", path.display()));
        if std::fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = std::fs::File::create(path).map_err(fail)?;
            return Ok(Self::Special(file, path.to_owned()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable like any new file; the default is for the owner only.
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(fail)?;
        Ok(Self::File(std::io::BufWriter::new(file), path.to_owned()))
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        use std::io::Write;
        let (written, path) = match self {
            Self::Stdout => return print(text),
            Self::Special(file, path) => (file.write_all(text.as_bytes()), path),
            Self::File(file, path) => (file.write_all(text.as_bytes()), path),
        };
        written.map_err(|e| Error::Other(format!("{}: {e}", path.display())))
    }

    fn close(self) -> Result<(), Error> {
        let Self::File(file, path) = self else { return Ok(()) };
        let fail = |e: &dyn std::fmt::Display| Error::Other(format!("{}: {e}", path.display()));
        let file = file.into_inner().map_err(|e| fail(&e))?;
        file.persist(&path).map_err(|e| fail(&e))?;
        Ok(())
    }
}
