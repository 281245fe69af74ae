//! The numbers of the original PyTorch code (tests/golden, made as reference/README.md says) against ours.

use ringsmith_model::adamw::{AdamW, Hyper};
use ringsmith_model::backward::{RouterLoss, RouterStats, Work, backward};
use ringsmith_model::batch::{Batch, FORMAT, SUPERVISED};
use ringsmith_model::buffer::Buffer;
use ringsmith_model::engine::{Engine, Sampling};
use ringsmith_model::forward::{Acts, forward};
use ringsmith_model::head::{self, Divergence, Places, places_of_docs};
use ringsmith_model::objective::{Bench, Kl, Objective, Terms};
use ringsmith_model::preference::{Dpo, PairLoss};
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
            let theirs: Vec<usize> = want["load_per_layer"][layer]
                .as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as usize)
                .collect();
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
            let apart =
                worst(&grads[tensor.range()], &g.floats[&format!("grad_with_router_losses.{}", tensor.name)]);
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

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as u32).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn close(ours: f64, theirs: f64, what: &str) {
    assert!(
        (ours - theirs).abs() <= 2e-5 * theirs.abs().max(1.0),
        "{what}: {ours} but the original says {theirs}"
    );
}

#[test]
fn eight_adamw_steps() {
    for variant in ["a", "b"] {
        let mut g = Golden::load(variant);
        let hyper = Hyper {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay_norms: true,
            clip: 1.0,
            warmup: 0.0,
            final_lr: 1.0,
        };
        let batch = g.main_batch();
        let mut bench = Bench::new(&g.model);
        let mut adamw = AdamW::new(g.model.layout());
        for step in g.json["adamw"]["trajectory"].as_array().unwrap() {
            let losses = bench.gradients(&g.model, &Objective::Sft, &Terms::none(1), &batch, &[], None, None);
            let norm = bench.step(&mut g.model, &mut adamw, &hyper, 1e-3);
            for (ours, key) in [(losses.total, "loss"), (norm, "grad_norm_before_clip")] {
                let theirs = step[key].as_f64().unwrap();
                assert!((ours / theirs - 1.0).abs() < 1e-4, "{variant}: {key}: {ours} {theirs}");
            }
        }
        for tensor in &g.model.layout().tensors {
            let theirs = g.json["adamw"]["final_param_l2"][&tensor.name].as_f64().unwrap();
            let ours = norm(&g.model.params()[tensor.range()]);
            assert!((ours / theirs - 1.0).abs() < 1e-4, "{variant}: {}: {ours} {theirs}", tensor.name);
        }
        let last = bench.gradients(&g.model, &Objective::Sft, &Terms::none(1), &batch, &[], None, None);
        let theirs = g.json["adamw"]["final_eval_loss_train_mode"].as_f64().unwrap();
        assert!((last.total / theirs - 1.0).abs() < 1e-4, "{variant}: last loss");
    }
}

#[test]
fn greedy_tokens() {
    for variant in ["a", "b"] {
        let g = Golden::load(variant);
        let prompt = ids(&g.json["greedy"]["prompt"]);
        let want = ids(&g.json["greedy"]["continuation"]);
        let sampling =
            Sampling { max_tokens: want.len(), temperature: 0.0, top_p: 1.0, seed: 0, stop: vec![] };
        for model in [&g.model, &g.model.folded()] {
            let out = Engine::new(model).generate(std::slice::from_ref(&prompt), &sampling, |_, _, _| true);
            assert_eq!(out[0].tokens, want, "{variant}");
        }
    }
}

struct Preference {
    policy: Ling,
    reference: Ling,
    json: Value,
    batch: Batch,
}

impl Preference {
    fn load() -> Preference {
        let dir = dir("a");
        let json: Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("dpo_ref.json")).unwrap()).unwrap();
        let policy = Ling::load(&dir).unwrap();
        let (tensors, _) = checkpoint::load_tensors(&dir.join("ref_policy.safetensors")).unwrap();
        let mut reference = Ling::load(&dir).unwrap();
        reference.update(|layout, params| {
            for tensor in &layout.tensors {
                params[tensor.range()].copy_from_slice(&tensors[&tensor.name]);
            }
        });
        let mut batch = Batch::default();
        for pair in json["pairs"].as_array().unwrap() {
            for side in ["chosen", "rejected"] {
                let (mut tokens, answer) = (ids(&pair["prompt"]), ids(&pair[side]));
                let mut mask = vec![0; tokens.len()];
                let format = ids(&pair[format!("{side}_format_mask")]);
                mask.extend(format.iter().map(|f| SUPERVISED | if *f == 1 { FORMAT } else { 0 }));
                tokens.extend(answer);
                batch.push(&tokens, &mask, 0);
            }
        }
        Preference { policy, reference, json, batch }
    }

    fn logprobs(&self, model: &Ling) -> (Places, Vec<f32>) {
        let mut acts = Acts::new(model.config());
        forward(model, &self.batch, &mut acts, None);
        let places = Places::supervised(&self.batch);
        let logprobs = head::logprobs(model, &acts, &places);
        (places, logprobs)
    }

    /// Checks a loss's mean, pairs and gradient norm.
    fn check(&self, name: &str, dpo: Dpo) {
        let (places, theirs) = self.logprobs(&self.reference);
        let reference = dpo.sequences(&self.batch, &places, &theirs);
        let (places, ours) = self.logprobs(&self.policy);
        let tokens = places_of_docs(&self.batch, &places).iter().step_by(2).map(|r| r.len()).sum();
        let (found, _) = dpo.weigh(&self.batch, &places, &ours, &reference, 4, tokens);
        let want = &self.json["losses"][name];
        for (ours, theirs) in found.per_pair.iter().zip(numbers(&want["per_pair"])) {
            close(ours + dpo.nll * found.nll, theirs, name);
        }
        let mut bench = Bench::new(&self.policy);
        let objective = Objective::Dpo(dpo);
        let losses =
            bench.gradients(&self.policy, &objective, &Terms::none(1), &self.batch, &reference, None, None);
        close(losses.total, want["mean"].as_f64().unwrap(), name);
        close(norm(&bench.grads), want["grad_norm"].as_f64().unwrap(), &format!("{name}: gradient norm"));
        if let Some(norms) = want.get("grad_norms") {
            for tensor in &self.policy.layout().tensors {
                let theirs = norms[&tensor.name].as_f64().unwrap();
                close(norm(&bench.grads[tensor.range()]), theirs, &tensor.name);
            }
        }
    }
}

