//! The workload table's rows as CEL, over the same field paths that the rules read.
//!
//! A row becomes a fold over its pods: what stands at a path with `*` and `[]` is gone through by comprehensions, and
//! the counts of the same row are read at the same keys and items. Only what Kubernetes 1.30 has is used: optional
//! fields, quantities, `sum`, `max`, `min`, `split`, `join`.
//!
//! CEL has no `let`: `[x].map(v, …)[0]` stands for it.

use bedplate_model::accelerator::TABLE as ACCELERATORS;
use bedplate_model::workload::kinds::{Computed, Count, Kind, Pods, Shape, TABLE};
use bedplate_model::workload::pods::MODEL_KEYS;

/// A text in CEL's quotes.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A list of texts.
#[must_use]
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", texts.into_iter().map(quote).collect::<Vec<_>>().join(", "))
}

/// Whether `text` matches a pattern in which `*` stands for any text, as `bedplate_model::exemption::glob`.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> String {
    format!("{text}.matches('^' + {pattern}.replace('.', '\\\\.').replace('*', '.*') + '$')")
}

/// How a row is named by `variables.kind`.
#[must_use]
pub fn kind_name(kind: &Kind) -> String {
    format!("{}/{}", kind.group, kind.kind)
}

/// Exact names of accelerators that count.
#[must_use]
pub fn accelerator_names() -> String {
    list(ACCELERATORS.iter().filter(|row| row.counts && !row.name.contains('*')).map(|row| row.name))
}

/// Beginnings of names of accelerators that count.
#[must_use]
pub fn accelerator_prefixes() -> String {
    list(ACCELERATORS.iter().filter(|row| row.counts).filter_map(|row| row.name.strip_suffix('*')))
}

/// Whether `key` names an accelerator: one of `variables.names`, or of `variables.prefixes`; with `of_row`, that of the
/// row `a`.
fn is_accelerator(key: &str, of_row: bool) -> String {
    // Rows of shares of a device stand before the devices that their names look like.
    let shares = ACCELERATORS.iter().filter(|row| !row.counts).filter_map(|row| row.name.split_once('*'));
    let not_share: String = shares
        .filter(|(_, end)| !end.is_empty())
        .map(|(start, end)| format!(" && !({key}.startsWith({}) && {key}.endsWith({}))", quote(start), quote(end)))
        .collect();
    if of_row {
        format!("(a in variables.names ? {key} == a : {key}.startsWith(a){not_share})")
    } else {
        // Ordinary resources have no domain.
        format!(
            "({key}.contains('/') && ({key} in variables.names || variables.prefixes.exists(a, {key}.startsWith(a)){not_share}))"
        )
    }
}

/// A quantity that counts whole things, rounded up as `Quantity.Value` does; 0 where it is none.
fn quantity(value: &str) -> String {
    format!(
        "(isQuantity(string({value})) ? [quantity(string({value})).asApproximateFloat()].map(f, f <= 0.0 ? 0 : \
         (double(int(f)) < f ? int(f) + 1 : int(f)))[0] : 0)"
    )
}

/// Accelerators of a container: the larger of its limit and its request; with `of_row`, those of the row `a` only.
fn container(c: &str, resources: &str, of_row: bool) -> String {
    format!(
        "[[{c}.?{resources}.?limits.orValue({{}}), {c}.?{resources}.?requests.orValue({{}})]].map(r, \
         [0, 1].map(i, r[i].map(k, !{counts} ? 0 : i == 0 ? {limit} : [{request} - (k in r[0] ? {limit} : 0), 0].max()).sum()).sum())[0]",
        counts = is_accelerator("k", of_row),
        limit = quantity("r[0][k]"),
        request = quantity("r[1][k]"),
    )
}

