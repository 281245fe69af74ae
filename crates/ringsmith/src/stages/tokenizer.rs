//! The tokenizer: trained on the recipe's own data, or the model path's.

use super::{Context, Outcome, records};
use crate::recipe::{Mix, train::Part};
use anyhow::{Context as _, Result, bail};
use ringsmith_data::{
    record::{Body, Record},
    tokenizer::Tokenizer,
};

pub fn make(context: &Context<'_>) -> Result<Outcome> {
    let Some(spec) = &context.recipe.tokenizer else {
        let Some(path) = &context.recipe.model.path else { bail!("neither [tokenizer] nor model.path") };
        let tokenizer = Tokenizer::load(&context.bench.data_root.join(path))?;
        tokenizer.save(context.dir)?;
        return Ok(Outcome::Done(Some(format!("{} entries", tokenizer.vocab_size()))));
    };
    let mut texts = Vec::new();
    for (data, count) in &spec.data {
        // A data set may have less than it is asked for after curation; all of it serves then.
        let all = records::mix(context, &Mix(vec![Part { data: data.clone(), take: None }]))?;
        let order = ringsmith_data::order::order(context.recipe.seed, 0, all.len());
        texts.extend(order.into_iter().take(*count).flat_map(|i| texts_of(&all[i])));
    }
    let tokenizer = Tokenizer::train(texts.into_iter(), spec.vocab_size).context("training the tokenizer")?;
    tokenizer.save(context.dir)?;
    Ok(Outcome::Done(Some(format!("{} entries", tokenizer.vocab_size()))))
}

/// What a record says, turn by turn, as the tokenizer will meet it.
fn texts_of(record: &Record) -> Vec<String> {
    match &record.body {
        Body::Text(text) => vec![text.clone()],
        Body::Chat(chat) => chat.turns.iter().map(|turn| turn.text.clone()).collect(),
        Body::Pair { prompt, chosen, rejected } => {
            let turns = prompt.turns.iter().map(|turn| &turn.text);
            turns.chain([chosen, rejected]).cloned().collect()
        }
    }
}
