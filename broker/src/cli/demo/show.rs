//! How the demo speaks: scenes, lines, promises, bars where somebody watches.

use std::{fmt::Display, io, time::Duration};

use console::Style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output::{self, say};

/// What was shown so far.
pub(super) struct Show {
    scenes: u32,
    kept: u32,
    broken: Vec<String>,
    fancy: bool,
}

impl Show {
    pub(super) fn new() -> Show {
        Show { scenes: 0, kept: 0, broken: Vec::new(), fancy: output::watched() }
    }

    /// Begins a scene.
    pub(super) fn scene(&mut self, title: &str, what: &str) -> io::Result<()> {
        self.scenes += 1;
        let title = Style::new().bold().cyan().apply_to(format!("{}. {title}", self.scenes));
        say!("\n{title}")?;
        say!("   {}", Style::new().dim().apply_to(what))
    }

    /// Something that happens.
    pub(super) fn line(&self, text: impl Display) -> io::Result<()> {
        say!("   {text}")
    }

    /// Something that was promised, and whether it is so.
    pub(super) fn promise(&mut self, kept: bool, what: impl Display) -> io::Result<()> {
        if kept {
            self.kept += 1;
            say!("   {} {what}", Style::new().green().bold().apply_to("✓"))
        } else {
            self.broken.push(format!("scene {}: {what}", self.scenes));
            say!("   {} {what}", Style::new().red().bold().apply_to("✗ NOT SO:"))
        }
    }

    /// How many promises were kept, and which were not.
    pub(super) fn score(self) -> (u32, Vec<String>) {
        (self.kept, self.broken)
    }

    /// Bars for items that report progress.
    pub(super) fn bars(&self, names: &[&str]) -> Bars {
        let style = "   {prefix:22} {bar:40.cyan} {percent:>3} % {msg}";
        let style = ProgressStyle::with_template(style).expect("the template is good");
        let group = self.fancy.then(MultiProgress::new);
        let bars = names.iter().map(|name| {
            let bar = match &group {
                Some(group) => group.add(ProgressBar::new(100)),
                None => ProgressBar::hidden(),
            };
            bar.set_style(style.clone());
            bar.set_prefix((*name).to_owned());
            (bar, 0)
        });
        Bars { bars: bars.collect(), names: names.iter().map(|n| (*n).to_owned()).collect(), group }
    }
}

/// Bars on a terminal; elsewhere a line at each quarter of the way.
pub(super) struct Bars {
    bars: Vec<(ProgressBar, u64)>,
    names: Vec<String>,
    group: Option<MultiProgress>,
}

impl Bars {
    pub(super) fn set(&mut self, item: usize, percent: f64, message: &str) -> io::Result<()> {
        let (bar, quarters) = &mut self.bars[item];
        bar.set_position(percent as u64);
        bar.set_message(output::excerpt(message, 30));
        if self.group.is_none() && percent as u64 / 25 > *quarters {
            *quarters = percent as u64 / 25;
            say!("   {:22} {percent:>3.0} % {}", self.names[item], output::excerpt(message, 30))?;
        }
        Ok(())
    }

    /// Takes the bars away and says where they stood.
    pub(super) fn finish(self) -> io::Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        group.clear()?;
        for ((bar, _), name) in self.bars.iter().zip(&self.names) {
            say!("   {name:22} {:>3} % {}", bar.position(), bar.message())?;
        }
        Ok(())
    }
}

/// The duration below which a share of some latencies lies.
pub(super) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
