//! `bedplate apf top`: the API server's lanes live.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use bedplate_apf::live::{Lane, Reading, lanes};
use bedplate_cluster::Cluster;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Format;
use crate::commands::{Error, print, table};

/// How it is shown.
#[derive(clap::Args, Debug)]
pub(super) struct Top {
    /// Seconds between two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Two readings, printed once: also where the output is no terminal
    #[arg(long)]
    once: bool,
    /// `text`, or `json` once
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// By what the lanes are sorted
    #[arg(long, value_enum, default_value_t = Order::Waiting)]
    sort: Order,
}

/// By what lanes are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Order {
    /// By name.
    Name,
    /// Most seats in use first.
    Seats,
    /// Most requests that wait first.
    Waiting,
    /// Longest waits first.
    P99,
    /// Most refused first.
    Refused,
}

impl Order {
    const ALL: [Self; 5] = [Self::Name, Self::Seats, Self::Waiting, Self::P99, Self::Refused];

    /// The one so many places further on, around.
    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    const fn column(self) -> usize {
        match self {
            Self::Name => 0,
            Self::Seats => 1,
            Self::Waiting => 3,
            Self::P99 => 4,
            Self::Refused => 6,
        }
    }

    fn sort(self, lanes: &mut [Lane]) {
        let key = |lane: &Lane| match self {
            Self::Name => 0.0,
            Self::Seats => lane.now.seats,
            Self::Waiting => lane.now.waiting,
            Self::P99 => lane.waits.map_or(-1.0, |(_, p99)| p99),
            Self::Refused => lane.rejected,
        };
        lanes.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
    }
}

/// Somebody with requests in a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sender {
    user: String,
    lane: String,
    running: u32,
    waiting: u32,
}

/// What there is to be seen.
#[derive(Debug, Default)]
struct View {
    lanes: Vec<Lane>,
    /// Who has most, first.
    senders: Vec<Sender>,
    others: u32,
}

impl View {
    fn between(before: &Reading, now: &Reading, seconds: f64, order: Order) -> Self {
        let mut lanes = lanes(before, now, seconds);
        order.sort(&mut lanes);
        let mut senders: Vec<Sender> = now
            .users
            .iter()
            .map(|((lane, user), (running, waiting))| Sender {
                user: shown(user),
                lane: lane.clone(),
                running: *running,
                waiting: *waiting,
            })
            .collect();
        senders.sort_by_key(|sender| std::cmp::Reverse((sender.waiting + sender.running, sender.user.clone())));
        Self { lanes, senders, others: now.others }
    }

    /// Who has requests in a lane, or in all of them.
    fn of<'a>(&'a self, lane: Option<&'a str>) -> impl Iterator<Item = &'a Sender> {
        self.senders.iter().filter(move |sender| lane.is_none_or(|lane| sender.lane == lane))
    }
}

/// A user's name on a terminal: whoever names himself may write what he likes.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

const HEADINGS: [&str; 7] = ["lane", "in use", "of seats", "waiting", "waits p50 / p99, ms", "executed/s", "refused/s"];

fn cells(lane: &Lane) -> [String; 7] {
    let of = if lane.now.limit == lane.now.nominal {
        format!("{:.0}", lane.now.limit)
    } else {
        format!("{:.0} (own {:.0})", lane.now.limit, lane.now.nominal)
    };
    let waits = lane.waits.map_or_else(|| "-".to_owned(), |(p50, p99)| format!("{p50:.1} / {p99:.1}"));
    [
        shown(&lane.name),
        format!("{:.0}", lane.now.seats),
        of,
        format!("{:.0}", lane.now.waiting),
        waits,
        format!("{:.1}", lane.dispatched),
        format!("{:.1}", lane.rejected),
    ]
}

/// Senders that are shown at once, in text.
const SENDERS: usize = 10;

