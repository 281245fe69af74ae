//! A source as it stands in a recipe: where records come from and how their answers are taken.

use crate::ledger::{Dropped, Fault, Ledger, Reason};
use crate::read::{self, ROW_LIMIT, Rows};
use crate::record::{Body, Record, Role, Turn};
use crate::shape::{self, Fields};
use crate::think::Think;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A named source of records.
///
/// ```toml
/// { name = "gsm8k-train", files = ["gsm8k/train.jsonl"], think = "wrap", take = 1000 }
/// { name = "chain", workbook = "chain", split = "train", style = "thought", count = 4000 }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Entry", into = "Entry")]
pub struct Source {
    /// The name in records, ids and counts.
    pub name: String,
    pub origin: Origin,
}

/// Where a source's records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Files(Files),
    Workbook(Workbook),
}

/// Rows of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Paths below the data root, read in this order.
    pub files: Vec<PathBuf>,
    /// Column names, where they are unusual.
    pub fields: Option<Box<Fields>>,
    /// What to do with the thought; by default it is kept as the row has it.
    pub think: Think,
    /// A system text put before every conversation.
    pub system: Option<String>,
    /// The most records taken, the first ones; the others go to the ledger as `not-taken`.
    pub take: Option<u64>,
}

/// Problems that are generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workbook {
    /// The task's name.
    pub workbook: String,
    /// `train`, `validation` or `test`; by default `train`.
    pub split: String,
    /// How the teacher answers; the task's own default where not given.
    pub style: Option<String>,
    /// How many records are made.
    pub count: u64,
}

/// The table as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Box<Fields>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    take: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workbook: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    style: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl TryFrom<Entry> for Source {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Source, String> {
        let Entry { name, files, fields, think, system, take, workbook, split, style, count } = entry;
        let of_files = [
            ("files", !files.is_empty()),
            ("fields", fields.is_some()),
            ("think", think.is_some()),
            ("system", system.is_some()),
            ("take", take.is_some()),
        ];
        let of_workbook =
            [("split", split.is_some()), ("style", style.is_some()), ("count", count.is_some())];
        let stray = |keys: &[(&str, bool)], origin: &str| {
            let key = keys.iter().find(|(_, given)| *given);
            key.map_or(Ok(()), |(key, _)| {
                Err(format!("source {name}: `{key}` has no meaning with `{origin}`"))
            })
        };
        let origin = match workbook {
            Some(workbook) => {
                stray(&of_files, "workbook")?;
                let count = count.ok_or_else(|| format!("source {name}: a workbook needs `count`"))?;
                Origin::Workbook(Workbook {
                    workbook,
                    split: split.unwrap_or_else(|| "train".into()),
                    style,
                    count,
                })
            }
            None if files.is_empty() => {
                return Err(format!("source {name} has neither `files` nor `workbook`"));
            }
            None => {
                stray(&of_workbook, "files")?;
                Origin::Files(Files { files, fields, think: think.unwrap_or_default(), system, take })
            }
        };
        if name.is_empty() || name.contains(':') {
            return Err(format!("source name {name:?}: it must not be empty nor contain `:`"));
        }
        Ok(Source { name, origin })
    }
}

impl From<Source> for Entry {
    fn from(source: Source) -> Entry {
        let entry = Entry { name: source.name, ..Entry::default() };
        match source.origin {
            Origin::Files(Files { files, fields, think, system, take }) => {
                Entry { files, fields, think: Some(think), system, take, ..entry }
            }
            Origin::Workbook(Workbook { workbook, split, style, count }) => {
                Entry { workbook: Some(workbook), split: Some(split), style, count: Some(count), ..entry }
            }
        }
    }
}

impl Files {
    /// The files' paths below `data_root`. A missing file is an error that names it.
    pub fn resolve(&self, data_root: &Path) -> Result<Vec<PathBuf>> {
        let paths = self.files.iter().map(|file| {
            let path = data_root.join(file);
            match path.try_exists() {
                Ok(true) => Ok(path),
                Ok(false) => bail!("{} is not there", path.display()),
                Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
            }
        });
        paths.collect()
    }

    /// The records of the source called `name`, one for each row: a record, or why it is none (step `read`).
    /// Ids count the rows on over the files. An error (a missing or damaged file) ends it.
    pub fn records<'a>(&'a self, name: &'a str, data_root: &Path) -> Result<Records<'a>> {
        let paths = self.resolve(data_root)?.into_iter();
        Ok(Records { files: self, name, paths: Box::new(paths), open: None, row: 0, taken: 0 })
    }

    /// Reads all records; what is no record goes to the ledger.
    pub fn read(&self, name: &str, data_root: &Path, ledger: &mut Ledger) -> Result<Vec<Record>> {
        let mut kept = Vec::new();
        for record in self.records(name, data_root)? {
            match record? {
                Ok(record) => {
                    ledger.keep(name, READ);
                    kept.push(record);
                }
                Err(dropped) => ledger.drop(&dropped)?,
            }
        }
        Ok(kept)
    }
}

/// The step name of reading.
pub const READ: &str = "read";

/// Streams the records of a source's files.
pub struct Records<'a> {
    files: &'a Files,
    name: &'a str,
    paths: Box<dyn Iterator<Item = PathBuf> + Send>,
    open: Option<Rows>,
    row: u64,
    taken: u64,
}

