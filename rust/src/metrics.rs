//! Text in the Prometheus exposition format 0.0.4. Pure.

use std::fmt::{Display, Write};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page of metrics as it grows: a family first, then its samples.
#[derive(Debug, Default)]
pub struct MetricsText {
    text: String,
    family: &'static str,
}

impl MetricsText {
    /// Begins a family; the samples that follow are of it.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.family = name;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// One sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.part("", labels, value)
    }

    /// One sample of a part of the family: `_bucket`, `_sum` or `_count` of a histogram.
    pub fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (place, (name, value)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"");
            value.chars().for_each(|one| match one {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                one => self.text.push(one),
            });
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_reads_as_the_format_wants_it() {
        let mut text = MetricsText::default();
        text.family("a_total", Kind::Counter, "What.")
            .sample(&[("x", "q\"\\\n"), ("y", "")], 3)
            .sample(&[], 0);
        text.family("b", Kind::Gauge, "Else.").sample(&[], 1.5);
        assert_eq!(
            text.into_text(),
            "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\",y=\"\"} 3\na_total 0\n\
             # HELP b Else.\n# TYPE b gauge\nb 1.5\n"
        );
    }
}
