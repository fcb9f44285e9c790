//! `cargo xtask generate`: everything that is made from the program, in one table.

use std::path::Path;
use std::process::{Command, ExitCode};

use bedplate_devcluster::run::{bedplate, files_below, root};

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

/// Arguments of `bedplate` that a folder follows, and where its files belong.
const FOLDERS: &[(&[&str], &str)] =
    &[(&["rules", "--markdown"], "docs/rules"), (&["render", "--helm"], "deploy/helm/bedplate")];

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
    for (args, shown) in FOLDERS {
        // To a folder of their own first: files that are made no longer have to go too.
        let fresh = root().join("target/generated").join(shown);
        let _ = std::fs::remove_dir_all(&fresh);
        let made = Command::new(&program).args(*args).arg(&fresh).status();
        if !made.map_err(|error| error.to_string())?.success() {
            return Err(format!("bedplate {} failed", args.join(" ")));
        }
        let folder = root().join(shown);
        let kept = files_below(&fresh)?;
        for name in &kept {
            let text = std::fs::read(fresh.join(name)).map_err(|error| error.to_string())?;
            place(&folder.join(name), &text, check, &format!("{shown}/{}", name.display()), &mut stale)?;
        }
        for name in files_below(&folder)?.into_iter().filter(|name| !kept.contains(name)) {
            stale.push(format!("{shown}/{} (made no longer)", name.display()));
            if !check {
                std::fs::remove_file(folder.join(name)).map_err(|error| error.to_string())?;
            }
        }
    }
    if check && !stale.is_empty() {
        return Err(format!("not as they would be made: {}; run `cargo xtask generate`", stale.join(", ")));
    }
    println!("generated files: {}", if stale.is_empty() { "unchanged".to_owned() } else { stale.join(", ") });
    Ok(ExitCode::SUCCESS)
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
