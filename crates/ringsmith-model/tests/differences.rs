//! Every kind of parameter's gradient against central differences of the whole loss: embedding, attention with
//! biases, router with its own losses, experts, shared MLP, norms, head, and a divergence from a frozen model.

use ringsmith_model::batch::SUPERVISED;
use ringsmith_model::head::Divergence;
use ringsmith_model::objective::{Bench, Kl, Objective, Terms};
use ringsmith_model::preference::{Dpo, PairLoss};
use ringsmith_model::random::hash;
use ringsmith_model::{Batch, Config, Ling};

/// NormHead is off: its norm has no gradient by definition, so differences would disagree with it.
fn config() -> Config {
    Config {
        norm_head: false,
        first_k_dense_replace: 1,
        num_hidden_layers: 2,
        use_bias: true,
        use_qkv_bias: true,
        pad_token_id: None,
        initializer_range: 0.2,
        ..Config::example()
    }
}

fn batch() -> Batch {
    let mut batch = Batch::default();
    for doc in 0..4u64 {
        let ids: Vec<u32> = (0..9 + doc).map(|i| (hash(&[doc, i]) % 64) as u32).collect();
        let mask: Vec<u8> = (0..ids.len()).map(|i| if i > 3 { SUPERVISED } else { 0 }).collect();
        batch.push(&ids, &mask, (doc / 2) as u16);
    }
    batch
}

fn check(objective: Objective, terms: &Terms, reference: &[f64]) {
    let frozen = Ling::init(&config(), 8);
    let start = Ling::init(&config(), 9);
    let mut model = Ling::init(&config(), 3);
    let batch = batch();
    let mut bench = Bench::new(&model);
    let loss = |model: &Ling, bench: &mut Bench| {
        bench.gradients(model, &objective, terms, &batch, reference, Some(&frozen), Some(start.params()))
    };
    let load = loss(&model, &mut bench).load;
    let grads = bench.grads.clone();
    let mut checked = 0;
    for tensor in model.layout().tensors.clone() {
        // The steepest element and two others.
        let range = tensor.range();
        let steepest = range.clone().max_by(|a, b| grads[*a].abs().total_cmp(&grads[*b].abs())).unwrap();
        for at in [steepest, range.start + tensor.len() / 3, range.start + tensor.len() / 2] {
            let mut probe = |h: f32| {
                let before = model.params()[at];
                model.update(|_, p| p[at] = before + h);
                let value = loss(&model, &mut bench);
                model.update(|_, p| p[at] = before);
                value
            };
            let h = 8e-3f32;
            let (up, down) = (probe(h), probe(-h));
            if up.load != load || down.load != load {
                // A token changed its expert: the loss has a step here.
                continue;
            }
            let want = (up.total - down.total) / (2.0 * h as f64);
            let apart = (want - grads[at] as f64).abs();
            assert!(
                apart < 2e-3 + 1e-2 * want.abs(),
                "{} element {}: {} but differences say {want}",
                tensor.name,
                at - range.start,
                grads[at]
            );
            checked += usize::from(want.abs() > 1e-3);
        }
    }
    assert!(checked > 60, "only {checked} gradients were large enough to tell");
}

#[test]
fn cross_entropy_with_every_term() {
    for divergence in [Divergence::Forward, Divergence::Reverse, Divergence::Jsd, Divergence::K3] {
        let kl = Kl { weight: 0.7, divergence, sources: vec![true, false] };
        let terms = Terms { weights: vec![1.0, 0.5], balance: 0.1, z: 0.01, l2_sp: 0.05, kl: Some(kl) };
        check(Objective::Sft, &terms, &[]);
    }
}

#[test]
fn preference_with_likelihood() {
    for loss in [PairLoss::Sigmoid, PairLoss::Robust, PairLoss::Ipo] {
        for average in [false, true] {
            let dpo = Dpo { loss, beta: 0.3, label_smoothing: 0.1, average, format_only: false, nll: 0.2 };
            check(
                Objective::Dpo(dpo),
                &Terms::none(2),
                &[-20.0, -21.0, -22.0, -23.0].map(|x| if average { x / 6.0 } else { x }),
            );
        }
    }
}
