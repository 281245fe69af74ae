//! Where records come from and what is done to them.

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
    /// The workbook's task whose problems are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workbook: Option<String>,
    /// How the workbook's teacher answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// Problems to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Rows of the files to read; the rest are counted in the ledger as over the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A curation step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Dedup(Empty),
    Decontaminate(Empty),
    Purify(Empty),
}

/// No settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `[tokenizer]`: a byte-level BPE trained on the recipe's data. Without this table it is the model path's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Entries, the 256 bytes and the special tokens among them.
    pub vocab_size: usize,
    /// Texts taken from each data set.
    pub data: std::collections::BTreeMap<String, usize>,
}
