//! `palisadectl top`: a live view of nodes.

mod draw;
mod sample;

use crate::error::Error;
use crate::node::Node;
use crate::status::Status;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use sample::View;
use std::io::IsTerminal;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long a node may take for its status.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a key may wait for the next look.
const TICK: Duration = Duration::from_millis(100);

/// Shows `nodes` until the user presses `q`, Escape or Ctrl-C.
///
/// # Errors
/// [`Error::NoTerminal`], [`Error::Output`]. A node that does not answer is no error: the view says so.
pub fn run(nodes: &[Node], interval: Duration) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let (sender, looks) = channel();
    for (place, node) in nodes.iter().enumerate() {
        let (node, sender) = (node.clone(), sender.clone());
        // One thread a node: one that hangs does not keep the others from being seen. They end with the process.
        std::thread::spawn(move || look_again_and_again(place, &node, interval, &sender));
    }
    let mut views: Vec<View> = nodes.iter().map(|node| View::new(&node.name)).collect();
    let mut terminal = ratatui::try_init().map_err(Error::Output)?;
    let done = loop {
        for (place, at, look) in looks.try_iter() {
            views[place].take(at, look);
        }
        if let Err(why) = terminal.draw(|frame| draw::draw(frame, &views, Instant::now())) {
            break Err(Error::Output(why));
        }
        match wants_to_leave() {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(why) => break Err(Error::Output(why)),
        }
    };
    ratatui::restore();
    done
}

/// What a look at a node found.
type Look = (usize, Instant, Result<Status, String>);

fn look_again_and_again(place: usize, node: &Node, interval: Duration, looks: &Sender<Look>) {
    loop {
        let look = node.status(PATIENCE).map_err(|error| error.to_string());
        if looks.send((place, Instant::now(), look)).is_err() {
            return;
        }
        std::thread::sleep(interval);
    }
}

fn wants_to_leave() -> std::io::Result<bool> {
    if !event::poll(TICK)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(false);
    };
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(key.kind == KeyEventKind::Press
        && (control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)))
}
