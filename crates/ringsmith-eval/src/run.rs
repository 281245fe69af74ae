//! A run: a solver answers the questions of a benchmark and each answer is graded.

use crate::benchmark::{Benchmark, Group, Kind};
use crate::question::{Question, Reference};
use anyhow::{Context, Result, ensure};
use ringsmith_data::grade::think::{self, ThinkPair};
use ringsmith_data::grade::{self, Class, bfcl, choice, ifeval, math, number, workbook};
use ringsmith_data::record::Conversation;
use ringsmith_data::solver::{Answer, Solver};
use serde::{Deserialize, Serialize};

/// One graded answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemResult {
    /// The question's id, with `#<n>` for the n-th of several samples.
    pub id: String,
    pub correct: bool,
    pub class: Class,
    /// How the `<think>` tags stand, whatever is graded.
    pub think: ThinkPair,
    /// The answer as the model wrote it.
    pub answer: String,
}

/// A count beside the main score, such as IFEval's loose reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub name: String,
    pub correct: usize,
    pub total: usize,
}

/// A benchmark's graded answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub benchmark: String,
    pub kind: Kind,
    pub group: Option<Group>,
    pub items: Vec<ItemResult>,
    /// IFEval: `prompt_loose`, `instruction_strict`, `instruction_loose`; otherwise empty.
    pub measures: Vec<Measure>,
}

impl Scored {
    pub fn correct(&self) -> usize {
        self.items.iter().filter(|item| item.correct).count()
    }

    /// Answers of that class.
    pub fn count(&self, class: Class) -> usize {
        self.items.iter().filter(|item| item.class == class).count()
    }
}

/// Asks the solver every question (as often as the benchmark's `samples` says) and grades the answers.
///
/// # Errors
/// What the solver says, another number of answers than questions, or a reference that cannot be graded.
pub fn run(
    benchmark: &Benchmark,
    questions: &[Question],
    solver: &mut dyn Solver,
    seed: u64,
) -> Result<Scored> {
    let asked: Vec<&Question> =
        questions.iter().flat_map(|q| std::iter::repeat_n(q, benchmark.samples)).collect();
    let conversations: Vec<Conversation> =
        asked.iter().map(|question| question.conversation.clone()).collect();
    let context = || format!("benchmark {}", benchmark.name);
    let answers = solver.answer(&conversations, &benchmark.sampling(seed)).with_context(context)?;
    let (had, wanted) = (answers.len(), asked.len());
    ensure!(had == wanted, "benchmark {}: {had} answers to {wanted} questions", benchmark.name);
    let mut items = Vec::with_capacity(wanted);
    for (i, (question, answer)) in asked.iter().zip(&answers).enumerate() {
        let class =
            judge(&question.reference, answer).with_context(|| format!("question {}", question.id))?;
        let id = match benchmark.samples {
            1 => question.id.clone(),
            samples => format!("{}#{}", question.id, i % samples + 1),
        };
        let think = think::strip(&answer.text).think;
        items.push(ItemResult {
            id,
            correct: class == Class::Right,
            class,
            think,
            answer: answer.text.clone(),
        });
    }
    let measures =
        if benchmark.kind == Kind::Ifeval { ifeval_measures(&asked, &answers)? } else { Vec::new() };
    Ok(Scored {
        benchmark: benchmark.name.clone(),
        kind: benchmark.kind,
        group: benchmark.group,
        items,
        measures,
    })
}

/// The class of an answer against a reference.
///
/// # Errors
/// A reference that cannot be graded against.
pub fn judge(reference: &Reference, answer: &Answer) -> Result<Class> {
    if *reference == Reference::Think {
        // A cut answer has whatever pair it has: Table 3 counts pairs, not answers.
        return Ok(if workbook::pair(&answer.text) { Class::Right } else { Class::Wrong });
    }
    let mut failure = None;
    let class = grade::grade(answer, |body| match right(reference, body) {
        Ok(right) => right,
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    failure.map_or(Ok(class), Err)
}

fn right(reference: &Reference, body: &str) -> Result<bool> {
    Ok(match reference {
        Reference::Workbook { task, answer } => workbook::right(*task, answer, body)?,
        Reference::Number(number) => match math::boxed(body) {
            Some(boxed) => math::equal(boxed, number),
            None => {
                let expected = number::Ratio::parse(number);
                expected.is_some() && number::last_number(body) == expected
            }
        },
        Reference::Math(answer) => math::boxed(body).is_some_and(|boxed| math::equal(boxed, answer)),
        Reference::Letter(letter) => choice::letter(body) == Some(*letter),
        Reference::Ifeval(item) => ifeval::strict(item, body)?.into_iter().all(|followed| followed),
        Reference::Bfcl(item) => bfcl::right(item, body)?,
        Reference::Think => false,
    })
}

fn ifeval_measures(asked: &[&Question], answers: &[Answer]) -> Result<Vec<Measure>> {
    let measure = |name: &str| Measure { name: name.into(), correct: 0, total: 0 };
    let mut measures = ["prompt_loose", "instruction_strict", "instruction_loose"].map(measure);
    for (question, answer) in asked.iter().zip(answers) {
        let Reference::Ifeval(item) = &question.reference else { continue };
        let body = think::strip(&answer.text).body;
        let (strict, loose) = (ifeval::strict(item, body)?, ifeval::loose(item, body)?);
        let all = loose.iter().all(|followed| *followed);
        for (measure, (correct, total)) in measures.iter_mut().zip([
            (usize::from(all), 1),
            (strict.iter().filter(|f| **f).count(), strict.len()),
            (loose.iter().filter(|f| **f).count(), loose.len()),
        ]) {
            measure.correct += correct;
            measure.total += total;
        }
    }
    Ok(measures.into())
}
