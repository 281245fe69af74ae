//! Generation: many sequences at a time, each with its cache. A sequence's tokens do not depend on its company.

use crate::batch::Batch;
use crate::cache::Cache;
use crate::forward::{Acts, forward};
use crate::head::{self, Places, places_of_docs};
use crate::ling::Ling;
use crate::random::uniform;
use std::collections::VecDeque;

/// Sequences that run together.
const TOGETHER: usize = 64;
/// Prompt tokens that enter in one pass.
const PREFILL: usize = 2048;

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    pub max_tokens: usize,
    /// 0 is greedy (the lowest id of equal logits).
    pub temperature: f32,
    /// The smallest set of likeliest tokens with at least this mass is drawn from.
    pub top_p: f32,
    pub seed: u64,
    /// Tokens that end a sequence; they are not part of it.
    pub stop: Vec<u32>,
}

/// What a prompt was continued with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub tokens: Vec<u32>,
    /// A stop token came; otherwise the length limit cut it.
    pub stopped: bool,
}

/// Generates with a model.
pub struct Engine<'a> {
    model: &'a Ling,
    acts: Acts,
}

struct Running {
    index: usize,
    cache: Cache,
    /// Tokens not yet in the cache.
    next: Vec<u32>,
    out: Vec<u32>,
}

impl<'a> Engine<'a> {
    pub fn new(model: &'a Ling) -> Engine<'a> {
        Engine { model, acts: Acts::new(model.config()) }
    }

    /// Continues every prompt (none may be empty). A prompt's random lane is its index. `each` sees a sequence's
    /// new token as it comes, and how many sequences are finished; answering false ends everything early.
    pub fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        sampling: &Sampling,
        mut each: impl FnMut(usize, u32, usize) -> bool,
    ) -> Vec<Generation> {
        let mut done = vec![Generation::default(); prompts.len()];
        let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();
        let mut running: Vec<Running> = Vec::new();
        let mut finished = 0;
        if sampling.max_tokens == 0 {
            return done;
        }
        while !(waiting.is_empty() && running.is_empty()) {
            let mut prefill = 0;
            while let Some(index) = waiting.front().copied()
                && running.len() < TOGETHER
                && (prefill == 0 || prefill + prompts[index].len() <= PREFILL)
            {
                assert!(!prompts[index].is_empty(), "prompt {index} is empty");
                waiting.pop_front();
                prefill += prompts[index].len();
                let next = prompts[index].clone();
                running.push(Running {
                    index,
                    cache: Cache::new(self.model.config()),
                    next,
                    out: Vec::new(),
                });
            }
            let logits = self.pass(&mut running);
            let vocab = self.model.config().vocab_size;
            let mut stop_all = false;
            for (sequence, logits) in running.iter_mut().zip(logits.chunks_exact(vocab)) {
                let lane = [sampling.seed, sequence.index as u64, sequence.out.len() as u64];
                let token = draw(logits, sampling, &lane);
                sequence.next.clear();
                let stopped = sampling.stop.contains(&token);
                if !stopped {
                    sequence.out.push(token);
                    sequence.next.push(token);
                }
                if stopped || sequence.out.len() >= sampling.max_tokens {
                    finished += 1;
                    sequence.next.clear();
                    done[sequence.index] = Generation { tokens: std::mem::take(&mut sequence.out), stopped };
                }
                stop_all |= !each(sequence.index, token, finished);
            }
            if stop_all {
                for sequence in running.iter_mut().filter(|s| !s.next.is_empty()) {
                    done[sequence.index].tokens = std::mem::take(&mut sequence.out);
                }
                return done;
            }
            running.retain(|s| !s.next.is_empty());
        }
        done
    }

    /// Runs what is next of every sequence; the logits after each one's last token.
    fn pass(&mut self, running: &mut [Running]) -> Vec<f32> {
        let batch = Batch::unsupervised(running.iter().map(|s| s.next.as_slice()));
        let last: Vec<u32> = batch.ranges().map(|r| r.end as u32 - 1).collect();
        let mut caches: Vec<&mut Cache> = running.iter_mut().map(|s| &mut s.cache).collect();
        forward(self.model, &batch, &mut self.acts, Some(&mut caches));
        let mut logits = vec![0.0; last.len() * self.model.config().vocab_size];
        head::logits(self.model, &self.acts.out_td, &last, &mut logits);
        logits
    }
}

/// The log-probabilities of every document's tokens after the first, given those before them. Empty and one-token
/// documents have none.
pub fn score(model: &Ling, docs: &[&[u32]]) -> Vec<Vec<f32>> {
    let batch = Batch::unsupervised(docs.iter().copied());
    let mut acts = Acts::new(model.config());
    let mut caches: Vec<Cache> = batch.docs.iter().map(|_| Cache::new(model.config())).collect();
    let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
    forward(model, &batch, &mut acts, Some(&mut caches));
    let places = Places::all(&batch);
    let logprobs = head::logprobs(model, &acts, &places);
    let mut scored = places_of_docs(&batch, &places).into_iter().map(|range| logprobs[range].to_vec());
    docs.iter().map(|d| if d.is_empty() { Vec::new() } else { scored.next().unwrap_or_default() }).collect()
}

fn draw(logits: &[f32], sampling: &Sampling, lane: &[u64]) -> u32 {
    let best =
        (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).expect("a vocabulary");
    if sampling.temperature <= 0.0 {
        return best as u32;
    }
    let top = logits[best] as f64;
    let mut probs: Vec<(f64, u32)> = logits
        .iter()
        .enumerate()
        .map(|(id, l)| (((*l as f64 - top) / sampling.temperature as f64).exp(), id as u32))
        .collect();
    probs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let total: f64 = probs.iter().map(|p| p.0).sum();
    let mut kept = 0f64;
    let end = probs.iter().position(|p| {
        kept += p.0;
        kept >= sampling.top_p as f64 * total
    });
    let nucleus = &probs[..end.map_or(probs.len(), |e| e + 1)];
    let mass: f64 = nucleus.iter().map(|p| p.0).sum();
    let mut left = uniform(lane) * mass;
    for (p, id) in nucleus {
        left -= p;
        if left < 0.0 {
            return *id;
        }
    }
    nucleus.last().expect("at least one").1
}
