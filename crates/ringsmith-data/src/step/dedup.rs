//! Exact deduplication: of records that say the same, the first stays.

use crate::ledger::{Fault, Reason};
use crate::record::Record;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What makes two records the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// Everything they say.
    #[default]
    Text,
    /// What they ask; raw text counts whole.
    Prompt,
}

/// Drops records whose key occurred before. Case and white space do not count; everything else does, so
/// that problems which differ in one sign stay apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dedup {
    /// By default `text`.
    pub key: Key,
}

impl Dedup {
    pub(super) fn faults(&self, records: &[Record]) -> Vec<Option<Fault>> {
        let keys: Vec<_> = records.par_iter().map(|record| self.key(record)).collect();
        let mut first = HashMap::new();
        let mut faults = Vec::with_capacity(records.len());
        for (record, key) in records.iter().zip(keys) {
            let partner = *first.entry(key).or_insert(record);
            let fault = || Fault::new(Reason::Duplicate, format!("the same as {}", partner.id));
            faults.push((!std::ptr::eq(partner, record)).then(fault));
        }
        faults
    }

    fn key(&self, record: &Record) -> [u8; 32] {
        let text = match self.key {
            Key::Text => None,
            Key::Prompt => record.body.prompt(),
        };
        let text = text.unwrap_or_else(|| record.body.text()).to_lowercase();
        let mut hasher = blake3::Hasher::new();
        for word in text.split_whitespace() {
            hasher.update(word.as_bytes()).update(b" ");
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn dropped(key: Key, records: &[Record]) -> Vec<Option<String>> {
        let faults = Dedup { key }.faults(records);
        faults.into_iter().map(|fault| fault.map(|fault| fault.evidence)).collect()
    }

    #[test]
    fn the_first_stays_and_the_partner_is_named() {
        let records = [
            record("a:1", "What is 3+4?", "7"),
            record("a:2", "what is\n 3+4?", "7"),
            record("b:1", "What is 3-4?", "7"),
            record("b:2", "What is 3+4?", "seven"),
            record("b:3", "What is 3+4?", "7"),
        ];
        let partner = || Some("the same as a:1".to_owned());
        assert_eq!(dropped(Key::Text, &records), [None, partner(), None, None, partner()]);
        assert_eq!(dropped(Key::Prompt, &records), [None, partner(), None, partner(), partner()]);
    }
}