impl Records<'_> {
    fn record(&mut self, row: read::Row, id: String) -> Result<Record, Fault> {
        let mut record = shape::record(&row?, self.name, id, self.files.fields.as_deref())?;
        self.files.think.apply(&mut record)?;
        if let Some(system) = &self.files.system {
            put_system(&mut record.body, system);
        }
        if self.files.take.is_some_and(|take| self.taken >= take) {
            return Err(Fault::new(Reason::NotTaken, format!("{} were taken before", self.taken)));
        }
        self.taken += 1;
        Ok(record)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<std::result::Result<Record, Dropped>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(rows) = &mut self.open {
                match rows.next() {
                    Some(Ok(row)) => {
                        self.row += 1;
                        let id = format!("{}:{}", self.name, self.row);
                        let record = self.record(row, id.clone());
                        return Some(Ok(record.map_err(|fault| Dropped::new(self.name, &id, READ, fault))));
                    }
                    Some(Err(error)) => {
                        self.open = None;
                        self.paths = Box::new(std::iter::empty());
                        return Some(Err(error));
                    }
                    None => self.open = None,
                }
            }
            match read::rows(&self.paths.next()?, ROW_LIMIT) {
                Ok(rows) => self.open = Some(rows),
                Err(error) => {
                    self.paths = Box::new(std::iter::empty());
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Puts a system text before the conversation, before what its own system turn says.
fn put_system(body: &mut Body, system: &str) {
    let turns = match body {
        Body::Text(_) => return,
        Body::Chat(chat) | Body::Pair { prompt: chat, .. } => &mut chat.turns,
    };
    match turns.first_mut() {
        Some(turn) if turn.role == Role::System => turn.text = format!("{system}\n\n{}", turn.text),
        _ => turns.insert(0, Turn::new(Role::System, system)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(entry: serde_json::Value) -> Result<Source, String> {
        serde_json::from_value(entry).map_err(|error| error.to_string())
    }

    fn files(entry: serde_json::Value) -> Files {
        match source(entry).unwrap().origin {
            Origin::Files(files) => files,
            Origin::Workbook(_) => panic!("a workbook"),
        }
    }

    #[test]
    fn both_kinds_come_back_from_their_own_text() {
        for entry in [
            json!({"name": "a", "files": ["x.jsonl"], "think": "wrap", "take": 3, "fields": {"prompt": "p", "final": "f"}}),
            json!({"name": "a", "workbook": "chain", "split": "test", "style": "thought", "count": 5}),
            json!({"name": "a", "workbook": "chain", "split": "train", "count": 5}),
        ] {
            let parsed = source(entry.clone()).unwrap();
            let written = serde_json::to_value(&parsed).unwrap();
            assert_eq!(source(written.clone()).unwrap(), parsed);
            for (key, value) in entry.as_object().unwrap() {
                assert_eq!(&written[key], value);
            }
        }
    }

    #[test]
    fn a_source_that_means_nothing_is_named() {
        for (entry, says) in [
            (json!({"name": "a"}), "source a"),
            (json!({"name": "a", "files": ["x"], "count": 3}), "`count`"),
            (json!({"name": "a", "workbook": "chain", "count": 3, "take": 3}), "`take`"),
            (json!({"name": "a", "workbook": "chain"}), "`count`"),
            (json!({"name": "a", "files": ["x"], "thnk": "wrap"}), "thnk"),
            (json!({"name": "a", "files": ["x"], "think": "wrapp"}), "wrapp"),
            (json!({"name": "a:b", "files": ["x"]}), "a:b"),
            (json!({"name": "a", "files": ["x"], "fields": {"promt": "x"}}), "promt"),
        ] {
            let error = source(entry).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn ids_run_on_over_the_files_and_every_row_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.jsonl"), "{\"question\":\"q1\",\"answer\":\"a\"}\nbad\n").unwrap();
        std::fs::write(dir.path().join("b.csv"), "question,answer\nq3,a\nq4,\nq5,a\nq6,a\n").unwrap();
        let files = files(json!({"name": "s", "files": ["a.jsonl", "b.csv"], "take": 3, "system": "S"}));
        let path = dir.path().join("ledger.jsonl");
        let mut ledger = Ledger::create(&path).unwrap();
        let kept = files.read("s", dir.path(), &mut ledger).unwrap();
        let ids: Vec<_> = kept.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["s:1", "s:3", "s:5"]);
        let Body::Chat(chat) = &kept[1].body else { panic!() };
        assert_eq!((chat.turns[0].text.as_str(), chat.turns[1].text.as_str()), ("S", "q3"));
        let counts = ledger.finish().unwrap();
        assert_eq!((counts.rows[0].read, counts.rows[0].kept), (6, 3));
        let ledger = std::fs::read_to_string(&path).unwrap();
        let dropped: Vec<Dropped> = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let dropped: Vec<_> = dropped.iter().map(|dropped| (dropped.id.as_str(), dropped.reason)).collect();
        let expected = [("s:2", Reason::NotJson), ("s:4", Reason::EmptyAnswer), ("s:6", Reason::NotTaken)];
        assert_eq!(dropped, expected);
    }

    #[test]
    fn missing_and_damaged_files_stop_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let missing = files(json!({"name": "s", "files": ["no.jsonl"]}));
        let error = missing.records("s", dir.path()).err().unwrap().to_string();
        assert!(error.contains("no.jsonl"), "{error}");
        std::fs::write(dir.path().join("a.json"), "[{\"text\":\"t\"},{\"text\"").unwrap();
        let damaged = files(json!({"name": "s", "files": ["a.json"]}));
        let got: Vec<_> = damaged.records("s", dir.path()).unwrap().collect();
        assert_eq!(got.len(), 2);
        assert!(got[0].as_ref().unwrap().is_ok());
        let error = format!("{:#}", got[1].as_ref().unwrap_err());
        assert!(error.contains("a.json: row 2"), "{error}");
    }
}
