//! Rows: records tokenised and packed, as the trainer reads them.

use super::{Context, Outcome, records};
use crate::{recipe::Phase, stage::Stage};
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::{
    chat_tokenizer::ChatTokenizer,
    ledger::Ledger,
    pack::{Packing, pack},
};

pub fn make(context: &Context<'_>, phase: Phase) -> Result<Outcome> {
    let recipe = context.recipe;
    let (records, length) = match phase {
        Phase::Dpo => {
            let dpo = recipe.dpo.as_ref().context("no [dpo] table")?;
            (records::read(&context.file(Stage::Preference, "records.jsonl")?)?, dpo.length)
        }
        phase => {
            let training = recipe.training(phase).context("no training table")?;
            (records::mix(context, &training.data)?, training.length)
        }
    };
    let chat = ChatTokenizer::load(&context.bench.artifact(&Stage::Tokenizer)?.dir)?;
    let mut ledger = Ledger::create(&context.dir.join("ledger.jsonl"))?;
    let packing = Packing { length, seed: recipe.seed };
    let packed = pack(&records, &chat, packing, &context.dir.join("rows.bin"), &mut ledger)?;
    let counts = ledger.finish()?;
    std::fs::write(context.dir.join("counts.json"), serde_json::to_vec_pretty(&counts)?)?;
    std::fs::write(context.dir.join("packed.json"), serde_json::to_vec_pretty(&packed)?)?;
    ensure!(packed.rows > 0, "none of {} records fits a row of {length} tokens", records.len());
    Ok(Outcome::Done(Some(format!(
        "{}; {} documents in {} rows, {} tokens, {} supervised",
        counts.total(),
        packed.documents,
        packed.rows,
        packed.tokens,
        packed.supervised
    ))))
}
