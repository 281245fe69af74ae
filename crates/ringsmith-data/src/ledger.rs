//! The ledger: every record that did not go on, with the reason and the evidence, and counts that add up.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The row is not UTF-8.
    #[serde(rename = "unreadable-utf8")]
    UnreadableUtf8,
    /// The row is not JSON.
    NotJson,
    /// The row has more bytes than the reader's limit.
    TooLongLine,
    /// The row has none of the known shapes.
    UnknownShape,
    /// Nothing is answered: the last assistant turn is missing or blank.
    EmptyAnswer,
    /// Nothing is asked.
    EmptyPrompt,
    /// No final answer is stated where the source asks for one.
    NoFinalAnswer,
    /// Beyond the source's `take`.
    NotTaken,
    /// The same as an earlier record.
    Duplicate,
    /// Overlaps a benchmark item.
    Contaminated,
    /// The answer goes round in a loop.
    Repetition,
    /// The answer stops before its end.
    Truncated,
    /// The question cannot be understood without a picture.
    NeedsImage,
    /// A formula of the answer is broken.
    BadLatex,
    /// Longer than a step's limit or than a row.
    TooLong,
    /// Shorter than a step's limit.
    TooShort,
    /// The chat template refuses the conversation.
    BadConversation,
}

impl Reason {
    /// The name as the ledger writes it, for example `empty-answer`.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// A verdict against a record: the reason, and what in the record shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    pub evidence: String,
}

impl Fault {
    pub fn new(reason: Reason, evidence: impl Into<String>) -> Fault {
        Fault { reason, evidence: evidence.into() }
    }
}

/// A dropped record, one line of `ledger.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub source: String,
    /// The record's id, `<source>:<row>` for files.
    pub id: String,
    /// Which step dropped it, for example `read` or `2.purify`.
    pub step: String,
    pub reason: Reason,
    /// At most [`EVIDENCE`] characters.
    pub evidence: String,
}

/// The most characters of evidence that the ledger keeps.
pub const EVIDENCE: usize = 200;

impl Dropped {
    pub fn new(source: &str, id: &str, step: &str, fault: Fault) -> Dropped {
        let evidence = match fault.evidence.char_indices().nth(EVIDENCE) {
            None => fault.evidence,
            Some((end, _)) => format!("{}…", fault.evidence[..end].trim_end()),
        };
        Dropped { source: source.into(), id: id.into(), step: step.into(), reason: fault.reason, evidence }
    }
}

/// What one step did to one source, in records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub source: String,
    pub step: String,
    pub read: u64,
    pub kept: u64,
    pub dropped: BTreeMap<Reason, u64>,
}

/// The counts of every step and source, in the order in which they were first met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts {
    pub rows: Vec<Count>,
}

/// What went in and where it went: read = kept + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub read: u64,
    pub dropped: BTreeMap<Reason, u64>,
}

impl Total {
    pub fn kept(&self) -> u64 {
        self.read - self.dropped.values().sum::<u64>()
    }

    /// Adds what passed elsewhere.
    pub fn add(&mut self, other: &Total) {
        self.read += other.read;
        for (reason, n) in &other.dropped {
            *self.dropped.entry(*reason).or_default() += n;
        }
    }
}

/// `12 read = 9 kept + 2 duplicate + 1 too-long`.
impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read = {} kept", self.read, self.kept())?;
        self.dropped.iter().try_for_each(|(reason, n)| write!(f, " + {n} {}", reason.name()))
    }
}

impl Counts {
    /// Every source with what its first step read and what all of its steps dropped, in the order of reading.
    pub fn sources(&self) -> Vec<(&str, Total)> {
        let mut sources: Vec<(&str, Total)> = Vec::new();
        for count in &self.rows {
            let total = Total { read: count.read, dropped: count.dropped.clone() };
            match sources.iter_mut().find(|(source, _)| *source == count.source) {
                Some((_, before)) => before.add(&Total { read: 0, ..total }),
                None => sources.push((&count.source, total)),
            }
        }
        sources
    }

