//! Packing: records become samples, samples share rows, rows go to a row file.

use crate::chat_tokenizer::ChatTokenizer;
use crate::ledger::{Dropped, Fault, Ledger, Reason};
use crate::order::order;
use crate::record::{Body, Record};
use crate::row::{Row, SUPERVISED, Sample};
use crate::row_file::RowWriter;
use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How records are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packing {
    /// The most tokens a row may have.
    pub length: usize,
    /// Seed of the order in which records are packed.
    pub seed: u64,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    pub rows: usize,
    pub documents: usize,
    pub tokens: usize,
    /// Tokens that are targets of the loss.
    pub supervised: usize,
}

/// Rows that stay open at once: first-fit looks back over these, and no more are held in memory.
const OPEN: usize = 256;
/// Records that are tokenised at a time.
const CHUNK: usize = 1024;

/// Packs `records`, shuffled by the seed, first-fit into rows of at most `length` tokens and writes them to
/// `path`. A pair has a row to itself. What is longer than a row goes to the ledger as `too-long` (step
/// `pack`), never cut; pairs and other records in one file are an error. The same input gives the same bytes.
pub fn pack(
    records: &[Record],
    chat: &ChatTokenizer,
    packing: Packing,
    path: &Path,
    ledger: &mut Ledger,
) -> Result<Packed> {
    let pairs = records.iter().filter(|record| matches!(record.body, Body::Pair { .. })).count();
    if pairs != 0 && pairs != records.len() {
        bail!("{pairs} of {} records are preference pairs; rows hold pairs only or none", records.len());
    }
    let mut sources: Vec<String> = Vec::new();
    let numbers: Vec<u16> =
        records.iter().map(|record| number(&mut sources, &record.source)).collect::<Result<_>>()?;
    let mut packer =
        Packer { rows: RowWriter::create(path, packing.length)?, open: vec![], packed: Packed::default() };
    for chunk in order(packing.seed, 0, records.len()).chunks(CHUNK) {
        let samples: Vec<_> =
            chunk.par_iter().map(|&i| fit(chat.samples(&records[i], numbers[i])?, packing.length)).collect();
        for (&i, samples) in chunk.iter().zip(samples) {
            let record = &records[i];
            match samples {
                Err(fault) => ledger.drop(&Dropped::new(&record.source, &record.id, "pack", fault))?,
                Ok(samples) => {
                    ledger.keep(&record.source, "pack");
                    packer.add(samples, packing.length)?;
                }
            }
        }
    }
    packer.finish(&sources)
}

/// The number of a source name, which is added when it is new.
fn number(sources: &mut Vec<String>, name: &str) -> Result<u16> {
    let at = sources.iter().position(|known| known == name).unwrap_or_else(|| {
        sources.push(name.into());
        sources.len() - 1
    });
    u16::try_from(at).context("more than 65536 sources in one row file")
}

/// Refuses samples that do not fit a row together.
fn fit(samples: Vec<Sample>, length: usize) -> Result<Vec<Sample>, Fault> {
    let tokens: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
    if tokens > length {
        return Err(Fault::new(Reason::TooLong, format!("{tokens} tokens, a row has {length}")));
    }
    Ok(samples)
}

struct Packer {
    rows: RowWriter,
    /// Rows with the room they have left, oldest first.
    open: Vec<(usize, Row)>,
    packed: Packed,
}

impl Packer {
    fn add(&mut self, samples: Vec<Sample>, length: usize) -> Result<()> {
        let tokens: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
        let masks = samples.iter().flat_map(|sample| &sample.mask);
        self.packed.supervised += masks.filter(|mask| **mask & SUPERVISED != 0).count();
        self.packed.documents += samples.len();
        self.packed.tokens += tokens;
        if samples.len() > 1 {
            return self.write(&Row { docs: samples });
        }
        if let Some((room, row)) = self.open.iter_mut().find(|(room, _)| *room >= tokens) {
            *room -= tokens;
            row.docs.extend(samples);
            return Ok(());
        }
        if self.open.len() == OPEN {
            let (_, oldest) = self.open.remove(0);
            self.write(&oldest)?;
        }
        self.open.push((length - tokens, Row { docs: samples }));
        Ok(())
    }

    fn write(&mut self, row: &Row) -> Result<()> {
        self.packed.rows += 1;
        self.rows.push(row)
    }