/// The containers of a pod, each as `[part, container]`: 0 runs, 1 is a sidecar, 2 an init container, 3 is there to
/// debug.
fn containers(shape: Shape, p: &str) -> String {
    let all = |key: &str, part: u8| format!("{p}.?{key}.orValue([]).map(c, [dyn({part}), dyn(c)])");
    let mut parts = match shape {
        Shape::Spark | Shape::Trainer => vec![format!("[[dyn(0), dyn({p})]]")],
        _ => vec![
            format!(
                "{p}.?initContainers.orValue([]).map(c, [dyn(c.?restartPolicy.orValue('') == 'Always' ? 1 : 2), dyn(c)])"
            ),
            all("containers", 0),
            all("ephemeralContainers", 3),
        ],
    };
    match shape {
        Shape::Component => {
            let keys = list(MODEL_KEYS.iter().copied());
            parts.push(format!("{keys}.filter(m, m in {p}).map(m, [dyn(0), dyn({p}[m])])"));
        }
        Shape::ArgoTemplate => {
            parts.push(format!("['container', 'script'].filter(m, m in {p}).map(m, [dyn(0), dyn({p}[m])])"));
            parts.push(format!("{p}.?containerSet.?containers.orValue([]).map(c, [dyn(0), dyn(c)])"));
            parts.push(all("sidecars", 1));
        }
        _ => {}
    }
    parts.join(" + ")
}

/// Accelerators of one pod at `p`, as the scheduler counts them, resource by resource: the larger of what runs
/// together and of each init container beside the sidecars. Most pods have no accelerator, nearly all no init container
/// with one: only the rest is gone through row by row, which costs twenty times as much.
fn pod(shape: Shape, p: &str) -> String {
    let resources = if shape == Shape::Trainer { "resourcesPerNode" } else { "resources" };
    let own = if shape == Shape::Spark { format!(" + {p}.?gpu.?quantity.orValue(0)") } else { String::new() };
    format!(
        "[({all}).filter(x, x[0] != 3 && ['limits', 'requests'].exists(s, x[1].?{resources}[?s].orValue({{}}).exists(k, k.contains('/'))))]\
         .map(c, !c.exists(x, x[0] == 2) ? c.map(x, {any}).sum() : \
         (variables.names + variables.prefixes).map(a, [c.map(x, [int(x[0]), {each}])]\
         .map(l, [l.filter(x, x[0] < 2).map(x, x[1]).sum(), \
         ([0] + l.filter(x, x[0] == 2 && x[1] > 0).map(x, x[1] + l.filter(y, y[0] == 1).map(y, y[1]).sum())).max()].max())[0]).sum())[0]{own}",
        all = containers(shape, p),
        any = container("x[1]", resources, false),
        each = container("x[1]", resources, true),
    )
}

/// The images of a pod, one a line. Spark's parts take the application's where they have none.
fn images(shape: Shape, p: &str, application: Option<&str>) -> String {
    let fallback = application.map(|path| format!(".or({path}.?image)")).unwrap_or_default();
    format!("({}).map(x, string(x[1].?image{fallback}.orValue(''))).join('\\n')", containers(shape, p))
}

/// A place in an object while a fold goes through it: the expression and whether it may be missing.
#[derive(Clone)]
struct Place {
    expression: String,
    optional: bool,
}

impl Place {
    fn key(self, key: &str) -> Self {
        Self { expression: format!("{}.?{key}", self.expression), optional: true }
    }
}

/// What a path's wildcards stand for, in order.
type Bound = Vec<String>;

/// Goes along `path` from `root`, taking `bound` for wildcards; gives the place and what is left of the path when
/// `bound` is used up.
fn walk<'a>(root: &str, path: &'a str, bound: &[String]) -> (Place, Option<&'a str>) {
    let mut place = Place { expression: root.to_owned(), optional: false };
    let mut bound = bound.iter();
    let mut rest = path;
    while !rest.is_empty() {
        let (part, after) = rest.split_once('.').unwrap_or((rest, ""));
        if part == "*" {
            let Some(element) = bound.next() else { return (place, Some(rest)) };
            place = Place { expression: element.clone(), optional: false };
        } else if let Some(key) = part.strip_suffix("[]") {
            match bound.next() {
                Some(element) => place = Place { expression: element.clone(), optional: false },
                None => return (place.key(key), Some(rest)),
            }
        } else {
            place = place.key(part);
        }
        rest = after;
    }
    (place, None)
}

