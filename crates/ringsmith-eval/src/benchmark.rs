//! A benchmark as it stands in a recipe.

use anyhow::{Context, Result, bail, ensure};
use ringsmith_data::solver::Sampling;
use ringsmith_data::workbook::{Split, Task};
use serde::{Deserialize, Serialize};

/// How items are read and graded (protocols: section 5 of the facts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Held-out items of the workbook: `task`, `split`, `count`, `level`.
    Workbook,
    /// Subjective queries of which only the `<think>` pair is judged: from the workbook (`count`, `split`)
    /// or from `files` with a `prompt`, `question`, `instruction` or `turns` (the first) in each row.
    Think,
    /// `question`, `answer` with `#### n`; graded by the last number, the boxed one first.
    Gsm8k,
    /// `problem` or `question` with `answer` (or `final_answer`); graded by math equality of the boxed answer.
    #[serde(alias = "math500", alias = "aime24", alias = "olympiadbench", alias = "gaokao2023en")]
    Math,
    /// `question`, `choices`, `answer` (index or letter); graded by the letter.
    #[serde(alias = "mmlu", alias = "gpqa")]
    Letter,
    /// `prompt`, `instruction_id_list`, `kwargs`; prompt-level strict.
    Ifeval,
    /// Two files, functions and possible answers, joined by id; one call in prompt mode, AST-checked.
    Bfcl,
    /// Not implemented yet: needs the code sandbox.
    Livecodebench,
    /// Not implemented yet: choices under four rotations.
    Mathbench,
    /// Not implemented yet: six abilities with given histories.
    Teval,
}

impl Kind {
    /// The name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Workbook => "workbook",
            Kind::Think => "think",
            Kind::Gsm8k => "gsm8k",
            Kind::Math => "math",
            Kind::Letter => "letter",
            Kind::Ifeval => "ifeval",
            Kind::Bfcl => "bfcl",
            Kind::Livecodebench => "livecodebench",
            Kind::Mathbench => "mathbench",
            Kind::Teval => "teval",
        }
    }

    /// A recipe may state the others, but they cannot run.
    pub fn is_implemented(self) -> bool {
        !matches!(self, Kind::Livecodebench | Kind::Mathbench | Kind::Teval)
    }
}

/// Which mean of the report a benchmark counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Reasoning,
    General,
}

/// One benchmark of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    pub name: String,
    pub kind: Kind,
    /// Needed by every kind except `think`, whose counts stand apart from the means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Paths below the data root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Only the first so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Workbook task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Workbook split; `test` or `validation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Workbook items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Workbook level, 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Choices are put in a seeded order (GPQA).
    #[serde(default)]
    pub shuffle: bool,
    /// Most tokens an answer may have.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// 0 is greedy.
    #[serde(default)]
    pub temperature: f32,
    #[serde(default = "top_p")]
    pub top_p: f32,
    /// Answers a question (avg@k); each counts as an item.
    #[serde(default = "samples")]
    pub samples: usize,
}

fn max_tokens() -> usize {
    1024
}

fn top_p() -> f32 {
    1.0
}

fn samples() -> usize {
    1
}