fn told(view: &View) -> String {
    let heading = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![heading(&HEADINGS)];
    rows.extend(view.lanes.iter().map(|lane| cells(lane).to_vec()));
    let mut senders = vec![heading(&["who sends most", "lane", "running", "waiting"])];
    senders.extend(view.of(None).take(SENDERS).map(|sender| {
        vec![sender.user.clone(), shown(&sender.lane), sender.running.to_string(), sender.waiting.to_string()]
    }));
    let others = if view.others > 0 { format!("{} requests of others\n", view.others) } else { String::new() };
    format!("{}\n{}{others}", table(&rows), table(&senders))
}

/// What `--format json` gives. Waits are in milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LaneTold<'a> {
    name: &'a str,
    seats_in_use: f64,
    seats: f64,
    nominal_seats: f64,
    waiting: f64,
    wait_p50: Option<f64>,
    wait_p99: Option<f64>,
    executed_per_second: f64,
    refused_per_second: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    lanes: Vec<LaneTold<'a>>,
    senders: Vec<&'a Sender>,
    requests_of_others: u32,
}

fn json(view: &View) -> Result<String, Error> {
    let lanes = view.lanes.iter().map(|lane| LaneTold {
        name: &lane.name,
        seats_in_use: lane.now.seats,
        seats: lane.now.limit,
        nominal_seats: lane.now.nominal,
        waiting: lane.now.waiting,
        wait_p50: lane.waits.map(|(p50, _)| p50),
        wait_p99: lane.waits.map(|(_, p99)| p99),
        executed_per_second: lane.dispatched,
        refused_per_second: lane.rejected,
    });
    let told =
        Told { lanes: lanes.collect(), senders: view.of(None).take(100).collect(), requests_of_others: view.others };
    let text = serde_json::to_string_pretty(&told).map_err(|error| Error::Other(error.to_string()))?;
    Ok(text + "\n")
}

/// A reading and when it was made.
struct Read {
    at: Instant,
    reading: Reading,
}

async fn read(cluster: &Cluster) -> Result<Read, Error> {
    let reading = cluster.reading().await?;
    Ok(Read { at: Instant::now(), reading })
}

pub(super) async fn run(options: &Top, cluster: Cluster) -> Result<(), Error> {
    let every = Duration::from_secs(options.every);
    let live = !options.once && options.format == Format::Text && std::io::stdout().is_terminal();
    if live {
        return screen(options, cluster, every).await;
    }
    let before = read(&cluster).await?;
    tokio::time::sleep(every).await;
    let now = read(&cluster).await?;
    let view = View::between(&before.reading, &now.reading, (now.at - before.at).as_secs_f64(), options.sort);
    print(&if options.format == Format::Json { json(&view)? } else { told(&view) })
}

/// What the screen shows besides the view.
struct Screen {
    order: Order,
    /// The lane whose senders are shown, by name; all of them where there is none.
    chosen: Option<String>,
    server: String,
    /// Of the last reading.
    failure: Option<String>,
    /// How old what is shown is.
    at: Option<Instant>,
}

