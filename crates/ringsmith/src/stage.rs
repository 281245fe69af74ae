//! The stages of a recipe: what each is called, what it is made from, and which settings determine it.

use crate::recipe::{Phase, Recipe};
use ringsmith_eval::benchmark::Benchmark;
use serde_json::{Value, json};
use std::fmt;

/// One stage of the line. A stage reads artifacts and publishes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reads or generates one data set and curates it.
    Data(String),
    /// Trains the tokenizer, or takes the model path's.
    Tokenizer,
    /// Tokenises and packs the rows a training stage reads (for DPO: the pairs).
    Rows(Phase),
    /// Trains a model.
    Train(Phase),
    /// Makes preference pairs.
    Preference,
    /// Log-probabilities of the pairs under the reference model.
    Reference,
    /// One model's answers to every benchmark, and their scores.
    Eval(Phase),
    Report,
    Release,
}

/// What a stage is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    Stage(Stage),
    /// A file or a model folder under the data root.
    File(String),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Data(name) => write!(f, "data.{name}"),
            Stage::Tokenizer => f.write_str("tokenizer"),
            Stage::Rows(Phase::Base) => f.write_str("rows.pretrain"),
            Stage::Rows(phase) => write!(f, "rows.{phase}"),
            Stage::Train(Phase::Base) => f.write_str("pretrain"),
            Stage::Train(phase) => write!(f, "{phase}"),
            Stage::Preference => f.write_str("preference"),
            Stage::Reference => f.write_str("reference"),
            Stage::Eval(phase) => write!(f, "eval.{phase}"),
            Stage::Report => f.write_str("report"),
            Stage::Release => f.write_str("release"),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Stage(stage) => write!(f, "{stage}"),
            Input::File(file) => write!(f, "file {file}"),
        }
    }
}

/// Every stage of a recipe, each after what it is made from.
pub fn stages(recipe: &Recipe) -> Vec<Stage> {
    let mut all: Vec<Stage> = recipe.data.keys().map(|name| Stage::Data(name.clone())).collect();
    all.push(Stage::Tokenizer);
    for phase in recipe.phases() {
        if phase == Phase::Dpo {
            all.extend([Stage::Preference, Stage::Rows(Phase::Dpo), Stage::Reference]);
        } else if recipe.training(phase).is_some() {
            all.push(Stage::Rows(phase));
        } else {
            continue;
        }
        all.push(Stage::Train(phase));
    }
    if !recipe.eval.benchmarks.is_empty() {
        all.extend(recipe.phases().into_iter().map(Stage::Eval));
        all.push(Stage::Report);
    }
    if recipe.release.is_some() {
        all.push(Stage::Release);
    }
    all
}

impl Stage {
    /// Raised by hand when the meaning of a stage changes, so that old results are made anew.
    pub fn version(&self) -> u32 {
        1
    }

