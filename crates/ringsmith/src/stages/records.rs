//! Records of finished data sets, and mixes of them.

use super::Context;
use crate::{recipe::Mix, stage::Stage};
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::{order::order, record::Record};
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

/// Writes records as JSON lines.
pub fn write<'a>(path: &Path, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for record in records {
            serde_json::to_writer(&mut out, record)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Reads records from JSON lines.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut records = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let at = || format!("{}: line {}", path.display(), i + 1);
        records.push(serde_json::from_str(&line.with_context(at)?).with_context(at)?);
    }
    Ok(records)
}

/// The records of a mix, in its order. `take` draws without repetition, in the data set's own order; asking for
/// more than there is, is an error that names the data set.
pub fn mix(context: &Context<'_>, mix: &Mix) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for (i, part) in mix.0.iter().enumerate() {
        let mut records = read(&context.file(Stage::Data(part.data.clone()), "records.jsonl")?)?;
        if let Some(take) = part.take {
            ensure!(
                take <= records.len(),
                "data set {} has {} records after curation, fewer than the {take} to take",
                part.data,
                records.len()
            );
            let mut chosen = order(context.recipe.seed, i as u64, records.len());
            chosen.truncate(take);
            chosen.sort_unstable();
            let mut chosen = chosen.into_iter().peekable();
            let mut at = 0;
            records.retain(|_| {
                let keep = chosen.next_if_eq(&at).is_some();
                at += 1;
                keep
            });
        }
        all.append(&mut records);
    }
    Ok(all)
}