/// A number at a path, or `default` where there is none or it is negative.
fn field(root: &str, path: &str, bound: &[String], default: &str) -> String {
    let (place, _) = walk(root, path, bound);
    format!("{}.optMap(n, int(n) < 0 ? {default} : int(n)).orValue({default})", place.expression)
}

/// KubeRay writes the largest int32 where nobody set a maximum: none at all.
const NO_MAXIMUM: &str = "2147483647";

fn count(root: &str, count: &Count, bound: &[String]) -> String {
    let at = |path: &str, default: &str| field(root, path, bound, default);
    let inner = |count: &Count| self::count(root, count, bound);
    match count {
        Count::One | Count::PerNode => "1".to_owned(),
        Count::Field(path, default) => at(path, &default.to_string()),
        Count::LessOne(path, default) => format!("[{} - 1, 0].max()", at(path, &default.to_string())),
        Count::AtLeast(low, path) | Count::UpTo(low, path) => {
            let high = at(path, "0");
            format!("[{}, [{high}].map(h, h < {NO_MAXIMUM} ? h : 0)[0]].max()", inner(low))
        }
        Count::Lower(high, path) => format!("[{}, {}].min()", inner(high), at(path, NO_MAXIMUM)),
        Count::When(flag, one, other) => {
            let (place, _) = walk(root, flag, bound);
            format!("({}.orValue(false) == true ? {} : {})", place.expression, inner(one), inner(other))
        }
    }
}

/// What a fold gives of a pod, and how the values of many become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// A pair: accelerators of the largest pod, and of all pods together.
    Accelerators,
    /// Images, one a line.
    Images,
}

impl Fold {
    fn over(self, list: &str) -> String {
        match self {
            Self::Accelerators => {
                format!("[{list}].map(l, [([0] + l.map(x, x[0])).max(), l.map(x, x[1]).sum()])[0]")
            }
            Self::Images => format!("{list}.join('\\n')"),
        }
    }

    const fn nothing(self) -> &'static str {
        match self {
            Self::Accelerators => "[0, 0]",
            Self::Images => "''",
        }
    }
}

fn pods(root: &str, kind: &Kind, row: &Pods, bound: &mut Bound, fold: Fold) -> String {
    let (place, rest) = walk(root, row.path, bound);
    let Some(rest) = rest else {
        let spec = if row.shape == Shape::Template { place.key("spec") } else { place };
        let body = |p: &str| match fold {
            Fold::Accelerators if has_total(kind) => {
                let counts = row.count.iter().map(|c| count(root, c, bound)).collect::<Vec<_>>().join(" * ");
                format!("[{}].map(g, [g, g * {counts}])[0]", pod(row.shape, p))
            }
            Fold::Accelerators => format!("[{}, 0]", pod(row.shape, p)),
            Fold::Images => {
                let application = (row.shape == Shape::Spark)
                    .then(|| row.path.rsplit_once('.').map(|(path, _)| walk(root, path, bound).0.expression))
                    .flatten();
                images(row.shape, p, application.as_deref())
            }
        };
        return if spec.optional {
            format!("{}.optMap(p, {}).orValue({})", spec.expression, body("p"), fold.nothing())
        } else {
            body(&spec.expression)
        };
    };
    let level = bound.len();
    let list = if rest.starts_with('*') {
        let (map, key) = (format!("{}.orValue({{}})", place.expression), format!("k{level}"));
        bound.push(format!("{map}[{key}]"));
        format!("{map}.map({key}, {})", pods(root, kind, row, bound, fold))
    } else {
        let item = format!("e{level}");
        bound.push(item.clone());
        format!("{}.orValue([]).map({item}, {})", place.expression, pods(root, kind, row, bound, fold))
    };
    bound.pop();
    fold.over(&list)
}

fn row(root: &str, kind: &Kind, fold: Fold) -> String {
    let each: Vec<_> = kind.pods.iter().map(|row| pods(root, kind, row, &mut Vec::new(), fold)).collect();
    match each.as_slice() {
        [one] => one.clone(),
        many => fold.over(&format!("[{}]", many.join(", "))),
    }
}

