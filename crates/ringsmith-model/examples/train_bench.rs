//! Training throughput as a whole process: forward + backward + AdamW on random tokens, the same presets and the
//! same step as the PyTorch baseline. `train_bench PRESET THREADS [STEPS]` prints one JSON line.

use ringsmith_model::adamw::{AdamW, Hyper};
use ringsmith_model::batch::SUPERVISED;
use ringsmith_model::objective::{Bench, Objective, Terms};
use ringsmith_model::random::hash;
use ringsmith_model::{Batch, Config, Ling};
use std::time::Instant;

/// (config, sequences, length)
fn preset(name: &str) -> (Config, usize, usize) {
    let base =
        Config { initializer_range: 0.02, num_key_value_heads: 2, rope_theta: 6e5, ..Config::example() };
    match name {
        "nano" => {
            let config = Config {
                vocab_size: 2048,
                hidden_size: 128,
                num_hidden_layers: 4,
                num_attention_heads: 4,
                head_dim: Some(32),
                num_experts: 8,
                num_experts_per_tok: 2,
                moe_intermediate_size: 96,
                ..base
            };
            (config, 4, 256)
        }
        "tiny" => {
            let config = Config {
                vocab_size: 8192,
                hidden_size: 256,
                num_hidden_layers: 6,
                num_attention_heads: 8,
                head_dim: Some(32),
                num_experts: 16,
                num_experts_per_tok: 4,
                moe_intermediate_size: 176,
                num_shared_experts: Some(2),
                ..base
            };
            (config, 4, 512)
        }
        other => panic!("unknown preset {other:?}; there are nano and tiny"),
    }
}

/// User and system seconds of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").ok();
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux's /proc");
    let sum: u64 = threads
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
        .filter_map(|s| s.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(stat.is_some(), "no /proc/self/schedstat");
    sum as f64 / 1e9
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("tiny", String::as_str);
    let threads: usize = args.get(1).map_or(1, |t| t.parse().expect("a thread count"));
    let steps: usize = args.get(2).map_or(5, |t| t.parse().expect("a step count"));
    ringsmith_model::team::set_threads(threads);
    let (config, sequences, length) = preset(name);
    let mut model = Ling::init(&config, 0);
    let mut batch = Batch::default();
    for n in 0..sequences as u64 {
        let ids: Vec<u32> =
            (0..length as u64).map(|i| (hash(&[n, i]) % (config.vocab_size as u64 - 1)) as u32 + 1).collect();
        batch.push(&ids, &vec![SUPERVISED; length], 0);
    }
    let hyper = Hyper {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        decay_norms: true,
        clip: 1.0,
        warmup: 0.0,
        final_lr: 1.0,
    };
    let mut adamw = AdamW::new(model.layout());
    let mut bench = Bench::new(&model);
    let (mut wall, mut cpu, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps + 2 {
        let (clock, before) = (Instant::now(), cpu_seconds());
        loss = bench.gradients(&model, &Objective::Sft, &Terms::none(1), &batch, &[], None, None).total;
        bench.step(&mut model, &mut adamw, &hyper, 1e-4);
        if step >= 2 {
            wall.push(clock.elapsed().as_secs_f64());
            cpu.push(cpu_seconds() - before);
        }
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let tokens = (sequences * length) as f64;
    println!(
        "{{\"preset\": \"{name}\", \"threads\": {threads}, \"params_M\": {:.2}, \"tokens_per_s\": {:.0}, \"best_tokens_per_s\": {:.0}, \"tokens_per_cpu_s\": {:.0}, \"last_loss\": {loss:.4}}}",
        model.num_params() as f64 / 1e6,
        tokens / wall[steps / 2],
        tokens / wall[0],
        tokens / cpu[steps / 2],
    );
}
