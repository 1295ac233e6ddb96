//! Lines of results, and what is asked of them: the spread of a figure over the rounds, and of its
//! ratio to another line's of the same round. Only the latter says much on a shared machine.
use anyhow::Result;
use serde_json::Value;
use std::fs;

pub struct Rows(Vec<(usize, Value)>);

/// Median, least and most over the rounds.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub rounds: usize,
}

impl Rows {
    pub fn load(files: &[String]) -> Result<Self> {
        let mut rows = Vec::new();
        for (file, path) in files.iter().enumerate() {
            for line in fs::read_to_string(path)?.lines() {
                rows.push((file, serde_json::from_str(line)?));
            }
        }
        Ok(Rows(rows))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|(_, v)| v)
    }

    /// What cells did not work, once each.
    pub fn failures(&self, name: impl Fn(&Value) -> String) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for v in self.iter() {
            if let Some(e) = v["error"].as_str() {
                all.push(format!("- failed: {}: {e}", name(v)));
            }
        }
        all.dedup();
        all
    }

    pub fn spread(&self, key: &str, this: impl Fn(&Value) -> bool) -> Option<Spread> {
        Spread::of(self.iter().filter(|v| this(v)).filter_map(|v| v[key].as_f64()).collect())
    }

    /// `this` ÷ `base`, both of the same round of the same file.
    pub fn ratio(
        &self,
        key: &str,
        this: impl Fn(&Value) -> bool,
        base: impl Fn(&Value) -> bool,
    ) -> Option<Spread> {
        let ratio = |(file, v): &(usize, Value)| {
            let same = |b: &&(usize, Value)| b.0 == *file && b.1["round"] == v["round"];
            let b = self.0.iter().filter(same).find(|b| base(&b.1) && b.1[key].is_number())?;
            let (x, y) = (v[key].as_f64()?, b.1[key].as_f64()?);
            (y != 0.0).then_some(x / y)
        };
        Spread::of(self.0.iter().filter(|r| this(&r.1)).filter_map(ratio).collect())
    }
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_by(f64::total_cmp);
        let (n, most) = (all.len(), *all.last()?);
        let median = (all[n / 2] + all[(n - 1) / 2]) / 2.0;
        Some(Spread { median, least: all[0], most, rounds: n })
    }

    /// Of what grows with it.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let Spread { median, least, most, rounds } = self;
        Spread { median: f(median), least: f(least), most: f(most), rounds }
    }

    /// `median (least–most)`, or the one figure there is.
    pub fn told(&self) -> String {
        match self.rounds {
            1 => num(self.median),
            _ => format!("{} ({}–{})", num(self.median), num(self.least), num(self.most)),
        }
    }
}

/// Three digits or so, for reading.
pub fn num(x: f64) -> String {
    match x.abs() {
        m if m >= 1e6 => format!("{:.2} M", x / 1e6),
        m if m >= 1e4 => format!("{:.1} k", x / 1e3),
        m if m >= 100.0 => format!("{x:.0}"),
        m if m >= 10.0 => format!("{x:.1}"),
        m if m >= 0.1 => format!("{x:.2}"),
        0.0 => "0".into(),
        _ => format!("{x:.3}"),
    }
}
