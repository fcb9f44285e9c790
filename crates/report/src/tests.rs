//! Every format over the same small files, as a user reads it.

use bedplate_guarantees::check::Run;
use bedplate_guarantees::context::NoContext;
use bedplate_guarantees::{Checked, Located, Neighbours, Source, check};
use bedplate_model::document::FileKind;
use bedplate_model::{Confidence, Edit, FieldPath, Finding, Fix, Profile, Severity, Span, SubjectRef};

use crate::{FileView, Format, Summary, report};

const MANIFEST: &str = "\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: too-much, namespace: research}
spec:
  pytorchReplicaSpecs:
    Worker:
      replicas: 8
      template:
        spec:
          containers:
            - name: pytorch
              image: registry.example/pytorch:2.7.0
              resources:
                limits:
                  nvidia.com/gpu: 16
";

/// What the rules themselves say about a text, and of that only what does not depend on which
/// rules there are.
fn checked(text: &str) -> Checked {
    let run = Run { profile: &Profile::default(), neighbours: &Neighbours::default(), now: "2026-01-01" };
    let mut checked = check(Source { text, kind: FileKind::Yaml, build: &NoContext }, run);
    checked.findings.retain(|located| ["gpu-ceiling", "syntax"].contains(&located.finding.rule));
    checked
}

/// A finding with everything that a finding can have, in a text that means harm.
const HOSTILE: &str = "command: \"<script>alert('é😀')</script>\x1b[31m ]]> %0A\"\nlines: 2\n";

fn hostile() -> Checked {
    let path = FieldPath::default().key("command");
    let mut finding = Finding::new(path.clone(), "`<script>alert(1)</script>` & \x1b[31mred\nis no command, 100%")
        .label("<b>here</b>")
        .related(FieldPath::default().key("lines"), "these, too")
        .evidence("<script>", "exec")
        .note("a note with ]]> in it")
        .fix(Fix::safe("take `<script>` away", vec![Edit::Set(path, serde_json::json!(["exec", 1]))]));
    finding.rule = "gpu-ceiling";
    finding.severity = Severity::Warning;
    finding.confidence = Confidence::Low;
    finding.subject = SubjectRef {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: Some("<i>".to_owned()),
        name: "a,b:c".to_owned(),
    };
    let start = HOSTILE.find("😀").unwrap();
    let related = HOSTILE.find("lines").unwrap();
    let located = Located {
        span: Span::new(start, start + "😀')".len()),
        related: vec![(Span::new(related, related + 5), "these, too".to_owned())],
        document: Some(0),
        finding,
    };
    Checked { findings: vec![located], subjects: 1, ..Checked::default() }
}

/// The whole output over a clean file, a manifest, a broken one and a hostile one.
fn run(format: Format) -> String {
    let clean = (("clean.yaml", ""), Checked::default());
    let broken = "a: 1\nb: \"x\nc: 3\n";
    let files = [
        clean,
        (("jobs/train.yaml", MANIFEST), checked(MANIFEST)),
        (("broken, 100%.yaml", broken), checked(broken)),
        (("hostile.yaml", HOSTILE), hostile()),
    ];
    let report = report(format, false, "1.2.3");
    let mut summary = Summary::default();
    let mut out = report.begin();
    let mut first = true;
    for ((path, text), checked) in &files {
        let view = FileView { path, text, checked };
        summary.add(&view);
        let piece = report.file(&view);
        if !piece.is_empty() {
            if !first {
                out.push_str(report.separator());
            }
            first = false;
            out.push_str(&piece);
        }
    }
    out.push_str(&report.end(&summary));
    out
}

#[test]
fn a_format_is_found_by_the_name_it_shows() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    insta::assert_snapshot!("yaml".parse::<Format>().unwrap_err(), @"`yaml` is no format; use one of text, json, sarif, junit, github, html");
}

