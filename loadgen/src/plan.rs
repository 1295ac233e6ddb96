//! When what happens: the slots of a run, and how much load each tenant is to make at any time.
//!
//! Pure: everything follows from the scenario and the time of the start.

use std::time::{Duration, Instant};

use crate::scenario::{Scenario, Tenant};

/// The times of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub start: Instant,
    /// One after the other, without a gap.
    pub slots: Vec<Slot>,
    pub end: Instant,
    /// How long one operation may take, and what is under way at the end.
    pub limit: Duration,
    /// How long what was due and not sent may wait at the end.
    pub patience: Duration,
}

/// A phase in one of the rounds.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The phase, by its place.
    pub phase: usize,
    pub round: usize,
    pub start: Instant,
    pub measure_from: Instant,
    pub end: Instant,
    /// Which tenants take part.
    pub tenants: Vec<usize>,
    load: f64,
}

/// A stretch in which the load changes evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    pub start: Instant,
    pub end: Instant,
    /// Operations a second, or in flight, at its start and end.
    pub from: f64,
    pub to: f64,
}

impl Plan {
    /// A run that begins now.
    pub fn new(scenario: &Scenario, start: Instant) -> Self {
        let mut slots = Vec::new();
        let mut at = start;
        for round in 0..scenario.rounds {
            for (phase, p) in scenario.phases.iter().enumerate() {
                let measure_from = at + p.warm_up;
                let end = measure_from + p.duration;
                let tenants = p.tenants.clone();
                slots.push(Slot {
                    phase,
                    round,
                    start: at,
                    measure_from,
                    end,
                    tenants,
                    load: p.load,
                });
                at = end;
            }
        }
        Plan { start, slots, end: at, limit: scenario.drain, patience: scenario.drain }
    }

    /// The slot in which what was due then counts.
    pub fn measured_in(&self, due: Instant) -> Option<usize> {
        let slot = self.slots.partition_point(|s| s.end <= due);
        self.slots.get(slot).filter(|s| s.measure_from <= due).map(|_| slot)
    }

    /// Until when what is due in a slot and was not sent yet may wait: it must not run into what is
    /// measured next.
    pub fn give_up(&self, slot: usize) -> Instant {
        let next = self.slots.get(slot + 1);
        let within = next.map_or(self.patience, |next| (next.measure_from - next.start) / 2);
        self.slots[slot].end + within
    }
}

impl Slot {
    /// How long it was measured, in a run that was cut short at some time, or not.
    pub fn measured(&self, cut_at: Option<Instant>) -> Duration {
        let end = cut_at.map_or(self.end, |at| at.min(self.end));
        end.saturating_duration_since(self.measure_from)
    }

    /// The load that a tenant makes in this slot; nothing when it takes no part.
    pub fn stretches(&self, place: usize, tenant: &Tenant) -> Vec<Stretch> {
        if !self.tenants.contains(&place) {
            return Vec::new();
        }
        let full = tenant.pace.full() * self.load;
        let Some(ramp) = tenant.ramp else {
            return vec![Stretch { start: self.start, end: self.end, from: full, to: full }];
        };
        let low = ramp.from * self.load;
        let flat = |start, end, level| Stretch { start, end, from: level, to: level };
        let mut all = Vec::new();
        let top = self.measure_from + ramp.over;
        if ramp.steps == 0 {
            all.push(flat(self.start, self.measure_from, low));
            all.push(Stretch { start: self.measure_from, end: top, from: low, to: full });
        } else {
            let mut at = self.start;
            for step in 0..ramp.steps {
                let part = f64::from(step + 1) / f64::from(ramp.steps);
                let end = self.measure_from + ramp.over.mul_f64(part);
                let level = low + (full - low) * f64::from(step) / f64::from(ramp.steps - 1);
                all.push(flat(at, end, level));
                at = end;
            }
        }
        all.push(flat(top, self.end, full));
        all.retain(|s| s.start < s.end);
        all
    }
}

/// When operations of an open loop are due in one slot.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    stretches: Vec<(Stretch, u64)>,
    count: u64,
    /// By which part of the time between two it begins later.
    offset: f64,
}

impl Schedule {
    /// `place`: tenants of the same rate must not all be due at the same moments.
    pub fn new(stretches: &[Stretch], place: usize) -> Self {
        // Multiples of the golden ratio lie apart however many there are; the first is 0.
        let offset = (place as f64 * 0.618_033_988_749_895).fract();
        let mut schedule = Schedule { offset, ..Schedule::default() };
        for s in stretches {
            // The k-th is due when k (and the offset) have come together.
            let area = (s.end - s.start).as_secs_f64() * (s.from + s.to) / 2.0;
            schedule.stretches.push((*s, schedule.count));
            // What a rounding error adds would be due after the end.
            schedule.count += (area - offset - 1e-9).ceil().max(0.0) as u64;
        }
        schedule
    }

    /// How many are due.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When the operation of this number is due.
    pub fn due(&self, number: u64) -> Option<Instant> {
        if number >= self.count {
            return None;
        }
        let at = self.stretches.partition_point(|(_, before)| *before <= number) - 1;
        let (s, before) = &self.stretches[at];
        let k = (number - before) as f64 + self.offset;
        let slope = (s.to - s.from) / (s.end - s.start).as_secs_f64();
        // from·t + slope·t²/2 = k, in the form that does not cancel.
        let root = s.from.mul_add(s.from, 2.0 * slope * k).max(0.0).sqrt();
        let secs = if k == 0.0 { 0.0 } else { 2.0 * k / (s.from + root) };
        Some((s.start + Duration::from_secs_f64(secs)).min(s.end))
    }
}

