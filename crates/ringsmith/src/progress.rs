//! Progress on stderr: a bar with rate and time left on a terminal, a plain line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// How often a line is written when stderr is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

/// One long piece of work, counted in units (steps, records, answers).
pub struct Progress {
    name: String,
    unit: &'static str,
    total: u64,
    done: u64,
    /// Work that was already there when this run took it up; it does not enter the rate.
    resumed: u64,
    start: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins with `done` of `total` units there already; `total` 0 means that it is not known.
    pub fn new(name: impl Into<String>, unit: &'static str, total: u64, done: u64) -> Progress {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| bar(&name, unit, total, done));
        let now = Instant::now();
        Progress { name, unit, total, done, resumed: done, start: now, said: now, bar }
    }

    /// `done` units are done now; `note` is shown behind (a loss, say).
    pub fn at(&mut self, done: u64, note: &str) {
        self.done = done;
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(note.to_owned());
            }
            None if self.said.elapsed() >= EVERY => {
                self.said = Instant::now();
                eprintln!("{}", self.line(note));
            }
            None => {}
        }
    }

    /// A plain line: name, count, rate, time left.
    fn line(&self, note: &str) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = (self.done.saturating_sub(self.resumed)) as f64 / seconds.max(1e-9);
        let mut line = format!("{}: {}", self.name, self.done);
        if self.total > 0 {
            line += &format!("/{}", self.total);
        }
        line += &format!(" {}, {rate:.1}/s", self.unit);
        if self.total > self.done && rate > 0.0 {
            line += &format!(", {} left", span((self.total - self.done) as f64 / rate));
        }
        if !note.is_empty() {
            line += &format!(", {note}");
        }
        line
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, unit: &str, total: u64, done: u64) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr_with_hz(8));
    let counts = if total > 0 { "{bar:24} {pos}/{len}" } else { "{spinner} {pos}" };
    let template = format!("{{prefix}}: {counts} {unit}, {{per_sec}}, {{eta}} left {{wide_msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar.set_position(done);
    bar.reset_eta();
    bar
}

/// Seconds in the largest two units: `12 s`, `3 m 05 s`, `2 h 10 m`.
pub fn span(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_lines_read_well() {
        assert_eq!(span(3.21), "3.2 s");
        assert_eq!(span(185.0), "3 m 05 s");
        assert_eq!(span(7800.0), "2 h 10 m");
        let progress = Progress::new("dpo", "steps", 100, 0);
        assert!(progress.line("loss 0.5").starts_with("dpo: 0/100 steps, 0.0/s, loss 0.5"));
    }
}
