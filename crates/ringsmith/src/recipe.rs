//! The recipe: one TOML file that says everything that changes a result. Flags say only where and how fast.

pub mod data;
pub mod eval;
pub mod fault;
pub mod model;
pub mod preference;
pub mod train;

pub use data::{Data, Source, Tokenizer};
pub use eval::{Eval, Release};
pub use fault::Fault;
pub use model::Model;
pub use preference::Preference;
pub use train::{Dpo, Mix, Phase, Sft, Training};

use anyhow::{Context, Result};
use ringsmith_data::workbook::{Split, Task};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// A recipe, checked: every name in it leads somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub name: String,
    /// All randomness comes from this seed, the stage, the step and the lane.
    #[serde(default)]
    pub seed: u64,
    pub model: Model,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    #[serde(default)]
    pub data: BTreeMap<String, Data>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<Training>,
    #[serde(default)]
    pub sft: Sft,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<Preference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<Dpo>,
    #[serde(default)]
    pub eval: Eval,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

impl Recipe {
    /// Reads and checks a recipe file. A fault names the file, line, column and key.
    pub fn read(file: &Path) -> Result<Recipe> {
        let bytes = std::fs::read(file).with_context(|| format!("recipe {}", file.display()))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            anyhow::anyhow!("recipe {}: not UTF-8 at byte {}", file.display(), e.utf8_error().valid_up_to())
        })?;
        Ok(Recipe::parse(file, &text)?)
    }

    /// Parses and checks a recipe's text; `file` is for messages only.
    pub fn parse(file: &Path, text: &str) -> Result<Recipe, Fault> {
        let mut recipe: Recipe =
            toml::from_str(text).map_err(|e| Fault::from_toml(file.to_owned(), text, &e))?;
        recipe.check().map_err(|(path, said)| Fault::at_path(file.to_owned(), text, &path, said))?;
        Ok(recipe)
    }

    /// Whether the recipe has this model.
    pub fn has(&self, phase: Phase) -> bool {
        match phase {
            Phase::Base => true,
            Phase::Reason => self.sft.reason.is_some(),
            Phase::General => self.sft.general.is_some(),
            Phase::Dpo => self.dpo.is_some(),
        }
    }

    /// The recipe's models, in the order of training.
    pub fn phases(&self) -> Vec<Phase> {
        Phase::ALL.into_iter().filter(|p| self.has(*p)).collect()
    }

    /// The table of a supervised stage.
    pub fn training(&self, phase: Phase) -> Option<&Training> {
        match phase {
            Phase::Base => self.pretrain.as_ref(),
            Phase::Reason => self.sft.reason.as_ref(),
            Phase::General => self.sft.general.as_ref(),
            Phase::Dpo => None,
        }
    }

    /// What serde cannot see: names that lead nowhere, and numbers that mean nothing.
    fn check(&mut self) -> Result<(), (String, String)> {
        self.model.settle().map_err(|(key, said)| (format!("model.{key}"), said))?;
        match (&self.model.path, &self.pretrain) {
            (None, None) => {
                return Err(("model".into(), "a model from scratch needs a [pretrain] table".into()));
            }
            (Some(_), None) => {}
            (_, Some(p)) if p.from.is_some() => {
                return Err((
                    "pretrain.from".into(),
                    "pretraining starts from [model]; remove this key".into(),
                ));
            }
            _ => {}
        }
        if self.model.path.is_none() && self.tokenizer.is_none() {
            return Err(("model".into(), "a model from scratch needs a [tokenizer] table".into()));
        }
        if let Some(tokenizer) = &self.tokenizer {
            if self.model.path.is_some() {
                return Err((
                    "tokenizer".into(),
                    "the tokenizer comes with the model's path; remove this table".into(),
                ));
            }
            for name in tokenizer.data.keys() {
                self.known_data(name, &format!("tokenizer.data.{name}"))?;
            }
            tokenizer.check().map_err(|(key, said)| (format!("tokenizer.{key}"), said))?;
        }
        for (name, data) in &mut self.data {
            data.sources.iter_mut().for_each(Source::settle);
            data.check().map_err(|(key, said)| (format!("data.{name}.{key}"), said))?;
        }
        for phase in [Phase::Base, Phase::Reason, Phase::General] {
            let Some(training) = self.training(phase) else { continue };
            let table = if phase == Phase::Base { "pretrain" } else { phase.name() };
            self.known_mix(&training.data, &format!("{table}.data"))?;
            training.check().map_err(|(key, said)| (format!("{table}.{key}"), said))?;
            if phase != Phase::Base {
                let from = training
                    .from
                    .ok_or((table.to_owned(), "missing key \"from\", the model to start from".to_owned()))?;
                self.earlier(from, phase, &format!("{table}.from"))?;
            }
            let sources = self.sources(&training.data);
            training.terms.check(&sources).map_err(|(key, said)| (format!("{table}.terms.{key}"), said))?;
            if let Some(kl) = &training.terms.kl {
                self.earlier(kl.to, phase, &format!("{table}.terms.kl.to"))?;
            }
            self.positions(training.length, &format!("{table}.length"))?;
        }
        if let Some(preference) = &self.preference {
            preference.check(self)?;
        }
        if let Some(dpo) = &self.dpo {
            let Some(preference) = &self.preference else {
                return Err(("dpo".into(), "DPO needs a [preference] table for its pairs".into()));
            };
            self.earlier(dpo.from, Phase::Dpo, "dpo.from")?;
            dpo.check().map_err(|(key, said)| (format!("dpo.{key}"), said))?;
            let mut sources = preference.pairs.iter().flat_map(|mix| self.sources(mix)).collect::<Vec<_>>();
            sources.extend(preference.rule.as_ref().map(|_| "rule"));
            sources.extend(preference.format.as_ref().map(|_| "format"));
            dpo.terms.check(&sources).map_err(|(key, said)| (format!("dpo.terms.{key}"), said))?;
            // A pair's two documents lie in one row, but each starts at position 0.
            self.positions(dpo.length.div_ceil(2), "dpo.length")?;
            if let Some(kl) = &dpo.terms.kl {
                self.earlier(kl.to, Phase::Dpo, "dpo.terms.kl.to")?;
            }
        }
        self.eval.check().map_err(|(key, said)| (format!("eval.{key}"), said))?;
        if let Some(release) = &self.release
            && !self.has(release.model)
        {
            return Err(("release.model".into(), format!("this recipe has no {}", release.model)));
        }
        Ok(())
    }

    /// A model that a later one builds on must exist and come before it.
    fn earlier(&self, from: Phase, of: Phase, path: &str) -> Result<(), (String, String)> {
        if !self.has(from) {
            return Err((path.into(), format!("this recipe has no {from}")));
        }
        if from >= of {
            return Err((path.into(), format!("{from} does not come before {of}")));
        }
        Ok(())
    }

    /// The sources of a mix's data sets.
    fn sources(&self, mix: &Mix) -> Vec<&str> {
        let sets = mix.0.iter().filter_map(|part| self.data.get(&part.data));
        sets.flat_map(|set| &set.sources).map(|source| source.name.as_str()).collect()
    }

    /// A model from scratch must have the positions that it is trained on.
    fn positions(&self, length: usize, path: &str) -> Result<(), (String, String)> {
        let most = self.model.max_position_embeddings;
        if self.model.path.is_none() && length > most {
            return Err((path.into(), format!("{length} is more than the model's {most} positions")));
        }
        Ok(())
    }

    fn known_data(&self, name: &str, path: &str) -> Result<(), (String, String)> {
        if self.data.contains_key(name) {
            return Ok(());
        }
        let names: Vec<&str> = self.data.keys().map(String::as_str).collect();
        Err((path.into(), fault::unknown("data set", name, &names)))
    }

    fn known_mix(&self, mix: &Mix, path: &str) -> Result<(), (String, String)> {
        if mix.0.is_empty() {
            return Err((path.into(), "names no data set".into()));
        }
        mix.0
            .iter()
            .enumerate()
            .try_for_each(|(i, part)| self.known_data(&part.data, &format!("{path}.{i}.data")))
    }
}

