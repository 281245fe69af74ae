//! The local engine as a solver: conversations in, texts out.

use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use ringsmith_data::{
    chat_tokenizer::ChatTokenizer,
    record::Conversation,
    solver::{Answer, Sampling},
};
use ringsmith_model::{
    Ling,
    engine::{self, Engine},
};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// A model with its tokenizer and template.
pub struct Local<'a> {
    model: Ling,
    chat: ChatTokenizer,
    stop: &'a AtomicBool,
    /// What the progress line calls the work.
    pub name: String,
    /// No progress line.
    pub quiet: bool,
}

impl<'a> Local<'a> {
    /// `tokenizer` is the folder of `tokenizer.json`.
    pub fn new(model: Ling, tokenizer: &Path, stop: &'a AtomicBool) -> Result<Local<'a>> {
        let chat = ChatTokenizer::load(tokenizer)?;
        let (has, needs) = (model.config().vocab_size, chat.tokenizer.vocab_size());
        if needs > has {
            bail!("the tokenizer in {} has {needs} ids, the model only {has}", tokenizer.display());
        }
        Ok(Local { model, chat, stop, name: "answers".into(), quiet: false })
    }

    /// Answers, or `None` when the run was stopped before they were all there.
    pub fn try_answer(&self, questions: &[Conversation], sampling: &Sampling) -> Result<Option<Vec<Answer>>> {
        let prompts: Vec<Vec<u32>> = questions
            .iter()
            .enumerate()
            .map(|(i, question)| self.chat.prompt(question).with_context(|| format!("question {}", i + 1)))
            .collect::<Result<_>>()?;
        let params = engine::Sampling {
            max_tokens: sampling.max_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            seed: sampling.seed,
            stop: vec![self.chat.tokenizer.stop()],
        };
        let mut bar = (!self.quiet).then(|| Progress::new(&self.name, "answers", prompts.len() as u64, 0));
        let mut stopped = false;
        let each = |_, _, done: usize| {
            if let Some(bar) = &mut bar {
                bar.at(done as u64, "");
            }
            stopped = self.stop.load(Ordering::Relaxed);
            !stopped
        };
        let made = Engine::new(&self.model).generate(&prompts, &params, each);
        if let Some(bar) = bar {
            bar.finish();
        }
        if stopped {
            return Ok(None);
        }
        made.into_iter()
            .map(|generation| {
                let text = self.chat.tokenizer.decode(&generation.tokens)?;
                Ok(Answer { text, truncated: !generation.stopped })
            })
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }
}
