//! Preference pairs: sampled from a model by rule, broken on purpose in their format, or read from files.

use super::{Context, Outcome, answer, model, records};
use crate::{recipe::preference::Rule, stage::Stage};
use anyhow::{Context as _, Result, ensure};
use ringsmith_data::{
    grade::{
        self, Class, math,
        think::{ThinkPair, strip},
    },
    record::{Body, Record},
    solver::{Answer, Sampling},
    workbook::{self, Rng, Task, break_think},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs};

/// Why a sample lost against the record's own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The final answer is wrong, cut, or not there.
    Wrong,
    /// The record's answer has a right `<think>` pair and the sample has not.
    Think,
    /// Right, but longer than the record's answer.
    Longer,
    /// As good as the record's answer: no pair.
    Even,
    /// The record is no chat that ends with an answer.
    NoAnswer,
    /// A pair was made, but enough were there already.
    Enough,
}

pub fn make(context: &Context<'_>) -> Result<Outcome> {
    let preference = context.recipe.preference.as_ref().context("no [preference] table")?;
    let mut pairs = Vec::new();
    let mut counts: BTreeMap<String, BTreeMap<Verdict, u64>> = BTreeMap::new();
    if let Some(rule) = &preference.rule {
        let prompts = records::mix(context, &rule.prompts)?;
        let Some(samples) = samples(context, rule, &prompts)? else { return Ok(Outcome::Stopped) };
        let counts = counts.entry("rule".into()).or_default();
        let mut made = 0;
        for (record, sample) in prompts.iter().zip(&samples) {
            let mut verdict = judge(record, sample)?;
            if matches!(verdict, Verdict::Wrong | Verdict::Think | Verdict::Longer) {
                if made == rule.pairs {
                    verdict = Verdict::Enough;
                } else if let Some((question, answer)) = workbook::question(record) {
                    made += 1;
                    let body =
                        Body::Pair { prompt: question, chosen: answer.into(), rejected: sample.text.clone() };
                    pairs.push(pair("rule", record, body));
                }
            }
            *counts.entry(verdict).or_default() += 1;
        }
    }
    if let Some(format) = &preference.format {
        let prompts = records::mix(context, &format.prompts)?;
        let counts = counts.entry("format".into()).or_default();
        let mut made = 0;
        for (i, record) in prompts.iter().enumerate() {
            let mut rng =
                Rng::new(&[b"format pair", &context.recipe.seed.to_le_bytes(), &(i as u64).to_le_bytes()]);
            let broken =
                workbook::question(record).map(|(q, answer)| (q, answer, break_think(answer, &mut rng)));
            let verdict = match broken {
                None => Verdict::NoAnswer,
                Some((_, answer, broken)) if broken == answer => Verdict::Even,
                Some(_) if made == format.pairs => Verdict::Enough,
                Some((prompt, answer, rejected)) => {
                    made += 1;
                    pairs.push(pair(
                        "format",
                        record,
                        Body::Pair { prompt, chosen: answer.into(), rejected },
                    ));
                    Verdict::Think
                }
            };
            *counts.entry(verdict).or_default() += 1;
        }
    }
    if let Some(mix) = &preference.pairs {
        let read = records::mix(context, mix)?;
        if let Some(record) = read.iter().find(|r| !matches!(r.body, Body::Pair { .. })) {
            anyhow::bail!(
                "record {} of preference.pairs is no pair of a better and a worse answer",
                record.id
            );
        }
        pairs.extend(read);
    }
    ensure!(!pairs.is_empty(), "no pair was made: {}", serde_json::to_string(&counts)?);
    records::write(&context.dir.join("records.jsonl"), &pairs)?;
    fs::write(context.dir.join("verdicts.json"), serde_json::to_vec_pretty(&counts)?)?;
    Ok(Outcome::Done(Some(format!("{} pairs", pairs.len()))))
}

fn pair(kind: &str, of: &Record, body: Body) -> Record {
    Record { id: format!("{kind}:{}", of.id), source: kind.into(), body, ..of.clone() }
}

/// One sample for each prompt; `None` if the run was stopped.
fn samples(context: &Context<'_>, rule: &Rule, prompts: &[Record]) -> Result<Option<Vec<Answer>>> {
    let questions: Vec<_> =
        prompts.iter().filter_map(|r| workbook::question(r).map(|(question, _)| question)).collect();
    ensure!(
        questions.len() == prompts.len(),
        "preference.rule.prompts: {} of {} records are no chats that end with an answer",
        prompts.len() - questions.len(),
        prompts.len()
    );
    let sampling = Sampling {
        max_tokens: rule.max_tokens,
        temperature: rule.temperature as f32,
        top_p: rule.top_p as f32,
        seed: context.recipe.seed,
    };
    let tokenizer = &context.bench.artifact(&Stage::Tokenizer)?.dir;
    let mut solver = answer::Local::new(model::load(context, rule.from)?, tokenizer, context.stop)?;
    solver.name = "preference".into();
    solver.try_answer(&questions, &sampling)
}

fn judge(record: &Record, sample: &Answer) -> Result<Verdict> {
    let Some((_, teacher)) = workbook::question(record) else { return Ok(Verdict::NoAnswer) };
    let task = record.task.as_deref().and_then(|name| Task::parse(name).ok());
    let reference = record.answer.as_deref();
    let mut failed = None;
    let class = grade::grade(sample, |body| match (task, reference) {
        (Some(task), Some(reference)) => grade::workbook::right(task, reference, body).unwrap_or_else(|e| {
            failed = Some(e);
            false
        }),
        (None, Some(reference)) => math::boxed(body).is_some_and(|answer| math::equal(answer, reference)),
        (_, None) => true,
    });
    if let Some(e) = failed {
        return Err(e).with_context(|| format!("record {}", record.id));
    }
    let needs_pair = strip(teacher).think == ThinkPair::Ok;
    Ok(if needs_pair && strip(&sample.text).think != ThinkPair::Ok {
        Verdict::Think
    } else if class != Class::Right {
        Verdict::Wrong
    } else if sample.text.chars().count() > teacher.chars().count() {
        Verdict::Longer
    } else {
        Verdict::Even
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringsmith_data::record::{Conversation, Role, Turn};

    #[test]
    fn samples_are_judged_by_rule() {
        let turns =
            vec![Turn::new(Role::User, " 4+5?"), Turn::new(Role::Assistant, "<think> 9</think>\\boxed{9}")];
        let record = Record {
            id: "s:1".into(),
            source: "s".into(),
            body: Body::Chat(Conversation { turns }),
            answer: Some("9".into()),
            task: None,
            level: None,
        };
        let judged = |text: &str| judge(&record, &Answer { text: text.into(), truncated: false }).unwrap();
        assert_eq!(judged("<think> 9</think>\\boxed{9}"), Verdict::Even);
        assert_eq!(judged("<think> 8</think>\\boxed{8}"), Verdict::Wrong);
        assert_eq!(judged("\\boxed{9}"), Verdict::Think);
        assert_eq!(judged("<think> 4+5=9, so 9</think>\\boxed{9}"), Verdict::Longer);
    }
}