    /// All sources together.
    pub fn total(&self) -> Total {
        let mut all = Total::default();
        self.sources().iter().for_each(|(_, total)| all.add(total));
        all
    }

    fn of(&mut self, source: &str, step: &str) -> &mut Count {
        // The last rows are the ones in use, so the search from the end is short.
        let at = self.rows.iter().rposition(|c| c.source == source && c.step == step);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Count {
                source: source.into(),
                step: step.into(),
                read: 0,
                kept: 0,
                dropped: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Nothing was lost: in each step read = kept + dropped, and what a step kept of a source is what the
    /// source's next step read. The error names the source and the step.
    pub fn check(&self) -> Result<()> {
        let mut last: BTreeMap<&str, &Count> = BTreeMap::new();
        for count in &self.rows {
            let dropped: u64 = count.dropped.values().sum();
            if count.read != count.kept + dropped {
                bail!(
                    "{}, {}: read {} records, kept {} and dropped {dropped}",
                    count.source,
                    count.step,
                    count.read,
                    count.kept
                );
            }
            if let Some(before) = last.insert(&count.source, count)
                && before.kept != count.read
            {
                bail!(
                    "{}: {} kept {} records, {} read {}",
                    count.source,
                    before.step,
                    before.kept,
                    count.step,
                    count.read
                );
            }
        }
        Ok(())
    }
}

/// Writes dropped records to a JSONL file and counts everything that passes.
pub struct Ledger {
    path: PathBuf,
    out: BufWriter<File>,
    counts: Counts,
}

impl Ledger {
    /// Starts an empty ledger file.
    pub fn create(path: &Path) -> Result<Ledger> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Ledger { path: path.into(), out: BufWriter::new(file), counts: Counts::default() })
    }

    /// Notes that `step` saw a record of `source` and kept it.
    pub fn keep(&mut self, source: &str, step: &str) {
        let count = self.counts.of(source, step);
        count.read += 1;
        count.kept += 1;
    }

    /// Notes that a step saw a record and dropped it.
    pub fn drop(&mut self, dropped: &Dropped) -> Result<()> {
        let count = self.counts.of(&dropped.source, &dropped.step);
        count.read += 1;
        *count.dropped.entry(dropped.reason).or_default() += 1;
        serde_json::to_writer(&mut self.out, dropped)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Checks the counts, makes the file complete on disk and hands the counts over.
    pub fn finish(mut self) -> Result<Counts> {
        self.counts.check()?;
        self.out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_written_and_counts_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path).unwrap();
        ledger.keep("a", "read");
        let long = "é".repeat(500);
        ledger.drop(&Dropped::new("a", "a:2", "read", Fault::new(Reason::UnreadableUtf8, long))).unwrap();
        ledger.keep("a", "1.dedup");
        ledger.keep("b", "read");
        ledger.drop(&Dropped::new("b", "b:1", "1.dedup", Fault::new(Reason::Duplicate, ""))).unwrap();
        let counts = ledger.finish().unwrap();
        assert_eq!((counts.rows[0].read, counts.rows[0].kept), (2, 1));
        assert_eq!(counts.sources()[1].1.to_string(), "1 read = 0 kept + 1 duplicate");
        assert_eq!(counts.total().to_string(), "3 read = 1 kept + 1 unreadable-utf8 + 1 duplicate");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap();
        let dropped: Dropped = serde_json::from_str(line).unwrap();
        assert!(line.contains("\"unreadable-utf8\""), "{line}");
        assert_eq!(dropped.evidence.chars().count(), EVIDENCE + 1);
    }

    #[test]
    fn a_lost_record_is_noticed() {
        let mut counts = Counts::default();
        counts.of("a", "read").read = 2;
        counts.of("a", "read").kept = 1;
        assert!(counts.check().unwrap_err().to_string().contains("a, read"));
        counts.of("a", "read").kept = 2;
        counts.of("a", "1.dedup").read = 1;
        counts.of("a", "1.dedup").kept = 1;
        assert!(counts.check().unwrap_err().to_string().contains("1.dedup"));
    }
}
