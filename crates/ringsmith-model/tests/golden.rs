//! The numbers of the original PyTorch code (tests/golden, made as reference/README.md says) against ours.

use ringsmith_model::backward::{RouterLoss, RouterStats, Work, backward};
use ringsmith_model::batch::{Batch, SUPERVISED};
use ringsmith_model::buffer::Buffer;
use ringsmith_model::forward::{Acts, forward};
use ringsmith_model::head::{self, Places};
use ringsmith_model::{Config, Ling, checkpoint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

const TOLERANCE: f32 = 2e-5;

fn dir(variant: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(variant)
}

struct Golden {
    model: Ling,
    json: Value,
    floats: BTreeMap<String, Vec<f32>>,
    ints: BTreeMap<String, Vec<i64>>,
}

impl Golden {
    fn load(variant: &str) -> Golden {
        let dir = dir(variant);
        let json = serde_json::from_str(&std::fs::read_to_string(dir.join("ref.json")).unwrap()).unwrap();
        let bytes = std::fs::read(dir.join("ref.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (mut floats, mut ints) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.iter() {
            let name = name.to_string();
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    let values = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    floats.insert(name, values.collect());
                }
                safetensors::Dtype::I64 => {
                    let values = view.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
                    ints.insert(name, values.collect());
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        Golden { model: Ling::load(&dir).unwrap(), json, floats, ints }
    }

    /// Rows of `width` tokens; labels of -100 are not supervised.
    fn batch(&self, tokens: &str, labels: &str, width: usize) -> Batch {
        let mut batch = Batch::default();
        for (ids, labels) in self.ints[tokens].chunks(width).zip(self.ints[labels].chunks(width)) {
            let ids: Vec<u32> = ids.iter().map(|i| *i as u32).collect();
            let mask: Vec<u8> = labels.iter().map(|l| if *l == -100 { 0 } else { SUPERVISED }).collect();
            batch.push(&ids, &mask, 0);
        }
        batch
    }

    fn main_batch(&self) -> Batch {
        self.batch("input_ids", "labels", 24)
    }
}

fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

struct Pass {
    loss: f64,
    grads: Buffer,
    acts: Acts,
}

/// Mean loss over `tokens` supervised tokens and its gradients.
fn pass(model: &Ling, batch: &Batch, tokens: usize, losses: RouterLoss) -> Pass {
    let mut grads = Buffer::zeros(model.layout().len);
    let mut acts = Acts::new(model.config());
    let loss = pass_into(model, batch, tokens, losses, &mut acts, &mut grads, false);
    Pass { loss, grads, acts }
}

fn pass_into(
    model: &Ling,
    batch: &Batch,
    tokens: usize,
    losses: RouterLoss,
    acts: &mut Acts,
    grads: &mut [f32],
    accumulate: bool,
) -> f64 {
    forward(model, batch, acts, None);
    let places = Places::supervised(batch);
    let weights = vec![1.0 / tokens as f32; places.len()];
    let mut work = Work::default();
    let found = head::backward(model, acts, &places, &weights, None, &mut work, grads, accumulate);
    backward(model, batch, acts, &mut work, losses, grads, accumulate);
    found.logprobs.iter().map(|l| -*l as f64).sum::<f64>() / tokens as f64
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>().sqrt()
}

fn all_logits(model: &Ling, acts: &Acts, tokens: usize) -> Vec<f32> {
    let rows: Vec<u32> = (0..tokens as u32).collect();
    let mut out = vec![0.0; tokens * model.config().vocab_size];
    head::logits(model, &acts.out_td, &rows, &mut out);
    out
}

#[test]
fn forward_loss_and_every_gradient() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let batch = g.main_batch();
        let Pass { loss, grads, acts } = pass(&g.model, &batch, batch.supervised(), RouterLoss::default());
        assert!((loss - g.json["loss"].as_f64().unwrap()).abs() < 2e-6, "{variant}: loss {loss}");
        for l in 0..g.model.config().num_hidden_layers {
            let apart = worst(&acts.layers[l].x_td, &g.floats[&format!("hidden.{l}")]);
            assert!(apart < TOLERANCE, "{variant}: hidden {l}: {apart:e}");
        }
        let first = g.model.config().first_k_dense_replace;
        for n in 0..g.model.config().num_hidden_layers - first {
            let layer = &acts.layers[first + n];
            let apart = worst(&layer.logits_te, &g.floats[&format!("router_logits.{n}")]);
            assert!(apart < TOLERANCE, "{variant}: router {n}: {apart:e}");
            let mut chosen: Vec<i64> = layer.chosen_tk.iter().map(|e| *e as i64).collect();
            // The golden lists them by number, not by weight.
            chosen.chunks_mut(g.model.config().num_experts_per_tok).for_each(|c| c.sort());
            assert_eq!(chosen, g.ints[&format!("topk_idx.{n}")], "{variant}: choice {n}");
        }
        let apart = worst(&all_logits(&g.model, &acts, batch.len()), &g.floats["logits"]);
        assert!(apart < TOLERANCE, "{variant}: logits {apart:e}");
        let mut worst_grad = 0f32;
        for tensor in &g.model.layout().tensors {
            let ours = &grads[tensor.range()];
            let apart = worst(ours, &g.floats[&format!("grad.{}", tensor.name)]);
            assert!(apart < TOLERANCE, "{variant}: {}: {apart:e}", tensor.name);
            worst_grad = worst_grad.max(apart);
        }
        println!("{variant}: worst gradient {worst_grad:e}");
        let apart = norm(&grads) - g.json["grad_norm"].as_f64().unwrap();
        assert!(apart.abs() < TOLERANCE as f64, "{variant}: gradient norm {apart:e}");
    }
}

#[test]
fn router_losses() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let batch = g.main_batch();
        let losses = RouterLoss { balance: 0.015, z: 1e-4 };
        let Pass { loss, grads, acts } = pass(&g.model, &batch, batch.supervised(), losses);
        let stats = RouterStats::of(&g.model, &acts);
        let want = &g.json["router"];
        for (layer, load) in stats.load.iter().enumerate() {
            let theirs: Vec<usize> =
                want["load_per_layer"][layer].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as usize).collect();
            assert_eq!(*load, theirs);
        }
        let mean = |key: &str| {
            let list: Vec<f64> = want[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            list.iter().sum::<f64>() / list.len() as f64
        };
        assert!((stats.balance - mean("aux_per_layer")).abs() < 1e-5, "{variant}: {}", stats.balance);
        assert!((stats.z - mean("z_per_layer")).abs() < 1e-4, "{variant}: {}", stats.z);
        let total = loss + 0.015 * stats.balance + 1e-4 * stats.z;
        assert!((total - want["total_loss"].as_f64().unwrap()).abs() < 5e-6, "{variant}: total {total}");
        assert!((norm(&grads) - want["grad_norm"].as_f64().unwrap()).abs() < TOLERANCE as f64);
        for tensor in g.model.layout().tensors.iter().filter(|t| t.name.ends_with("mlp.gate.weight")) {
            let apart = worst(&grads[tensor.range()], &g.floats[&format!("grad_with_router_losses.{}", tensor.name)]);
            assert!(apart < TOLERANCE, "{variant}: {}: {apart:e}", tensor.name);
        }
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let ids: Vec<u32> = g.ints["packed.input_ids"].iter().map(|i| *i as u32).collect();
        let labels = &g.ints["packed.labels"];
        let mut batch = Batch::default();
        for ends in g.ints["packed.cu_seqlens"].windows(2) {
            let range = ends[0] as usize..ends[1] as usize;
            let mask: Vec<u8> =
                labels[range.clone()].iter().map(|l| if *l == -100 { 0 } else { SUPERVISED }).collect();
            batch.push(&ids[range], &mask, 0);
        }
        let Pass { loss, grads, acts } = pass(&g.model, &batch, batch.supervised(), RouterLoss::default());
        let apart = worst(&all_logits(&g.model, &acts, batch.len()), &g.floats["packed.logits"]);
        assert!(apart < TOLERANCE, "{variant}: {apart:e}");
        assert!((loss - g.json["packed"]["loss"].as_f64().unwrap()).abs() < 5e-6, "{variant}: {loss}");
        let theirs = g.json["packed"]["grad_norm"].as_f64().unwrap();
        assert!((norm(&grads) - theirs).abs() < 2e-5 * theirs, "{variant}");
    }
}

