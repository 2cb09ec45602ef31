//! How the view is laid out: one box a node, in it what needs attention, the volumes, and two plots.

use super::sample::View;
use crate::status::{Progress, Status, Volume};
use admin::units::{Size, Span};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span as Text};
use ratatui::widgets::{Block, Paragraph, RenderDirection, Sparkline};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An answer older than this is not presented as the present.
const STALE: Duration = Duration::from_secs(5);

/// Cells of a progress bar.
const BAR_CELLS: usize = 20;

/// Draws everything that fits; nodes further down are cut off where the terminal is too low.
pub fn draw(frame: &mut Frame<'_>, views: &[View], now: Instant) {
    let [nodes, footer] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let areas = Layout::vertical(views.iter().map(|_| Constraint::Fill(1))).split(nodes);
    for (view, area) in views.iter().zip(areas.iter()) {
        node(frame, view, *area, now);
    }
    frame.render_widget(Line::from(" q: leave").style(Style::new().dim()), footer);
}

fn node(frame: &mut Frame<'_>, view: &View, area: Rect, now: Instant) {
    let fresh = view.at.is_some_and(|at| now.duration_since(at) < STALE);
    let border = match (view.trouble.is_some() || !fresh, attention(view)) {
        (true, _) => Style::new().red(),
        (false, true) => Style::new().yellow(),
        (false, false) => Style::new().green(),
    };
    let block = Block::bordered().title(title(view)).border_style(border);
    let inside = block.inner(area);
    frame.render_widget(block, area);

    let mut heads: Vec<Line<'_>> = Vec::new();
    if let Some(trouble) = &view.trouble {
        heads.push(warning(trouble.clone()));
        if let Some(at) = view.at {
            let age = now.duration_since(at).as_secs();
            heads.push(Line::from(format!("what follows is {age} s old")).italic());
        }
    }
    let Some(status) = &view.status else {
        if heads.is_empty() {
            heads.push(Line::from("asking ..."));
        }
        frame.render_widget(Paragraph::new(heads), inside);
        return;
    };
    heads.extend(overview(status));
    if !status.role.is_empty() {
        heads.extend(volumes(&status.volumes));
    }
    let [head, plots] = Layout::vertical([
        Constraint::Length(u16::try_from(heads.len()).unwrap_or(u16::MAX)),
        Constraint::Min(0),
    ])
    .areas(inside);
    frame.render_widget(Paragraph::new(heads), head);
    // Two lines each at least, or none.
    if plots.height >= 4 {
        let [reads, writes] =
            Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(plots);
        plot(frame, "clients read", &view.reads, Color::Cyan, reads);
        plot(frame, "clients wrote", &view.writes, Color::Magenta, writes);
    }
}

fn title(view: &View) -> String {
    match &view.status {
        Some(status) if !status.role.is_empty() => {
            let name = &status.node;
            let up = Span(status.uptime_us);
            format!(
                " {name}: {}  resource {}  up {up} ",
                status.role, status.resource
            )
        }
        _ => format!(" {} ", view.name),
    }
}

/// Whether something is not as it should be.
fn attention(view: &View) -> bool {
    view.status.as_ref().is_none_or(|status| {
        !status.serving && status.role == "Primary"
            || status.connection != "Connected"
            || !status.reason.is_empty()
            || status.problems().next().is_some()
            || status
                .volumes
                .iter()
                .any(|volume| volume.disk != "UpToDate" || volume.peer_disk != "UpToDate")
    })
}

fn warning(text: String) -> Line<'static> {
    Line::from(vec![
        Text::styled(
            "! ",
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        ),
        Text::raw(text),
    ])
}