/// Rows whose pods stand in the object itself: what stands in a string or in an embedded object is judged when its
/// controller creates it.
pub fn rows() -> impl Iterator<Item = &'static Kind> {
    TABLE.iter().filter(|kind| !kind.pods.is_empty())
}

/// Whether a row's total follows from its fields.
#[must_use]
pub fn has_total(kind: &Kind) -> bool {
    kind.computed != Some(Computed::Argo)
}

/// A variable of a policy: its name and its expression.
pub type Variable = (String, String);

/// One variable for the rows that read alike, and `name` for all of them: a list with one value for each of
/// `variables.versions` (the object, and on an update the object of before). A chain of choices in one expression
/// would take the API server seconds to compile: its time grows with the square of the depth.
fn by_kind(name: &str, fold: Fold) -> Vec<Variable> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for kind in rows() {
        let expression = row("o", kind, fold);
        let kind = kind_name(kind);
        match groups.iter_mut().find(|(known, _)| *known == expression) {
            Some((_, kinds)) if !kinds.contains(&kind) => kinds.push(kind),
            Some(_) => {}
            None => groups.push((expression, vec![kind])),
        }
    }
    let mut all = vec![
        ("kind".to_owned(), "request.kind.group + '/' + request.kind.kind".to_owned()),
        ("versions".to_owned(), "request.operation == 'UPDATE' ? [object, oldObject] : [object]".to_owned()),
    ];
    let mut names = Vec::new();
    for (index, (expression, kinds)) in groups.iter().enumerate() {
        let part = format!("{name}{index}");
        let kinds = list(kinds.iter().map(String::as_str));
        all.push((part.clone(), format!("variables.kind in {kinds} ? variables.versions.map(o, {expression}) : []")));
        names.push(format!("variables.{part}"));
    }
    all.push((name.to_owned(), names.join(" + ")));
    all
}

/// `variables.accelerators`: of each version the pair of the largest pod and the total. Needs `names` and `prefixes`.
#[must_use]
pub fn accelerators() -> Vec<Variable> {
    by_kind("accelerators", Fold::Accelerators)
}

/// `variables.images`: of each version a list of references.
#[must_use]
pub fn all_images() -> Vec<Variable> {
    let mut all = by_kind("lines", Fold::Images);
    all.push(("images".to_owned(), "variables.lines.map(l, l.split('\\n').filter(i, i != ''))".to_owned()));
    all
}

/// Whether the image reference `i` is nothing that could run: a placeholder that something fills in later.
#[must_use]
pub fn is_placeholder(i: &str) -> String {
    format!("[' ', '$', '{{', '}}', '<', '>'].exists(c, {i}.contains(c))")
}

/// Registry and repository of the reference `i`, written out as `bedplate_model::ImageRef` does.
#[must_use]
pub fn image_name(i: &str) -> String {
    format!(
        "[{i}.split('@')[0]].map(b, b.lastIndexOf(':') > b.lastIndexOf('/') ? b.substring(0, b.lastIndexOf(':')) : b)\
         .map(b, [b, b.split('/')[0]])\
         .map(b, b[0].contains('/') && (b[1].contains('.') || b[1].contains(':') || b[1] == 'localhost' || b[1].lowerAscii() != b[1]) ? \
         [b[1].lowerAscii(), b[0].substring(b[1].size() + 1)] : ['docker.io', b[0]])\
         .map(b, [b[0] == 'index.docker.io' ? 'docker.io' : b[0], b[1]])\
         .map(b, b[0] + '/' + (b[0] == 'docker.io' && !b[1].contains('/') ? 'library/' : '') + b[1])[0]"
    )
}

/// Whether what runs can change under the reference `i`.
#[must_use]
pub fn is_mutable(i: &str) -> String {
    let moving = list(bedplate_model::image::MOVING_TAGS.iter().copied());
    format!(
        "!{i}.contains('@') && ({i}.lastIndexOf(':') <= {i}.lastIndexOf('/') || {i}.substring({i}.lastIndexOf(':') + 1) in {moving})"
    )
}