/// Where the original pads, we have no tokens at all.
#[test]
fn padded_rows() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let whole = g.main_batch();
        let mut batch = Batch::default();
        for (range, len) in whole.ranges().zip(g.json["padded"]["valid_lens"].as_array().unwrap()) {
            let range = range.start..range.start + len.as_u64().unwrap() as usize;
            batch.push(&whole.tokens[range.clone()], &whole.mask[range], 0);
        }
        let Pass { loss, grads, .. } = pass(&g.model, &batch, batch.supervised(), RouterLoss::default());
        assert!((loss - g.json["padded"]["loss"].as_f64().unwrap()).abs() < 5e-6, "{variant}: {loss}");
        let theirs = g.json["padded"]["grad_norm"].as_f64().unwrap();
        assert!((norm(&grads) - theirs).abs() < 2e-5 * theirs, "{variant}");
    }
}

/// Two halves with the global token count give the whole's gradients, bit for bit.
#[test]
fn gradient_accumulation() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let batch = g.main_batch();
        let tokens = batch.supervised();
        let whole = pass(&g.model, &batch, tokens, RouterLoss::default());
        let mut grads = Buffer::zeros(g.model.layout().len);
        let mut acts = Acts::new(g.model.config());
        let mut loss = 0.0;
        for n in 0..2 {
            let half = batch.slice(n..n + 1);
            loss += pass_into(&g.model, &half, tokens, RouterLoss::default(), &mut acts, &mut grads, n > 0);
        }
        assert!((loss - g.json["grad_accum"]["token_weighted_(right)"].as_f64().unwrap()).abs() < 2e-6);
        assert!(*grads == *whole.grads, "{variant}");
    }
}