#[test]
fn text() {
    insta::assert_snapshot!(run(Format::Text), @r#"
    error[gpu-ceiling]: this PyTorchJob asks for 128 accelerators, the ceiling is 8
     --> jobs/train.yaml:7:17
      |
    6 |     Worker:
    7 |       replicas: 8
      |                 ^ 8 replicas x 16 each
    8 |       template:
      |
      = in: PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.replicas
      = note: Worker: 8 replicas x 16 nvidia.com/gpu = 128
      = help: make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml

    error[gpu-ceiling]: a Worker pod asks for 16 accelerators, the ceiling is 8
      --> jobs/train.yaml:13:15
       |
    12 |               image: registry.example/pytorch:2.7.0
    13 |               resources:
       |               ^^^^^^^^^ 16 in one pod
    14 |                 limits:
       |
       = in: PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources
       = help: ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace

    error[syntax]: not valid YAML: unclosed quote
     --> broken, 100%.yaml:2:4
      |
    1 | a: 1
    2 | b: "x
      |    ^
    3 | c: 3
      |
      = help: close the quote that opens here

    warning[gpu-ceiling]: `<script>alert(1)</script>` & ␛[31mred
                          is no command, 100%
     --> hostile.yaml:1:27
      |
    1 | command: "<script>alert('é😀')</script>␛[31m ]]> %0A"
      |                           ^^^^ <b>here</b>
    2 | lines: 2
      | ----- these, too
      |
      = in: Pod <i>/a,b:c, command
      = confidence: low, it rests on a guess
      = note: a note with ]]> in it
      = help: take `<script>` away

    4 files, 4 findings: 3 errors, 1 warning; 1 can be fixed with --fix
"#);
}

#[test]
fn text_in_color_takes_no_escape_codes_from_the_file() {
    let checked = hostile();
    let view = FileView { path: "x\x1b[31m.yaml", text: HOSTILE, checked: &checked };
    let plain = report(Format::Text, false, "1").file(&view);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let color = report(Format::Text, true, "1").file(&view);
    assert!(color.contains('\x1b') && !color.contains("\x1b[31mred"), "{color:?}");
}

#[test]
fn text_points_into_one_long_line_by_its_real_column() {
    let text = format!("{{\"a\":\"{}\",\"gpu\":64,\"b\":\"{}\"}}", "é".repeat(5000), "x".repeat(5000));
    let mut checked = hostile();
    let start = text.find("64").unwrap();
    checked.findings[0].span = Span::new(start, start + 2);
    checked.findings[0].related.clear();
    let shown = report(Format::Text, false, "1").file(&FileView { path: "a.json", text: &text, checked: &checked });
    assert!(
        shown.contains("a.json:1:5015\n")
            && shown.contains("<b>here</b>")
            && shown.contains(",\"gpu\":64,\"b\":")
            && shown.len() < 1000,
        "{shown}"
    );
}

#[test]
fn a_place_that_is_not_in_the_text_is_still_reported() {
    for (text, span) in
        [("", Span::NONE), ("", Span::new(0, 0)), ("a: é\r\nb\r\n", Span::new(4, 99)), ("a\n", Span::new(2, 2))]
    {
        let mut checked = hostile();
        checked.findings[0].span = span;
        checked.findings[0].related[0].0 = span;
        let view = FileView { path: "x.yaml", text, checked: &checked };
        for format in Format::ALL {
            assert!(report(format, false, "1").file(&view).contains("gpu-ceiling"), "{format} {text:?}");
        }
    }
}

