//! `bedplate check` as its user meets it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bedplate_model::document::{Limits, parse};
use bedplate_model::{Object, Workload};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bedplate")).args(args).current_dir(self.0.path()).output().unwrap()
    }

    /// Findings as `path:line rule message`, and the exit code.
    fn check(&self, args: &[&str]) -> (Vec<String>, Option<i32>) {
        let output = self.run(&[&["check", "--format", "json"], args].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let list = json["findings"].as_array().unwrap().iter();
        let list =
            list.map(|f| format!("{}:{} {} {}", text(f, "path"), f["line"], text(f, "rule"), text(f, "message")));
        (list.collect(), output.status.code())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

const CRD: &[u8] = b"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: tfjobs.kubeflow.org # ours\nspec: {group: kubeflow.org, names: {kind: TFJob}}\n";

fn examples(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(folder);
    let mut found = vec![];
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn each_bad_file_is_one_error_and_the_rest_is_checked() {
    let folder = Folder::new(&[
        ("a-binary.yaml", b"\x00\x01\x02"),
        ("b-latin1.yaml", b"a: 1\nb: \xe9\n"),
        ("c-tabs.yaml", b"a:\n\tb: 1\n"),
        ("d-twice.yaml", b"a: 1\na: 2\n"),
        ("e-empty.yaml", b""),
        ("f-merge.yaml", b"a:\n  <<: 3\n"),
        ("g/Dockerfile", b"FROM x:1\nENTRYPONT [\"a\"]\n"),
        ("h-crd.yaml", CRD),
    ]);
    let (found, code) = folder.check(&["."]);
    let starts: Vec<_> = found.iter().map(|f| f.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        starts,
        [
            "a-binary.yaml:1 unreadable",
            "b-latin1.yaml:1 unreadable",
            "c-tabs.yaml:2 syntax",
            "d-twice.yaml:2 syntax",
            "f-merge.yaml:2 syntax",
            "g/Dockerfile:2 syntax",
            "h-crd.yaml:4 unprotected-crd",
        ]
    );
    assert!(found[1].contains("line 2: not UTF-8"), "{}", found[1]);
    assert_eq!(code, Some(1));
}

#[test]
fn exit_codes_say_clean_found_or_could_not_run() {
    let folder =
        Folder::new(&[("crd.yaml", CRD), ("clean.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")]);
    assert_eq!(folder.check(&["clean.yaml"]).1, Some(0));
    assert_eq!(folder.check(&["crd.yaml"]).1, Some(1));
    // One of two can be read: the other is a finding.
    assert_eq!(folder.check(&["nowhere.yaml", "clean.yaml"]).1, Some(1));
    assert_eq!(folder.check(&["nowhere.yaml"]).1, Some(2));
}

#[cfg(unix)]
/// As root, `--output /dev/null` once made an ordinary file of the device, for every program on the machine.
#[cfg(unix)]
#[test]
fn a_report_never_takes_the_place_of_what_is_no_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&[(
        "a.yaml",
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: x}]}\n",
    )]);
    // A link that stands for the device: this test must not be able to do what it forbids.
    let link = folder.0.path().join("null");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    folder.run(&["check", "--output", "null", "a.yaml"]);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    folder.run(&["check", "--output", "report.txt", "a.yaml"]);
    assert_eq!(folder.0.path().join("report.txt").metadata().unwrap().permissions().mode() & 0o400, 0o400);
    // And a link to a manifest stays one when the manifest is fixed.
    let (real, linked) = (folder.0.path().join("a.yaml"), folder.0.path().join("link.yaml"));
    std::os::unix::fs::symlink(&real, &linked).unwrap();
    folder.run(&["check", "--fix", "link.yaml"]);
    assert!(linked.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_symlink_loop_does_not_hang_it() {
    let folder = Folder::new(&[("crd.yaml", CRD)]);
    std::os::unix::fs::symlink("loop.yaml", folder.0.path().join("loop.yaml")).unwrap();
    std::os::unix::fs::symlink(".", folder.0.path().join("self")).unwrap();
    let (found, _) = folder.check(&["."]);
    assert_eq!(found.len(), 1, "{found:?}");
    let (found, code) = folder.check(&["loop.yaml"]);
    assert!(found[0].contains("symbolic links"), "{found:?}");
    assert_eq!(code, Some(2));
}

#[test]
fn a_file_of_100_mb_is_refused_without_reading_it() {
    let folder = Folder::new(&[]);
    std::fs::File::create(folder.0.path().join("dump.yaml")).unwrap().set_len(100 << 20).unwrap();
    let (found, code) = folder.check(&["dump.yaml"]);
    assert!(found[0].contains("100 MiB, more than the limit of 16 MiB"), "{found:?}");
    assert_eq!(code, Some(2));
}

#[test]
fn unrendered_files_are_skipped_and_said_so() {
    let folder = Folder::new(&[
        ("chart/Chart.yaml", b"name: x\n"),
        ("chart/templates/a.yaml", b"kind: {{ .Values.kind }}\n"),
        ("k/kustomization.yaml", b"resources: [crd.yaml]\npatches: [{path: patch.yaml}]\n"),
        (
            "k/patch.yaml",
            b"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{name: a, image: x}]}}}\n",
        ),
        ("k/crd.yaml", CRD),
    ]);
    let (found, _) = folder.check(&["."]);
    assert_eq!(found.len(), 1, "the patch is a piece of an object, the template none: {found:?}");
    let output = folder.run(&["check", "."]);
    let all = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(all.contains("kustomize build") && all.contains("helm template"), "{all}");
}

#[test]
fn a_suppression_needs_a_reason_and_a_rule_that_exists() {
    let with = |comment: &str| {
        let text = String::from_utf8(CRD.to_vec()).unwrap().replace("# ours", comment);
        Folder::new(&[("crd.yaml", text.as_bytes())]).check(&["."]).0
    };
    assert_eq!(with("# bedplate: ignore[unprotected-crd] the operator's chart guards it"), [] as [String; 0]);
    assert_eq!(with("# bedplate: ignore[unprotected-crd]").len(), 2);
    assert!(with("# bedplate: ignore[unprotected-cdr] x")[1].contains("no rule `unprotected-cdr`"));
}

#[test]
fn a_profile_with_a_mistake_stops_the_run() {
    let profile = |spec: &str| format!("apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec:\n{spec}");
    let folder = Folder::new(&[("bedplate.yaml", profile("  admision: {}\n").as_bytes()), ("sub/crd.yaml", CRD)]);
    let output = folder.run(&["check", "sub"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("did you mean `admission`?") && stderr.contains("bedplate.yaml:4"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));

    let folder = Folder::new(&[
        ("bedplate.yaml", profile("  rules: {unprotected-crd: off}\n").as_bytes()),
        ("sub/crd.yaml", CRD),
    ]);
    assert_eq!(folder.check(&["sub"]), (vec![], Some(0)));
}

#[test]
fn an_exemption_holds_until_its_day_and_is_a_finding_after_it() {
    let exempt = |day: &str| {
        let text = format!(
            "apiVersion: bedplate.dev/v1alpha1\nkind: Exemption\nmetadata: {{name: a}}\nspec:\n  rule: unprotected-crd\n  subject: {{name: tfjobs.*}}\n  reason: guarded by the platform team's own webhook\n  expires: {day}\n"
        );
        Folder::new(&[("bedplate.yaml", text.as_bytes()), ("crd.yaml", CRD)]).check(&["."]).0
    };
    assert_eq!(exempt("9999-12-31"), [] as [String; 0]);
    let lapsed = exempt("2020-01-01");
    assert_eq!(lapsed.len(), 2, "{lapsed:?}");
    assert!(lapsed[0].starts_with("bedplate.yaml:8 exemption-expired"), "{lapsed:?}");
}

#[test]
fn fix_keeps_every_other_byte_and_diff_changes_nothing() {
    let folder = Folder::new(&[("crd.yaml", CRD)]);
    let output = folder.run(&["check", "--diff", "."]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("+  annotations:"));
    assert_eq!(folder.read("crd.yaml").as_bytes(), CRD);
    assert_eq!(folder.check(&["--fix", "."]), (vec![], Some(0)));
    let expected = String::from_utf8(CRD.to_vec())
        .unwrap()
        .replace("# ours\n", "# ours\n  annotations:\n    \"bedplate.dev/delete-protection\": \"true\"\n");
    let fixed = folder.read("crd.yaml");
    assert_eq!(fixed.replace("bedplate.dev/delete-protection:", "\"bedplate.dev/delete-protection\":"), expected);
}

/// Every fix that is offered for the platform of incidents can be made, and what it fixes is gone.
#[test]
fn the_platform_that_falls_over_is_fixed_as_far_as_a_machine_can() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/platform");
    let files: Vec<_> = examples("platform")
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let borrowed: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_slice())).collect();
    let folder = Folder::new(&borrowed);
    let count = || {
        let output = folder.run(&["check", "--format", "json", "."]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = json["findings"].as_array().unwrap().clone();
        let fixable =
            all.iter().filter(|f| f["fix"]["edits"].as_array().is_some_and(|edits| !edits.is_empty())).count();
        let broken = all.iter().filter(|f| f["rule"] == "syntax").count();
        (all.len(), fixable, broken)
    };
    let (before, fixable, _) = count();
    assert!(fixable >= 10, "{fixable}");
    folder.run(&["check", "--fix", "--unsafe-fixes", "."]);
    let (after, left, broken) = count();
    assert_eq!(broken, 0);
    assert!(after < before && left * 5 <= fixable, "{before} findings with {fixable} fixes, {after} with {left} after");
}

