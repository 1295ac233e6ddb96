//! Statistics of a column of numbers.
//!
//! As Python's `statistics` module defines them: the deviation is that of a sample, and quantiles
//! interpolate linearly between the two nearest values, the least and the most included.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Numbers {
    #[serde(skip)]
    pub(super) min: f64,
    #[serde(skip)]
    pub(super) max: f64,
    /// `null` when it is out of the range of a double, as is the deviation.
    mean: Option<f64>,
    /// `null` for a single number too.
    stddev: Option<f64>,
    p25: f64,
    p50: f64,
    p75: f64,
}

/// Sums up finite numbers; nothing of none.
pub(super) fn summary(mut numbers: Vec<f64>) -> Option<Numbers> {
    numbers.sort_unstable_by(f64::total_cmp);
    let (&min, &max) = (numbers.first()?, numbers.last()?);
    let n = numbers.len() as f64;
    let mean = sum(numbers.iter().copied()) / n;
    let stddev = if min == max {
        0.0
    } else {
        (sum(numbers.iter().map(|x| (x - mean) * (x - mean))) / (n - 1.0)).sqrt()
    };
    let finite = |x: f64| Some(x).filter(|x| x.is_finite());
    Some(Numbers {
        min,
        max,
        mean: finite(mean),
        stddev: finite(stddev).filter(|_| numbers.len() > 1),
        p25: quartile(&numbers, 1),
        p50: quartile(&numbers, 2),
        p75: quartile(&numbers, 3),
    })
}

/// Neumaier's sum: what each addition loses is added at the end.
fn sum(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for x in numbers {
        let next = sum + x;
        lost += if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
        sum = next;
    }
    sum + lost
}

/// The first, second or third quartile of sorted numbers, of which there is at least one.
fn quartile(sorted: &[f64], quarter: usize) -> f64 {
    let place = quarter * (sorted.len() - 1);
    let (at, rest) = (place / 4, (place % 4) as f64);
    let above = sorted[(at + 1).min(sorted.len() - 1)];
    // Weighed before they are added: the sum of two large numbers may be out of range.
    sorted[at] * ((4.0 - rest) / 4.0) + above * (rest / 4.0)
}