impl Data {
    fn check(&self) -> Result<(), (String, String)> {
        if self.sources.is_empty() {
            return Err(("sources".into(), "names no source".into()));
        }
        for (i, source) in self.sources.iter().enumerate() {
            let at = |said: &str| Err((format!("sources.{i}"), format!("source \"{}\" {said}", source.name)));
            if self.sources[..i].iter().any(|s| s.name == source.name) {
                return at("is named twice");
            }
            match (&source.workbook, source.files.is_empty()) {
                (None, true) => return at("has neither `files` nor `workbook`"),
                (Some(_), false) => return at("has both `files` and `workbook`; give one of them"),
                (Some(_), true) if source.count.is_none_or(|count| count == 0) => {
                    return at("needs `count`, the problems to generate, at least 1");
                }
                (Some(task), true) if !(1..=task.levels()).contains(&source.level.unwrap_or(1)) => {
                    return at(&format!("has no such level; {task} has 1 to {}", task.levels()));
                }
                (Some(_), true)
                    if source.take.is_some()
                        || source.fields.is_some()
                        || source.think.is_some()
                        || source.system.is_some() =>
                {
                    return at("has no files, so `take`, `fields`, `think` and `system` mean nothing");
                }
                (Some(task), true)
                    if *task != Task::Facts && !task.is_text() && source.split != Some(Split::Train) =>
                {
                    return at("would train on held-out items; its `split` must be \"train\"");
                }
                (None, false) if source.count.is_some() => {
                    return at("has files, so `count` means nothing; `take` reads only the first records");
                }
                (None, false)
                    if source.style.is_some() || source.split.is_some() || source.level.is_some() =>
                {
                    return at("has files, so `style`, `split` and `level` mean nothing");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Rows of a step and tokens of a row that no machine takes at once: a slip of the keyboard, not a setting.
const MOST_ROWS: usize = 1 << 20;
const MOST_TOKENS: usize = 1 << 24;

/// A number that must lie in a range: its key, its value, and whether it does.
fn range(checks: &[(&str, f64, bool)]) -> Result<(), (String, String)> {
    match checks.iter().find(|(_, _, fine)| !fine) {
        Some((key, value, _)) => Err(((*key).into(), format!("{value} is out of range"))),
        None => Ok(()),
    }
}

impl Training {
    fn check(&self) -> Result<(), (String, String)> {
        range(&[
            ("epochs", self.epochs as f64, self.epochs > 0),
            ("batch", self.batch as f64, (1..=MOST_ROWS).contains(&self.batch)),
            ("length", self.length as f64, (2..=MOST_TOKENS).contains(&self.length)),
            ("lr", self.lr, self.lr > 0.0 && self.lr.is_finite()),
            ("warmup", self.warmup, (0.0..=1.0).contains(&self.warmup)),
            ("final_lr", self.final_lr, (0.0..=1.0).contains(&self.final_lr)),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1)),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2)),
            ("eps", self.eps, self.eps > 0.0 && self.eps.is_finite()),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0 && self.weight_decay.is_finite()),
            ("clip", self.clip, self.clip > 0.0),
        ])
    }
}