impl Benchmark {
    /// What the kind needs is there.
    ///
    /// # Errors
    /// Names the benchmark and the missing or useless key.
    pub fn check(&self) -> Result<()> {
        let name = &self.name;
        ensure!(self.samples > 0, "benchmark {name}: `samples` must be at least 1");
        ensure!(self.max_tokens > 0, "benchmark {name}: `max_tokens` must be at least 1");
        ensure!(self.limit != Some(0), "benchmark {name}: `limit` must be at least 1");
        ensure!(self.count != Some(0), "benchmark {name}: `count` must be at least 1");
        ensure!(
            self.temperature >= 0.0 && self.temperature.is_finite(),
            "benchmark {name}: `temperature` must not be negative"
        );
        ensure!(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "benchmark {name}: `top_p` must be above 0, at most 1"
        );
        match (self.kind, self.group) {
            (Kind::Think, Some(_)) => bail!("benchmark {name}: kind `think` counts in no group"),
            (Kind::Think, None) | (_, Some(_)) => {}
            (_, None) => bail!("benchmark {name}: `group` is missing (reasoning or general)"),
        }
        let from_workbook =
            self.kind == Kind::Workbook || (self.kind == Kind::Think && self.files.is_empty());
        if from_workbook {
            ensure!(self.files.is_empty(), "benchmark {name}: kind `workbook` reads no `files`");
            self.count.with_context(|| format!("benchmark {name}: `count` is missing"))?;
            let task = self.workbook_task()?;
            let judged = !task.is_text() && task != Task::Subjective;
            ensure!(judged || self.kind == Kind::Think, "benchmark {name}: task {task} cannot be graded");
            let level = self.level.unwrap_or(1);
            let levels = task.levels();
            ensure!(
                (1..=levels).contains(&level),
                "benchmark {name}: task {task} has levels 1 to {levels}, not {level}"
            );
            let held_out = matches!(self.split, None | Some(Split::Test | Split::Validation));
            ensure!(held_out, "benchmark {name}: `split` must be test or validation");
        } else {
            let unused =
                self.task.is_some() || self.split.is_some() || self.count.is_some() || self.level.is_some();
            ensure!(!unused, "benchmark {name}: `task`, `split`, `count` and `level` are for the workbook");
            let files = if self.kind == Kind::Bfcl { 2 } else { 1 };
            ensure!(self.files.len() >= files, "benchmark {name}: needs {files} or more `files`");
        }
        Ok(())
    }

    /// The workbook task: the one named, or subjective for a think benchmark.
    ///
    /// # Errors
    /// A workbook benchmark without a task.
    pub fn workbook_task(&self) -> Result<Task> {
        match (self.kind, self.task) {
            (_, Some(task)) => Ok(task),
            (Kind::Think, None) => Ok(Task::Subjective),
            _ => bail!("benchmark {}: `task` is missing", self.name),
        }
    }

    /// How answers are sampled in a run with that seed.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling { max_tokens: self.max_tokens, temperature: self.temperature, top_p: self.top_p, seed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Benchmark> {
        let benchmark: Benchmark = serde_json::from_value(value)?;
        benchmark.check()?;
        Ok(benchmark)
    }

    #[test]
    fn recipes_state_benchmarks() {
        let files = ["gsm8k/test.jsonl"];
        let gsm8k =
            read(json!({"name": "gsm8k", "kind": "gsm8k", "group": "reasoning", "files": files})).unwrap();
        assert_eq!((gsm8k.samples, gsm8k.temperature), (1, 0.0));
        for kind in
            ["aime24", "math500", "olympiadbench", "gaokao2023en", "gpqa", "mmlu", "teval", "mathbench"]
        {
            read(json!({"name": kind, "kind": kind, "group": "general", "files": ["x"]})).unwrap();
        }
        let again: Benchmark = serde_json::from_value(serde_json::to_value(&gsm8k).unwrap()).unwrap();
        assert_eq!(again, gsm8k);
    }

    #[test]
    fn mistakes_are_named() {
        for (value, message) in [
            (json!({"name": "x", "kind": "gsm8k", "files": ["a"]}), "`group` is missing"),
            (json!({"name": "x", "kind": "gsm8k", "group": "general"}), "`files`"),
            (json!({"name": "x", "kind": "bfcl", "group": "general", "files": ["a"]}), "needs 2"),
            (json!({"name": "x", "kind": "workbook", "group": "general", "count": 2}), "`task` is missing"),
            (
                json!({"name": "x", "kind": "workbook", "group": "general", "task": "eq"}),
                "`count` is missing",
            ),
            (
                json!({"name": "x", "kind": "workbook", "group": "general", "task": "eq", "count": 1, "split": "train"}),
                "test or validation",
            ),
            (json!({"name": "x", "kind": "think", "count": 3, "group": "general"}), "no group"),
            (json!({"name": "x", "kind": "think", "count": 3, "tempature": 1}), "tempature"),
            (json!({"name": "x", "kind": "poetry", "group": "general"}), "poetry"),
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
