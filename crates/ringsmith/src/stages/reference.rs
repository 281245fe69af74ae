//! Log-probabilities of both answers of every pair under the reference model, once before DPO.

use super::{Context, Outcome, model};
use crate::{
    progress::Progress,
    recipe::{self, Phase},
    stage::Stage,
};
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::row_file::RowFile;
use ringsmith_model::{
    Batch,
    forward::{Acts, forward},
    head::{self, Places},
    preference::Dpo,
};
use std::{fs, path::Path};

/// Little-endian f64: for each row the chosen answer's log-probability, then the rejected one's.
pub const FILE: &str = "reference.f64";

/// The preference objective of a recipe's table.
pub fn objective(dpo: &recipe::Dpo) -> Dpo {
    Dpo {
        loss: dpo.loss,
        beta: dpo.beta,
        label_smoothing: dpo.label_smoothing,
        average: dpo.average,
        format_only: dpo.format_mask,
        nll: dpo.nll,
    }
}

pub fn make(context: &Context<'_>) -> Result<Outcome> {
    let dpo = context.recipe.dpo.as_ref().context("no [dpo] table")?;
    let objective = objective(dpo);
    let rows = RowFile::open(&context.file(Stage::Rows(Phase::Dpo), "rows.bin")?)?;
    let model = model::load(context, dpo.from)?;
    let mut acts = Acts::new(model.config());
    let mut bytes = Vec::with_capacity(rows.len() * 16);
    let mut bar = Progress::new("reference", "pairs", rows.len() as u64, 0);
    for i in 0..rows.len() {
        if context.stopped() {
            return Ok(Outcome::Stopped);
        }
        let mut batch = Batch::default();
        for doc in rows.get(i)?.docs {
            batch.push(&doc.tokens, &doc.mask, doc.source);
        }
        ensure!(batch.docs.len() == 2, "row {} of the pairs has {} documents", i + 1, batch.docs.len());
        forward(&model, &batch, &mut acts, None);
        let places = Places::supervised(&batch);
        let logprobs = head::logprobs(&model, &acts, &places);
        for sum in objective.sequences(&batch, &places, &logprobs) {
            bytes.extend(sum.to_le_bytes());
        }
        bar.at(i as u64 + 1, "");
    }
    bar.finish();
    let path = context.dir.join(FILE);
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(Outcome::Done(Some(format!("{} pairs", rows.len()))))
}

/// Reads the values back, a pair a row.
pub fn read(path: &Path, rows: usize) -> Result<Vec<[f64; 2]>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(bytes.len() == rows * 16, "{}: {} bytes for {rows} pairs", path.display(), bytes.len());
    let (values, _) = bytes.as_chunks::<8>();
    let (pairs, _) = values.as_chunks::<2>();
    Ok(pairs.iter().map(|pair| pair.map(f64::from_le_bytes)).collect())
}