impl Screen {
    /// Whether to go on.
    fn press(&mut self, key: KeyEvent, view: &View) -> bool {
        let at = view.lanes.iter().position(|lane| Some(&lane.name) == self.chosen.as_ref());
        let name = |at: usize| view.lanes.get(at).map(|lane| lane.name.clone());
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Right | KeyCode::Char('s') => self.order = self.order.step(1),
            KeyCode::Left => self.order = self.order.step(Order::ALL.len() - 1),
            KeyCode::Down => self.chosen = name(at.map_or(0, |at| (at + 1).min(view.lanes.len().saturating_sub(1)))),
            // Above the first one: all of them.
            KeyCode::Up => self.chosen = at.and_then(|at| at.checked_sub(1)).and_then(name),
            _ => {}
        }
        true
    }

    fn draw(&self, frame: &mut Frame<'_>, view: &View) {
        let lanes = u16::try_from(view.lanes.len()).unwrap_or(u16::MAX).saturating_add(1);
        let [head, upper, between, lower, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Max(lanes),
            Constraint::Length(1),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let dim = Style::new().add_modifier(Modifier::DIM);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let title = match (&self.failure, self.at) {
            (Some(why), _) => Line::styled(shown(why.lines().next().unwrap_or_default()), Style::new().fg(Color::Red)),
            (None, None) => Line::styled(format!("{}: the first two readings …", self.server), bold),
            (None, Some(_)) => Line::styled(format!("lanes of {}", self.server), bold),
        };
        frame.render_widget(Paragraph::new(title), head);

        let headings = HEADINGS.iter().enumerate().map(|(at, heading)| {
            let style = if at == self.order.column() { bold.add_modifier(Modifier::UNDERLINED) } else { bold };
            Cell::new(*heading).style(style)
        });
        let rows = view.lanes.iter().map(|lane| {
            // A lane that refuses is in trouble; one in which somebody waits may be soon.
            let style = match lane {
                lane if lane.rejected > 0.0 => Style::new().fg(Color::Red),
                lane if lane.now.waiting > 0.0 => Style::new().fg(Color::Yellow),
                lane if lane.now.seats < 1.0 && lane.dispatched < 0.05 => dim,
                _ => Style::new(),
            };
            let chosen = self.chosen.as_ref() == Some(&lane.name);
            Row::new(cells(lane)).style(if chosen { style.add_modifier(Modifier::REVERSED) } else { style })
        });
        let widths = [24, 8, 16, 9, 22, 12, 10].map(Constraint::Length);
        frame.render_widget(Table::new(rows, widths).header(Row::new(headings)), upper);

        let of = self.chosen.as_ref().map_or_else(String::new, |lane| format!(" in {}", shown(lane)));
        frame.render_widget(Paragraph::new(""), between);
        let headings = Row::new([format!("who sends most{of}"), "lane".into(), "running".into(), "waiting".into()]);
        let senders = view.of(self.chosen.as_deref()).take(lower.height.into()).map(|sender| {
            Row::new([sender.user.clone(), shown(&sender.lane), sender.running.to_string(), sender.waiting.to_string()])
        });
        let widths = [Constraint::Min(30), Constraint::Length(24), Constraint::Length(9), Constraint::Length(9)];
        frame.render_widget(Table::new(senders, widths).header(headings.style(bold)), lower);
        frame
            .render_widget(Paragraph::new("q quit   left, right: sort   up, down: senders of a lane").style(dim), foot);
    }
}

