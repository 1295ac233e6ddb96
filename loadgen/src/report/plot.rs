//! Line charts as SVG, drawn here: labelled axes, a legend, marked phases. Knows nothing of what it
//! shows.

use std::fmt::Write;

/// A chart.
pub struct Chart<'a> {
    pub title: &'a str,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub series: Vec<Series>,
    /// Whether it has a row for itself.
    pub wide: bool,
    /// Stretches of x that are shaded, with what they are called.
    pub bands: Vec<(f64, f64, String)>,
}

/// An axis.
pub struct Axis<'a> {
    pub label: &'a str,
    pub scale: Scale,
}

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From nothing.
    Linear,
    /// By powers of ten.
    Log,
    /// Percentiles: the same room for every nine.
    Nines,
}

/// A line.
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Which of the colours.
    pub colour: usize,
    /// 0 is a whole line, what is above is broken in its own way.
    pub dash: usize,
}

impl Series {
    pub fn new(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, colour: colour % SERIES_MAX, dash: 0 }
    }
}

const WIDTH: f64 = 640.0;
const WIDE: f64 = 1_100.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// Lines of one chart: more cannot be told apart.
pub const SERIES_MAX: usize = 8;
/// Points to point at, of one chart.
const DOTS_MAX: usize = 3_000;

/// A range of values, and their places along an axis.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Ruler {
        let high = values.clone().fold(0.0, f64::max);
        match scale {
            Scale::Linear => {
                let high = if high > 0.0 { high } else { 1.0 };
                let step = nice(high / 5.0);
                let count = (high / step).ceil().max(1.0);
                let ticks = (0..=count as u32).map(|n| f64::from(n) * step).collect();
                Ruler { scale, low: 0.0, high: count * step, ticks }
            }
            Scale::Log => {
                let low = values.filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
                let (low, high) = if low.is_finite() { (low, high) } else { (1.0, 10.0) };
                let low = low.log10().floor();
                let high = high.log10().ceil().max(low + 1.0);
                let ticks = (low as i32..=high as i32).map(|n| 10f64.powi(n)).collect();
                Ruler { scale, low: 10f64.powf(low), high: 10f64.powf(high), ticks }
            }
            Scale::Nines => {
                let below_all = values.filter(|p| *p < 100.0).fold(0.0, f64::max);
                let nines = (-(1.0 - below_all / 100.0).log10()).ceil().clamp(1.0, 8.0);
                let nine = |n: u32| 100.0 * (1.0 - 10f64.powi(-(n as i32)));
                let ticks = (0..=nines as u32).map(nine).collect();
                Ruler { scale, low: 0.0, high: nine(nines as u32), ticks }
            }
        }
    }

    /// From 0 to 1.
    fn place(&self, v: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (v - self.low) / (self.high - self.low),
            Scale::Log => {
                let v = v.max(self.low);
                (v / self.low).log10() / (self.high / self.low).log10()
            }
            Scale::Nines => {
                let nines = |p: f64| -(1.0 - p.min(self.high) / 100.0).log10();
                nines(v) / nines(self.high)
            }
        };
        part.clamp(0.0, 1.0)
    }

    fn text(&self, v: f64) -> String {
        match self.scale {
            Scale::Nines => percent(v),
            _ => short(v),
        }
    }
}

/// 1, 2 or 5 times a power of ten: the next that is not smaller.
fn nice(v: f64) -> f64 {
    let power = 10f64.powf(v.log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= v * 0.999_999);
    found.unwrap_or(10.0) * power
}

