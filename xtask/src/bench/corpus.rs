//! A folder of manifests to measure with: the examples, varied, the same for the same number of files.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bedplate_devcluster::run::{self, Result};

/// Files in one folder of the corpus.
const FOLDER: usize = 100;

/// One file in this many is a long one, of several documents.
const LONG: usize = 10;

/// Makes a corpus of `files` files (once) and returns its folder. A smaller corpus is the beginning of a larger one.
pub(super) fn make(files: usize) -> Result<PathBuf> {
    let folder = run::target().join(format!("bench/corpus-{files}"));
    let complete = folder.with_extension("complete");
    if complete.exists() {
        return Ok(folder);
    }
    let examples = examples()?;
    eprintln!("xtask: writing {files} manifests to {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(run::file("remove", &folder))?;
    }
    for index in 0..files {
        let text = manifest(&examples, index);
        // Every file would cost the peers' time; the first thousand show whether varying breaks anything.
        if index < 1000 {
            parses(&text).map_err(|error| format!("the generator made a broken manifest, {index}: {error}"))?;
        }
        let place = folder.join(format!("{:04}", index / FOLDER));
        if index % FOLDER == 0 {
            fs::create_dir_all(&place).map_err(run::file("create", &place))?;
        }
        let place = place.join(format!("manifest-{index:06}.yaml"));
        fs::write(&place, text).map_err(run::file("write", &place))?;
    }
    fs::write(&complete, "").map_err(run::file("write", &complete))?;
    Ok(folder)
}

/// The text of every example manifest, in the order of their paths.
fn examples() -> Result<Vec<String>> {
    let folder = run::root().join("examples");
    let mut texts = Vec::new();
    for path in run::files_below(&folder)? {
        if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("bedplate.yaml") {
            let path = folder.join(path);
            texts.push(fs::read_to_string(&path).map_err(run::file("read", &path))?);
        }
    }
    if texts.is_empty() { Err(format!("no manifests in {}", folder.display())) } else { Ok(texts) }
}

/// The text of file `index` of every corpus.
fn manifest(examples: &[String], index: usize) -> String {
    let mut random = Random(index as u64);
    // As many lines as a rendered chart or a platform's kustomization has in one file.
    let lines = if index % LONG == LONG - 1 { 200 + random.below(400) } else { 1 };
    let mut text = String::new();
    while text.lines().count() < lines {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        vary(&examples[random.below(examples.len())], index, &mut random, &mut text);
    }
    text
}

/// Copies `example`, with other names, namespaces, images, numbers, labels and environment variables.
fn vary(example: &str, index: usize, random: &mut Random, out: &mut String) {
    let mut metadata = None;
    let mut lines = example.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let next = lines.peek().map_or(0, |next| next.len() - next.trim_start_matches(' ').len());
        let key = line.trim_start();
        if metadata.is_some_and(|outer| indent <= outer) {
            metadata = None;
        }
        match key.split_once(": ") {
            Some(("name", name)) if metadata.is_some() && !name.contains(['"', '\'', '{', '.']) => {
                let _ = writeln!(out, "{line}-{index}");
            }
            Some(("namespace", _)) => {
                let _ = writeln!(out, "{:indent$}namespace: team-{}", "", random.below(40));
            }
            Some((key @ ("image" | "- image"), image)) if !image.contains(['"', '\'', '{', ' ']) => {
                let name = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(name, _)| name);
                let tag = match random.below(8) {
                    0 => String::new(),
                    1 => ":latest".to_owned(),
                    _ if image.contains('@') => image[name.len()..].to_owned(),
                    _ => format!(":v{}.{}", random.below(4), random.below(30)),
                };
                let _ = writeln!(out, "{:indent$}{key}: {name}{tag}", "");
            }
            Some((key @ ("replicas" | "nvidia.com/gpu"), number)) if number.parse::<u32>().is_ok() => {
                let _ = writeln!(out, "{:indent$}{key}: {}", "", 1 << random.below(5));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
        match key {
            "metadata:" => metadata = Some(indent),
            "labels:" if next > indent => {
                for extra in 0..random.below(4) {
                    let _ = writeln!(out, "{:next$}example.com/label-{extra}: value-{}", "", random.below(1000));
                }
            }
            "env:" if lines.peek().is_some_and(|next| next.trim_start().starts_with("- ")) => {
                for extra in 0..random.below(6) {
                    let _ = writeln!(out, "{:next$}- name: EXTRA_{extra}", "");
                    let _ = writeln!(out, "{:next$}  value: \"{}\"", "", random.below(1_000_000));
                }
            }
            _ => {}
        }
    }
}

/// Whether `text` is YAML, by the parser's word.
fn parses(text: &str) -> std::result::Result<(), String> {
    granit_parser::Parser::new_from_str(text).try_for_each(|event| event.map(|_| ()).map_err(|error| error.to_string()))
}

/// Bytes and lines of the corpus in `folder`.
pub(super) fn size(folder: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut lines) = (0, 0);
    for path in run::files_below(folder)? {
        let text = fs::read(folder.join(&path)).map_err(run::file("read", &path))?;
        bytes += text.len() as u64;
        lines += text.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
    Ok((bytes, lines))
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same on every machine.
struct Random(u64);

impl Random {
    /// A number below `bound`; `bound` is small, so the modulo's bias does not matter.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (bound as u64).max(1)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_varied_example_is_still_yaml() {
        let examples = examples().expect("examples are readable");
        for index in 0..300 {
            let text = manifest(&examples, index);
            parses(&text).unwrap_or_else(|error| panic!("{index}: {error}\n{text}"));
        }
    }

    #[test]
    fn the_same_file_is_the_same_everywhere_and_its_neighbour_is_not() {
        let examples = examples().expect("examples are readable");
        assert_eq!(manifest(&examples, 7), manifest(&examples, 7));
        assert_ne!(manifest(&examples, 7), manifest(&examples, 8));
        assert!(manifest(&examples, 9).lines().count() >= 200);
    }
}
