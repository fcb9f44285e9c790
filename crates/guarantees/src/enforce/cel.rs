//! The workload table's rows as CEL, over the same field paths that the rules read.
//!
//! A row becomes the list of its pods, every shape in one form: what stands at a path with `*` and `[]` is gone through
//! by comprehensions, and the counts of the same row are read at the same keys and items. What is judged of pods is
//! then written once. Only what Kubernetes 1.30 has is used: optional fields, quantities, `sum`, `max`, `min`, `split`,
//! `join`.
//!
//! CEL has no `let`: `[x].map(v, …)[0]` stands for it.

use bedplate_model::accelerator::TABLE as ACCELERATORS;
use bedplate_model::workload::kinds::{Computed, Count, Kind, Pods, Shape, TABLE};
use bedplate_model::workload::pods::MODEL_KEYS;

/// A value of JSON as a literal.
#[must_use]
pub fn literal(value: &serde_json::Value) -> String {
    use serde_json::Value;
    // Lists and maps of CEL hold values of one type, unless each says that it may be any.
    let any = |value: &Value| format!("dyn({})", literal(value));
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(any).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| format!("{}: {}", quote(key), any(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text in CEL's quotes, on one line.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\\' | '\'' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

/// A list of texts.
#[must_use]
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", texts.into_iter().map(quote).collect::<Vec<_>>().join(", "))
}

/// Whether `text` matches a pattern in which `*` stands for any text, as `bedplate_model::exemption::glob`.
/// A regular expression costs more than all the rest of a policy: it is made only where a pattern has two stars.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> String {
    format!(
        "({pattern} == {text} || ({pattern}.contains('*') && {text}.startsWith({pattern}.substring(0, {pattern}.indexOf('*'))) && \
         {text}.endsWith({pattern}.substring({pattern}.lastIndexOf('*') + 1)) && \
         ({pattern}.indexOf('*') == {pattern}.lastIndexOf('*') ? {text}.size() + 1 >= {pattern}.size() : \
         {text}.matches('^' + {pattern}.replace('.', '\\\\.').replace('*', '.*') + '$'))))"
    )
}

/// How a row is named in a choice by kind.
#[must_use]
pub fn kind_name(kind: &Kind) -> String {
    format!("{}/{}", kind.group, kind.kind)
}

/// Whether `k` names an accelerator, as `bedplate_model::accelerator::find` says.
fn is_accelerator() -> String {
    let counted = || ACCELERATORS.iter().filter(|row| row.counts);
    let names = list(counted().filter(|row| !row.name.contains('*')).map(|row| row.name));
    // Rows of shares of a device (its memory) stand before the devices that their names look like.
    let shares = |family: &str| {
        let shares = ACCELERATORS.iter().filter(|row| !row.counts).filter_map(|row| row.name.split_once('*'));
        let of_family = shares.filter(|(start, end)| !end.is_empty() && family.starts_with(start));
        of_family.map(|(_, end)| format!(" && !k.endsWith({})", quote(end))).collect::<String>()
    };
    let families = counted().filter_map(|row| row.name.strip_suffix('*'));
    let families: Vec<_> = families.map(|row| format!("k.startsWith({}){}", quote(row), shares(row))).collect();
    format!("(k in {names} || {})", families.join(" || "))
}

/// A quantity that counts whole things, rounded up as `Quantity.Value` does; 0 where it is none or negative.
fn quantity(value: &str) -> String {
    let text = format!("string({value})");
    format!(
        "({text}.matches('^[0-9]{{1,9}}$') ? int({text}) : isQuantity({text}) ? [quantity({text}).asApproximateFloat()].map(f, \
         f <= 0.0 ? 0 : (double(int(f)) < f ? int(f) + 1 : int(f)))[0] : 0)"
    )
}

/// CEL: what follows, with the container `c`'s limits and requests as `r`.
fn with_resources(expression: &str) -> String {
    format!("[[c.?resources.?limits.orValue({{}}), c.?resources.?requests.orValue({{}})]].map(r, {expression})[0]")
}

/// What the container `c` asks for of the resource `k`: the larger of limit and request.
fn amount() -> String {
    let amount = |of: &str| format!("({of}[?k].hasValue() ? {} : 0)", quantity(&format!("{of}[k]")));
    format!("[{}, {}].max()", amount("r[0]"), amount("r[1]"))
}

/// Accelerators of the container `c`.
fn container() -> String {
    let (counts, amount) = (is_accelerator(), amount());
    with_resources(&format!(
        "r[0].map(k, k.contains('/') && {counts}, {amount}).sum() + r[1].map(k, k.contains('/') && !(k in r[0]) && {counts}, {amount}).sum()"
    ))
}

/// Most names of accelerators, each container's counted, that a pod with init containers is gone through by; one with
/// more is taken for the sum of all its containers.
const MOST_NAMES: usize = 48;

/// Accelerators of the pod `p` of [`pods`], as the scheduler counts them: of each resource the larger of what runs
/// together and of each init container beside the sidecars. Most containers ask for nothing that has a domain, as every
/// accelerator has, and nearly no init container does: only the rest is gone through name by name.
fn pod() -> String {
    let has_domain = "[c.?resources.?limits.orValue({}), c.?resources.?requests.orValue({})].exists(r, r.exists(k, k.contains('/')))";
    let any = container();
    // Names, one a line: CEL has no way to make one list of many.
    let names = with_resources(&format!(
        "(r[0].filter(k, {counts}) + r[1].filter(k, {counts})).map(k, string(k)).join('\\n')",
        counts = format_args!("k.contains('/') && {}", is_accelerator()),
    ));
    let own = with_resources(&amount());
    let indices = (0..MOST_NAMES).map(|index| index.to_string()).collect::<Vec<_>>().join(", ");
    format!(
        "!(p[1] + p[2]).exists(c, {has_domain}) ? 0 : !p[2].exists(c, {has_domain}) ? p[1].map(c, {any}).sum() : \
         [(p[1] + p[2]).map(c, {names}).filter(n, n != '').join('\\n').split('\\n')].map(n, \
         n.size() > {MOST_NAMES} ? (p[1] + p[2]).map(c, {any}).sum() : \
         [{indices}].filter(i, i < n.size() && n[i] != '' && n.indexOf(n[i]) == i).map(i, n[i]).map(k, \
         [p[2].map(c, [c.?restartPolicy.orValue('') == 'Always' ? 1 : 0, {own}])].map(l, \
         ([p[1].map(c, {own}).sum() + l.map(x, x[0] * x[1]).sum()] + \
         l.filter(x, x[0] == 0 && x[1] > 0).map(x, x[1] + l.map(y, y[0] * y[1]).sum())).max())[0]).sum())[0]"
    )
}

/// The pod at `p`: `[replicas, what runs, init containers and sidecars, what is there to debug]`, each container with
/// its `image` and its `resources`, whatever the shape calls them. Without replicas it stands for no number of pods.
fn pod_at(shape: Shape, p: &str, replicas: &str, application: Option<&str>) -> String {
    let list = |key: &str| format!("{p}.?{key}.orValue([])");
    // Each of these keys holds a container.
    let keyed = |keys: String| format!("{keys}.filter(m, m in {p}).map(m, {p}[m])");
    let nothing = || "[]".to_owned();
    let (run, init, debug) = match shape {
        Shape::Spark => {
            let image = application.map_or_else(String::new, |application| format!(".or({application}.?image)"));
            let container = format!("{{?'image': {p}.?image{image}, ?'resources': {p}.?resources}}");
            // The operator's own words for `resources` (`sparkoperator.k8s.io/v1beta2`, GPUSpec).
            let gpu = format!(
                "{p}.?gpu.?quantity.optMap(q, [dyn({{'resources': {{'limits': {{'nvidia.com/gpu': q}}}}}})]).orValue([])"
            );
            (format!("[dyn({container})] + {gpu}"), nothing(), nothing())
        }
        Shape::Trainer => {
            (format!("[{{?'image': {p}.?image, ?'resources': {p}.?resourcesPerNode}}]"), nothing(), nothing())
        }
        Shape::Component => {
            let run = format!("{} + {}", list("containers"), keyed(self::list(MODEL_KEYS.iter().copied())));
            (run, list("initContainers"), list("ephemeralContainers"))
        }
        Shape::ArgoTemplate => {
            let run = [
                list("containers"),
                keyed(self::list(["container", "script"])),
                format!("{p}.?containerSet.?containers.orValue([])"),
                list("sidecars"),
            ];
            (run.join(" + "), list("initContainers"), nothing())
        }
        Shape::Template | Shape::PodSpec => (list("containers"), list("initContainers"), list("ephemeralContainers")),
    };
    format!("[dyn({replicas}), dyn({run}), dyn({init}), dyn({debug})]")
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

/// What a path's wildcards stand for, in order; and the number that a request to the `scale` subresource sets anew.
#[derive(Default)]
struct Bound {
    elements: Vec<String>,
    scaled: Option<&'static str>,
}

/// CEL: the number of replicas in a request to the `scale` subresource.
const SCALED: &str = "int(object.?spec.?replicas.orValue(0))";

/// CEL: whether `path`, with its keys `k0`, is the field that is scaled; nothing where it never is.
fn is_scaled(path: &str, scaled: &str) -> Option<String> {
    let (path, scaled): (Vec<_>, Vec<_>) = (path.split('.').collect(), scaled.split('.').collect());
    if path.len() != scaled.len() {
        return None;
    }
    let mut keys = 0..;
    let conditions = path.iter().zip(scaled).map(|(of_row, key)| match *of_row {
        "*" => keys.next().map(|level| format!("k{level} == {}", quote(key))),
        of_row => (of_row == key).then(String::new),
    });
    let conditions: Option<Vec<String>> = conditions.collect();
    Some(conditions?.into_iter().filter(|condition| !condition.is_empty()).collect::<Vec<_>>().join(" && "))
}

/// Goes along `path` from `o`, taking `bound` for wildcards; gives the place and what is left of the path when
/// `bound` is used up.
fn walk<'a>(path: &'a str, bound: &Bound) -> (Place, Option<&'a str>) {
    let mut place = Place { expression: "o".to_owned(), optional: false };
    let mut bound = bound.elements.iter();
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
fn field(path: &str, bound: &Bound, default: &str) -> String {
    let (place, _) = walk(path, bound);
    let stands = format!("{}.optMap(n, int(n) < 0 ? {default} : int(n)).orValue({default})", place.expression);
    match bound.scaled.and_then(|scaled| is_scaled(path, scaled)).as_deref() {
        None => stands,
        Some("") => SCALED.to_owned(),
        Some(condition) => format!("({condition} ? {SCALED} : {stands})"),
    }
}

/// More pods than any ceiling allows: what an autoscaler may start that nothing bounds. KubeRay writes the largest int32
/// where nobody set a maximum.
pub const NO_MAXIMUM: &str = "2147483647";

fn count(count: &Count, bound: &Bound) -> String {
    let at = |path: &str, default: &str| field(path, bound, default);
    let inner = |count: &Count| self::count(count, bound);
    match count {
        Count::One | Count::PerNode => "1".to_owned(),
        Count::Field(path, default) => at(path, &default.to_string()),
        Count::LessOne(path, default) => format!("[{} - 1, 0].max()", at(path, &default.to_string())),
        Count::AtLeast(low, path) => {
            let high = at(path, "0");
            format!("[{}, [{high}].map(h, h < {NO_MAXIMUM} ? h : 0)[0]].max()", inner(low))
        }
        Count::UpTo(low, path) => format!("[{}, {}].max()", inner(low), at(path, NO_MAXIMUM)),
        Count::Lower(high, path) => format!("[{}, {}].min()", inner(high), at(path, NO_MAXIMUM)),
        Count::When(flag, one, other) => {
            let (place, _) = walk(flag, bound);
            format!("({}.orValue(false) == true ? {} : {})", place.expression, inner(one), inner(other))
        }
    }
}

/// Most pods of a set, and most containers of a pod, that are judged: the API server allows a variable a million units
/// of cost. A larger workflow is judged pod by pod as they come, anything else is refused.
pub const MOST: usize = 1000;

/// Of the pods of an object: whether they are too many to be judged.
#[must_use]
pub fn too_large(pods: &str) -> String {
    format!("{pods}.exists(g, g.size() > {MOST} || g.exists(p, p[1].size() + p[2].size() + p[3].size() > {MOST}))")
}

/// The pods of a row, as a list of pods, or of lists of pods where its path has two wildcards.
fn pods_of(kind: &Kind, row: &Pods, bound: &mut Bound) -> String {
    let (place, rest) = walk(row.path, bound);
    let Some(rest) = rest else {
        let spec = if row.shape == Shape::Template { place.key("spec") } else { place };
        let counts = row.count.iter().map(|c| count(c, bound)).collect::<Vec<_>>().join(" * ");
        let replicas = if has_total(kind) { counts } else { "0".to_owned() };
        let application = (row.shape == Shape::Spark)
            .then(|| row.path.rsplit_once('.').map(|(path, _)| walk(path, bound).0.expression))
            .flatten();
        let pod = |p: &str| pod_at(row.shape, p, &replicas, application.as_deref());
        return match (spec.optional, bound.elements.is_empty()) {
            (true, true) => format!("{}.optMap(p, [{}]).orValue([])", spec.expression, pod("p")),
            // In a list a pod that is not there is one without containers.
            (true, false) => {
                format!("{}.optMap(p, {}).orValue([dyn(0), dyn([]), dyn([]), dyn([])])", spec.expression, pod("p"))
            }
            (false, true) => format!("[{}]", pod(&spec.expression)),
            (false, false) => pod(&spec.expression),
        };
    };
    let level = bound.elements.len();
    let list = if rest.starts_with('*') {
        let (map, key) = (format!("{}.orValue({{}})", place.expression), format!("k{level}"));
        bound.elements.push(format!("{map}[{key}]"));
        format!("{map}.map({key}, {})", pods_of(kind, row, bound))
    } else {
        let item = format!("e{level}");
        let items = format!("{}.orValue([])", place.expression);
        bound.elements.push(item.clone());
        let list = format!("{items}.map({item}, {})", pods_of(kind, row, bound));
        if row.shape == Shape::ArgoTemplate { format!("({items}.size() > {MOST} ? [] : {list})") } else { list }
    };
    bound.elements.pop();
    list
}

/// The pods of an object `o` of a kind: a list of lists of pods; with the number that a request to `scale` sets.
fn pods_of_kind(kind: &Kind, scaled: Option<&'static str>) -> String {
    let rows = kind.pods.iter().map(|row| pods_of(kind, row, &mut Bound { scaled, ..Bound::default() }));
    let rows: Vec<_> = rows.collect();
    match kind.pods {
        // Two wildcards give lists of lists already.
        [row] if row.path.matches(['*', '[']).count() > 1 => rows.join(""),
        _ => format!("[{}]", rows.join(", ")),
    }
}

/// Rows whose pods stand in the object itself: what stands in a string or in an embedded object is judged when its
/// controller creates it.
pub fn rows() -> impl Iterator<Item = &'static Kind> {
    TABLE.iter().filter(|kind| !kind.pods.is_empty())
}

/// Kinds of dynamic resource allocation, and where their requests stand. A claim reads as a pod with so many accelerators.
pub const CLAIMS: &[(&str, &str)] =
    &[("ResourceClaim", "spec.devices.requests"), ("ResourceClaimTemplate", "spec.spec.devices.requests")];

/// The API group of [`CLAIMS`].
pub const CLAIM_GROUP: &str = "resource.k8s.io";

/// The devices of a claim, as `bedplate_model::claim::devices` counts them, in the form of [`pods_of_kind`].
fn claim(requests: &str) -> String {
    let (place, _) = walk(requests, &Bound::default());
    let one =
        |r: &str| format!("({r}.?allocationMode.orValue('') == 'All' ? {NO_MAXIMUM} : int({r}.?count.orValue(1)))");
    let count = format!(
        "[{}.orValue([]).map(r, size(r.?firstAvailable.orValue([])) > 0 ? r.firstAvailable.map(f, {}).max() : \
         [r.?exactly.orValue(r)].map(x, {})[0]).sum()]",
        place.expression,
        one("f"),
        one("x"),
    );
    format!(
        "[{count}.map(n, [dyn(0), dyn([{{'resources': {{'limits': {{'nvidia.com/gpu': n}}}}}}]), dyn([]), dyn([])])]"
    )
}

/// Whether a row's total follows from its fields.
#[must_use]
pub fn has_total(kind: &Kind) -> bool {
    kind.computed != Some(Computed::Argo)
}

/// A variable of a policy: its name and its expression.
pub type Variable = (String, String);

/// `variables.pods`: of each version of the object (as it would be, and on an update as it was) its pods, a list of
/// lists of `[replicas, what runs, init containers and sidecars, what is there to debug]`.
///
/// The kinds stand in a tree of choices: a chain of them in one expression would take the API server seconds to
/// compile, since its time grows with the square of the depth. And it is one variable: the API server makes a table of
/// all variables of a policy three times for every request, whether they are read or not.
#[must_use]
pub fn pods() -> Variable {
    let versions = "(request.operation == 'UPDATE' ? [object, oldObject] : [object])";
    let mut kinds = kinds(|_| true);
    kinds.extend(CLAIMS.iter().map(|(kind, requests)| (format!("{CLAIM_GROUP}/{kind}"), claim(requests))));
    kinds.sort();
    ("pods".to_owned(), format!("[{KIND}].map(kind, {versions}.map(o, {}))[0]", choice(&kinds)))
}

/// CEL: the kind of the object, as [`kind_name`] writes it.
const KIND: &str = "request.kind.group + '/' + request.kind.kind";

/// Kubernetes' own kinds, of which a cluster makes thousands: the groups of all others have a domain.
fn is_own(kind: &Kind) -> bool {
    !kind.group.contains('.')
}

/// Whether something is so of `v`, the pods of the object; of a kind that is not Kubernetes' own it may be. A condition,
/// without variables: with all kinds in it the API server would take seconds to compile it.
#[must_use]
pub fn may_be(is_so: &str) -> String {
    let pods = choice(&kinds(is_own));
    format!(
        "(request.kind.group.contains('.') || [{KIND}].exists(kind, [object].exists(o, [{pods}].exists(v, {is_so}))))"
    )
}

/// Some kinds and the pods of an object `o` of each.
fn kinds(wanted: fn(&Kind) -> bool) -> Vec<(String, String)> {
    let rows = rows().filter(|kind| wanted(kind));
    let mut kinds: Vec<_> = rows.map(|kind| (kind_name(kind), pods_of_kind(kind, None))).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// `variables.pods` of a workload that stands in `params`, with the replicas of the request to its `scale` subresource.
#[must_use]
pub fn scaled_pods(kind: &Kind) -> Variable {
    ("pods".to_owned(), format!("[params].map(o, {})", pods_of_kind(kind, kind.scale)))
}

/// A choice by `kind` among expressions, as deep as the logarithm of their number; neighbours that read alike are one.
fn choice(kinds: &[(String, String)]) -> String {
    match kinds {
        [] => "[]".to_owned(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => first.clone(),
        _ => {
            let (low, high) = kinds.split_at(kinds.len() / 2);
            let from = high.first().map_or("", |(name, _)| name);
            format!("(kind < {} ? {} : {})", quote(from), choice(low), choice(high))
        }
    }
}

/// Of the pods of an object: a list of lists of pairs, the replicas and the accelerators of one pod.
#[must_use]
pub fn accelerators(pods: &str) -> String {
    format!("{pods}.map(g, g.map(p, [int(p[0]), {}]))", pod())
}

/// Of what [`accelerators`] gives: the accelerators of the largest pod.
#[must_use]
pub fn largest(of: &str) -> String {
    format!("([0] + {of}.map(g, ([0] + g.map(x, x[1])).max())).max()")
}

/// Of what [`accelerators`] gives: the accelerators of all pods.
#[must_use]
pub fn total(of: &str) -> String {
    format!("{of}.map(g, g.map(x, x[0] * x[1]).sum()).sum()")
}

/// Of the pods of an object: their images, one a line.
#[must_use]
pub fn images(pods: &str) -> String {
    format!(
        "{pods}.map(g, g.map(p, (p[1] + p[2] + p[3]).map(c, string(c.?image.orValue(''))).join('\\n')).join('\\n')).join('\\n')"
    )
}

/// Whether one of the pods of an object has an image `i` of which something is so.
#[must_use]
pub fn any_image(pods: &str, is_so: &str) -> String {
    format!(
        "{pods}.exists(g, g.exists(p, (p[1] + p[2] + p[3]).exists(c, [string(c.?image.orValue(''))].exists(i, i != '' && {is_so}))))"
    )
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
