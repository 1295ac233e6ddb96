//! A curve as a small picture: log-log, a panel a figure, text that needs nothing but a browser.
//! Colours follow the reader's light or dark preference.
use std::fmt::Write;

use super::{
    curves::Curve,
    table::{cell, point_name, points},
};
use crate::rows::{num, Rows, Spread};

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 250.0;
/// Where the axes of a panel are.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 314.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 204.0;
const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#57606a}.h{font-weight:600}\
    .g{stroke:#8884;stroke-width:1}.s{fill:none;stroke-width:2}.e{stroke-width:1.2}\
    .tollgate{stroke:#0969da}.quinn{stroke:#bc4c00}circle{stroke:none}\
    .tollgate circle,.tollgate-t{fill:#0969da}.quinn circle,.quinn-t{fill:#bc4c00}\
    @media(prefers-color-scheme:dark){text{fill:#9198a1}.tollgate{stroke:#58a6ff}\
    .quinn{stroke:#f0883e}.tollgate circle,.tollgate-t{fill:#58a6ff}\
    .quinn circle,.quinn-t{fill:#f0883e}}";

/// Nothing when nothing of it was measured.
pub fn svg(rows: &Rows, curve: &Curve) -> Option<String> {
    let panels: Vec<_> = curve
        .panels
        .iter()
        .filter_map(|(key, label)| panel(rows, curve, key, label))
        .enumerate()
        .map(|(i, p)| format!("<g transform=\"translate({} 0)\">{p}</g>\n", i as f64 * WIDTH))
        .collect();
    let width = panels.len() as f64 * WIDTH;
    let (title, body) = (curve.title, panels.concat());
    (!panels.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
             width=\"{width}\" height=\"{HEIGHT}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n{body}</svg>\n"
        )
    })
}

/// The points of one peer.
struct Series {
    peer: &'static str,
    points: Vec<(f64, Spread)>,
}

fn panel(rows: &Rows, curve: &Curve, key: &str, label: &str) -> Option<String> {
    let series: Vec<Series> = curve
        .peers
        .iter()
        .map(|(peer, _)| {
            let there = points(rows, curve).into_iter().filter(|at| *at > 0);
            let at = |at| Some((at as f64, rows.spread(key, cell(curve, peer, at))?));
            let positive = |(_, s): &(f64, Spread)| s.least > 0.0;
            Series { peer, points: there.filter_map(at).filter(positive).collect() }
        })
        .filter(|s| !s.points.is_empty())
        .collect();
    let every = || series.iter().flat_map(|s| &s.points);
    let x = Scale::over(every().map(|p| p.0), (LEFT, RIGHT), 1.0)?;
    let y = Scale::over(every().flat_map(|p| [p.1.least, p.1.most]), (BOTTOM, TOP), 1.5)?;
    let mut out = format!("<text class=\"h\" x=\"{LEFT}\" y=\"16\">{label}</text>");
    grid(&mut out, curve, &x, &y, every().map(|p| p.0 as u64).collect());
    for (i, s) in series.iter().enumerate() {
        draw(&mut out, s, &x, &y, i);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = write!(
        out,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        BOTTOM + 36.0,
        curve.axis
    );
    Some(out)
}

/// From values to places, by their logarithms.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Over all values, with so many times as much room at both ends.
    fn over(values: impl Iterator<Item = f64>, (from, to): (f64, f64), room: f64) -> Option<Self> {
        let all: Vec<f64> = values.collect();
        let low = all.iter().copied().reduce(f64::min)? / room;
        let high = all.iter().copied().reduce(f64::max)? * room;
        Some(Scale { low, high: if high > low { high } else { low * 10.0 }, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// Round values: more of them where the axis is short.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            d if d > 3.0 => &[1.0],
            d if d > 0.8 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        };
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = powers.flat_map(|p| steps.iter().map(move |s| s * 10f64.powi(p)));
        all.filter(|t| (self.low..=self.high).contains(t)).collect()
    }
}

fn grid(out: &mut String, curve: &Curve, x: &Scale, y: &Scale, mut at: Vec<u64>) {
    at.sort_unstable();
    at.dedup();
    for t in y.ticks() {
        let (py, tx) = (y.at(t), LEFT - 6.0);
        let _ = write!(
            out,
            "<path class=\"g\" d=\"M{LEFT} {py:.1}H{RIGHT}\"/>\
             <text x=\"{tx}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            py + 4.0,
            tick(t)
        );
    }
    for point in at {
        let px = x.at(point as f64);
        let _ = write!(
            out,
            "<path class=\"g\" d=\"M{px:.1} {TOP}V{BOTTOM}\"/>\
             <text x=\"{px:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 16.0,
            point_name(curve.unit, point).replace("iB", "").replace(' ', "")
        );
    }
}

fn tick(t: f64) -> String {
    match t {
        t if (1.0..10_000.0).contains(&t) => format!("{t}"),
        t if t < 1.0 => format!("{}", (t * 1e6).round() / 1e6),
        t => num(t).replace(".00", "").replace(".0", ""),
    }
}

/// The medians as a line, the least and the most as a bar through each.
fn draw(out: &mut String, s: &Series, x: &Scale, y: &Scale, i: usize) {
    let peer = s.peer;
    let mut line = String::new();
    let mut marks = String::new();
    for (at, spread) in &s.points {
        let (px, py) = (x.at(*at), y.at(spread.median));
        let _ = write!(line, "{}{px:.1} {py:.1}", if line.is_empty() { "M" } else { "L" });
        let _ = write!(
            marks,
            "<path class=\"e\" d=\"M{px:.1} {:.1}V{:.1}\"/><circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\"/>",
            y.at(spread.least),
            y.at(spread.most)
        );
    }
    let tx = LEFT + 70.0 * i as f64;
    let _ = write!(
        out,
        "<g class=\"{peer}\"><path class=\"s\" d=\"{line}\"/>{marks}</g>\
         <text class=\"{peer}-t\" x=\"{tx}\" y=\"32\">● {peer}</text>"
    );
}
