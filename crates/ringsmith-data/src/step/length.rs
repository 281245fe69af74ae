//! Length limits, before there is a tokenizer; what is longer than a row in tokens is dropped by packing.

use crate::ledger::{Fault, Reason};
use crate::record::Record;
use serde::{Deserialize, Serialize};

/// Drops records that say less or more, in characters over all turns and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Length {
    /// By default 0.
    pub min_chars: usize,
    /// By default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
}

impl Length {
    pub(super) fn fault(&self, record: &Record) -> Option<Fault> {
        let chars = record.body.text().chars().count();
        let max = self.max_chars.unwrap_or(usize::MAX);
        if chars < self.min_chars {
            return Some(Fault::new(Reason::TooShort, format!("{chars} characters of {}", self.min_chars)));
        }
        (chars > max).then(|| Fault::new(Reason::TooLong, format!("{chars} characters, at most {max}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        let length = Length { min_chars: 4, max_chars: Some(6) };
        let reason = |answer: &str| length.fault(&record("a:1", "é", answer)).map(|fault| fault.reason);
        assert_eq!(reason("a"), Some(Reason::TooShort));
        assert_eq!(reason("éé"), None);
        assert_eq!(reason("aaaa"), None);
        assert_eq!(reason("aaaaa"), Some(Reason::TooLong));
        assert_eq!(Length::default().fault(&record("a:1", "", "")), None);
    }
}