#[test]
fn a_skipped_template_says_how_to_check_it() {
    let text = "{{ if .Values.x }}\na: 1\n{{ end }}\n";
    let checked = checked(text);
    let mut summary = Summary::default();
    let view = FileView { path: "t.yaml", text, checked: &checked };
    summary.add(&view);
    let report = report(Format::Text, false, "1");
    insta::assert_snapshot!(report.file(&view) + &report.end(&summary), @r#"
    note: t.yaml was skipped: it is a Helm template; check what it renders to: `helm template CHART | bedplate check -`

    1 file, no findings; 1 skipped (to be rendered first)
"#);
}

#[test]
fn json() {
    insta::assert_snapshot!(run(Format::Json), @r#"
    {"version":1,"tool":{"name":"bedplate","version":"1.2.3"},"findings":[
    {"rule":"gpu-ceiling","guarantee":"admission","severity":"error","confidence":"high","path":"jobs/train.yaml","document":0,"subject":{"apiVersion":"kubeflow.org/v1","kind":"PyTorchJob","namespace":"research","name":"too-much"},"fieldPath":"spec.pytorchReplicaSpecs.Worker.replicas","line":7,"column":17,"endLine":7,"endColumn":18,"byteStart":150,"byteEnd":151,"message":"this PyTorchJob asks for 128 accelerators, the ceiling is 8","label":"8 replicas x 16 each","related":[],"evidence":{"found":"128","allowed":"8"},"notes":["Worker: 8 replicas x 16 nvidia.com/gpu = 128"],"help":"make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml","fix":{"safety":"manual","edits":[]}},
    {"rule":"gpu-ceiling","guarantee":"admission","severity":"error","confidence":"high","path":"jobs/train.yaml","document":0,"subject":{"apiVersion":"kubeflow.org/v1","kind":"PyTorchJob","namespace":"research","name":"too-much"},"fieldPath":"spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources","line":13,"column":15,"endLine":13,"endColumn":24,"byteStart":298,"byteEnd":307,"message":"a Worker pod asks for 16 accelerators, the ceiling is 8","label":"16 in one pod","related":[],"evidence":{"found":"16","allowed":"8"},"notes":[],"help":"ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace","fix":{"safety":"manual","edits":[]}},
    {"rule":"syntax","guarantee":null,"severity":"error","confidence":"high","path":"broken, 100%.yaml","document":null,"subject":null,"fieldPath":null,"line":2,"column":4,"endLine":2,"endColumn":5,"byteStart":8,"byteEnd":9,"message":"not valid YAML: unclosed quote","label":null,"related":[],"evidence":null,"notes":[],"help":"close the quote that opens here","fix":{"safety":"manual","edits":[]}},
    {"rule":"gpu-ceiling","guarantee":"admission","severity":"warning","confidence":"low","path":"hostile.yaml","document":0,"subject":{"apiVersion":"v1","kind":"Pod","namespace":"<i>","name":"a,b:c"},"fieldPath":"command","line":1,"column":27,"endLine":1,"endColumn":30,"byteStart":27,"byteEnd":33,"message":"`<script>alert(1)</script>` & \u001b[31mred\nis no command, 100%","label":"<b>here</b>","related":[{"label":"these, too","line":2,"column":1,"endLine":2,"endColumn":6,"byteStart":57,"byteEnd":62}],"evidence":{"found":"<script>","allowed":"exec"},"notes":["a note with ]]> in it"],"help":"take `<script>` away","fix":{"safety":"safe","edits":[{"op":"set","fieldPath":"command","value":["exec",1]}]}}
    ],"summary":{"files":4,"subjects":2,"findings":4,"errors":3,"warnings":1,"infos":0,"fixable":1,"suppressed":0,"exempt":0,"skipped":0,"guarantees":[{"name":"admission","errors":2,"warnings":1,"infos":0},{"name":"deletion","errors":0,"warnings":0,"infos":0},{"name":"fairness","errors":0,"warnings":0,"infos":0},{"name":"dns","errors":0,"warnings":0,"infos":0},{"name":"image","errors":0,"warnings":0,"infos":0},{"name":"training","errors":0,"warnings":0,"infos":0},{"name":"serving","errors":0,"warnings":0,"infos":0},{"name":"upgrade","errors":0,"warnings":0,"infos":0}]}}
"#);
}

#[test]
fn json_is_what_its_schema_says() {
    let output: serde_json::Value = serde_json::from_str(&run(Format::Json)).unwrap();
    let validator = jsonschema::validator_for(&crate::json_schema()).unwrap();
    let errors: Vec<_> = validator.iter_errors(&output).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert_eq!(errors, [] as [String; 0]);
    for broken in ["/findings/0/rule", "/findings/0/byteStart", "/summary/files"] {
        let mut output = output.clone();
        let (parent, key) = broken.rsplit_once('/').unwrap();
        output.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!validator.is_valid(&output), "{broken} is not required");
    }
}

#[test]
fn nothing_found_is_still_valid_json() {
    let report = report(Format::Json, false, "1");
    let empty = report.begin() + &report.end(&Summary::default());
    let validator = jsonschema::validator_for(&crate::json_schema()).unwrap();
    assert!(validator.is_valid(&serde_json::from_str(&empty).unwrap()), "{empty}");
}

#[test]
fn numbers_add_up_in_any_order() {
    let (manifest, hostile) = (checked(MANIFEST), hostile());
    let a = FileView { path: "a", text: MANIFEST, checked: &manifest };
    let b = FileView { path: "b", text: HOSTILE, checked: &hostile };
    let (mut one, mut first, mut second) = (Summary::default(), Summary::default(), Summary::default());
    one.add(&a);
    one.add(&b);
    first.add(&b);
    second.add(&a);
    first.merge(&second);
    assert_eq!(one, first);
    assert_eq!((one.files, one.subjects, one.fixable, one.guarantees[0].total()), (2, 2, 1, one.findings()));
}

#[test]
fn sarif() {
    let out = run(Format::Sarif);
    let output: serde_json::Value = serde_json::from_str(&out).unwrap();
    let results = output["runs"][0]["results"].as_array().unwrap().iter().cloned().map(|mut result| {
        // It changes with every rule that is added.
        result["ruleIndex"].take();
        result.to_string()
    });
    let results = results.collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(results, @r#"
    {"ruleId":"gpu-ceiling","level":"error","message":{"text":"this PyTorchJob asks for 128 accelerators, the ceiling is 8\nnote: Worker: 8 replicas x 16 nvidia.com/gpu = 128\nhelp: make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"jobs/train.yaml"},"region":{"startLine":7,"startColumn":17,"endLine":7,"endColumn":18}},"logicalLocations":[{"fullyQualifiedName":"PyTorchJob research/too-much","kind":"object"},{"fullyQualifiedName":"spec.pytorchReplicaSpecs.Worker.replicas","kind":"property"}]}],"partialFingerprints":{"bedplate/v1":"0ad793b26d27d1d2:1"},"properties":{"confidence":"high","evidence":{"found":"128","allowed":"8"}},"ruleIndex":null}
    {"ruleId":"gpu-ceiling","level":"error","message":{"text":"a Worker pod asks for 16 accelerators, the ceiling is 8\nhelp: ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"jobs/train.yaml"},"region":{"startLine":13,"startColumn":15,"endLine":13,"endColumn":24}},"logicalLocations":[{"fullyQualifiedName":"PyTorchJob research/too-much","kind":"object"},{"fullyQualifiedName":"spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources","kind":"property"}]}],"partialFingerprints":{"bedplate/v1":"fce9dd9764075a61:1"},"properties":{"confidence":"high","evidence":{"found":"16","allowed":"8"}},"ruleIndex":null}
    {"ruleId":"syntax","level":"error","message":{"text":"not valid YAML: unclosed quote\nhelp: close the quote that opens here"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"broken%2C%20100%25.yaml"},"region":{"startLine":2,"startColumn":4,"endLine":2,"endColumn":5}}}],"partialFingerprints":{"bedplate/v1":"ddab635bbe55e244:1"},"properties":{"confidence":"high"},"ruleIndex":null}
    {"ruleId":"gpu-ceiling","level":"warning","message":{"text":"`<script>alert(1)</script>` & \u001b[31mred\nis no command, 100%\nnote: a note with ]]> in it\nhelp: take `<script>` away"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"hostile.yaml"},"region":{"startLine":1,"startColumn":27,"endLine":1,"endColumn":31}},"logicalLocations":[{"fullyQualifiedName":"Pod <i>/a,b:c","kind":"object"},{"fullyQualifiedName":"command","kind":"property"}]}],"partialFingerprints":{"bedplate/v1":"7dbf8d399ca0a1e4:1"},"properties":{"confidence":"low","evidence":{"found":"<script>","allowed":"exec"}},"ruleIndex":null,"relatedLocations":[{"id":0,"message":{"text":"these, too"},"physicalLocation":{"artifactLocation":{"uri":"hostile.yaml"},"region":{"startLine":2,"startColumn":1,"endLine":2,"endColumn":6}}}]}
"#);
}

