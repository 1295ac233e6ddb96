//! How the live view looks: lines of totals, a table, a line of keys.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table},
};

use super::{
    print::{HEADER, cells, headline, workers},
    rows::{self, Sort},
    screen::Screen,
};
use crate::cli::{api::model::Level, output::printable};

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let workers = workers(&screen.picture).map(|line| Line::from(line).dim());
    let lines = 2 + u16::from(workers.is_some());
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(lines), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    let above = [title(screen), total(screen)].into_iter().chain(workers);
    frame.render_widget(Paragraph::new(above.collect::<Vec<_>>()), top);
    table(frame, body, screen);
    frame.render_widget(Paragraph::new(keys(screen)), bottom);
}

fn title(screen: &Screen) -> Line<'_> {
    let mut spans = vec!["tollgate top".bold(), Span::raw("  "), Span::raw(&*screen.api)];
    if screen.paused {
        spans.push("  paused".yellow().bold());
    }
    if let Some(trouble) = &screen.trouble {
        spans.push(Span::raw("  "));
        spans.push(Span::raw(printable(trouble)).red().bold());
    }
    Line::from(spans)
}

fn total(screen: &Screen) -> Line<'static> {
    Line::from(headline(&screen.picture)).dim()
}

fn keys(screen: &Screen) -> Line<'_> {
    if screen.typing {
        return Line::from(vec![
            "tenants with ".bold(),
            Span::raw(&*screen.filter),
            Span::raw("▏"),
            "  enter keeps it, esc forgets it".dim(),
        ]);
    }
    let mut spans = Vec::new();
    let all = [("s", "sort"), ("r", "turn"), ("/", "filter"), ("p", "pause"), ("q", "quit")];
    for (key, what) in all {
        spans.push(Span::raw(key).bold());
        spans.push(Span::raw(format!(" {what}  ")).dim());
    }
    if !screen.filter.is_empty() {
        spans.push(Span::raw(format!("only *{}*", screen.filter)).yellow());
    }
    Line::from(spans)
}

fn table(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen) {
    // The header takes a line.
    screen.page = usize::from(area.height.saturating_sub(1));
    let sorted = column(screen.sort);
    let header = HEADER.iter().enumerate().map(|(i, name)| {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match i == sorted {
            true => {
                let arrow = if screen.smallest_first { '▲' } else { '▼' };
                cell(i, format!("{name}{arrow}")).style(style.fg(Color::Cyan))
            }
            false => cell(i, (*name).to_owned()).style(style),
        }
    });
    let shown = screen.picture.rows.iter().skip(screen.scroll).take(screen.page);
    let table = Table::new(shown.map(row), WIDTHS)
        .header(Row::new(header.collect::<Vec<_>>()))
        .column_spacing(2);
    frame.render_widget(table, area);
}

/// Numbers are narrow; the id and the quota take what is left.
const WIDTHS: [Constraint; 9] = [
    Constraint::Fill(3),
    Constraint::Length(8),
    Constraint::Length(10),
    Constraint::Length(10),
    Constraint::Length(7),
    Constraint::Length(8),
    Constraint::Length(8),
    Constraint::Length(6),
    Constraint::Fill(4),
];

/// The column that an order is about.
fn column(sort: Sort) -> usize {
    match sort {
        Sort::Tenant => 0,
        Sort::Load => 1,
        Sort::In => 2,
        Sort::Out => 3,
        Sort::Failures => 4,
        Sort::P99 => 5,
        Sort::InFlight => 6,
        Sort::Connections => 7,
        Sort::Quota => 8,
    }
}

/// Text to the left, numbers to the right.
fn cell(column: usize, text: String) -> Cell<'static> {
    let line = Line::from(text);
    Cell::new(if matches!(column, 0 | 8) { line } else { line.right_aligned() })
}

fn row(row: &rows::Row) -> Row<'static> {
    let quiet = row.rates.is_none_or(|r| r.items == 0.0) && row.in_flight == 0;
    let failing = row.rates.is_some_and(|r| r.failures > 0.0);
    let cells = cells(row).into_iter().enumerate().map(|(i, text)| {
        let cell = cell(i, text);
        match i {
            4 if failing => cell.style(Style::new().fg(Color::Red)),
            8 => cell.style(row.worst.as_ref().map_or(Style::new(), |w| of_level(w.level))),
            _ => cell,
        }
    });
    let row = Row::new(cells.collect::<Vec<_>>());
    if quiet { row.style(Style::new().add_modifier(Modifier::DIM)) } else { row }
}

fn of_level(level: Level) -> Style {
    match level {
        Level::Normal => Style::new().fg(Color::Green),
        Level::Warning => Style::new().fg(Color::Yellow),
        Level::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::rows::tests::sample, *};
    use crate::cli::api::model::WorkerTotal;

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, screen)).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn screen() -> Screen {
        let mut screen = Screen::new("http://127.0.0.1:8080".into(), Sort::Load, String::new());
        let at = Instant::now();
        screen.saw(Ok(sample(at, &[("acme", 0, 0, 0), ("globex", 0, 0, 0)])));
        let now = at + Duration::from_secs(1);
        screen.saw(Ok(sample(now, &[("acme", 150, 3, 10), ("globex", 42_000, 0, 2)])));
        screen
    }

    #[test]
    fn the_view_shows_tenants_by_load() {
        let lines = drawn(&mut screen(), 110, 9);
        assert_eq!(lines[0], "tollgate top  http://127.0.0.1:8080");
        assert!(
            lines[1].starts_with("2 tenants, 12 connections, 6 batches in flight"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "2 workers, 5 of 16 calls taken, 0 items waiting");
        for name in HEADER {
            assert!(lines[3].contains(name), "{lines:?}");
        }
        assert!(lines[3].contains("ITEMS/S▼"), "{lines:?}");
        assert!(lines[4].starts_with("globex") && lines[4].contains("42.0k"), "{lines:?}");
        assert!(
            lines[5].starts_with("acme") && lines[5].contains("100.0 % connections"),
            "{lines:?}"
        );
        assert!(lines[8].contains("s sort") && lines[8].contains("q quit"), "{lines:?}");
        let mut alone = screen();
        alone.picture.workers = WorkerTotal::default();
        assert!(drawn(&mut alone, 110, 8)[2].starts_with("TENANT"), "no workers, no line");
    }

    #[test]
    fn it_tells_of_trouble_and_of_what_is_typed() {
        let mut screen = screen();
        screen.saw(Err(anyhow::anyhow!("cannot reach\u{1b} it")));
        screen.typing = true;
        screen.filter = "glo".into();
        let lines = drawn(&mut screen, 100, 6);
        assert!(lines[0].contains("cannot reach\\u{1b} it"), "{lines:?}");
        assert!(lines[5].starts_with("tenants with glo"), "{lines:?}");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(1, 1), (10, 2), (40, 3)] {
            drawn(&mut screen(), width, height);
        }
    }
}
