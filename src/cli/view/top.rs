//! `linkerd-metricd top`: what `stat` shows, again and again.

mod screen;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time;

use super::source::{Source, SourceArgs};
use super::stat;
use super::traffic::Traffic;
use crate::cluster::client;
use crate::duration::duration;
use screen::Screen;

/// What to show, and of whom.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub source: SourceArgs,

    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    every: Duration,

    /// What time rates and latencies are of
    #[arg(long, short, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    window: Duration,
}

/// How long a key may wait until it takes effect.
const TICK: Duration = Duration::from_millis(50);

/// Draws until told to stop.
///
/// # Errors
/// If standard output is no terminal, or the source is none.
pub fn run(options: &Options) -> Result<()> {
    if !io::stdout().is_terminal() {
        bail!(
            "top draws on a terminal, and standard output is none: linkerd-metricd stat prints the same once"
        );
    }
    let (send, readings) = mpsc::channel();
    let source = options.source.clone();
    let every = options.every;
    let (named, name) = mpsc::channel();
    thread::spawn(move || {
        let read = client::block_on(async {
            match source.open().await {
                Ok(source) => {
                    let _ = named.send(Ok(source.name.clone()));
                    read(&source, every, &send).await;
                }
                Err(error) => drop(named.send(Err(error))),
            }
        });
        if let Err(error) = read {
            tracing::error!("{error}");
        }
    });
    let screen = Screen::new(name.recv()??, options.window);
    let mut terminal = ratatui::try_init()?;
    let drawn = draw(&mut terminal, screen, &readings, options.window);
    ratatui::try_restore()?;
    drawn
}

/// Hands on readings until nobody takes them.
async fn read(source: &Source, every: Duration, send: &Sender<Result<Traffic>>) {
    let mut ticks = time::interval(every);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if send.send(stat::read(source).await).is_err() {
            return;
        }
    }
}

fn draw(
    terminal: &mut ratatui::DefaultTerminal,
    mut screen: Screen,
    readings: &Receiver<Result<Traffic>>,
    window: Duration,
) -> Result<()> {
    let mut kept: VecDeque<Traffic> = VecDeque::new();
    let mut changed = true;
    loop {
        if changed {
            terminal.draw(|frame| screen.draw(frame))?;
        }
        changed = event::poll(TICK)?;
        if changed {
            match event::read()? {
                Event::Key(key) if is_quit(key) => return Ok(()),
                Event::Key(key) if key.kind != KeyEventKind::Release => screen.key(key.code),
                _ => {}
            }
        }
        match readings.try_recv() {
            Ok(reading) => {
                changed = true;
                screen.reading(reading.map(|traffic| latest(&mut kept, traffic, window)));
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("nobody reads any more"),
        }
    }
}

fn is_quit(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// What came within the window before this reading; none as yet, if it is the first.
fn latest(kept: &mut VecDeque<Traffic>, now: Traffic, window: Duration) -> Option<Traffic> {
    // The oldest is the last one that is not younger than the window.
    while kept.get(1).is_some_and(|next| now.at - next.at >= window) {
        kept.pop_front();
    }
    let since = kept.front().map(|oldest| now.clone().since(oldest));
    kept.push_back(now);
    since
}
