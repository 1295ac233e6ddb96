//! What comes back, as it comes: rows for people, JSON lines for programs, a bar on a terminal.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::{Duration, Instant},
};

use console::Style;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tollgate_client::{
    Code, Ended, Failure, ItemResult, JobAccepted, Notice, NoticeKind, Progress, Summary, Throttled,
};

use self::json::{Line, SummaryLine, ended, ms};
use super::{items::Unsent, payload::Shown};
use crate::cli::{
    exit::Exit,
    format,
    output::{self, Output, excerpt, padded, printable},
};

pub(in crate::cli) mod json;

/// Prints what a batch tells, and counts.
pub(super) struct Report {
    output: Output,
    bar: Option<ProgressBar>,
    /// Where the items come from that have no result yet.
    sources: HashMap<u64, String>,
    header_shown: bool,
    throttled_shown: bool,
    began: Instant,
    done: u64,
    succeeded: u64,
    failed: BTreeMap<String, u64>,
    summary: Option<Summary>,
    took: Duration,
    /// The batch that is not waited for, and how many of its items are kept.
    detached: Option<Detached>,
    kept: u64,
}

/// A batch that is not waited for.
pub(super) struct Detached {
    pub id: String,
    /// Whose it is.
    pub tenant: Option<String>,
}

impl Report {
    /// With what batch it is, if it is detached from.
    pub(super) fn new(output: Output, detached: Option<Detached>) -> Report {
        let bar = output::watched().then(|| {
            let bar = ProgressBar::new(0);
            let style = "{spinner} {wide_bar} {pos}/{len} {msg}";
            bar.set_style(ProgressStyle::with_template(style).expect("the template is good"));
            bar
        });
        Report {
            output,
            bar,
            sources: HashMap::new(),
            header_shown: false,
            throttled_shown: false,
            began: Instant::now(),
            done: 0,
            succeeded: 0,
            failed: BTreeMap::new(),
            summary: None,
            took: Duration::ZERO,
            detached,
            kept: 0,
        }
    }

    /// An item is on its way.
    pub(super) fn sent(&mut self, id: u64, source: String) {
        self.sources.insert(id, source);
        self.bar.iter().for_each(|bar| bar.inc_length(1));
    }

    /// All are.
    pub(super) fn all_sent(&mut self) {
        self.bar.iter().for_each(|bar| bar.enable_steady_tick(Duration::from_millis(100)));
    }

    /// An item was not even sent.
    pub(super) fn unsent(&mut self, id: u64, source: &str, why: &Unsent) -> io::Result<()> {
        self.count(why.code, false);
        match self.output {
            Output::Table => self.row(id, why.code, Duration::ZERO, source, &why.message),
            Output::Json => self.json(&Line {
                status: None,
                code: why.code,
                error: Some(json!({ "message": why.message, "retryable": false })),
                ..Line::new(id, source)
            }),
        }
    }

    /// An item became a job.
    pub(super) fn job(&mut self, job: &JobAccepted) {
        self.kept += 1;
        if self.detached.is_some() {
            self.sources.remove(&job.id);
            self.bar.iter().for_each(|bar| bar.inc(1));
        }
    }

    /// How far an item has come.
    pub(super) fn progress(&mut self, p: &Progress) {
        let Some(bar) = &self.bar else { return };
        let source = self.sources.get(&p.id).map_or("", String::as_str);
        let percent = p.percent().map(|n| format!("{n:.0} %")).unwrap_or_default();
        bar.set_message(excerpt(&format!("{source} {percent} {}", p.message), 50));
    }

    /// An item has come to its end.
    pub(super) fn result(&mut self, r: &ItemResult) -> io::Result<()> {
        let source = self.sources.remove(&r.id).unwrap_or_default();
        let number = format!("CODE_{}", r.code_number);
        let code = r.code().map_or(&*number, |code| code.name());
        self.count(code, r.is_success());
        match (self.output, &r.outcome) {
            (Output::Table, Ok(payload)) => {
                let shown = Shown::of(payload);
                self.row(r.id, code, r.duration, &source, &shown.text())
            }
            (Output::Table, Err(failure)) => {
                self.row(r.id, code, r.duration, &source, &why(failure))
            }
            (Output::Json, _) => self.json(&Line::of(r, code, &source)),
        }
    }

