//! What `top` has on the screen.

use std::time::Duration;

use anyhow::Result;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState};

use crate::cli::view::stat::{self, NOT_BY_PEER, Sort};
use crate::cli::view::table::percent;
use crate::cli::view::traffic::Traffic;

/// One of the two tables has the keys.
#[derive(Clone, Copy, PartialEq)]
enum Pane {
    Servers,
    Peers,
}

pub struct Screen {
    source: String,
    window: Duration,
    /// What is shown; none before there were two readings.
    traffic: Option<Traffic>,
    /// Why there is nothing newer.
    error: Option<String>,
    paused: bool,
    sort: Sort,
    pane: Pane,
    servers: TableState,
    peers: TableState,
}

impl Screen {
    pub fn new(source: String, window: Duration) -> Self {
        Self {
            source,
            window,
            traffic: None,
            error: None,
            paused: false,
            sort: Sort::Requests,
            pane: Pane::Servers,
            servers: TableState::default(),
            peers: TableState::default(),
        }
    }

    pub fn reading(&mut self, reading: Result<Option<Traffic>>) {
        match reading {
            Ok(traffic) => {
                self.error = None;
                if !self.paused && traffic.is_some() {
                    self.traffic = traffic;
                }
            }
            Err(error) => self.error = Some(format!("{error:#}")),
        }
    }

    pub fn key(&mut self, key: KeyCode) {
        let table = match self.pane {
            Pane::Servers => &mut self.servers,
            Pane::Peers => &mut self.peers,
        };
        match key {
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p') | KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Tab => {
                self.pane = match self.pane {
                    Pane::Servers => Pane::Peers,
                    Pane::Peers => Pane::Servers,
                };
            }
            KeyCode::Down | KeyCode::Char('j') => table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => table.select_previous(),
            KeyCode::PageDown => table.scroll_down_by(10),
            KeyCode::PageUp => table.scroll_up_by(10),
            KeyCode::Home => table.select_first(),
            KeyCode::End => table.select_last(),
            _ => {}
        }
    }

    pub fn draw(&mut self, frame: &mut Frame) {
        let servers = self.traffic.as_ref().map_or(0, |t| t.servers.len());
        // The servers' table has a line for each server, up to half of the screen.
        let half = frame.area().height.saturating_sub(3) / 2;
        let rows = u16::try_from(servers).unwrap_or(u16::MAX).saturating_add(3);
        let [head, upper, lower, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(rows.clamp(4, half.max(4))),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        frame.render_widget(self.keys(), keys);
        let Some(traffic) = &self.traffic else {
            return;
        };
        let focus = self.pane;
        let note = match traffic.durations_by_peer {
            true => "",
            false => NOT_BY_PEER,
        };
        let servers = stat::servers(traffic, self.sort);
        table(
            frame,
            upper,
            servers,
            "by server port",
            "",
            focus == Pane::Servers,
            &mut self.servers,
        );
        let peers = stat::peers(traffic, self.sort);
        table(
            frame,
            lower,
            peers,
            "by peer",
            note,
            focus == Pane::Peers,
            &mut self.peers,
        );
    }

    fn head(&self) -> Vec<Line<'static>> {
        let mut first = vec![
            "linkerd-metricd top".bold(),
            format!("  {}  ", self.source).into(),
        ];
        match (&self.error, self.paused) {
            (Some(error), _) => first.push(error.clone().red()),
            (None, true) => first.push("paused".yellow()),
            (None, false) => first.push("counting".green()),
        }
        let Some(traffic) = &self.traffic else {
            return vec![Line::from(first), Line::from("reading…".dim())];
        };
        let window = traffic.window.unwrap_or_default().as_secs_f64();
        let mut second = Vec::new();
        for direction in ["inbound", "outbound"] {
            let total = traffic.total(direction);
            let rate = total.requests / window;
            second.push(Span::from(format!("{direction} {rate:.1}rps ")));
            let success = percent(total.success_rate());
            // A few of very many are 100.00%, too.
            let style = match total.failure + total.aborted > 0.0 {
                true => Style::new().red(),
                false => success_style(&success),
            };
            second.push(Span::styled(success, style));
            second.push(Span::from(format!(" {:.0} aborted   ", total.aborted)));
        }
        second.push(format!("last {window:.0}s of {}s", self.window.as_secs()).dim());
        vec![Line::from(first), Line::from(second)]
    }

    fn keys(&self) -> Line<'static> {
        let sort = format!("s sort by {}   ", self.sort.name());
        let keys = [
            "q quit   ",
            &sort,
            "p pause   ",
            "Tab other table   ",
            "↑↓ scroll",
        ];
        Line::from(keys.concat()).dim()
    }
}

/// Between columns.
const SPACING: usize = 2;

fn table(
    frame: &mut Frame,
    area: Rect,
    table: stat::Table,
    title: &str,
    note: &str,
    focused: bool,
    state: &mut TableState,
) {
    let stat::Table {
        mut headings,
        left,
        rows,
    } = table;
    let block = Block::bordered()
        .title(format!(" {title} "))
        .title_bottom(
            Line::from(if note.is_empty() {
                String::new()
            } else {
                format!(" {note} ")
            })
            .dim(),
        )
        .border_style(match focused {
            true => Style::new().blue(),
            false => Style::new().dim(),
        });
    // A column that does not fit is left out as a whole.
    let mut room = usize::from(area.width).saturating_sub(2) + SPACING;
    let mut widths = Vec::new();
    for (i, heading) in headings.iter().enumerate() {
        let cells = rows.iter().map(|row| row[i].chars().count());
        let widest = cells.chain([heading.len()]).max().unwrap_or_default();
        match room.checked_sub(widest + SPACING) {
            Some(left) => room = left,
            None => break,
        }
        widths.push(Constraint::Length(
            u16::try_from(widest).unwrap_or(u16::MAX),
        ));
    }
    headings.truncate(widths.len());
    let line = |i: usize, cell: String| match i < left {
        true => Line::from(cell),
        false => Line::from(cell).right_aligned(),
    };
    let success = headings.iter().position(|heading| *heading == "SUCCESS");
    let body = rows.into_iter().map(|row| {
        Row::new(
            row.into_iter()
                .take(headings.len())
                .enumerate()
                .map(|(i, cell)| {
                    let style = match Some(i) == success {
                        true => success_style(&cell),
                        false => Style::new(),
                    };
                    line(i, cell).style(style)
                }),
        )
    });
    let head = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| line(i, (*heading).into()));
    let widget = Table::new(body, widths)
        .header(Row::new(head).bold())
        .column_spacing(SPACING as u16)
        .block(block)
        .row_highlight_style(match focused {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        });
    frame.render_stateful_widget(widget, area, state);
}

fn success_style(cell: &str) -> Style {
    match cell {
        "100.00%" => Style::new().green(),
        "-" => Style::new(),
        _ => Style::new().red(),
    }
}
