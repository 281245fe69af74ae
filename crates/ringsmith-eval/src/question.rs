//! Questions of a benchmark: what is asked and what counts as right.

use crate::benchmark::{Benchmark, Kind};
use anyhow::{Context, Result, bail, ensure};
use ringsmith_data::grade::{bfcl, ifeval, number};
use ringsmith_data::record::{Conversation, Role, Turn};
use ringsmith_data::workbook::{self, Order, Rng, Split, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What an answer is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    Workbook {
        task: Task,
        answer: String,
    },
    /// A number as GSM8K writes it.
    Number(String),
    Math(String),
    Letter(char),
    Ifeval(ifeval::Item),
    Bfcl(bfcl::Item),
    /// Only the `<think>` pair is judged.
    Think,
}

/// One question. `text` is the item's own wording, without instructions on how to answer: what
/// decontamination compares with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// `<benchmark>:<row>`, counted from 1.
    pub id: String,
    pub text: String,
    pub conversation: Conversation,
    pub reference: Reference,
}

/// The questions of a benchmark in order. `seed` is the run's: it invents the workbook's facts and orders
/// shuffled choices.
///
/// # Errors
/// An incomplete benchmark, a kind that is not implemented yet, a missing file or a row without what the
/// kind needs, each by name.
pub fn questions(benchmark: &Benchmark, data_root: &Path, seed: u64) -> Result<Vec<Question>> {
    benchmark.check()?;
    let Benchmark { name, kind, .. } = benchmark;
    ensure!(kind.is_implemented(), "benchmark {name}: benchmark kind {} is not implemented yet", kind.name());
    if *kind == Kind::Workbook || (*kind == Kind::Think && benchmark.files.is_empty()) {
        return workbook_questions(benchmark, seed);
    }
    if *kind == Kind::Bfcl {
        return bfcl_questions(benchmark, data_root);
    }
    let mut questions = Vec::new();
    for row in rows(benchmark, data_root, &benchmark.files)? {
        let id = format!("{name}:{}", questions.len() + 1);
        let question = match kind {
            Kind::Gsm8k => gsm8k(id, &row),
            Kind::Math => math(id, &row),
            Kind::Letter => letter(id, &row, benchmark.shuffle.then_some(seed)),
            Kind::Ifeval => ifeval(id, &row),
            _ => think(id, &row),
        };
        questions.push(question.with_context(|| row.place.clone())?);
    }
    ensure!(!questions.is_empty(), "benchmark {name}: no rows in {}", benchmark.files.join(", "));
    Ok(questions)
}

/// The item wordings of a benchmark, for decontamination: `(id, text)`.
///
/// # Errors
/// As [`questions`].
pub fn prompts(benchmark: &Benchmark, data_root: &Path, seed: u64) -> Result<Vec<(String, String)>> {
    Ok(questions(benchmark, data_root, seed)?
        .into_iter()
        .map(|question| (question.id, question.text))
        .collect())
}

fn workbook_questions(benchmark: &Benchmark, seed: u64) -> Result<Vec<Question>> {
    let task = benchmark.workbook_task()?;
    let split = benchmark.split.unwrap_or(Split::Test);
    let count = benchmark.count.unwrap_or(0).min(benchmark.limit.unwrap_or(usize::MAX));
    let order = Order { level: benchmark.level.unwrap_or(1), ..Order::new(task, split, count, seed) };
    let records = workbook::generate(&order).with_context(|| format!("benchmark {}", benchmark.name))?;
    let asked = records.into_iter().enumerate().map(|(i, record)| {
        let (conversation, _) = workbook::question(&record).context("a workbook item without a question")?;
        let text = conversation.turns.last().map_or(String::new(), |turn| turn.text.trim().to_string());
        let reference = match benchmark.kind {
            Kind::Think => Reference::Think,
            _ => Reference::Workbook {
                task,
                answer: record.answer.context("a workbook item without an answer")?,
            },
        };
        Ok(Question { id: format!("{}:{}", benchmark.name, i + 1), text, conversation, reference })
    });
    asked.collect()
}