    /// The broker reads no further for now.
    pub(super) fn throttled(&mut self, t: &Throttled) -> io::Result<()> {
        let wait = format::duration(t.resume_in);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("throttled: {} {}", printable(&t.quota), t.limit));
        }
        if self.output == Output::Json {
            return self.json(&json!({
                "event": "throttled",
                "quota": t.quota,
                "current": t.current,
                "limit": t.limit,
                "resume_ms": ms(t.resume_in),
            }));
        }
        if !std::mem::replace(&mut self.throttled_shown, true) {
            let (quota, current, limit) = (printable(&t.quota), t.current, t.limit);
            self.aside(&format!(
                "throttled: {quota} is at {current} of {limit}; reading goes on in {wait}, and so \
                 on (the summary has the total)"
            ));
        }
        Ok(())
    }

    /// Something is about to happen to the connection.
    pub(super) fn notice(&mut self, n: &Notice) -> io::Result<()> {
        let kind = match n.kind {
            NoticeKind::Draining => "draining",
            NoticeKind::CertificateExpiring => "certificate_expiring",
        };
        if self.output == Output::Json {
            let at = jiff::Timestamp::try_from(n.at).map(|t| t.to_string()).ok();
            return self
                .json(&json!({ "event": "notice", "kind": kind, "at": at, "message": n.message }));
        }
        self.aside(&format!("notice: {}", printable(&n.message)));
        Ok(())
    }

    /// The broker's own count.
    pub(super) fn summary(&mut self, summary: Summary) {
        self.summary = Some(summary);
        self.took = self.began.elapsed();
    }

    /// Prints the summary, and says how the command ends.
    pub(super) fn finish(self) -> io::Result<Exit> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let detached = self.detached.as_ref().filter(|_| self.summary.is_none());
        if let Some(Detached { id, tenant }) = detached {
            let kept = format::count(self.kept, "item");
            match self.output {
                Output::Table => output::line(format_args!("{id}"))?,
                Output::Json => output::json_line(&json!({
                    "event": "detached", "batch_id": id, "kept": self.kept, "failed": &self.failed,
                }))?,
            }
            let tenant = tenant.as_deref().unwrap_or("TENANT");
            let list = format!("tollgate job list --tenant {tenant} --batch {id}");
            match self.kept {
                0 => output::note(format_args!("nothing is kept")),
                _ => output::note(format_args!("{kept} kept; {list} shows them")),
            }
            let whole = self.failed.is_empty() && self.sources.is_empty();
            return Ok(if whole { Exit::Ok } else { Exit::Failure });
        }
        match self.output {
            Output::Table => self.finish_for_people(),
            Output::Json => output::json_line(&self.summary_line())?,
        }
        // A batch that was cut short has not done what it was asked to, even if nothing failed.
        let whole = self.summary.as_ref().is_some_and(|s| s.ended == Ended::Sealed);
        Ok(if self.failed.is_empty() && whole { Exit::Ok } else { Exit::Failure })
    }

    fn finish_for_people(&self) {
        let failed: u64 = self.failed.values().sum();
        let mut text = format!("{} of {} items succeeded", self.succeeded, self.done);
        if failed > 0 {
            let codes = self.failed.iter().map(|(code, n)| format!("{n} {code}"));
            text += &format!(", {failed} failed ({})", codes.collect::<Vec<_>>().join(", "));
        }
        let took = if self.summary.is_some() { self.took } else { self.began.elapsed() };
        text += &format!(" in {}", format::duration(took));
        if let Some(s) = &self.summary {
            let (up, down) = (format::bytes(s.bytes_in), format::bytes(s.bytes_out));
            text += &format!("; {up} up, {down} down");
            if !s.throttled.is_zero() {
                text += &format!("; throttled for {}", format::duration(s.throttled));
            }
            if !self.sources.is_empty() {
                text += &format!("; {} not run", format::count(self.sources.len() as u64, "item"));
            }
            if s.ended != Ended::Sealed {
                text += &format!("; ended early: {}", ended(s.ended));
            }
        } else if !self.sources.is_empty() {
            let lost = format::count(self.sources.len() as u64, "item");
            text += &format!("; {lost} without a result: it may have run or not");
        }
        let style = Style::new().for_stderr().bold();
        output::note(format_args!(
            "{}",
            if failed == 0 { style.green() } else { style.red() }.apply_to(text)
        ));
    }

    fn summary_line(&self) -> SummaryLine<'_> {
        let s = self.summary.as_ref();
        SummaryLine {
            event: "summary",
            total: self.done,
            succeeded: self.succeeded,
            failed: &self.failed,
            not_run: self.sources.len(),
            ended: s.map(|s| ended(s.ended)),
            duration_ms: s.map(|s| ms(s.duration)),
            throttled_ms: s.map(|s| ms(s.throttled)),
            bytes_in: s.map(|s| s.bytes_in),
            bytes_out: s.map(|s| s.bytes_out),
            last_id_read: s.and_then(|s| s.last_id_read),
        }
    }

    fn count(&mut self, code: &str, success: bool) {
        self.done += 1;
        self.bar.iter().for_each(|bar| bar.inc(1));
        match success {
            true => self.succeeded += 1,
            false => *self.failed.entry(code.to_owned()).or_default() += 1,
        }
    }

    fn row(
        &mut self,
        id: u64,
        code: &str,
        duration: Duration,
        source: &str,
        text: &str,
    ) -> io::Result<()> {
        const WIDTHS: [usize; 5] = [6, 17, 8, 24, 0];
        let bold = Style::new().bold();
        let style = if code == Code::Ok.name() { Style::new().green() } else { Style::new().red() };
        let before = WIDTHS.iter().sum::<usize>() + 2 * (WIDTHS.len() - 1);
        // An answer is cut to the line; why there is none is not.
        let room = match code == Code::Ok.name() {
            true => output::width().saturating_sub(before).max(40),
            false => FAILURE_WIDTH_MAX,
        };
        let text = excerpt(text, room);
        let cells = [
            id.to_string(),
            style.apply_to(code).to_string(),
            if duration.is_zero() { String::new() } else { format::duration(duration) },
            source_excerpt(source, WIDTHS[3]),
            text,
        ];
        let header = (!std::mem::replace(&mut self.header_shown, true)).then(|| {
            let names = ["ITEM", "CODE", "TOOK", "SOURCE", "RESULT"];
            padded(&names.map(|n| bold.apply_to(n).to_string()), &WIDTHS)
        });
        let print = || -> io::Result<()> {
            header.iter().try_for_each(|h| output::line(format_args!("{h}")))?;
            output::line(format_args!("{}", padded(&cells, &WIDTHS)))
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// A line for programs.
    fn json<T: Serialize>(&self, line: &T) -> io::Result<()> {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::json_line(line)),
            None => output::json_line(line),
        }
    }

    /// A word beside the results.
    fn aside(&self, text: &str) {
        let note = || output::note(format_args!("{text}"));
        match &self.bar {
            Some(bar) => bar.suspend(note),
            None => note(),
        }
    }
}

/// A failure in words, for a column.
fn why(f: &Failure) -> String {
    let mut text = f.message.to_string();
    if let Some(q) = &f.quota {
        text += &format!(" ({} {} of {})", q.quota, q.current, q.limit);
    }
    if let Some(after) = f.retry_after {
        text += &format!("; try again in {}", format::duration(after));
    }
    text
}

/// The end of a name is what tells files apart.
fn source_excerpt(source: &str, width: usize) -> String {
    let source = printable(source);
    let chars = source.chars().count();
    if chars <= width {
        return source;
    }
    format!("…{}", source.chars().skip(chars + 1 - width).collect::<String>())
}

/// A message takes at most this.
const FAILURE_WIDTH_MAX: usize = 1_000;
