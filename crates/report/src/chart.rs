//! Lines over time as a picture (SVG) that needs nothing else: no script, no font. It follows the reader's light or dark
//! page; the two colours are told apart by those who are colour-blind (Okabe and Ito's blue and vermilion), and without
//! any colour by their dashes.

use std::fmt::Write as _;

/// A picture: panels in rows.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it is of.
    pub title: String,
    /// One line under it.
    pub subtitle: String,
    /// How long the time is, in seconds.
    pub seconds: f64,
    /// Rows, each with its panels side by side.
    pub rows: Vec<Row>,
}

/// Panels about the same thing.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What they are about.
    pub title: String,
    /// Side by side.
    pub panels: Vec<Panel>,
}

/// Lines over one time.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is shown, with its unit.
    pub title: String,
    /// Lines.
    pub series: Vec<Series>,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Look {
    /// As it is: dashed, vermilion.
    #[default]
    Before,
    /// As it would be: solid, blue.
    After,
    /// What bounds the one before it: thin and dotted, of its colour.
    BoundBefore,
    /// The same of after.
    BoundAfter,
}

/// A line: values at equal distances over the whole time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// As it is in the legend; several lines of one name are one entry.
    pub name: String,
    /// Its look.
    pub look: Look,
    /// Its values. What is no number is not drawn.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Left of a panel's lines: numbers.
const AXIS: f64 = 46.0;
const GAP: f64 = 28.0;
const PANEL: f64 = 96.0;
/// Above a panel: the row's title and its own.
const ABOVE: f64 = 44.0;
const BELOW: f64 = 22.0;
const HEAD: f64 = 92.0;

/// No variables: not every program that shows pictures knows them. What is on a dark page comes second.
const STYLE: &str = "\
svg{font-family:system-ui,sans-serif;background:#fff}\
text{fill:#1a1a1a;font-size:12px}.t{font-size:18px;font-weight:600}.r{font-size:14px;font-weight:600}.d{fill:#5f6368;font-size:11px}\
.g{stroke:#dadce0;stroke-width:1}polyline,.k{fill:none;stroke-width:1.8;stroke-linejoin:round}\
.b0,.b2{stroke:#c44e00}.b1,.b3{stroke:#0072b2}.b0{stroke-dasharray:5 3}.b2,.b3{stroke-width:1;stroke-dasharray:1 3}\
@media(prefers-color-scheme:dark){svg{background:#16181b}text{fill:#f1f3f4}.d{fill:#a5abb2}.g{stroke:#3c4043}\
.b0,.b2{stroke:#ff9a5c}.b1,.b3{stroke:#56b4e9}}";

impl Look {
    const fn class(self) -> &'static str {
        match self {
            Self::Before => "b0",
            Self::After => "b1",
            Self::BoundBefore => "b2",
            Self::BoundAfter => "b3",
        }
    }
}