/// A row of a file and where it stands.
struct Row {
    place: String,
    fields: Map<String, Value>,
}

impl Row {
    /// The first of these keys that holds a text.
    fn text(&self, keys: &[&str]) -> Result<&str> {
        let found = keys.iter().find_map(|key| self.fields.get(*key).and_then(Value::as_str));
        found.with_context(|| format!("no text `{}`", keys.join("` or `")))
    }
}

/// The rows of JSONL files, up to the benchmark's limit.
fn rows(benchmark: &Benchmark, data_root: &Path, files: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in files {
        let path = data_root.join(name);
        let at = || format!("benchmark {}: {}", benchmark.name, path.display());
        let lines = BufReader::new(File::open(&path).with_context(at)?).lines();
        for (i, line) in lines.enumerate() {
            let place = format!("{}, row {}", at(), i + 1);
            let line = line.with_context(|| place.clone())?;
            if line.trim().is_empty() {
                continue;
            }
            if benchmark.limit.is_some_and(|limit| rows.len() >= limit) {
                return Ok(rows);
            }
            let fields = serde_json::from_str(&line).with_context(|| place.clone())?;
            rows.push(Row { place, fields });
        }
    }
    Ok(rows)
}

const BOXED: &str = "Please reason step by step, and put your final answer within \\boxed{}.";

fn gsm8k(id: String, row: &Row) -> Result<Question> {
    let text = row.text(&["question"])?;
    let answer = row.text(&["answer"])?;
    let number = answer.rsplit_once("####").context("no `####` in the answer")?.1.trim();
    number::gsm8k_reference(answer).with_context(|| format!("`{number}` is not a number"))?;
    let conversation = Conversation::ask(format!("{text}\n{BOXED}"));
    Ok(Question { id, text: text.into(), conversation, reference: Reference::Number(number.into()) })
}

fn math(id: String, row: &Row) -> Result<Question> {
    let text = row.text(&["problem", "question"])?;
    let answer = match row.fields.get("answer").or_else(|| row.fields.get("final_answer")) {
        Some(Value::String(answer)) => answer.clone(),
        Some(Value::Number(answer)) => answer.to_string(),
        Some(Value::Array(answers)) => {
            answers.first().and_then(Value::as_str).context("an empty answer")?.into()
        }
        _ => bail!("no `answer` or `final_answer`"),
    };
    let conversation = Conversation::ask(format!("{text}\n{BOXED}"));
    Ok(Question { id, text: text.into(), conversation, reference: Reference::Math(answer) })
}

fn letter(id: String, row: &Row, shuffle: Option<u64>) -> Result<Question> {
    let text = row.text(&["question"])?;
    let choices: Option<Vec<&str>> = row.fields.get("choices").and_then(Value::as_array).and_then(|list| {
        let texts = list.iter().map(Value::as_str);
        texts.collect()
    });
    let choices = choices.context("no list of texts `choices`")?;
    ensure!((2..=10).contains(&choices.len()), "{} choices, not 2 to 10", choices.len());
    let right = match row.fields.get("answer") {
        Some(Value::Number(index)) => index.as_u64().map(|index| index as usize),
        Some(Value::String(letter)) => {
            letter.bytes().next().and_then(|b| b.checked_sub(b'A')).map(usize::from)
        }
        _ => None,
    };
    let right = right.filter(|right| *right < choices.len()).context("`answer` names none of the choices")?;
    let mut order: Vec<usize> = (0..choices.len()).collect();
    if let Some(seed) = shuffle {
        Rng::new(&[b"choices", &seed.to_le_bytes(), id.as_bytes()]).shuffle(&mut order);
    }
    let letter = |i: usize| (b'A' + i as u8) as char;
    let listed: Vec<String> =
        order.iter().enumerate().map(|(i, choice)| format!("{}. {}", letter(i), choices[*choice])).collect();
    let ask = "Think step by step, then end with a line `Answer: X`, where X is the letter of your choice.";
    let conversation = Conversation::ask(format!("{text}\n\n{}\n\n{ask}", listed.join("\n")));
    let place = order.iter().position(|choice| *choice == right).context("a lost choice")?;
    Ok(Question { id, text: text.into(), conversation, reference: Reference::Letter(letter(place)) })
}

