//! `ringsmith score`: log-probabilities of token sequences.

use super::End;
use anyhow::{Context, Result, bail, ensure};
use ringsmith_data::tokenizer::Tokenizer;
use ringsmith_model::{Ling, engine::score};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
};

/// Score token sequences: JSON lines on stdin, one line of log-probabilities each on stdout.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads {\"input_ids\": [...]} or {\"text\": \"...\"}, writes {\"logprobs\": [...]}: the natural \
    logarithm of the probability of token i+1 given the tokens up to i, so one number fewer than tokens.\n\
    input_ids need no tokenizer.\n\nExample:\n  echo '{\"input_ids\": [1, 2, 3]}' | ringsmith score --model DIR"
)]
pub struct Args {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Threads to use; all processors if not said
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Other keys, such as an id, are passed over.
#[derive(Deserialize)]
struct Query {
    input_ids: Option<Vec<u32>>,
    text: Option<String>,
}

#[derive(Serialize)]
struct Scores {
    logprobs: Vec<f32>,
}

pub fn run(args: &Args) -> Result<End> {
    crate::stages::use_threads(args.threads)?;
    let model = Ling::load(&args.model)?;
    let vocab = model.config().vocab_size;
    let mut tokenizer = None;
    let mut out = io::stdout().lock();
    for (i, line) in io::stdin().lock().lines().enumerate() {
        let at = || format!("stdin: line {}", i + 1);
        let line = line.with_context(at)?;
        if line.trim().is_empty() {
            continue;
        }
        let query: Query = serde_json::from_str(&line).with_context(at)?;
        let ids = match (query.input_ids, query.text) {
            (Some(ids), None) => ids,
            (None, Some(text)) => {
                if tokenizer.is_none() {
                    tokenizer = Some(Tokenizer::load(&args.model).with_context(at)?);
                }
                tokenizer.as_ref().map_or(Ok(Vec::new()), |t| t.encode(&text)).with_context(at)?
            }
            _ => bail!("{}: needs either \"input_ids\" or \"text\"", at()),
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            bail!("{}: id {id} is outside the vocabulary of {vocab}", at());
        }
        let limit = model.config().max_position_embeddings;
        ensure!(ids.len() <= limit, "{}: {} tokens, the model takes {limit}", at(), ids.len());
        let logprobs = match ids.len() {
            0 | 1 => Vec::new(),
            _ => score(&model, &[&ids]).pop().unwrap_or_default(),
        };
        // JSON has no such numbers; they come from weights that are not finite, or overflow.
        if let Some(i) = logprobs.iter().position(|x| !x.is_finite()) {
            bail!("{}: the log-probability of token {} is {}", at(), i + 1, logprobs[i]);
        }
        serde_json::to_writer(&mut out, &Scores { logprobs })?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(End::Done)
}