/// A number in little room: `1.2k`, `3M`.
pub fn short(v: f64) -> String {
    let (scaled, unit) = match v.abs() {
        a if a >= 1e9 => (v / 1e9, "G"),
        a if a >= 1e6 => (v / 1e6, "M"),
        a if a >= 1e3 => (v / 1e3, "k"),
        _ => (v, ""),
    };
    let digits = if scaled.abs() >= 100.0 || scaled == 0.0 { 0 } else { 3 };
    let text = format!("{scaled:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

fn percent(p: f64) -> String {
    let text = format!("{p:.6}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What HTML and SVG take as text.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Chart<'_> {
    /// The chart as a `figure`, with its legend.
    pub fn draw(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let values = |part: fn(&(f64, f64)) -> f64| {
            self.series.iter().flat_map(move |s| s.points.iter().map(part))
        };
        let band_ends = self.bands.iter().map(|(_, to, _)| *to);
        let xs: Vec<f64> = values(|p| p.0).chain(band_ends).collect();
        let x = match self.x.scale {
            Scale::Linear => tight(&xs),
            scale => Ruler::new(scale, xs.iter().copied()),
        };
        let y = Ruler::new(self.y.scale, values(|p| p.1));
        let width = if self.wide { WIDE } else { WIDTH };
        let px = |v: f64| LEFT + x.place(v) * (width - LEFT - RIGHT);
        let py = |v: f64| HEIGHT - BOTTOM - y.place(v) * (HEIGHT - TOP - BOTTOM);
        let class = if self.wide { " class=\"wide\"" } else { "" };
        writeln!(out, "<figure{class}><figcaption>{}</figcaption>", escape(self.title))?;
        self.legend(out)?;
        writeln!(
            out,
            "<svg viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        )?;
        let (floor, right) = (HEIGHT - BOTTOM, width - RIGHT);
        for (from, to, name) in &self.bands {
            let (a, b) = (px(*from), px(*to));
            let (w, h) = ((b - a).max(0.0), floor - TOP);
            write!(out, "<rect class=\"band\" x=\"{a:.1}\" y=\"{TOP}\" width=\"{w:.1}\" ")?;
            writeln!(out, "height=\"{h:.1}\"/>")?;
            if w > name.chars().count() as f64 * 6.5 {
                let at = a + w / 2.0;
                writeln!(
                    out,
                    "<text class=\"bandname\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    TOP - 4.0,
                    escape(name)
                )?;
            }
        }
        for tick in &y.ticks {
            let at = py(*tick);
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 7.0,
                at + 4.0,
                y.text(*tick)
            )?;
        }
        for tick in &x.ticks {
            let at = px(*tick);
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{floor}\"/>\
                 <text class=\"tick x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                floor + 17.0,
                x.text(*tick)
            )?;
        }
        writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{floor}\" x2=\"{right}\" y2=\"{floor}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"label\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escape(self.x.label),
            f64::midpoint(TOP, floor),
            escape(self.y.label)
        )?;
        for s in &self.series {
            let mut path = String::new();
            for (at, (a, b)) in s.points.iter().enumerate() {
                let step = if at == 0 { 'M' } else { 'L' };
                write!(path, "{step}{:.1} {:.1}", px(*a), py(*b))?;
            }
            writeln!(out, "<path class=\"line s{} d{}\" d=\"{path}\"/>", s.colour, s.dash)?;
        }
        let dots: usize = self.series.iter().map(|s| s.points.len()).sum();
        if dots <= DOTS_MAX {
            for s in &self.series {
                for (a, b) in &s.points {
                    writeln!(
                        out,
                        "<circle class=\"dot s{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}: \
                         {} at {}</title></circle>",
                        s.colour,
                        px(*a),
                        py(*b),
                        escape(&s.name),
                        y.text(*b),
                        x.text(*a)
                    )?;
                }
            }
        }
        writeln!(out, "</svg></figure>")
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        if self.series.len() < 2 {
            return Ok(());
        }
        write!(out, "<div class=\"legend\">")?;
        for s in &self.series {
            let (c, d) = (s.colour, s.dash);
            write!(
                out,
                "<span><svg viewBox=\"0 0 24 8\"><path class=\"line s{c} d{d}\" d=\"M0 4L24 4\"/></svg>\
                 {}</span>",
                escape(&s.name)
            )?;
        }
        writeln!(out, "</div>")
    }
}

/// Linear, and ending where the values do: time needs no room behind the end.
fn tight(values: &[f64]) -> Ruler {
    let high = values.iter().copied().fold(0.0, f64::max);
    let high = if high > 0.0 { high } else { 1.0 };
    let step = nice(high / 6.0);
    let count = (high / step).floor() as u32;
    let ticks = (0..=count).map(|n| f64::from(n) * step).collect();
    Ruler { scale: Scale::Linear, low: 0.0, high, ticks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nine_has_the_same_room() {
        let r = Ruler::new(Scale::Nines, [0.0, 50.0, 99.95, 100.0].into_iter());
        assert_eq!(r.ticks.len(), 5);
        let gaps: Vec<_> = r.ticks.windows(2).map(|t| r.place(t[1]) - r.place(t[0])).collect();
        assert!(gaps.iter().all(|g| (g - 0.25).abs() < 1e-6), "{gaps:?}");
        assert_eq!((r.place(100.0), r.text(r.ticks[3])), (1.0, "99.9 %".into()));
    }

    #[test]
    fn scales_end_on_round_numbers_and_take_nothing_at_all() {
        let r = Ruler::new(Scale::Linear, [0.0, 730.0].into_iter());
        assert_eq!((r.high, r.ticks.len(), r.place(400.0)), (800.0, 5, 0.5));
        let r = Ruler::new(Scale::Log, [0.3, 42.0].into_iter());
        assert_eq!(r.ticks, [0.1, 1.0, 10.0, 100.0]);
        for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
            let r = Ruler::new(scale, std::iter::empty());
            assert!(r.place(0.0).is_finite() && r.ticks.len() >= 2, "{scale:?}");
        }
    }

    #[test]
    fn numbers_are_short_and_names_are_text() {
        let all: Vec<_> = [0.0, 0.05, 1.5, 250.0, 1_200.0, 3e6].map(short).into();
        assert_eq!(all, ["0", "0.05", "1.5", "250", "1.2k", "3M"]);
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
