//! The report: what each model of a recipe scored.

use crate::benchmark::{Group, Kind};
use crate::interval::{percent, wilson};
use crate::run::Scored;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The scores of a recipe's models, as `ringsmith show report --json` prints them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    pub models: Vec<ModelScore>,
}

/// One model's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelScore {
    /// `base`, `stage1`, `stage2` or `dpo`.
    pub model: String,
    /// Unweighted mean of the reasoning tasks' percentages; null without such tasks.
    pub reasoning: Option<f64>,
    /// The same for the general tasks.
    pub general: Option<f64>,
    /// Wrong `<think>` pairs on subjective queries, and the number of queries.
    pub think_wrong: usize,
    pub think_total: usize,
    pub tasks: Vec<TaskScore>,
}

/// One benchmark's score. `low` and `high` bound the 95 % Wilson interval in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScore {
    pub task: String,
    pub group: Group,
    pub correct: usize,
    pub total: usize,
    pub low: f64,
    pub high: f64,
}

impl TaskScore {
    pub fn percent(&self) -> f64 {
        percent(self.correct, self.total)
    }
}

impl ModelScore {
    /// Sums a model's runs up, in their order.
    pub fn new(model: &str, runs: &[Scored]) -> ModelScore {
        let mut tasks = Vec::new();
        let (mut think_wrong, mut think_total) = (0, 0);
        for run in runs {
            let (correct, total) = (run.correct(), run.items.len());
            match (run.kind, run.group) {
                (Kind::Think, _) => {
                    think_wrong += total - correct;
                    think_total += total;
                }
                (_, Some(group)) => {
                    let (low, high) = wilson(correct, total);
                    tasks.push(TaskScore { task: run.benchmark.clone(), group, correct, total, low, high });
                }
                (_, None) => {}
            }
        }
        let (reasoning, general) = (mean(&tasks, Group::Reasoning), mean(&tasks, Group::General));
        ModelScore { model: model.into(), reasoning, general, think_wrong, think_total, tasks }
    }

    pub fn mean(&self, group: Group) -> Option<f64> {
        match group {
            Group::Reasoning => self.reasoning,
            Group::General => self.general,
        }
    }

    pub fn task(&self, name: &str) -> Option<&TaskScore> {
        self.tasks.iter().find(|task| task.task == name)
    }
}

fn mean(tasks: &[TaskScore], group: Group) -> Option<f64> {
    let shares: Vec<f64> = tasks.iter().filter(|task| task.group == group).map(TaskScore::percent).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

impl Report {
    /// Names of the group's tasks, in the order in which models first list them.
    pub fn tasks(&self, group: Group) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for task in self.models.iter().flat_map(|model| &model.tasks).filter(|task| task.group == group) {
            if !names.contains(&task.task.as_str()) {
                names.push(&task.task);
            }
        }
        names
    }
}

/// The report as plain text: a row a task with percent and interval for each model, the two means, and the
/// wrong `<think>` pairs.
pub fn table(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut rules = vec![1];
    rows.push(std::iter::once(String::new()).chain(report.models.iter().map(|m| m.model.clone())).collect());
    for (group, label) in [(Group::Reasoning, "reasoning mean"), (Group::General, "general mean")] {
        let tasks = report.tasks(group);
        if tasks.is_empty() {
            continue;
        }
        for task in tasks {
            let cells = report.models.iter().map(|model| match model.task(task) {
                Some(t) => {
                    format!("{:.1} [{:.0}, {:.0}] {}/{}", t.percent(), t.low, t.high, t.correct, t.total)
                }
                None => "-".into(),
            });
            rows.push(std::iter::once(task.to_string()).chain(cells).collect());
        }
        let means =
            report.models.iter().map(|m| m.mean(group).map_or("-".into(), |mean| format!("{mean:.1}")));
        rows.push(std::iter::once(label.to_string()).chain(means).collect());
        rules.push(rows.len());
    }
    if report.models.iter().any(|model| model.think_total > 0) {
        let cells = report.models.iter().map(|model| match model.think_total {
            0 => "-".into(),
            total => format!("{} of {total}", model.think_wrong),
        });
        rows.push(std::iter::once("wrong <think> pairs".to_string()).chain(cells).collect());
        rules.push(rows.len());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=report.models.len()).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        if rules.contains(&i) {
            let length = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            let _ = writeln!(text, "{}", "-".repeat(length));
        }
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    let _ = writeln!(text, "\npercent right [95 % Wilson interval] right/asked; means of tasks, unweighted");
    text
}