#[test]
fn every_parameter_receives_a_gradient() {
    // Three tokens an expert and more: no expert is idle.
    let config = Config::example();
    for shared in [Some(1), None] {
        for norm_topk_prob in [true, false] {
            let config = Config {
                num_shared_experts: shared,
                norm_topk_prob,
                first_k_dense_replace: 1,
                num_hidden_layers: 3,
                use_bias: true,
                use_qkv_bias: true,
                pad_token_id: None,
                ..config.clone()
            };
            let model = Ling::init(&config, 3);
            let mut batch = Batch::default();
            for n in 0..6u32 {
                let ids: Vec<u32> = (0..32).map(|i| (n * 37 + i * 11 + i * i * 5) % 64).collect();
                batch.push(&ids, &[SUPERVISED; 32], 0);
            }
            let used: std::collections::BTreeSet<u32> = batch.tokens.iter().copied().collect();
            let grads = pass(&model, &batch, batch.supervised(), RouterLoss::default()).grads;
            for tensor in &model.layout().tensors {
                let g = &grads[tensor.range()];
                let width = if tensor.is_matrix() { tensor.shape[1] } else { 1 };
                for (row, g) in g.chunks(width).enumerate() {
                    let idle = tensor.at == model.layout().embedding && !used.contains(&(row as u32));
                    // A key's bias shifts all scores of a query alike and cancels in the softmax.
                    let key_bias = tensor.name.ends_with("query_key_value.bias");
                    assert!(idle || key_bias || g.iter().any(|g| *g != 0.0), "{} row {row}", tensor.name);
                    assert!(g.iter().all(|g| g.is_finite()));
                }
            }
        }
    }
}

#[test]
fn the_original_checkpoint_round_trips() {
    let g = Golden::load("a");
    let dir = tempfile::tempdir().unwrap();
    g.model.save(dir.path()).unwrap();
    let again = Ling::load(dir.path()).unwrap();
    assert!(again.params() == g.model.params());
    assert_eq!(again.config(), g.model.config());
    let (tensors, _) = checkpoint::load_tensors(&dir.path().join("model.safetensors")).unwrap();
    assert_eq!(tensors.len(), g.model.layout().tensors.len());
}