fn ifeval(id: String, row: &Row) -> Result<Question> {
    let item: ifeval::Item = serde_json::from_value(Value::Object(row.fields.clone()))?;
    // Unknown instructions and missing arguments show here, not in the middle of a run.
    ifeval::strict(&item, "-")?;
    let conversation = Conversation::ask(item.prompt.clone());
    Ok(Question { id, text: item.prompt.clone(), conversation, reference: Reference::Ifeval(item) })
}

fn think(id: String, row: &Row) -> Result<Question> {
    let turn = row.fields.get("turns").and_then(|turns| turns.get(0)).and_then(Value::as_str);
    let text = match turn {
        Some(first) => first,
        None => row.text(&["prompt", "question", "instruction", "Instruction"])?,
    };
    Ok(Question { id, text: text.into(), conversation: Conversation::ask(text), reference: Reference::Think })
}

fn bfcl_questions(benchmark: &Benchmark, data_root: &Path) -> Result<Vec<Question>> {
    // Files that hold possible answers are told from files that hold functions by their rows.
    let unlimited = Benchmark { limit: None, ..benchmark.clone() };
    let (possible, asked): (Vec<Row>, Vec<Row>) = rows(&unlimited, data_root, &benchmark.files)?
        .into_iter()
        .partition(|row| row.fields.contains_key("ground_truth"));
    let mut answers = HashMap::new();
    for row in &possible {
        answers.insert(row.text(&["id"]).with_context(|| row.place.clone())?, row);
    }
    let mut questions = Vec::new();
    for row in asked.iter().take(benchmark.limit.unwrap_or(usize::MAX)) {
        let id = format!("{}:{}", benchmark.name, questions.len() + 1);
        questions.push(bfcl_question(id, row, &answers).with_context(|| row.place.clone())?);
    }
    ensure!(
        !questions.is_empty(),
        "benchmark {}: no functions in {}",
        benchmark.name,
        benchmark.files.join(", ")
    );
    Ok(questions)
}

fn bfcl_question(id: String, row: &Row, answers: &HashMap<&str, &Row>) -> Result<Question> {
    let key = row.text(&["id"])?;
    let answer = answers.get(key).with_context(|| format!("no possible answer for {key}"))?;
    let possible = match answer.fields["ground_truth"].as_array().map(Vec::as_slice) {
        Some([Value::Object(possible)]) => possible.clone(),
        _ => bail!("{key}: the possible answer is not one call"),
    };
    let function = match row.fields.get("function").and_then(Value::as_array).map(Vec::as_slice) {
        Some([function]) => function.clone(),
        _ => bail!("{key}: not one function; only single calls are graded"),
    };
    let turns = match row.fields.get("question").and_then(|q| q.get(0)).and_then(Value::as_array) {
        Some(turns) if !turns.is_empty() => turns,
        _ => bail!("{key}: no `question`"),
    };
    let mut conversation = Conversation::default();
    conversation.turns.push(Turn::new(
        Role::System,
        format!(
            "You may call one function. Answer with the call alone, as [name(parameter=value, ...)].\n\
             The functions, in JSON:\n{}",
            serde_json::to_string(&[&function])?
        ),
    ));
    for turn in turns {
        let role = match turn["role"].as_str() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            other => bail!("{key}: unknown role {other:?}"),
        };
        let content = turn["content"].as_str().with_context(|| format!("{key}: a turn without content"))?;
        conversation.turns.push(Turn::new(role, content));
    }
    let text = conversation.turns.last().map_or(String::new(), |turn| turn.text.clone());
    Ok(Question { id, text, conversation, reference: Reference::Bfcl(bfcl::Item { function, possible }) })
}