#[test]
fn sarif_is_what_oasis_says() {
    // The published schema has one stray bracket in a pattern, of a property that is not used.
    let schema = include_str!("../tests/sarif-2.1.0.schema.json").replace("{2}]?$", "{2}$");
    let schema = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut checked = hostile();
    let replace = Edit::Replace(Span::new(0, 7), "args".to_owned());
    checked.findings[0].finding.fix = Some(Fix::safe("rename it", vec![replace]));
    let view = FileView { path: "x y.yaml", text: HOSTILE, checked: &checked };
    let sarif = report(Format::Sarif, false, "1.2.3");
    let with_edits = sarif.begin() + &sarif.file(&view) + &sarif.end(&Summary::default());
    let empty = sarif.begin() + &sarif.end(&Summary::default());
    for text in [run(Format::Sarif), with_edits, empty] {
        let output: serde_json::Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(&output).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert_eq!(errors, [] as [String; 0]);
        let rules = output["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
        for result in output["runs"][0]["results"].as_array().unwrap() {
            assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
        }
        let mut broken = output;
        broken["runs"][0]["columnKind"] = "bytes".into();
        assert!(!validator.is_valid(&broken));
    }
}

#[test]
fn a_fingerprint_survives_lines_above_and_other_numbers() {
    let fingerprints = |text: &str| {
        let checked = checked(text);
        let out = report(Format::Sarif, false, "1").file(&FileView { path: "a", text, checked: &checked });
        let list: serde_json::Value = serde_json::from_str(&format!("[{out}]")).unwrap();
        let list = list.as_array().unwrap();
        list.iter().map(|result| result["partialFingerprints"]["bedplate/v1"].to_string()).collect::<Vec<_>>()
    };
    let moved = format!("# a comment\n\n{}", MANIFEST.replace("gpu: 16", "gpu: 32"));
    let before = fingerprints(MANIFEST);
    assert_eq!(before, fingerprints(&moved));
    assert_ne!(before[0], before[1]);
    assert_ne!(before, fingerprints(&MANIFEST.replace("too-much", "other")));
}

#[test]
fn junit() {
    insta::assert_snapshot!(run(Format::Junit), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="bedplate">
    <testsuite name="clean.yaml" tests="1" failures="0" errors="0" skipped="0">
      <testcase name="bedplate check" classname="clean.yaml" file="clean.yaml"/>
    </testsuite>
    <testsuite name="jobs/train.yaml" tests="2" failures="2" errors="0" skipped="0">
      <testcase name="gpu-ceiling: PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.replicas" classname="jobs/train.yaml" file="jobs/train.yaml" line="7">
        <failure type="error" message="this PyTorchJob asks for 128 accelerators, the ceiling is 8">jobs/train.yaml:7:17
    note: Worker: 8 replicas x 16 nvidia.com/gpu = 128
    help: make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml</failure>
      </testcase>
      <testcase name="gpu-ceiling: PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources" classname="jobs/train.yaml" file="jobs/train.yaml" line="13">
        <failure type="error" message="a Worker pod asks for 16 accelerators, the ceiling is 8">jobs/train.yaml:13:15
    help: ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace</failure>
      </testcase>
    </testsuite>
    <testsuite name="broken, 100%.yaml" tests="1" failures="1" errors="0" skipped="0">
      <testcase name="syntax" classname="broken, 100%.yaml" file="broken, 100%.yaml" line="2">
        <failure type="error" message="not valid YAML: unclosed quote">broken, 100%.yaml:2:4
    help: close the quote that opens here</failure>
      </testcase>
    </testsuite>
    <testsuite name="hostile.yaml" tests="1" failures="1" errors="0" skipped="0">
      <testcase name="gpu-ceiling: Pod &lt;i&gt;/a,b:c, command" classname="hostile.yaml" file="hostile.yaml" line="1">
        <failure type="warning" message="`&lt;script&gt;alert(1)&lt;/script&gt;` &amp; �[31mred&#10;is no command, 100%">hostile.yaml:1:27
    note: a note with ]]&gt; in it
    help: take `&lt;script&gt;` away</failure>
      </testcase>
    </testsuite>
    </testsuites>
"#);
}

