//! Where records come from and what is done to them.

use ringsmith_data::workbook::{Split, Style, Task};
use ringsmith_data::{shape::Fields, step::Step, think::Think};
use serde::{Deserialize, Serialize};

/// `[data.<name>]`: sources, read in order, and curation steps, applied in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub sources: Vec<Source>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One source: files, or a task of the workbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub name: String,
    /// Files under the data root (`--data-root`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Column names, where they are unusual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// What becomes of the thought in the files' answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    /// A system text put before every conversation of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Records taken from the files, the first ones; the others go to the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<u64>,
    /// The workbook's task whose problems are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workbook: Option<Task>,
    /// How the workbook's teacher answers; the task's own style if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// Which part of the task's items is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Difficulty, 1 the easiest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Problems to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

impl Source {
    /// Writes out what a workbook source leaves unsaid, so that `plan` prints it.
    pub fn settle(&mut self) {
        if let Some(task) = self.workbook {
            let all = task == Task::FactDocuments;
            self.style.get_or_insert(task.default_style());
            self.split.get_or_insert(if all { Split::All } else { Split::Train });
            self.level.get_or_insert(1);
        }
    }
}

/// `[tokenizer]`: a byte-level BPE trained on the recipe's data. Without this table it is the model path's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Entries, the 256 bytes and the special tokens among them.
    pub vocab_size: usize,
    /// Texts taken from each data set.
    pub data: std::collections::BTreeMap<String, usize>,
}

impl Data {
    /// Whether a step compares the records with the recipe's benchmarks.
    pub fn decontaminates(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Decontaminate(_)))
    }
}

impl Tokenizer {
    /// Refuses sizes that cannot be, and a tokenizer trained on nothing.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        use ringsmith_data::tokenizer::SPECIALS;
        let least = SPECIALS.len() + 256;
        if !(least..=LARGEST).contains(&self.vocab_size) {
            let said = format!("{} is not within {least} to {LARGEST} entries", self.vocab_size);
            return Err(("vocab_size".into(), said));
        }
        if self.data.values().all(|count| *count == 0) {
            return Err(("data".into(), "takes no text from any data set".into()));
        }
        Ok(())
    }
}

/// The largest vocabulary: several times that of any tokenizer in use.
const LARGEST: usize = 1 << 21;
