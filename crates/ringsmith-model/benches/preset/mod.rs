//! The presets that training speed is measured on, shared by the whole-process example and the bench. Shapes and
//! step are those of the PyTorch baseline that `bench/train.py` runs beside them.

use ringsmith_model::adamw::{AdamW, Hyper};
use ringsmith_model::batch::SUPERVISED;
use ringsmith_model::objective::{Bench, Objective, Terms};
use ringsmith_model::random::hash;
use ringsmith_model::{Batch, Config, Ling};

/// Rate of every step.
const LR: f64 = 1e-4;

/// A preset's model with its optimizer and a batch of random tokens.
pub struct Step {
    pub model: Ling,
    pub batch: Batch,
    bench: Bench,
    adamw: AdamW,
}

impl Step {
    /// A fresh model; panics on a name that is no preset.
    pub fn new(name: &str) -> Step {
        let (config, sequences, length) = preset(name);
        let mut batch = Batch::default();
        for n in 0..sequences as u64 {
            let id = |i: u64| (hash(&[n, i]) % (config.vocab_size as u64 - 1)) as u32 + 1;
            let ids: Vec<u32> = (0..length as u64).map(id).collect();
            batch.push(&ids, &vec![SUPERVISED; length], 0);
        }
        let model = Ling::init(&config, 0);
        Step { bench: Bench::new(&model), adamw: AdamW::new(model.layout()), model, batch }
    }

    /// Forward, backward and AdamW; the loss before the step.
    pub fn run(&mut self) -> f64 {
        let hyper = Hyper {
            lr: LR,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay_norms: true,
            clip: 1.0,
            warmup: 0.0,
            final_lr: 1.0,
        };
        let terms = Terms::none(1);
        let losses = self.bench.gradients(&self.model, &Objective::Sft, &terms, &self.batch, &[], None, None);
        self.bench.step(&mut self.model, &mut self.adamw, &hyper, LR);
        losses.total
    }
}

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
