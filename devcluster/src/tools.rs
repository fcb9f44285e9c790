//! Programs that we use but do not write: pinned here, built from their package registry, kept outside `target/`.
//!
//! A tool is built at most once per version, into `$BEDPLATE_CACHE/NAME-VERSION/`. The build is complete when
//! the file `complete` is there: it is written last, so an interrupted build is seen and started again. (Building
//! elsewhere and renaming would break Python environments, whose scripts hold their own absolute path.)

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use crate::image::digest;
use crate::run::{self, Result};

/// One pinned tool.
pub struct Tool {
    /// What `cargo xtask tools` calls it; also the name of the program.
    pub name: &'static str,
    /// Version without a leading `v`; `-2` behind it is the second form of a program of ours that is made with it.
    pub version: &'static str,
    /// How long the build took with empty caches, in seconds, on 2 cores: so that nobody takes it for a hang.
    seconds: u32,
    source: Source,
}

enum Source {
    /// A crate with a program of the tool's name.
    Cargo,
    /// A Go program. `replace` repeats the `replace` lines of the module's go.mod, which Go ignores in a
    /// dependency. `stamp` is a string variable that the program's `version` prints.
    Go { module: &'static str, package: &'static str, replace: &'static [&'static str], stamp: Option<&'static str> },
    /// Go programs of a module of ours, whose go.mod and go.sum pin all that they are made of: `devcluster/FOLDER`.
    /// `programs`: pairs of a package and the program made of it; `links`: further names of the first program.
    Module {
        folder: &'static str,
        programs: &'static [(&'static str, &'static str)],
        links: &'static [&'static str],
        stamp: &'static str,
    },
    /// A Python package with a console script of the tool's name.
    PyPi,
    /// A Python environment with a console script of the tool's name: exactly the packages of a file, and then a script of
    /// ours that is run in it. Both by their path below the root; the environment is kept under what is in them too.
    Venv { requirements: &'static str, script: &'static str },
}

/// The `replace` line of Kyverno's go.mod.
const KYVERNO_REPLACES: &str = "k8s.io/pod-security-admission@v0.34.1=github.com/kyverno/pod-security-admission@v0.0.0-20251031094455-46f20778634f";

