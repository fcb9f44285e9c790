//! `cargo xtask generate`: everything that is made from the program, in one table.

use std::path::Path;
use std::process::{Command, ExitCode};

use bedplate_devcluster::run::{bedplate, root};

/// Arguments of `bedplate`, and the file that its output becomes. None may be called `bedplate.yaml`: that is the name of
/// a profile, and `bedplate check deploy/` would take it for one.
const OUTPUTS: &[(&[&str], &str)] = &[
    (&["schema", "profile"], "deploy/schema/bedplate.yaml.schema.json"),
    (&["schema", "report"], "deploy/schema/report.schema.json"),
    (&["render", "--crds"], "deploy/crds.yaml"),
    (&["render"], "deploy/install.yaml"),
    (&["render", "--operator"], "deploy/operator.yaml"),
    (&["render", "--static"], "deploy/static/guards.yaml"),
    (&["rbac"], "deploy/rbac.yaml"),
    (&["completions", "bash"], "deploy/completions/bedplate.bash"),
    (&["completions", "zsh"], "deploy/completions/_bedplate"),
    (&["completions", "fish"], "deploy/completions/bedplate.fish"),
    (&["man"], "docs/bedplate.1"),
];

pub(crate) fn run(check: bool) -> Result<ExitCode, String> {
    let program = bedplate(false)?;
    let mut stale = Vec::new();
    for (args, file) in OUTPUTS {
        let output = Command::new(&program).args(*args).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("bedplate {}: {}", args.join(" "), output.status));
        }
        place(&root().join(file), &output.stdout, check, file, &mut stale)?;
    }
    // The pages go to a folder of their own first: pages of rules that are gone have to go too.
    let fresh = root().join("target/generated-rules");
    let _ = std::fs::remove_dir_all(&fresh);
    let made = Command::new(&program).args(["rules", "--markdown"]).arg(&fresh).status();
    if !made.map_err(|error| error.to_string())?.success() {
        return Err("bedplate rules --markdown failed".to_owned());
    }
    let pages = root().join("docs/rules");
    for name in names(&fresh)? {
        let text = std::fs::read(fresh.join(&name)).map_err(|error| error.to_string())?;
        place(&pages.join(&name), &text, check, &format!("docs/rules/{name}"), &mut stale)?;
    }
    let kept = names(&fresh)?;
    for name in names(&pages).unwrap_or_default().into_iter().filter(|name| !kept.contains(name)) {
        stale.push(format!("docs/rules/{name} (no such rule)"));
        if !check {
            std::fs::remove_file(pages.join(name)).map_err(|error| error.to_string())?;
        }
    }
    if check && !stale.is_empty() {
        return Err(format!("not as they would be made: {}; run `cargo xtask generate`", stale.join(", ")));
    }
    println!("generated files: {}", if stale.is_empty() { "unchanged".to_owned() } else { stale.join(", ") });
    Ok(ExitCode::SUCCESS)
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn place(path: &Path, text: &[u8], check: bool, shown: &str, stale: &mut Vec<String>) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    stale.push(shown.to_owned());
    if check {
        return Ok(());
    }
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(path, text).map_err(fail)
}