async fn screen(options: &Top, cluster: Cluster, every: Duration) -> Result<(), Error> {
    let mut screen =
        Screen { order: options.sort, chosen: None, server: cluster.server.clone(), failure: None, at: None };
    let (send_reading, mut readings) = mpsc::channel(1);
    // Reading goes on beside drawing: a server that is slow to answer keeps no key waiting.
    let reader = tokio::spawn(async move {
        loop {
            if send_reading.send(read(&cluster).await).await.is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    });
    let (send_event, mut events) = mpsc::channel(16);
    let keys = std::thread::spawn(move || {
        while !send_event.is_closed() {
            // A moment at a time, so that it ends when the screen does.
            if event::poll(Duration::from_millis(100)).unwrap_or(false) {
                let Ok(event) = event::read() else { return };
                if send_event.blocking_send(event).is_err() {
                    return;
                }
            }
        }
    });
    let broken = |error: std::io::Error| Error::Other(format!("terminal: {error}"));
    // Puts the terminal back also where something panics.
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let (mut before, mut view) = (None::<Read>, View::default());
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| screen.draw(frame, &view)) {
            break Err(broken(error));
        }
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if !screen.press(key, &view) {
                        break Ok(());
                    }
                    screen.order.sort(&mut view.lanes);
                }
                Some(_) => {}
                None => break Ok(()),
            },
            reading = readings.recv() => match reading {
                Some(Ok(now)) => {
                    if let Some(before) = &before {
                        let seconds = (now.at - before.at).as_secs_f64();
                        view = View::between(&before.reading, &now.reading, seconds, screen.order);
                        screen.at = Some(now.at);
                    }
                    screen.failure = None;
                    before = Some(now);
                }
                // What was seen last stays, and the next reading is tried.
                Some(Err(error)) => screen.failure = Some(error.to_string()),
                None => break Ok(()),
            },
        }
    };
    ratatui::restore();
    reader.abort();
    drop(events);
    let _ = keys.join();
    ended
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn reading(refused: u32, waiting: u32) -> Reading {
        let mut reading = Reading::default();
        for line in [
            "nominal_limit_seats{priority_level=\"workload-low\"} 245".to_owned(),
            "current_limit_seats{priority_level=\"workload-low\"} 240".to_owned(),
            "current_executing_seats{priority_level=\"workload-low\"} 240".to_owned(),
            format!("current_inqueue_requests{{priority_level=\"workload-low\"}} {waiting}"),
            format!("rejected_requests_total{{priority_level=\"workload-low\"}} {refused}"),
            "nominal_limit_seats{priority_level=\"system\"} 74".to_owned(),
            "current_limit_seats{priority_level=\"system\"} 74".to_owned(),
            "current_executing_seats{priority_level=\"system\"} 1".to_owned(),
        ] {
            reading.metric(&format!("apiserver_flowcontrol_{line}"));
        }
        for at in 0..3 {
            let user = ["system:serviceaccount:team-a:default-editor", "a\u{1b}[31mnn"][usize::from(at == 2)];
            reading.request(&format!(
                "workload-low, service-accounts, 1, {at}, x, t, 1, 0, 0s, t, {user}, create, /, , , , , "
            ));
        }
        reading
    }

    fn view() -> View {
        View::between(&reading(0, 0), &reading(30, 55), 2.0, Order::Waiting)
    }

    #[test]
    fn a_flood_and_who_makes_it_are_seen() {
        let text = told(&view());
        assert!(
            text.contains("workload-low  240     240 (own 245)  55       -                    0.0         15.0"),
            "{text}"
        );
        assert!(text.contains("system:serviceaccount:team-a:default-editor  workload-low  0        2"), "{text}");
        assert!(text.contains("a\u{fffd}[31mnn"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&json(&view()).unwrap()).unwrap();
        assert_eq!(told["lanes"][0]["refusedPerSecond"], 15.0);
        assert_eq!(told["senders"][0]["waiting"], 2);
    }

    fn drawn(screen: &Screen, view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_fits_every_terminal_and_follows_the_keys() {
        let view = view();
        let mut screen =
            Screen { order: Order::Waiting, chosen: None, server: "https://x".into(), failure: None, at: None };
        for (width, height) in [(110, 24), (80, 24), (20, 5), (1, 1)] {
            drawn(&screen, &view, width, height);
        }
        let text = drawn(&screen, &view, 110, 24);
        assert!(text.contains("workload-low") && text.contains("default-editor") && text.contains("q quit"), "{text}");
        let press = |screen: &mut Screen, code| screen.press(KeyEvent::from(code), &view);
        assert!(
            press(&mut screen, KeyCode::Down) && press(&mut screen, KeyCode::Down) && press(&mut screen, KeyCode::Down)
        );
        assert_eq!(screen.chosen.as_deref(), Some("system"));
        assert!(!drawn(&screen, &view, 110, 24).contains("default-editor"));
        assert!(press(&mut screen, KeyCode::Up) && press(&mut screen, KeyCode::Up));
        assert_eq!(screen.chosen, None);
        assert!(press(&mut screen, KeyCode::Right));
        assert_eq!(screen.order, Order::P99);
        assert!(!press(&mut screen, KeyCode::Char('q')));
        screen.failure = Some("the API server does not answer".into());
        assert!(drawn(&screen, &view, 110, 24).contains("does not answer"));
    }
}