    /// What the stage is made from, in a fixed order, without repetition.
    pub fn inputs(&self, recipe: &Recipe) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        let mut add = |input: Input| {
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        };
        match self {
            Stage::Data(name) => {
                let data = &recipe.data[name];
                data.sources.iter().flat_map(|s| &s.files).for_each(|f| add(Input::File(f.clone())));
                if data.decontaminates() {
                    benchmark_files(recipe).into_iter().for_each(|f| add(Input::File(f)));
                }
            }
            Stage::Tokenizer => match (&recipe.tokenizer, &recipe.model.path) {
                (Some(tokenizer), _) => {
                    tokenizer.data.keys().for_each(|d| add(Input::Stage(Stage::Data(d.clone()))));
                }
                (None, Some(path)) => add(Input::File(path.clone())),
                (None, None) => {}
            },
            Stage::Rows(Phase::Dpo) => {
                add(Input::Stage(Stage::Tokenizer));
                add(Input::Stage(Stage::Preference));
            }
            Stage::Rows(phase) => {
                add(Input::Stage(Stage::Tokenizer));
                if let Some(training) = recipe.training(*phase) {
                    training.data.0.iter().for_each(|p| add(Input::Stage(Stage::Data(p.data.clone()))));
                }
            }
            Stage::Train(phase) => {
                add(Input::Stage(Stage::Rows(*phase)));
                let (from, kl) = match phase {
                    Phase::Dpo => {
                        add(Input::Stage(Stage::Reference));
                        let dpo = recipe.dpo.as_ref();
                        (dpo.map(|d| d.from), dpo.and_then(|d| d.terms.kl.as_ref()))
                    }
                    phase => {
                        let training = recipe.training(*phase);
                        (training.and_then(|t| t.from), training.and_then(|t| t.terms.kl.as_ref()))
                    }
                };
                match (from, &recipe.model.path) {
                    (Some(from), _) => add(model(recipe, from)),
                    (None, Some(path)) => add(Input::File(path.clone())),
                    // A model from scratch takes its vocabulary size and stop token from the tokenizer.
                    (None, None) => add(Input::Stage(Stage::Tokenizer)),
                }
                if let Some(kl) = kl {
                    add(model(recipe, kl.to));
                }
            }
            Stage::Preference => {
                let Some(preference) = &recipe.preference else { return inputs };
                let mixes = [
                    preference.rule.as_ref().map(|r| &r.prompts),
                    preference.format.as_ref().map(|f| &f.prompts),
                    preference.pairs.as_ref(),
                ];
                for part in mixes.into_iter().flatten().flat_map(|m| &m.0) {
                    add(Input::Stage(Stage::Data(part.data.clone())));
                }
                if let Some(rule) = &preference.rule {
                    add(Input::Stage(Stage::Tokenizer));
                    add(model(recipe, rule.from));
                }
            }
            Stage::Reference => {
                add(Input::Stage(Stage::Rows(Phase::Dpo)));
                if let Some(dpo) = &recipe.dpo {
                    add(model(recipe, dpo.from));
                }
            }
            Stage::Eval(phase) => {
                add(Input::Stage(Stage::Tokenizer));
                add(model(recipe, *phase));
                benchmark_files(recipe).into_iter().for_each(|f| add(Input::File(f)));
            }
            Stage::Report => {
                // Everything that is shown: scores, loss curves, the ledgers and their counts.
                for stage in stages(recipe) {
                    if !matches!(stage, Stage::Tokenizer | Stage::Reference | Stage::Report | Stage::Release)
                    {
                        add(Input::Stage(stage));
                    }
                }
                benchmark_files(recipe).into_iter().for_each(|f| add(Input::File(f)));
            }
            Stage::Release => {
                add(Input::Stage(Stage::Tokenizer));
                if let Some(release) = &recipe.release {
                    add(model(recipe, release.model));
                }
                if !recipe.eval.benchmarks.is_empty() {
                    add(Input::Stage(Stage::Report));
                }
            }
        }
        inputs
    }

    /// Every setting that determines the stage's result besides its inputs.
    pub fn config(&self, recipe: &Recipe) -> Value {
        let seed = recipe.seed;
        match self {
            Stage::Data(name) => {
                let data = &recipe.data[name];
                let mut config = json!({ "seed": seed, "sources": data.sources, "steps": data.steps });
                if data.decontaminates() {
                    config["benchmarks"] = recipe.eval.benchmarks.iter().map(items_of).collect();
                }
                config
            }
            Stage::Tokenizer => match &recipe.tokenizer {
                Some(tokenizer) => json!({ "seed": seed, "tokenizer": tokenizer }),
                None => json!({ "path": recipe.model.path }),
            },
            Stage::Rows(Phase::Dpo) => {
                json!({ "seed": seed, "length": recipe.dpo.as_ref().map(|d| d.length) })
            }
            Stage::Rows(phase) => {
                let training = recipe.training(*phase);
                json!({
                    "seed": seed,
                    "data": training.map(|t| &t.data),
                    "length": training.map(|t| t.length),
                })
            }
            Stage::Train(Phase::Dpo) => json!({ "seed": seed, "dpo": recipe.dpo }),
            Stage::Train(Phase::Base) => {
                json!({ "seed": seed, "model": recipe.model, "training": recipe.pretrain })
            }
            Stage::Train(phase) => json!({ "seed": seed, "training": recipe.training(*phase) }),
            Stage::Preference => json!({ "seed": seed, "preference": recipe.preference }),
            Stage::Reference => {
                let dpo = recipe.dpo.as_ref();
                json!({ "average": dpo.map(|d| d.average), "format_mask": dpo.map(|d| d.format_mask) })
            }
            Stage::Eval(_) => json!({ "seed": seed, "eval": recipe.eval }),
            // The page shows the recipe in full, so any change of it makes the page anew.
            Stage::Report => {
                let meaning = serde_json::to_vec(recipe).unwrap_or_default();
                json!({ "recipe": recipe.name, "recipe_digest": blake3::hash(&meaning).to_hex()[..16] })
            }
            Stage::Release => json!({ "recipe": recipe.name, "release": recipe.release }),
        }
    }
}

/// Where a model comes from: the stage that trains it, or the recipe's model path.
pub fn model(recipe: &Recipe, phase: Phase) -> Input {
    match &recipe.model.path {
        Some(path) if phase == Phase::Base && recipe.pretrain.is_none() => Input::File(path.clone()),
        _ => Input::Stage(Stage::Train(phase)),
    }
}

/// What says which items a benchmark has, whole: how many of them are asked, and how, is left out.
fn items_of(benchmark: &Benchmark) -> Value {
    json!({
        "name": benchmark.name,
        "kind": benchmark.kind,
        "files": benchmark.files,
        "task": benchmark.task,
        "split": benchmark.split,
        "level": benchmark.level,
        "count": benchmark.count,
    })
}

/// Every file a benchmark reads.
pub fn benchmark_files(recipe: &Recipe) -> Vec<String> {
    let mut files: Vec<String> =
        recipe.eval.benchmarks.iter().flat_map(|b| b.files.iter().cloned()).collect();
    files.sort();
    files.dedup();
    files
}
