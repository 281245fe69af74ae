//! `ringsmith chat`: a conversation with a model.

use super::{End, show::current};
use crate::{stages::answer::Local, store::Store};
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::{
    record::{Conversation, Role, Turn},
    solver::Sampling,
};
use ringsmith_model::Ling;
use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// Talk to a model: the store's release, or any model folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "At a terminal, one conversation goes on until an empty line begins a new one. When stdin is \
    no terminal, every line is a question of its own and gets one line of answer.\n\n\
    Examples:\n  ringsmith chat\n  echo ' Compute (33+11) mod 6.' | ringsmith chat --model DIR"
)]
pub struct Args {
    /// Model folder in Hugging Face layout; the store's release if not said
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// System text put before every conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Sampling temperature; 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads to use; all processors if not said
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn run(args: &Args, store: &Path) -> Result<End> {
    ensure!(args.temperature >= 0.0 && args.temperature.is_finite(), "--temperature must not be negative");
    ensure!(args.top_p > 0.0 && args.top_p <= 1.0, "--top-p must be above 0, at most 1");
    crate::stages::use_threads(args.threads)?;
    let dir = match &args.model {
        Some(dir) => dir.clone(),
        None => current(&Store::look(store), "release")?.dir,
    };
    let stop = AtomicBool::new(false);
    let mut solver = Local::new(Ling::load(&dir)?, &dir, &stop)?;
    solver.quiet = true;
    let talk = io::stdin().is_terminal();
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
    };
    let opening: Vec<Turn> = args.system.iter().map(|text| Turn::new(Role::System, text)).collect();
    let mut chat = Conversation { turns: opening.clone() };
    let mut out = io::stdout().lock();
    loop {
        if talk {
            eprint!("> ");
            io::stderr().flush()?;
        }
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).context("stdin")? == 0 {
            return Ok(End::Done);
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if !talk || line.trim().is_empty() {
            chat.turns.clone_from(&opening);
        }
        if line.trim().is_empty() {
            continue;
        }
        chat.turns.push(Turn::new(Role::User, line));
        let Some(answers) = solver.try_answer(std::slice::from_ref(&chat), &sampling)? else {
            return Ok(End::Stopped);
        };
        for answer in answers {
            // One line of answer for one line of question, whatever the model says.
            let shown = if talk { answer.text.clone() } else { answer.text.replace('\n', "\\n") };
            writeln!(out, "{shown}{}", if answer.truncated { " [cut]" } else { "" })?;
            chat.turns.push(Turn::new(Role::Assistant, answer.text));
        }
        out.flush()?;
    }
}
