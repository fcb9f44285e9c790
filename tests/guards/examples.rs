//! The examples are what their kinds' definitions say, in the real API server.

use bedplate_devcluster::run;

use crate::cluster;

#[test]
fn every_example_fits_the_definition_of_its_kind() {
    let c = cluster();
    let folder = run::root().join("examples/kinds");
    let ns = c.namespace("roomy");
    // As theirs is: protected objects are let into no other.
    c.k(&format!("annotate namespace {ns} bedplate.dev/delete-protection=true")).accepted();
    for file in run::files_below(&folder).unwrap() {
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        // A namespace of this test.
        let text = text.replace("namespace: ml-prod", &format!("namespace: {ns}"));
        // Strict: a field that the kind does not have is an error, not dropped.
        let answer = c.kubectl(&["create", "--dry-run=server", "--validate=strict", "--filename", "-"], &text);
        assert_eq!(answer.code, 0, "{}: {}", file.display(), answer.text);
    }
}