    fn finish(mut self, sources: &[String]) -> Result<Packed> {
        for (_, row) in std::mem::take(&mut self.open) {
            self.write(&row)?;
        }
        self.rows.finish(sources)?;
        Ok(self.packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Conversation, Role, Turn};
    use crate::row_file::RowFile;
    use crate::tokenizer::Tokenizer;

    fn chat() -> ChatTokenizer {
        let texts = (0..50).map(|i| format!(" What is {i}? It is {i}."));
        ChatTokenizer::new(Tokenizer::train(texts, 290).unwrap()).unwrap()
    }

    fn record(i: usize) -> Record {
        let question = Turn::new(Role::User, format!(" What is {i}?"));
        let answer = Turn::new(Role::Assistant, " It is.".repeat(1 + i * 7 % 23));
        Record {
            id: format!("s:{i}"),
            source: format!("source {}", i % 3),
            body: Body::Chat(Conversation { turns: vec![question, answer] }),
            answer: None,
            task: None,
            level: None,
        }
    }

    fn run(records: &[Record], seed: u64) -> (Packed, Vec<Row>, crate::ledger::Counts, Vec<String>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let mut ledger = Ledger::create(&dir.path().join("ledger.jsonl")).unwrap();
        let packed = pack(records, &chat(), Packing { length: 48, seed }, &path, &mut ledger).unwrap();
        let file = RowFile::open(&path).unwrap();
        let rows = (0..file.len()).map(|i| file.get(i).unwrap()).collect();
        let bytes = std::fs::read(&path).unwrap();
        (packed, rows, ledger.finish().unwrap(), file.sources().to_vec(), bytes)
    }

    #[test]
    fn every_document_that_fits_is_packed_once() {
        let records: Vec<Record> = (0..1500).map(record).collect();
        let (packed, rows, counts, sources, bytes) = run(&records, 5);
        let chat = chat();
        let name = |number: u16| sources[number as usize].clone();
        let key = |sample: &Sample, source: String| (source, sample.tokens.clone(), sample.mask.clone());
        let mut expected: Vec<_> = records
            .iter()
            .map(|record| key(&chat.samples(record, 0).unwrap()[0], record.source.clone()))
            .filter(|(_, tokens, _)| tokens.len() <= 48)
            .collect();
        let mut got: Vec<_> =
            rows.iter().flat_map(|row| &row.docs).map(|doc| key(doc, name(doc.source))).collect();
        expected.sort();
        got.sort();
        assert_eq!(got, expected);
        assert!(expected.len() < records.len() && expected.len() > 500, "some are too long, most fit");
        let lost: u64 = counts.rows.iter().map(|count| count.dropped[&Reason::TooLong]).sum();
        assert_eq!(lost as usize, records.len() - expected.len());
        let tokens: usize = got.iter().map(|(_, tokens, _)| tokens.len()).sum();
        assert_eq!((packed.documents, packed.tokens, packed.rows), (got.len(), tokens, rows.len()));
        assert!(rows.iter().all(|row| row.docs.iter().map(|doc| doc.tokens.len()).sum::<usize>() <= 48));
        assert!(tokens as f64 > 0.8 * (48 * rows.len()) as f64, "{tokens} tokens in {} rows", rows.len());
        assert_eq!(bytes, run(&records, 5).4);
        assert_ne!(bytes, run(&records, 6).4);
    }

    #[test]
    fn a_pair_has_a_row_to_itself() {
        let pair = |i: usize, chosen: String| Record {
            body: Body::Pair {
                prompt: Conversation::ask(format!(" What is {i}?")),
                chosen,
                rejected: " No.".into(),
            },
            ..record(i)
        };
        let mut records: Vec<Record> = (0..20).map(|i| pair(i, format!(" It is {i}."))).collect();
        records.push(pair(20, " It is.".repeat(40)));
        let (packed, rows, counts, ..) = run(&records, 1);
        assert_eq!((packed.rows, packed.documents), (20, 40));
        assert!(rows.iter().all(|row| row.docs.len() == 2));
        assert_eq!(counts.rows.iter().flat_map(|count| count.dropped.values()).sum::<u64>(), 1);
        records.push(record(3));
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::create(&dir.path().join("l")).unwrap();
        let packing = Packing { length: 48, seed: 0 };
        assert!(pack(&records, &chat(), packing, &dir.path().join("r"), &mut ledger).is_err());
    }
}