#[test]
fn two_runs_say_the_same_to_the_byte() {
    let folder = Folder::new(&[]);
    let platform = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").canonicalize().unwrap();
    for format in ["text", "json", "sarif", "junit", "github", "html"] {
        let run = || folder.run(&["check", "--format", format, platform.to_str().unwrap()]).stdout;
        let first = run();
        assert!(!first.is_empty());
        assert_eq!(first, run(), "{format}");
    }
}

#[test]
fn every_example_of_a_kind_is_seen_and_none_is_a_guess() {
    let mut kinds = BTreeSet::new();
    for path in examples("kinds") {
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = parse(&text, &Limits::DEFAULT);
        assert_eq!(parsed.errors, [], "{}", path.display());
        for document in &parsed.documents {
            for object in Object::of(document) {
                if let Some(workload) = Workload::new(&object) {
                    assert!(!workload.guessed(), "{}", path.display());
                    kinds.insert(format!("{}/{}", object.group(), object.kind));
                    assert!(!workload.pod_sets.is_empty(), "{}", path.display());
                }
            }
        }
    }
    let missing: Vec<_> = bedplate_model::workload::kinds::TABLE
        .iter()
        .map(|row| format!("{}/{}", row.group, row.kind))
        .filter(|kind| !kinds.contains(kind))
        // Old or second forms of kinds that have their example.
        .filter(|kind| {
            !["batch.volcano.sh/CronJob", "mcad.ibm.com/AppWrapper", "serving.knative.dev/Service"]
                .contains(&kind.as_str())
        })
        .collect();
    assert_eq!(missing, [] as [String; 0]);
}

/// `docker build -f docker/Dockerfile .`: the script stands beside the folder, not in it.
#[test]
fn a_script_is_found_where_the_build_starts_above_its_dockerfile() {
    let dockerfile = b"FROM debian:12\nCOPY run.sh /run.sh\nENTRYPOINT [\"tini\", \"--\", \"/run.sh\"]\n";
    let script = b"#!/bin/sh\nset -e\npython train.py\n";
    let files: &[(&str, &[u8])] = &[("docker/Dockerfile", dockerfile), ("run.sh", script)];
    let found = |folder: &Folder| {
        let (found, _) = folder.check(&["docker"]);
        found.into_iter().filter(|line| line.contains("shell-wrapper-without-exec")).count()
    };
    // Without a repository nobody knows where the build starts.
    assert_eq!(found(&Folder::new(files)), 0);
    assert_eq!(found(&Folder::new(&[files, &[(".git/HEAD", b"")]].concat())), 1);
}

#[test]
fn a_path_that_is_not_there_is_told_without_an_excerpt() {
    let output = Folder::new(&[]).run(&["check", "gone"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("error[unreadable]: No such file or directory (os error 2)\n--> gone\n\n"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}
