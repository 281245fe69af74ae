//! Training a model: pretraining, the two SFT stages and DPO are objectives of one trainer.

use super::{Context, Outcome, model, reference};
use crate::{
    progress::Progress,
    recipe::{Dpo, Phase, Training, train::Terms},
    stage::Stage,
};
use anyhow::{Context as _, Result};
use ringsmith_data::{order, row_file::RowFile};
use ringsmith_model::{
    Batch, Ling,
    adamw::Hyper,
    objective::{self, Objective},
    train::{self, Job, Metrics, Step},
};

/// What the stages have in common, taken from either table.
struct Spec<'a> {
    from: Option<Phase>,
    epochs: u32,
    batch: usize,
    hyper: Hyper,
    objective: Objective,
    terms: &'a Terms,
}

impl Spec<'_> {
    fn supervised(t: &Training) -> Spec<'_> {
        Spec {
            from: t.from,
            epochs: t.epochs,
            batch: t.batch,
            hyper: Hyper {
                lr: t.lr,
                beta1: t.beta1,
                beta2: t.beta2,
                eps: t.eps,
                weight_decay: t.weight_decay,
                decay_norms: t.decay_norms,
                clip: t.clip,
                warmup: t.warmup,
                final_lr: t.final_lr,
            },
            objective: Objective::Sft,
            terms: &t.terms,
        }
    }

    fn preference(d: &Dpo) -> Spec<'_> {
        Spec {
            from: Some(d.from),
            epochs: d.epochs,
            batch: d.batch,
            hyper: Hyper {
                lr: d.lr,
                beta1: d.beta1,
                beta2: d.beta2,
                eps: d.eps,
                weight_decay: d.weight_decay,
                decay_norms: d.decay_norms,
                clip: d.clip,
                warmup: d.warmup,
                final_lr: d.final_lr,
            },
            objective: Objective::Dpo(reference::objective(d)),
            terms: &d.terms,
        }
    }
}

pub fn make(context: &Context<'_>, phase: Phase) -> Result<Outcome> {
    let recipe = context.recipe;
    let spec = match phase {
        Phase::Dpo => Spec::preference(recipe.dpo.as_ref().context("no [dpo] table")?),
        phase => Spec::supervised(recipe.training(phase).context("no training table")?),
    };
    let rows = RowFile::open(&context.file(Stage::Rows(phase), "rows.bin")?)?;
    let references = match phase {
        Phase::Dpo => reference::read(&context.file(Stage::Reference, reference::FILE)?, rows.len())?,
        _ => Vec::new(),
    };
    let total = rows.len() as u64 * u64::from(spec.epochs);
    let steps = total.div_ceil(spec.batch as u64);
    let seed = recipe.seed;
    let batch = |step: u64| -> Result<Step> {
        // The last step has what is left of the last pass.
        let left = (total - step * spec.batch as u64).min(spec.batch as u64) as usize;
        let mut batch = Batch::default();
        let mut reference = Vec::new();
        for row in order::batch(seed, step, spec.batch, rows.len()).into_iter().take(left) {
            for doc in rows.get(row)?.docs {
                batch.push(&doc.tokens, &doc.mask, doc.source);
            }
            if let Some(pair) = references.get(row) {
                reference.extend(pair);
            }
        }
        Ok(Step { batch, reference })
    };
    let start = || -> Result<Ling> {
        match (spec.from, &recipe.model.path) {
            (Some(from), _) => model::load(context, from),
            (None, Some(path)) => Ling::load(&context.bench.data_root.join(path)),
            (None, None) => Ok(Ling::init(&model::config(context, &recipe.model)?, seed)),
        }
    };
    let frozen = spec.terms.kl.as_ref().map(|kl| model::load(context, kl.to)).transpose()?;
    let mut bar: Option<Progress> = None;
    let mut progress = |m: &Metrics| {
        let bar = bar.get_or_insert_with(|| {
            Progress::new(Stage::Train(phase).to_string(), "steps", m.steps, m.step - 1)
        });
        let rate = m.tokens as f64 / m.seconds.max(1e-9);
        bar.at(m.step, &format!("loss {:.4}, {rate:.0} tokens/s", m.losses.total));
    };
    let outcome = train::train(Job {
        dir: context.dir,
        start: &start,
        frozen,
        hyper: spec.hyper,
        objective: spec.objective,
        terms: terms(spec.terms, rows.sources())?,
        sources: rows.sources().to_vec(),
        steps,
        batch: &batch,
        stop: context.stop,
        checkpoint_every: context.checkpoint_every,
        progress: &mut progress,
    })?;
    if let Some(bar) = bar {
        bar.finish();
    }
    let train::Outcome::Done(model) = outcome else { return Ok(Outcome::Stopped) };
    model.save(context.dir)?;
    Ok(Outcome::Done(Some(format!("{steps} steps, {} parameters", model.num_params()))))
}

/// The joined terms, with what they say by source name turned into source numbers. A name that is not among
/// the sources is an error: its weight would silently do nothing.
fn terms(terms: &Terms, sources: &[String]) -> Result<objective::Terms> {
    let kl_sources = terms.kl.iter().flat_map(|kl| &kl.sources);
    if let Some(name) = terms.weights.keys().chain(kl_sources).find(|name| !sources.contains(name)) {
        anyhow::bail!("terms: no source \"{name}\" among {}", sources.join(", "));
    }
    Ok(objective::Terms {
        weights: sources.iter().map(|name| terms.weights.get(name).map_or(1.0, |w| *w as f32)).collect(),
        balance: terms.balance,
        z: terms.z,
        l2_sp: terms.l2_sp,
        kl: terms.kl.as_ref().map(|kl| objective::Kl {
            weight: kl.weight,
            divergence: kl.divergence,
            sources: sources.iter().map(|name| kl.sources.is_empty() || kl.sources.contains(name)).collect(),
        }),
    })
}
