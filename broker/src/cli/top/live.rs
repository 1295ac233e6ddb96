//! The live view on a terminal: looks, keys and signals come in, the screen is drawn.

use std::{thread, time::Duration};

use crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::{
    Api, Args,
    sample::Sample,
    screen::{Screen, Then},
    view,
};

/// Keys that may wait to be acted upon.
const KEYS_MAX: usize = 32;

pub(super) async fn run(args: &Args, api: &Api) -> anyhow::Result<()> {
    // Before the screen is taken: what is wrong from the beginning is told as by any command.
    let first = Sample::take(api, args.tenants_max).await?;
    let mut screen = Screen::new(api.to_string(), args.sort, args.tenant.clone());
    screen.saw(Ok(first));
    let mut terminal = Screened::begin()?;
    let mut keys = keys();
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut looks = looks(api.clone(), args.interval, args.tenants_max);
    loop {
        terminal.0.draw(|frame| view::draw(frame, &mut screen))?;
        // Fair: each of them is rare, and none waits long for another.
        tokio::select! {
            look = looks.recv() => match look {
                Some(look) => screen.saw(look),
                None => return Ok(()),
            },
            event = keys.recv() => match event {
                Some(Event::Key(key)) if screen.key(key) == Then::Quit => return Ok(()),
                // Whatever else it is, a resize for one, is drawn.
                Some(_) => {}
                None => anyhow::bail!("the terminal is gone"),
            },
            _ = ended.recv() => return Ok(()),
        }
    }
}

/// A terminal in our hands; given back when dropped.
struct Screened(ratatui::DefaultTerminal);

impl Screened {
    fn begin() -> std::io::Result<Screened> {
        ratatui::try_init().map(Screened)
    }
}

impl Drop for Screened {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// A look an interval, in a task of its own: a slow broker does not make keys wait.
fn looks(api: Api, interval: Duration, most: usize) -> mpsc::Receiver<anyhow::Result<Sample>> {
    let (tell, looks) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first look was taken.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if tell.send(Sample::take(&api, most).await).await.is_err() {
                return;
            }
        }
    });
    looks
}

/// What is typed. The thread reads until the process ends: there is no way to wake it.
fn keys() -> mpsc::Receiver<Event> {
    let (tell, keys) = mpsc::channel(KEYS_MAX);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if tell.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}