/// Every tool and its version: the one place to change.
#[rustfmt::skip]
const TOOLS: &[Tool] = &[
    Tool { name: "cargo-deny", version: "0.20.2", seconds: 130, source: Source::Cargo },
    Tool { name: "cargo-fuzz", version: "0.13.2", seconds: 30, source: Source::Cargo },
    // One program that is what it is called as; the others are links to it.
    Tool { name: "kubernetes", version: "1.37.2", seconds: 540, source: Source::Module {
        folder: "kubernetes", programs: &[(".", "kubernetes")],
        links: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"],
        stamp: "-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    } },
    Tool { name: "etcd", version: "3.7.3", seconds: 30, source: Source::Module {
        folder: "etcd", programs: &[("go.etcd.io/etcd/server/v3", "etcd")], links: &[], stamp: "",
    } },
    Tool { name: "kwok", version: "0.8.0", seconds: 70, source: Source::Module {
        folder: "kwok", programs: &[("sigs.k8s.io/kwok/cmd/kwok", "kwok")], links: &[], stamp: "",
    } },
    Tool { name: "containerd", version: "2.4.2", seconds: 70, source: Source::Module {
        folder: "containerd", programs: &[
            ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
            ("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
        ], links: &[], stamp: "",
    } },
    Tool { name: "coredns", version: "1.15.0", seconds: 140, source: Source::Module {
        folder: "coredns", programs: &[("github.com/coredns/coredns", "coredns")], links: &[], stamp: "",
    } },
    Tool { name: "helm", version: "4.3.1", seconds: 150, source: Source::Module {
        folder: "helm", programs: &[("helm.sh/helm/v4/cmd/helm", "helm")], links: &[],
        stamp: "-X helm.sh/helm/v4/internal/version.version=v4.3.1",
    } },
    Tool { name: "cel-cost", version: "0.37.2", seconds: 120, source: Source::Module {
        folder: "cel-cost", programs: &[(".", "cel-cost")], links: &[], stamp: "",
    } },
    Tool { name: "apf-replay", version: "0.37.2", seconds: 120, source: Source::Module {
        folder: "apf-replay", programs: &[(".", "apf-replay")], links: &[], stamp: "",
    } },
    Tool { name: "corefile-replay", version: "1.1.4-2", seconds: 15, source: Source::Module {
        folder: "corefile-replay", programs: &[(".", "corefile-replay")], links: &[], stamp: "",
    } },
    Tool { name: "kruise", version: "1.8.3", seconds: 165, source: Source::Module {
        folder: "openkruise", programs: &[("github.com/openkruise/kruise", "kruise")], links: &[], stamp: "",
    } },
    Tool { name: "kube-score", version: "1.20.0", seconds: 60, source: Source::Go {
        module: "github.com/zegl/kube-score", package: "cmd/kube-score", replace: &[], stamp: Some("main.version"),
    } },
    Tool { name: "kubeconform", version: "0.7.0", seconds: 30, source: Source::Go {
        module: "github.com/yannh/kubeconform", package: "cmd/kubeconform", replace: &[], stamp: Some("main.version"),
    } },
    Tool { name: "kubectl-kyverno", version: "1.17.1", seconds: 380, source: Source::Go {
        module: "github.com/kyverno/kyverno", package: "cmd/cli/kubectl-kyverno",
        replace: &[KYVERNO_REPLACES],
        stamp: Some("github.com/kyverno/kyverno/pkg/version.BuildVersion"),
    } },
    Tool { name: "kyverno", version: "1.17.1", seconds: 330, source: Source::Go {
        module: "github.com/kyverno/kyverno", package: "cmd/kyverno",
        replace: &[KYVERNO_REPLACES], stamp: Some("github.com/kyverno/kyverno/pkg/version.BuildVersion"),
    } },
    Tool { name: "trivy", version: "0.74.0", seconds: 600, source: Source::Go {
        module: "github.com/aquasecurity/trivy", package: "cmd/trivy", replace: &[],
        stamp: Some("github.com/aquasecurity/trivy/pkg/version/app.ver"),
    } },
    Tool { name: "pytest", version: "9.2.0", seconds: 110, source: Source::Venv {
        requirements: "python/tests/requirements.txt", script: "python/tests/torch_without_cuda.py",
    } },
    Tool { name: "checkov", version: "3.3.30", seconds: 40, source: Source::PyPi },
];

/// Which tools to build.
#[derive(clap::Args)]
pub struct Options {
    /// Names of tools; none lists them all with their versions.
    names: Vec<String>,
}

/// `cargo xtask tools`.
///
/// # Errors
/// Where a name is unknown or a build fails.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.names.is_empty() {
        for tool in TOOLS {
            let state = if tool.is_built()? { "built".to_owned() } else { format!("takes {}", tool.duration()) };
            println!("{:<16} {:<10} {state}", tool.name, tool.version);
        }
    }
    for name in &options.names {
        println!("{}", get(name)?.program()?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The tool called `name`, from the table.
pub fn get(name: &str) -> Result<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name).ok_or_else(|| {
        let known: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
        format!("no tool is called `{name}`; known: {}", known.join(", "))
    })
}

impl Tool {
    /// The path of its program, built first if need be.
    pub fn program(&self) -> Result<PathBuf> {
        let folder = self.folder()?;
        if !self.is_built()? {
            self.build_once(&folder)?;
        }
        Ok(folder.join("bin").join(self.name))
    }

    fn folder(&self) -> Result<PathBuf> {
        let mut folder = format!("{}-{}", self.name, self.version);
        if let Source::Venv { requirements, script } = self.source {
            let mut content = Vec::new();
            for path in [requirements, script] {
                let path = run::root().join(path);
                content.extend(fs::read(&path).map_err(run::file("read", &path))?);
            }
            let digest = digest(&content);
            let _ = write!(folder, "-{}", digest.trim_start_matches("sha256:").get(..12).unwrap_or_default());
        }
        Ok(cache()?.join(folder))
    }

    fn is_built(&self) -> Result<bool> {
        Ok(self.folder()?.join("complete").exists())
    }

    fn duration(&self) -> String {
        match self.seconds {
            0..90 => format!("about {} s", self.seconds),
            _ => format!("about {} min", self.seconds.div_ceil(60)),
        }
    }

    /// Builds under a lock, so that of two runs one builds and the other waits.
    fn build_once(&self, folder: &Path) -> Result<()> {
        let parent = cache()?;
        fs::create_dir_all(&parent).map_err(run::file("create", &parent))?;
        let lock_path = folder.with_added_extension("lock");
        let lock = File::create(&lock_path).map_err(run::file("create", &lock_path))?;
        if lock.try_lock().is_err() {
            eprintln!("xtask: another run is building {} {}; waiting for it", self.name, self.version);
            lock.lock().map_err(run::file("lock", &lock_path))?;
        }
        if self.is_built()? {
            return Ok(());
        }
        eprintln!(
            "xtask: building {} {} ({} on 2 cores, once; kept in {})",
            self.name,
            self.version,
            self.duration(),
            folder.display()
        );
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(run::file("remove", folder))?;
        }
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).map_err(run::file("create", &bin))?;
        let started = Instant::now();
        match self.source {
            Source::Cargo => self.build_cargo(folder)?,
            Source::Go { module, package, replace, stamp } => self.build_go(folder, module, package, replace, stamp)?,
            Source::Module { folder: module, programs, links, stamp } => {
                self.build_module(folder, module, programs, stamp)?;
                for link in links {
                    let path = folder.join("bin").join(link);
                    std::os::unix::fs::symlink(self.name, &path).map_err(run::file("link", &path))?;
                }
            }
            Source::PyPi => self.build_python(folder)?,
            Source::Venv { requirements, script } => {
                run::succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
                // Without what they say they need: torch from PyPI would bring four gigabytes for a GPU.
                let install = ["install", "--quiet", "--no-deps", "--requirement"];
                let path = run::root().join(requirements);
                run::succeed(Command::new(bin.join("pip")).args(install).arg(path))?;
                run::succeed(Command::new(bin.join("python")).arg(run::root().join(script)))?;
            }
        }
        let marker = folder.join("complete");
        fs::write(&marker, format!("{}\n", self.version)).map_err(run::file("write", &marker))?;
        eprintln!("xtask: built {} in {} s", self.name, started.elapsed().as_secs());
        Ok(())
    }

    fn build_cargo(&self, folder: &Path) -> Result<()> {
        let build = folder.join("build");
        run::succeed(
            run::cargo(&["install", "--quiet", "--locked", self.name, "--version", self.version, "--root"])
                .arg(folder)
                .arg("--target-dir")
                .arg(&build),
        )?;
        fs::remove_dir_all(&build).map_err(run::file("remove", &build))
    }

    /// Named as a tool (`go get -tool`) in a module of its own, the package is built with the versions that its
    /// own go.mod chose.
    fn build_go(
        &self,
        folder: &Path,
        module: &str,
        package: &str,
        replace: &[&str],
        stamp: Option<&str>,
    ) -> Result<()> {
        let build = folder.join("build");
        fs::create_dir_all(&build).map_err(run::file("create", &build))?;
        // Trivy imports encoding/json/v2, which Go 1.25 and 1.26 have only as an experiment; it harms no other.
        let go = |arguments: &[&str]| {
            run::succeed(Command::new("go").args(arguments).current_dir(&build).env("GOEXPERIMENT", "jsonv2"))
        };
        let package = format!("{module}/{package}");
        go(&["mod", "init", "scratch"])?;
        for line in replace {
            go(&["mod", "edit", "-replace", line])?;
        }
        go(&["get", "-tool", &format!("{package}@v{}", self.version)])?;
        let stamp = stamp.map(|variable| format!("-X {variable}={}", self.version)).unwrap_or_default();
        let out = folder.join("bin").join(self.name);
        go(&["build", "-trimpath", "-ldflags", &format!("-s -w {stamp}"), "-o", &out.to_string_lossy(), &package])?;
        fs::remove_dir_all(&build).map_err(run::file("remove", &build))
    }

    /// `-mod=readonly` is Go's default: what is built is what go.sum says.
    fn build_module(&self, folder: &Path, module: &str, programs: &[(&str, &str)], stamp: &str) -> Result<()> {
        for (package, program) in programs {
            let out = folder.join("bin").join(program);
            run::succeed(
                Command::new("go")
                    .args(["build", "-trimpath", "-ldflags", &format!("-s -w {stamp}"), "-o"])
                    .arg(out)
                    .arg(package)
                    .current_dir(run::root().join("devcluster").join(module)),
            )?;
        }
        Ok(())
    }

    fn build_python(&self, folder: &Path) -> Result<()> {
        run::succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let pinned = format!("{}=={}", self.name, self.version);
        run::succeed(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &pinned]))
    }
}