impl Dpo {
    fn check(&self) -> Result<(), (String, String)> {
        range(&[
            ("epochs", self.epochs as f64, self.epochs > 0),
            ("batch", self.batch as f64, (1..=MOST_ROWS).contains(&self.batch)),
            ("length", self.length as f64, (2..=MOST_TOKENS).contains(&self.length)),
            ("lr", self.lr, self.lr > 0.0 && self.lr.is_finite()),
            ("beta", self.beta, self.beta > 0.0 && self.beta.is_finite()),
            ("label_smoothing", self.label_smoothing, (0.0..0.5).contains(&self.label_smoothing)),
            ("nll", self.nll, self.nll >= 0.0 && self.nll.is_finite()),
            ("warmup", self.warmup, (0.0..=1.0).contains(&self.warmup)),
            ("final_lr", self.final_lr, (0.0..=1.0).contains(&self.final_lr)),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1)),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2)),
            ("eps", self.eps, self.eps > 0.0 && self.eps.is_finite()),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0 && self.weight_decay.is_finite()),
            ("clip", self.clip, self.clip > 0.0),
        ])
    }
}

impl Preference {
    fn check(&self, recipe: &Recipe) -> Result<(), (String, String)> {
        if self.rule.is_none() && self.format.is_none() && self.pairs.is_none() {
            return Err(("preference".into(), "has none of `rule`, `format` and `pairs`".into()));
        }
        if let Some(rule) = &self.rule {
            recipe.earlier(rule.from, Phase::Dpo, "preference.rule.from")?;
            recipe.known_mix(&rule.prompts, "preference.rule.prompts")?;
            range(&[
                ("preference.rule.pairs", rule.pairs as f64, rule.pairs > 0),
                ("preference.rule.max_tokens", rule.max_tokens as f64, rule.max_tokens > 0),
                (
                    "preference.rule.temperature",
                    rule.temperature,
                    rule.temperature >= 0.0 && rule.temperature.is_finite(),
                ),
                ("preference.rule.top_p", rule.top_p, rule.top_p > 0.0 && rule.top_p <= 1.0),
            ])?;
        }
        if let Some(format) = &self.format {
            recipe.known_mix(&format.prompts, "preference.format.prompts")?;
            range(&[("preference.format.pairs", format.pairs as f64, format.pairs > 0)])?;
        }
        if let Some(pairs) = &self.pairs {
            recipe.known_mix(pairs, "preference.pairs")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "t"
[model]
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 2
num_experts = 2
num_experts_per_tok = 1
moe_intermediate_size = 8
[tokenizer]
vocab_size = 300
data = { d = 10 }
[data.d]
sources = [{ name = "s", files = ["a.jsonl"] }]
steps = [{ dedup = {} }]
[pretrain]
data = "d"
batch = 2
length = 16
lr = 1e-3
[sft.reason]
from = "base"
data = [{ data = "d", take = 3 }]
batch = 2
length = 16
lr = 1e-3
"#;

    fn fault(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        Recipe::parse("r.toml".as_ref(), &text).unwrap_err().to_string()
    }

    #[test]
    fn a_good_recipe_fills_its_defaults() {
        let recipe = Recipe::parse("r.toml".as_ref(), GOOD).unwrap();
        assert_eq!(recipe.model.head_dim, 4);
        assert_eq!(recipe.pretrain.unwrap().warmup, 0.03);
        assert_eq!(recipe.sft.reason.unwrap().data.0[0].take, Some(3));
    }

    #[test]
    fn faults_name_place_and_nearest_key() {
        let cases = [
            (
                "lr = 1e-3\n[sft",
                "lerning_rate = 1e-3\n[sft",
                r#"r.toml:20:1: unknown key "lerning_rate" in [pretrain]; did you mean "lr"?"#,
            ),
            (
                "[sft.reason]",
                "[sft.resaon]",
                r#"r.toml:21:6: unknown key "resaon" in [sft]; did you mean "reason"?"#,
            ),
            (
                "{ dedup = {} }",
                "{ dedupe = {} }",
                r#"r.toml:15:12: unknown value "dedupe" in [data.d.steps]; did you mean "dedup"?"#,
            ),
            (
                "files = [",
                "fils = [",
                r#"r.toml:14:26: unknown key "fils" in [data.d.sources]; did you mean "files"?"#,
            ),
            (
                "from = \"base\"",
                "from = \"bass\"",
                r#"r.toml:22:8: unknown value "bass" in [sft.reason]; did you mean "base"?"#,
            ),
            (
                "batch = 2",
                "batch = \"2\"",
                r#"r.toml:18:9: invalid type: string "2", expected usize in [pretrain]"#,
            ),
            ("batch = 2\n", "", r#"r.toml:16:1: missing key "batch" in [pretrain]"#),
            (
                "data = \"d\"",
                "data = \"dd\"",
                r#"r.toml:17:1: pretrain.data.0.data: no data set "dd"; did you mean "d"?"#,
            ),
        ];
        for (from, to, said) in cases {
            assert_eq!(fault(from, to), said);
        }
    }

    #[test]
    fn meaning_is_checked() {
        assert!(fault("lr = 1e-3", "lr = 0.0").contains("r.toml:20:1: pretrain.lr: 0 is out of range"));
        assert!(fault("from = \"base\"", "from = \"dpo\"").contains("this recipe has no dpo"));
        assert!(fault("from = \"base\"", "from = \"sft.reason\"").contains("does not come before"));
        assert!(fault("hidden_size = 8\n", "").contains("model.hidden_size"));
        assert!(
            fault("num_experts = 2", "num_experts = 2\nhead_dim = 3").contains("r.toml:8:1: model.head_dim")
        );
        assert!(fault("name = \"t\"", "name = ").starts_with("r.toml:2:"));
        let text = GOOD.replace("hidden_size = 8\nnum_hidden_layers = 1\nnum_attention_heads = 2\nnum_experts = 2\nnum_experts_per_tok = 1\nmoe_intermediate_size = 8", "path = \"m\"");
        let said = Recipe::parse("r.toml".as_ref(), &text).unwrap_err().to_string();
        assert!(said.contains("r.toml:5:2: tokenizer: the tokenizer comes with the model's path"), "{said}");
    }
}