impl Chart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let height = HEAD + self.rows.len() as f64 * (ABOVE + PANEL + BELOW) + MARGIN;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{0}\">\n\
             <style>{STYLE}</style>\n<title>{0}</title>\n\
             <text class=\"t\" x=\"{MARGIN}\" y=\"34\">{0}</text>\n<text class=\"d\" x=\"{MARGIN}\" y=\"54\">{1}</text>\n",
            escaped(&self.title),
            escaped(&self.subtitle)
        );
        self.legend(&mut out);
        for (at, row) in self.rows.iter().enumerate() {
            let top = HEAD + at as f64 * (ABOVE + PANEL + BELOW);
            let _ =
                writeln!(out, "<text class=\"r\" x=\"{MARGIN}\" y=\"{}\">{}</text>", top + 14.0, escaped(&row.title));
            let count = row.panels.len().max(1) as f64;
            let width = (WIDTH - 2.0 * MARGIN - (count - 1.0) * GAP) / count;
            for (at, panel) in row.panels.iter().enumerate() {
                let left = MARGIN + at as f64 * (width + GAP);
                self.panel(&mut out, panel, left, top + ABOVE, width);
            }
        }
        out.push_str("</svg>\n");
        out
    }

    fn legend(&self, out: &mut String) {
        let mut names: Vec<(&str, Look)> = Vec::new();
        for series in self.rows.iter().flat_map(|row| &row.panels).flat_map(|panel| &panel.series) {
            if !names.iter().any(|(name, _)| *name == series.name) {
                names.push((&series.name, series.look));
            }
        }
        let mut x = MARGIN;
        for (name, look) in names {
            let _ = writeln!(
                out,
                "<line class=\"k {}\" x1=\"{x}\" y1=\"73\" x2=\"{}\" y2=\"73\"/><text x=\"{}\" y=\"77\">{}</text>",
                look.class(),
                x + 30.0,
                x + 37.0,
                escaped(name)
            );
            x += 37.0 + name.chars().count() as f64 * 6.6 + 26.0;
        }
    }

    fn panel(&self, out: &mut String, panel: &Panel, left: f64, top: f64, width: f64) {
        let values = panel.series.iter().flat_map(|series| &series.values).copied().filter(|value| value.is_finite());
        let most = nice(values.fold(0.0, f64::max));
        let (left, right, bottom) = (left + AXIS, left + width, top + PANEL);
        let _ = writeln!(out, "<text class=\"d\" x=\"{left}\" y=\"{}\">{}</text>", top - 10.0, escaped(&panel.title));
        for part in [0.0, 0.5, 1.0] {
            let y = bottom - part * PANEL;
            let _ = writeln!(
                out,
                "<line class=\"g\" x1=\"{left}\" y1=\"{y}\" x2=\"{right}\" y2=\"{y}\"/><text class=\"d\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
                left - 6.0,
                y + 4.0,
                number(most * part)
            );
        }
        for part in [0.0, 0.5, 1.0] {
            let anchor = ["start", "middle", "end"][(part * 2.0) as usize];
            let _ = writeln!(
                out,
                "<text class=\"d\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{}\">{} s</text>",
                left + part * (right - left),
                bottom + 15.0,
                number(self.seconds * part)
            );
        }
        for series in &panel.series {
            let step = (right - left) / series.values.len().saturating_sub(1).max(1) as f64;
            let mut points = String::new();
            for (at, value) in series.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let y = bottom - (value / most).clamp(0.0, 1.0) * PANEL;
                let _ = write!(points, "{:.1},{y:.1} ", left + at as f64 * step);
            }
            let _ = writeln!(out, "<polyline class=\"{}\" points=\"{}\"/>", series.look.class(), points.trim_end());
        }
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below a value; 1 where that is nothing.
fn nice(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn number(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1000.0)
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Text as XML; what no XML may hold becomes the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(name: &str, values: Vec<f64>) -> Chart {
        let series = vec![Series { name: name.to_owned(), look: Look::After, values }];
        let panels = vec![Panel { title: "seats in use".into(), series }];
        Chart {
            title: name.to_owned(),
            subtitle: name.to_owned(),
            seconds: 60.0,
            rows: vec![Row { title: name.to_owned(), panels }],
        }
    }

    /// A lane's name is whatever somebody has written into an object.
    #[test]
    fn no_name_can_leave_its_place() {
        let name = "</text><script>alert(1)</script>\" onload=\"x\" & \u{0} \u{1b}[31m";
        let svg = chart(name, vec![1.0, f64::NAN, 3.0, f64::INFINITY, -1.0]).svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert!(document.descendants().all(|node| !node.has_tag_name("script") && node.attribute("onload").is_none()));
        let title = document.descendants().find(|node| node.tag_name().name() == "title").unwrap();
        assert_eq!(title.text().unwrap(), name.replace(['\u{0}', '\u{1b}'], "\u{fffd}"));
        let line = document.descendants().find(|node| node.tag_name().name() == "polyline").unwrap();
        assert_eq!(line.attribute("points").unwrap().split(' ').count(), 3);
    }

    #[test]
    fn nothing_is_a_picture_too() {
        for chart in [Chart::default(), chart("", Vec::new()), chart("x", vec![0.0])] {
            roxmltree::Document::parse(&chart.svg()).unwrap();
        }
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!([0.0, 0.3, 1.0, 1.1, 3.0, 51.0, 245.0].map(nice), [1.0, 1.0, 1.0, 2.0, 5.0, 100.0, 500.0]);
    }
}
