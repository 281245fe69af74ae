//! Results that must not depend on company, caches, threads, or where a run was interrupted.

use anyhow::Result;
use ringsmith_model::adamw::Hyper;
use ringsmith_model::batch::SUPERVISED;
use ringsmith_model::engine::{Engine, Sampling, score};
use ringsmith_model::objective::{Kl, Objective, Terms};
use ringsmith_model::preference::{Dpo, PairLoss};
use ringsmith_model::random::hash;
use ringsmith_model::train::{Job, Outcome, Step, train};
use ringsmith_model::{Batch, Config, Ling, head::Divergence};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn config() -> Config {
    Config { first_k_dense_replace: 1, num_hidden_layers: 3, use_qkv_bias: true, ..Config::example() }
}

fn tokens(lane: u64, n: usize) -> Vec<u32> {
    (0..n as u64).map(|i| (hash(&[lane, i]) % 63) as u32 + 1).collect()
}

fn prompts() -> Vec<Vec<u32>> {
    (0..9).map(|i| tokens(i, 3 + 17 * i as usize)).collect()
}

#[test]
fn batched_equals_alone_and_cached_equals_full() {
    let model = Ling::init(&config(), 5);
    let prompts = prompts();
    for temperature in [0.0, 0.9] {
        let sampling = Sampling { max_tokens: 80, temperature, top_p: 0.95, seed: 11, stop: vec![7] };
        let together = Engine::new(&model).generate(&prompts, &sampling, |_, _, _| true);
        for i in 0..prompts.len() {
            // Alone, but in its own lane: the prompts before it stop at once.
            let mut list = vec![vec![1u32]; i];
            list.push(prompts[i].clone());
            let mut alone = Vec::new();
            Engine::new(&model).generate(&list, &sampling, |index, token, _| {
                if index == i {
                    alone.push(token);
                }
                true
            });
            if together[i].stopped {
                assert_eq!(alone.pop(), Some(7));
            }
            assert_eq!(alone, together[i].tokens, "prompt {i} at {temperature}");
        }
    }
    // Greedy decoding through the cache picks what the full forward pass ranks first, with the same bits.
    let docs: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let together = score(&model, &docs);
    for (doc, scores) in docs.iter().zip(&together) {
        assert_eq!(score(&model, &[doc])[0], *scores);
        for cut in 2..doc.len() {
            assert_eq!(score(&model, &[&doc[..cut]])[0], scores[..cut - 1], "a prefix");
        }
    }
}

fn sft(step: u64) -> Result<Step> {
    let mut batch = Batch::default();
    for n in 0..4 {
        let ids = tokens(100 * step + n, 10 + 9 * n as usize);
        batch.push(&ids, &vec![SUPERVISED; ids.len()], (n % 2) as u16);
    }
    Ok(Step { batch, reference: Vec::new() })
}

fn pairs(step: u64) -> Result<Step> {
    let mut batch = Batch::default();
    for n in 0..6 {
        let ids = tokens(100 * step + n, 12 + 5 * n as usize);
        let mut mask = vec![0; 5];
        mask.resize(ids.len(), SUPERVISED);
        batch.push(&ids, &mask, (n % 2) as u16);
    }
    Ok(Step { batch, reference: (0..6).map(|n| -40.0 - n as f64).collect() })
}

fn hyper() -> Hyper {
    Hyper {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        decay_norms: false,
        clip: 1.0,
        warmup: 0.1,
        final_lr: 0.1,
    }
}

fn job<'a>(
    dir: &'a Path,
    objective: Objective,
    stop: &'a AtomicBool,
    progress: &'a mut dyn FnMut(&ringsmith_model::train::Metrics),
) -> Job<'a> {
    let kl = Kl { weight: 0.1, divergence: Divergence::Forward, sources: vec![true, false] };
    let terms = Terms { balance: 0.01, z: 1e-3, l2_sp: 0.1, kl: Some(kl), ..Terms::none(2) };
    Job {
        dir,
        start: &|| Ok(Ling::init(&config(), 5)),
        frozen: Some(Ling::init(&config(), 6)),
        hyper: hyper(),
        objective,
        terms,
        sources: vec!["left".into(), "right".into()],
        steps: 12,
        batch: if objective == Objective::Sft { &sft } else { &pairs },
        stop,
        checkpoint_every: Duration::ZERO,
        progress,
    }
}

const DPO: Dpo = Dpo {
    loss: PairLoss::Sigmoid,
    beta: 0.1,
    label_smoothing: 0.0,
    average: false,
    format_only: false,
    nll: 0.05,
};

fn run(dir: &Path, objective: Objective) -> Ling {
    match train(job(dir, objective, &AtomicBool::new(false), &mut |_| ())).unwrap() {
        Outcome::Done(model) => model,
        Outcome::Stopped => panic!("nobody asked it to stop"),
    }
}

fn without_speed(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
            json.as_object_mut().unwrap().remove("tokens_per_s");
            json
        })
        .collect()
}

#[test]
fn a_stopped_run_ends_with_the_same_bits() {
    for objective in [Objective::Sft, Objective::Dpo(DPO)] {
        let whole = tempfile::tempdir().unwrap();
        let want = run(whole.path(), objective);
        let lines = without_speed(&whole.path().join("metrics.jsonl"));
        assert_eq!(lines.len(), 12);
        let parts = tempfile::tempdir().unwrap();
        for at in [1, 2, 5, 9] {
            let stop = AtomicBool::new(false);
            let mut watch = |m: &ringsmith_model::train::Metrics| {
                if m.step >= at {
                    stop.store(true, Ordering::Relaxed);
                }
            };
            assert!(matches!(
                train(job(parts.path(), objective, &stop, &mut watch)).unwrap(),
                Outcome::Stopped
            ));
        }
        let got = run(parts.path(), objective);
        assert!(got.params() == want.params());
        assert_eq!(without_speed(&parts.path().join("metrics.jsonl")), lines);
    }
}

#[test]
fn weights_do_not_depend_on_the_thread_count() {
    let run_with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        pool.install(|| run(dir.path(), Objective::Sft).params().to_vec())
    };
    let one = run_with(1);
    for threads in [2, 3, 7] {
        assert!(run_with(threads) == one, "{threads} threads");
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    train(job(dir.path(), Objective::Sft, &stop, &mut |m| stop.store(m.step == 3, Ordering::Relaxed)))
        .unwrap();
    let state = dir.path().join("checkpoint-000000003/state.safetensors");
    let good = std::fs::read(&state).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    for bad in [&flipped[..], &good[..good.len() - 100], &[]] {
        std::fs::write(&state, bad).unwrap();
        let error = train(job(dir.path(), Objective::Sft, &stop, &mut |_| ())).err().expect("damaged");
        let text = format!("{error:#}");
        assert!(text.contains("checkpoint-000000003") && text.contains("damaged"), "{text}");
    }
    std::fs::write(&state, good).unwrap();
    run(dir.path(), Objective::Sft);
}
