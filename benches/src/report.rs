//! One table of all rows: what was measured on each side, the ratio, the bar, and whether it is met.

use std::fmt::Write as _;

/// Which side of a bar is good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// The ratio to the reference must be at least this.
    AtLeast(f64),
    /// The ratio to the reference must be at most this.
    AtMost(f64),
    /// Our own figure must be at most this, whatever the reference has.
    OwnAtMost(f64),
    /// Printed beside the others, not judged.
    Shown,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// What it is compared with.
    pub(crate) reference: Option<f64>,
    pub(crate) bar: Bar,
    /// Anything beside: client's processor time, spread.
    pub(crate) note: String,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { what: what.into(), unit, ours, reference: None, bar: Bar::Shown, note: String::new() }
    }

    pub(crate) fn beside(mut self, reference: f64) -> Self {
        self.reference = Some(reference);
        self
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = bar;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn ratio(&self) -> Option<f64> {
        let reference = self.reference.filter(|reference| *reference > 0.0)?;
        Some(self.ours / reference)
    }

    fn is_met(&self) -> Option<bool> {
        match self.bar {
            // A row that lost its reference has not met its bar.
            Bar::AtLeast(bar) => Some(self.ratio().is_some_and(|ratio| ratio >= bar)),
            Bar::AtMost(bar) => Some(self.ratio().is_some_and(|ratio| ratio <= bar)),
            Bar::OwnAtMost(bar) => Some(self.ours <= bar),
            Bar::Shown => None,
        }
    }
}

/// The table in Markdown.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut table = String::from("| what | unit | ours | reference | ratio | bar | | beside |\n");
    table += "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for line in lines {
        let bar = match line.bar {
            Bar::AtLeast(bar) => format!(">= {}", number(bar)),
            Bar::AtMost(bar) => format!("<= {}", number(bar)),
            Bar::OwnAtMost(bar) => format!("ours <= {}", number(bar)),
            Bar::Shown => String::new(),
        };
        let verdict = match line.is_met() {
            Some(true) => "PASS",
            Some(false) => "MISS",
            None => "",
        };
        let reference = line.reference.map(number).unwrap_or_default();
        let ratio = line.ratio().map(number).unwrap_or_default();
        let _infallible = writeln!(
            table,
            "| {} | {} | {} | {reference} | {ratio} | {bar} | {verdict} | {} |",
            line.what,
            line.unit,
            number(line.ours),
            line.note
        );
    }
    table
}

/// Three significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &Line, verdict: &str) {
        let table = table(std::slice::from_ref(line));
        assert!(table.contains(verdict), "{verdict} is not in {table}");
    }

    #[test]
    fn bars_are_on_the_ratio() {
        check(&Line::new("a", "MB/s", 20.0).beside(10.0).bar(Bar::AtLeast(2.0)), "| 2 | >= 2 | PASS |");
        check(&Line::new("a", "MB/s", 19.0).beside(10.0).bar(Bar::AtLeast(2.0)), "| 1.90 | >= 2 | MISS |");
        check(&Line::new("a", "s/GB", 3.0).beside(10.0).bar(Bar::AtMost(1.0 / 3.0)), "PASS");
    }

    #[test]
    fn bars_on_our_own_figure_do_not_look_at_the_reference() {
        check(&Line::new("a", "ms", 149.0).bar(Bar::OwnAtMost(150.0)), "| 149 |  |  | ours <= 150 | PASS |");
        check(&Line::new("a", "ms", 151.0).beside(2000.0).bar(Bar::OwnAtMost(150.0)), "MISS");
    }

    #[test]
    fn a_ratio_without_a_reference_is_missed() {
        check(&Line::new("a", "MB/s", 20.0).bar(Bar::AtLeast(2.0)), "MISS");
    }
}