#[test]
fn junit_is_xml_and_counts_its_failures() {
    let out = run(Format::Junit);
    let xml = roxmltree::Document::parse(&out).unwrap();
    let named = |name: &'static str| xml.descendants().filter(move |node| node.has_tag_name(name));
    assert_eq!((named("testsuite").count(), named("failure").count()), (4, 4));
    for suite in named("testsuite") {
        let failures = suite.descendants().filter(|node| node.has_tag_name("failure")).count();
        assert_eq!(suite.attribute("failures"), Some(failures.to_string().as_str()));
    }
    let message = named("failure").next_back().unwrap().attribute("message").unwrap();
    assert_eq!(message, "`<script>alert(1)</script>` & \u{fffd}[31mred\nis no command, 100%");
}

#[test]
fn github() {
    insta::assert_snapshot!(run(Format::Github), @r#"
    ::error file=jobs/train.yaml,line=7,endLine=7,col=17,endColumn=18,title=gpu-ceiling::this PyTorchJob asks for 128 accelerators, the ceiling is 8%0Ain PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.replicas%0Anote: Worker: 8 replicas x 16 nvidia.com/gpu = 128%0Ahelp: make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml
    ::error file=jobs/train.yaml,line=13,endLine=13,col=15,endColumn=24,title=gpu-ceiling::a Worker pod asks for 16 accelerators, the ceiling is 8%0Ain PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources%0Ahelp: ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace
    ::error file=broken%2C 100%25.yaml,line=2,endLine=2,col=4,endColumn=5,title=syntax::not valid YAML: unclosed quote%0Ahelp: close the quote that opens here
    ::warning file=hostile.yaml,line=1,endLine=1,col=27,endColumn=30,title=gpu-ceiling::`<script>alert(1)</script>` & �[31mred%0Ais no command, 100%25%0Ain Pod <i>/a,b:c, command%0Anote: a note with ]]> in it%0Ahelp: take `<script>` away
    4 files, 4 findings: 3 errors, 1 warning; 1 can be fixed with --fix
"#);
}