const PLAIN: Dpo = Dpo {
    loss: PairLoss::Sigmoid,
    beta: 0.1,
    label_smoothing: 0.0,
    average: false,
    format_only: false,
    nll: 0.0,
};

#[test]
fn preference_losses() {
    let p = Preference::load();
    p.check("sigmoid", PLAIN);
    p.check("sigmoid_label_smoothing", Dpo { label_smoothing: 0.1, ..PLAIN });
    p.check("robust", Dpo { loss: PairLoss::Robust, label_smoothing: 0.1, ..PLAIN });
    p.check("hinge", Dpo { loss: PairLoss::Hinge, ..PLAIN });
    p.check("ipo_sum", Dpo { loss: PairLoss::Ipo, ..PLAIN });
    p.check("ipo_token_mean", Dpo { loss: PairLoss::Ipo, average: true, ..PLAIN });
    p.check("length_normalised", Dpo { average: true, ..PLAIN });
    p.check("sigmoid_plus_nll_tokenmean", Dpo { nll: 0.05, ..PLAIN });
    p.check("format_masked", Dpo { format_only: true, ..PLAIN });
}

#[test]
fn preference_log_probabilities_and_rewards() {
    let p = Preference::load();
    for (model, name) in [(&p.policy, "policy"), (&p.reference, "reference")] {
        let (places, logprobs) = p.logprobs(model);
        // The golden lists the chosen answers, then the rejected ones.
        for (doc, range) in places_of_docs(&p.batch, &places).into_iter().enumerate() {
            let theirs = numbers(&p.json["per_token_logps"][name][doc % 2 * 4 + doc / 2]);
            assert_eq!(theirs.len(), range.len());
            for (ours, theirs) in logprobs[range].iter().zip(theirs) {
                assert!((*ours as f64 - theirs).abs() < 2e-5, "{name}: {ours} {theirs}");
            }
        }
    }
    let (places, theirs) = p.logprobs(&p.reference);
    let reference = PLAIN.sequences(&p.batch, &places, &theirs);
    let (places, ours) = p.logprobs(&p.policy);
    let (found, _) = PLAIN.weigh(&p.batch, &places, &ours, &reference, 4, 1);
    for (ours, key) in [(&found.chosen_rewards, "chosen"), (&found.rejected_rewards, "rejected")] {
        for (ours, theirs) in ours.iter().zip(numbers(&p.json["rewards"][key])) {
            assert!((ours - theirs).abs() < 1e-5, "{key}: {ours} {theirs}");
        }
    }
    assert_eq!(found.accuracy(), 0.5);
    close(found.margin(), p.json["rewards"]["margin"].as_f64().unwrap(), "margin");
    let itself = PLAIN.sequences(&p.batch, &places, &ours);
    let (found, _) = PLAIN.weigh(&p.batch, &places, &ours, &itself, 4, 1);
    close(found.loss, std::f64::consts::LN_2, "a policy against itself");
}

#[test]
fn divergences_and_l2_sp() {
    let p = Preference::load();
    for (name, divergence) in [
        ("kl_forward_teacher_student", Divergence::Forward),
        ("kl_reverse_student_teacher", Divergence::Reverse),
        ("jsd_half", Divergence::Jsd),
        ("kl_k3_sampled", Divergence::K3),
    ] {
        // The cross-entropy has no weight: only the divergence is left.
        let kl = Kl { weight: 1.0, divergence, sources: vec![true] };
        let terms = Terms { weights: vec![0.0], kl: Some(kl), ..Terms::none(1) };
        let mut bench = Bench::new(&p.policy);
        let teacher = Some(&p.reference);
        let losses = bench.gradients(&p.policy, &Objective::Sft, &terms, &p.batch, &[], teacher, None);
        let want = &p.json["losses"][name];
        close(losses.kl, want["mean"].as_f64().unwrap(), name);
        close(norm(&bench.grads), want["grad_norm"].as_f64().unwrap(), &format!("{name}: gradient norm"));
    }
    let terms = Terms { weights: vec![0.0], l2_sp: 0.5, ..Terms::none(1) };
    let mut bench = Bench::new(&p.policy);
    let start = Some(p.reference.params());
    let losses = bench.gradients(&p.policy, &Objective::Sft, &terms, &p.batch, &[], None, start);
    close(losses.l2_sp, p.json["l2_sp_half_sum_sq"].as_f64().unwrap(), "L2-SP");
    close(norm(&bench.grads), 0.5 * (2.0 * losses.l2_sp).sqrt(), "L2-SP's gradient");
}