/// Where tools are kept: `$BEDPLATE_CACHE`, or `bedplate/tools` in the user's cache folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("BEDPLATE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("bedplate/tools")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/bedplate/tools")))
        .ok_or_else(|| "none of BEDPLATE_CACHE, XDG_CACHE_HOME and HOME is set".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let message = get("kubescore").err().expect("no such tool");
        assert!(message.contains("kube-score"), "{message}");
    }

    #[test]
    fn the_modules_pin_the_versions_that_are_promised() {
        for tool in TOOLS {
            if let Source::Module { folder, .. } = tool.source {
                let text = fs::read_to_string(run::root().join("devcluster").join(folder).join("go.mod")).unwrap();
                let pinned = tool.version.split('-').next().unwrap();
                assert!(text.contains(&format!(" v{pinned}")), "{} {}", tool.name, tool.version);
            }
        }
    }

    #[test]
    fn names_are_unique_and_versions_are_exact() {
        for (index, tool) in TOOLS.iter().enumerate() {
            assert!(TOOLS[index + 1..].iter().all(|other| other.name != tool.name), "{} twice", tool.name);
            assert_eq!(tool.version.split('.').count(), 3, "{} {}", tool.name, tool.version);
            assert!(tool.version.starts_with(|c: char| c.is_ascii_digit()), "{} {}", tool.name, tool.version);
        }
    }
}
