//! `bedplate dns edit`: autopath in a Corefile, as a difference.

use std::path::PathBuf;
use std::process::ExitCode;

use bedplate_dns::autopath::{self, Facts, Obstacle};
use bedplate_dns::corefile::edited;
use bedplate_guarantees::check::inside;
use bedplate_model::document::{Limits, parse};
use bedplate_model::{LineIndex, Node, Object, Span};

use crate::commands::{Error, print};
use crate::files::read;

/// A Corefile, and what is known of its cluster.
#[derive(clap::Args, Debug)]
pub(super) struct Edit {
    /// A Corefile, or YAML with the ConfigMap that holds one; `-` is standard input
    file: PathBuf,
    /// Pods of the cluster, for the memory that CoreDNS will take
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pods: u64,
    /// Services of the cluster
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    services: u64,
    /// The memory that a CoreDNS pod may have, in MiB: more than that is refused
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

/// A Corefile in a text: its own text, and where a place of it is in the whole.
struct Found<'a> {
    text: String,
    /// The scalar that holds it; nothing where it is the whole text.
    scalar: Option<&'a Node<'a>>,
}

pub(super) fn run(edit: &Edit) -> Result<ExitCode, Error> {
    let text = read(&edit.file)?;
    let name = edit.file.display().to_string();
    let facts = Facts {
        pods: edit.pods,
        services: edit.services,
        memory_limit: edit.memory.map(|mib| mib << 20),
        ..Facts::default()
    };
    let new = match changed(&text, &facts) {
        Ok(new) => new,
        Err(Refused::Cluster(found)) => {
            for (why, help) in found {
                anstream::eprintln!("error: {why}\n  help: {help}");
            }
            return Ok(ExitCode::from(1));
        }
        Err(Refused::Places(found)) => {
            let lines = LineIndex::new(&text);
            for (obstacle, at) in found {
                let at = lines.position(u32::try_from(at).unwrap_or_default());
                anstream::eprintln!(
                    "error: {name}:{}:{}: {}\n  help: {}",
                    at.line,
                    at.column,
                    obstacle.why,
                    obstacle.help
                );
            }
            return Ok(ExitCode::from(1));
        }
        Err(Refused::Nothing) => {
            return Err(Error::Other(format!(
                "{name}: no Corefile: expected one, or a ConfigMap with the key `Corefile`"
            )));
        }
    };
    if new == text {
        anstream::eprintln!("nothing to do: autopath is there, and works");
        return Ok(ExitCode::SUCCESS);
    }
    let shown = name.strip_prefix("./").unwrap_or(&name);
    let changes = similar::TextDiff::from_lines(&text, &new);
    print(&changes.unified_diff().header(&format!("a/{shown}"), &format!("b/{shown}")).to_string())?;
    if edit.pods + edit.services > 0 {
        let (without, with) = facts.megabytes();
        anstream::eprintln!("note: CoreDNS takes about {with} MB with it, {without} MB without");
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a text is not changed.
enum Refused {
    /// Places of the text.
    Places(Vec<(Obstacle, usize)>),
    /// What is known of the cluster.
    Cluster(Vec<(String, String)>),
    /// There is no Corefile.
    Nothing,
}

/// A Corefile, or YAML with one, with autopath in it.
fn changed(text: &str, facts: &Facts) -> Result<String, Refused> {
    let parsed = parse(text, &Limits::DEFAULT);
    let mut found = Vec::new();
    for document in &parsed.documents {
        for object in Object::of(document).iter().filter(|object| object.is("", "ConfigMap")) {
            for (_, value) in object.root.key("data").entries().filter(|(key, _)| key.contains("Corefile")) {
                if let (Some(corefile), Some(node)) = (value.str(), value.node()) {
                    found.push(Found { text: corefile.to_owned(), scalar: Some(node) });
                }
            }
        }
    }
    if found.is_empty() {
        let is_object = parsed.documents.iter().any(|document| document.root.get("kind").is_some());
        if is_object || text.trim().is_empty() {
            return Err(Refused::Nothing);
        }
        found.push(Found { text: text.to_owned(), scalar: None });
    }
    let obstacles = facts.obstacles();
    if !obstacles.is_empty() {
        return Err(Refused::Cluster(obstacles));
    }
    let mut edits = Vec::new();
    for Found { text: corefile, scalar } in found {
        let place = |span: &std::ops::Range<usize>| match scalar {
            Some(node) => {
                inside(text, node, Span::new(span.start, span.end)).map(|span| span.start as usize..span.end as usize)
            }
            None => Some(span.clone()),
        };
        let outer = scalar.map_or(0, |node| node.span.start as usize);
        let new = autopath::add(&corefile).map_err(|found| {
            let placed = found.into_iter().map(|obstacle| {
                let at = place(&obstacle.span).map_or(outer, |span| span.start);
                (obstacle, at)
            });
            Refused::Places(placed.collect())
        })?;
        // The lines of a scalar are set in.
        let indent = scalar.map_or("", |node| {
            let before = text.get(..node.span.start as usize).unwrap_or_default();
            before.rsplit('\n').next().unwrap_or_default()
        });
        for edit in new.edits {
            let Some(span) = place(&edit.span) else {
                let why = "this Corefile stands in quotes, on one line".to_owned();
                let help = "write it as a block, `Corefile: |`".to_owned();
                return Err(Refused::Places(vec![(Obstacle { why, help, span: 0..0 }, outer)]));
            };
            let text = edit.text.replace('\n', &format!("\n{indent}"));
            edits.push(bedplate_dns::Edit { span, text });
        }
    }
    Ok(edited(text, &edits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "# owned by the platform team\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: |\n    .:53 {\n        errors # all\n        kubernetes cluster.local {\n            pods insecure\n        }\n        forward . /etc/resolv.conf\n        cache 30\n    }\n";

    #[test]
    fn a_corefile_in_a_config_map_is_changed_in_its_place() {
        let Ok(new) = changed(MAP, &Facts::default()) else { panic!("refused") };
        let expected = MAP
            .replace("        kubernetes", "        autopath @kubernetes\n        kubernetes")
            .replace("insecure", "verified");
        assert_eq!(new, expected);
        assert!(changed(&new, &Facts::default()).is_ok_and(|again| again == new));
    }

    #[test]
    fn what_cannot_be_changed_is_told_with_its_place() {
        let with = MAP.replace("        cache 30\n", "        import custom/*.override\n");
        let Err(Refused::Places(found)) = changed(&with, &Facts::default()) else { panic!("changed") };
        assert_eq!(&with[found[0].1..][..8], "custom/*");
        let quoted =
            "kind: ConfigMap\napiVersion: v1\ndata: {Corefile: \".:53 {\\n kubernetes\\n forward . 1.1.1.1\\n}\\n\"}\n";
        assert!(matches!(changed(quoted, &Facts::default()), Err(Refused::Places(_))));
        assert!(matches!(changed("kind: Pod\napiVersion: v1\n", &Facts::default()), Err(Refused::Nothing)));
        let small = Facts { pods: 90_000, memory_limit: Some(170 << 20), ..Facts::default() };
        assert!(matches!(changed(MAP, &small), Err(Refused::Cluster(_))));
    }
}