/// From when to when each place of a closed loop is filled, in the order of the places.
pub fn places(stretches: &[Stretch]) -> Vec<Instant> {
    let most = stretches.iter().map(|s| s.from.max(s.to)).fold(0.0, f64::max);
    let most = most.round().max(f64::from(u8::from(!stretches.is_empty()))) as usize;
    let filled = |place: usize| {
        let needs = place as f64 + 1.0;
        let found = stretches.iter().find_map(|s| {
            if s.from + 0.5 >= needs {
                return Some(s.start);
            }
            let part = (needs - s.from) / (s.to - s.from);
            (s.to + 1e-9 >= needs).then(|| s.start + (s.end - s.start).mul_f64(part.min(1.0)))
        });
        found.or(stretches.last().map(|s| s.start))
    };
    (0..most).filter_map(filled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, ScenarioFile};

    fn plan(text: &str) -> (Plan, Scenario) {
        let file: ScenarioFile = toml::from_str(text).expect("TOML");
        let scenario = file.parse(Overrides::default()).expect("fine");
        (Plan::new(&scenario, Instant::now()), scenario)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_due_lies_evenly_between_start_and_end() {
        let start = Instant::now();
        let end = start + Duration::from_millis(250);
        let s = Schedule::new(&[Stretch { start, end, from: 100.0, to: 100.0 }], 0);
        assert_eq!(s.count(), 25);
        assert_eq!(s.due(0), Some(start));
        assert!(s.due(24).expect("due") < end && s.due(25).is_none());
    }

    #[test]
    fn tenants_of_one_rate_are_due_one_after_the_other() {
        let start = Instant::now();
        let s = Stretch { start, end: start + SECOND, from: 10.0, to: 10.0 };
        let mut first: Vec<_> = (0..10)
            .map(|place| Schedule::new(&[s], place))
            .map(|s| (s.due(0).expect("due"), s.count()))
            .collect();
        first.sort();
        assert!(first.windows(2).all(|w| w[1].0 - w[0].0 > Duration::from_millis(3)));
        assert!(first.iter().all(|(at, n)| *n == 10 && *at < start + SECOND / 10));
    }

    #[test]
    fn a_ramp_makes_what_its_area_says_and_never_goes_back() {
        let start = Instant::now();
        let mid = start + 10 * SECOND;
        let up = Stretch { start, end: mid, from: 0.0, to: 100.0 };
        let flat = Stretch { start: mid, end: mid + SECOND, from: 100.0, to: 100.0 };
        let s = Schedule::new(&[up, flat], 0);
        assert_eq!(s.count(), 600);
        let due: Vec<_> = (0..600).map(|n| s.due(n).expect("due")).collect();
        assert!(due.is_sorted() && due[0] == start && due[500] == mid);
        // Half of the time makes a quarter of the area.
        let half = (due[125] - start).as_secs_f64();
        assert!((half - 5.0).abs() < 0.01, "{half}");
        let down = Schedule::new(&[Stretch { from: 100.0, to: 0.0, ..up }], 0);
        let last = down.due(down.count() - 1).expect("due");
        assert!(down.count() == 500 && last <= mid);
    }

    #[test]
    fn rounds_go_through_the_phases_and_warm_ups_count_for_nobody() {
        let (plan, scenario) = plan(
            "rounds = 2\nduration = \"2s\"\nwarm_up = \"1s\"\n\
             [[phases]]\nname = \"alone\"\ntenants = [\"b\"]\n[[phases]]\nname = \"beside\"\n\
             [[tenants]]\ncerts = \"a\"\n[[tenants]]\ncerts = \"b\"",
        );
        assert_eq!(plan.slots.len(), 4);
        assert_eq!(plan.end - plan.start, 12 * SECOND);
        let slot = |ms| plan.measured_in(plan.start + Duration::from_millis(ms));
        assert_eq!((slot(500), slot(1_000), slot(2_999)), (None, Some(0), Some(0)));
        assert_eq!(
            (slot(3_500), slot(4_000), slot(11_999), slot(12_000)),
            (None, Some(1), Some(3), None)
        );
        assert_eq!(plan.give_up(0) - plan.slots[0].end, SECOND / 2);
        assert_eq!(plan.give_up(3) - plan.end, scenario.drain);
        assert!(plan.slots[0].stretches(0, &scenario.tenants[0]).is_empty());
        assert_eq!(plan.slots[1].stretches(0, &scenario.tenants[0]).len(), 1);
    }

    #[test]
    fn a_closed_loop_fills_its_places_as_the_ramp_rises() {
        let (plan, scenario) = plan(
            "duration = \"4s\"\nwarm_up = \"1s\"\n[[tenants]]\ncerts = \"a\"\nin_flight = 4\n\
             ramp_over = \"4s\"\nramp_steps = 5",
        );
        let from_start: Vec<_> = places(&plan.slots[0].stretches(0, &scenario.tenants[0]))
            .into_iter()
            .map(|at| (at - plan.start).as_millis())
            .collect();
        assert_eq!(from_start, [1_800, 2_600, 3_400, 4_200]);
    }
}