fn overview(status: &Status) -> Vec<Line<'static>> {
    let problems = status.problems().map(|problem| warning(problem.into()));
    let mut lines: Vec<Line<'_>> = problems.collect();
    if status.role.is_empty() {
        return lines;
    }
    lines.push(Line::from(format!(
        "{} ({})  protocol {}  clients {}{}  memory {} of {}, buffers {} of {}",
        status.connection,
        peer(status),
        status.protocol,
        status.open_clients,
        if status.serving { " (serving)" } else { "" },
        Size(status.memory.used),
        Size(status.memory.total),
        Size(status.buffers.used),
        Size(status.buffers.total),
    )));
    if !status.reason.is_empty() {
        lines.push(warning(status.reason.clone()));
    }
    for (held, why) in [
        (status.suspended.user, "suspend-io"),
        (status.suspended.no_data, "no good data within reach"),
        (status.suspended.fencing, "the fence is not decided yet"),
    ] {
        if held {
            lines.push(warning(format!("clients' requests wait: {why}")));
        }
    }
    let fencing = &status.fencing;
    if let Some(episode) = fencing.episode {
        lines.push(Line::from(format!(
            "fences {} by episode {episode} ({}), policy {}",
            status.peer, fencing.state, fencing.policy
        )));
    }
    if let Some(episode) = fencing.fenced_by {
        lines.push(warning(format!(
            "fenced by {}, episode {episode}",
            status.peer
        )));
    }
    lines
}

fn peer(status: &Status) -> String {
    format!("{}: {}", status.peer, status.peer_role)
}

/// The heading and a line for each volume, with a second one for those that are busy or wait.
fn volumes(volumes: &[Volume]) -> Vec<Line<'static>> {
    let columns = |words: [&str; 6]| {
        let [volume, size, disk, peer_disk, state, out_of_sync] = words;
        format!("{volume:<6} {size:>9}  {disk:<12} {peer_disk:<12} {state:<11} {out_of_sync:>11}")
    };
    let head = [
        "volume",
        "size",
        "disk",
        "peer disk",
        "replication",
        "out of sync",
    ];
    let mut lines = vec![Line::from(columns(head)).bold()];
    for volume in volumes {
        let behind = match volume.out_of_sync {
            0 => "-".into(),
            bytes => Size(bytes).to_string(),
        };
        let line = Line::from(columns([
            &format!("vol{}", volume.index),
            &Size(volume.size).to_string(),
            &volume.disk,
            &volume.peer_disk,
            &volume.replication,
            &behind,
        ]));
        let good = volume.disk == "UpToDate";
        lines.push(if good { line } else { line.yellow() });
        let progress = progress(volume);
        if !progress.is_empty() {
            lines.push(Line::from(format!("       {progress}")));
        }
    }
    lines
}

fn progress(volume: &Volume) -> String {
    let Some(progress) = volume.resync.as_ref().or(volume.verify.as_ref()) else {
        return volume.waits.clone();
    };
    let end = if !volume.waits.is_empty() {
        format!("waits: {}", volume.waits)
    } else if progress.stalled {
        "STALLED".into()
    } else {
        let left = progress.eta_s.map_or(String::new(), |seconds| {
            format!(", {} left", Span(seconds.saturating_mul(1_000_000)))
        });
        format!("{}/s{left}", Size(progress.rate))
    };
    format!("{} {:.1}% {end}", bar(progress), progress.percent)
}

fn bar(progress: &Progress) -> String {
    // A percentage that is none (a node's mistake) must not make a bar of any length.
    let share = (progress.percent / 100.0).clamp(0.0, 1.0);
    let cells = (0..BAR_CELLS).map(|cell| {
        let filled = (cell as f64 + 0.5) / (BAR_CELLS as f64) < share;
        if filled { '=' } else { '.' }
    });
    format!("[{}]", cells.collect::<String>())
}

fn plot(frame: &mut Frame<'_>, what: &str, rates: &VecDeque<u64>, color: Color, area: Rect) {
    let now = rates.back().copied().unwrap_or(0);
    let most = rates.iter().copied().max().unwrap_or(0);
    let title = format!("{what} {}/s, at most {}/s", Size(now), Size(most));
    // The newest at the right.
    let newest_first: Vec<u64> = rates.iter().rev().copied().collect();
    let plot = Sparkline::default()
        .block(
            Block::new()
                .title(title)
                .title_style(Style::new().fg(color)),
        )
        .direction(RenderDirection::RightToLeft)
        .data(newest_first)
        .style(Style::new().fg(color));
    frame.render_widget(plot, area);
}

#[cfg(test)]
mod tests;