#[test]
fn html() {
    let out = run(Format::Html);
    let body = out.split_once("<body>").unwrap().1.replace("><", ">\n<");
    insta::assert_snapshot!(body, @r#"

    <section>
    <h2>jobs/train.yaml</h2>
    <article class="error">
    <h3>
    <span class="severity">error</span> <code>gpu-ceiling</code> this PyTorchJob asks for 128 accelerators, the ceiling is 8</h3>
    <figure>
    <figcaption>jobs/train.yaml:7:17</figcaption>
    <pre>
    <span class="line">6</span>    Worker:
    <span class="line">7</span>      replicas: <mark>8</mark>
    <span class="label">8 replicas x 16 each</span>
    <span class="line">8</span>      template:
    </pre>
    </figure>
    <dl>
    <dt>in</dt>
    <dd>PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.replicas</dd>
    <dt>guarantee</dt>
    <dd>No job takes more than its share, and only trusted images run</dd>
    <dt>note</dt>
    <dd>Worker: 8 replicas x 16 nvidia.com/gpu = 128</dd>
    <dt>help</dt>
    <dd>make it fit into 8, or raise `spec.admission.acceleratorsPerJob` for this namespace in bedplate.yaml</dd>
    </dl>
    </article>
    <article class="error">
    <h3>
    <span class="severity">error</span> <code>gpu-ceiling</code> a Worker pod asks for 16 accelerators, the ceiling is 8</h3>
    <figure>
    <figcaption>jobs/train.yaml:13:15</figcaption>
    <pre>
    <span class="line">12</span>              image: registry.example/pytorch:2.7.0
    <span class="line">13</span>              <mark>resources</mark>:<span class="label">16 in one pod</span>
    <span class="line">14</span>                limits:
    </pre>
    </figure>
    <dl>
    <dt>in</dt>
    <dd>PyTorchJob research/too-much, spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].resources</dd>
    <dt>guarantee</dt>
    <dd>No job takes more than its share, and only trusted images run</dd>
    <dt>help</dt>
    <dd>ask for at most 8, or raise `spec.admission.acceleratorsPerPod` for this namespace</dd>
    </dl>
    </article>
    </section>
    <section>
    <h2>broken, 100%.yaml</h2>
    <article class="error">
    <h3>
    <span class="severity">error</span> <code>syntax</code> not valid YAML: unclosed quote</h3>
    <figure>
    <figcaption>broken, 100%.yaml:2:4</figcaption>
    <pre>
    <span class="line">1</span>a: 1
    <span class="line">2</span>b: <mark>&quot;</mark>x
    <span class="line">3</span>c: 3
    </pre>
    </figure>
    <dl>
    <dt>help</dt>
    <dd>close the quote that opens here</dd>
    </dl>
    </article>
    </section>
    <section>
    <h2>hostile.yaml</h2>
    <article class="warning">
    <h3>
    <span class="severity">warning</span> <code>gpu-ceiling</code> `&lt;script&gt;alert(1)&lt;/script&gt;` &amp; �[31mred
    is no command, 100%</h3>
    <figure>
    <figcaption>hostile.yaml:1:27</figcaption>
    <pre>
    <span class="line">1</span>command: &quot;&lt;script&gt;alert('é<mark>😀')</mark>&lt;/script&gt;�[31m ]]&gt; %0A&quot;<span class="label">&lt;b&gt;here&lt;/b&gt;</span>
    <span class="line">2</span>lines: 2
    </pre>
    </figure>
    <figure>
    <figcaption>hostile.yaml:2:1</figcaption>
    <pre>
    <span class="line">1</span>command: &quot;&lt;script&gt;alert('é😀')&lt;/script&gt;�[31m ]]&gt; %0A&quot;
    <span class="line">2</span>
    <mark>lines</mark>: 2<span class="label">these, too</span>
    </pre>
    </figure>
    <dl>
    <dt>in</dt>
    <dd>Pod &lt;i&gt;/a,b:c, command</dd>
    <dt>guarantee</dt>
    <dd>No job takes more than its share, and only trusted images run</dd>
    <dt>confidence</dt>
    <dd>low</dd>
    <dt>note</dt>
    <dd>a note with ]]&gt; in it</dd>
    <dt>help</dt>
    <dd>take `&lt;script&gt;` away<small>bedplate check --fix does it</small>
    </dd>
    </dl>
    </article>
    </section>
    <header>
    <h1>bedplate check</h1>
    <p>4 files, 4 findings: 3 errors, 1 warning; 1 can be fixed with --fix</p>
    <table>
    <thead>
    <tr>
    <th>Guarantee</th>
    <th>Errors</th>
    <th>Warnings</th>
    <th>Infos</th>
    </tr>
    </thead>
    <tbody>
    <tr class="">
    <th scope="row">admission<small>No job takes more than its share, and only trusted images run</small>
    </th>
    <td>2</td>
    <td>1</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">deletion<small>What everything hangs on cannot be deleted by mistake</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">fairness<small>A flood never starves the controllers</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">dns<small>An outside name costs two queries, not ten</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">image<small>PID 1 forwards signals and reaps children</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">training<small>A termination costs no training progress</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">serving<small>A new version drops no request</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    <tr class="clean">
    <th scope="row">upgrade<small>An upgrade keeps its address; a new model proves itself on one pod first</small>
    </th>
    <td>0</td>
    <td>0</td>
    <td>0</td>
    </tr>
    </tbody>
    </table>
    <p class="show">
    <label>
    <input id="show-error" type="checkbox" checked> errors</label>
    <label>
    <input id="show-warning" type="checkbox" checked> warnings</label>
    <label>
    <input id="show-info" type="checkbox" checked> infos</label>
    </p>
    </header>
    </body>
    </html>
"#);
}

#[test]
fn html_shows_a_script_and_loads_nothing() {
    let out = run(Format::Html);
    assert!(out.contains("&lt;script&gt;alert('é") && !out.contains("<script") && !out.contains("<b>"), "{out}");
    for word in ["http:", "https:", "src=", "href=", "url(", "@import", "\x1b"] {
        assert!(!out.contains(word), "{word}");
    }
}
