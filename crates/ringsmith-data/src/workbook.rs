//! The workbook: procedural problems with exact answers and a programmatic teacher that writes the thought.
//!
//! Every item has a *key*, its content without its wording (the numbers and operations, the constraints,
//! the request). The key alone decides the split, so a held-out item never appears in training in another
//! dress. Each chat text that starts with a letter, digit or brace starts with a space, so that a word is
//! the same token in a prompt and at the start of an answer.

mod arithmetic;
mod facts;
mod instruct;
mod opinion;
mod request;
mod rng;
mod sums;

pub use facts::value_kind;
pub use instruct::Constraints;
pub use opinion::break_think;
pub use rng::Rng;

use crate::record::{Body, Conversation, Record, Role, Turn};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// What is asked. The name in a recipe, in [`Record::task`] and in ids is the snake-case one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Assignments that build on each other: ` Let a=17, b=a+5, c=b-7, d=c-6. What is d?`
    Chain,
    /// Linear equations: ` Solve 3y+6=15.`
    Eq,
    /// Word problems: ` Lea has 19 coins. Sue has 7 fewer than Lea. ...`
    Word,
    /// Remainders: ` Compute (33+11) mod 6.`
    Mod,
    /// Lists under checkable constraints: ` Give 4 things, starting with drum, with bars.`
    Instruct,
    /// A request answered by a call in JSON.
    Tool,
    /// Which of the offered tools serves a request, or `none`.
    Pick,
    /// Questions about invented countries.
    Facts,
    /// Questions of taste, where only the `<think>` pair can be judged.
    Subjective,
    /// Raw text: one document states the three facts of a country.
    FactDocuments,
    /// Raw text: a line of six sums.
    Sums,
}

impl Task {
    pub const ALL: [Task; 11] = [
        Task::Chain,
        Task::Eq,
        Task::Word,
        Task::Mod,
        Task::Instruct,
        Task::Tool,
        Task::Pick,
        Task::Facts,
        Task::Subjective,
        Task::FactDocuments,
        Task::Sums,
    ];

    /// The name used in recipes, records and ids.
    pub fn name(self) -> &'static str {
        match self {
            Task::Chain => "chain",
            Task::Eq => "eq",
            Task::Word => "word",
            Task::Mod => "mod",
            Task::Instruct => "instruct",
            Task::Tool => "tool",
            Task::Pick => "pick",
            Task::Facts => "facts",
            Task::Subjective => "subjective",
            Task::FactDocuments => "fact_documents",
            Task::Sums => "sums",
        }
    }

    /// The task of that name.
    pub fn parse(name: &str) -> Result<Task> {
        Task::ALL.into_iter().find(|task| task.name() == name).with_context(|| {
            let names: Vec<_> = Task::ALL.iter().map(|task| task.name()).collect();
            format!("unknown workbook task `{name}`; there are {}", names.join(", "))
        })
    }

    /// The reasoning families: chain, eq, word and mod.
    pub fn is_reasoning(self) -> bool {
        matches!(self, Task::Chain | Task::Eq | Task::Word | Task::Mod)
    }

    /// Raw text: no question, no answer, no held-out part.
    pub fn is_text(self) -> bool {
        matches!(self, Task::FactDocuments | Task::Sums)
    }

    /// The hardest level; 1 is the easiest. Reasoning levels lengthen chains and widen ranges (tables in
    /// `arithmetic.rs`); instruct 2 asks for 4 to 8 words, tool 2 has larger numbers, pick 2 offers five tools.
    pub fn levels(self) -> u8 {
        match self {
            task if task.is_reasoning() => 4,
            Task::Instruct | Task::Tool | Task::Pick => 2,
            _ => 1,
        }
    }

    /// The style an answer has when a recipe names none.
    pub fn default_style(self) -> Style {
        match self {
            Task::Subjective => Style::Pair,
            task if task.is_reasoning() => Style::Thought,
            _ => Style::Direct,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the teacher answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Reasoning: `<think> steps</think>\boxed{9}`; of facts, the fact recalled before it is used.
    Thought,
    /// The answer alone.
    Direct,
    /// Subjective: an answer after a short `<think>` pair.
    Pair,
    /// Subjective: the answer without tags.
    Plain,
}

/// Which part of the items may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Validation,
    Test,
    /// Everything: only for facts (which pretraining must state, held-out ones too) and raw text.
    All,
}

impl Split {
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
            Split::All => "all",
        }
    }
}

/// An order for `count` items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub task: Task,
    pub style: Style,
    pub split: Split,
    /// 1 is easiest; see [`Task::levels`].
    pub level: u8,
    pub count: usize,
    /// The run's seed. It also invents the facts, so all orders of one run must share it.
    pub seed: u64,
    /// Independent orders of one run that agree in everything else take different lanes.
    pub lane: u64,
}

impl Order {
    /// An order at level 1 in the task's default style, lane 0.
    pub fn new(task: Task, split: Split, count: usize, seed: u64) -> Order {
        Order { task, style: task.default_style(), split, level: 1, count, seed, lane: 0 }
    }
}

/// One drawn item, before it becomes a record.
struct Item {
    key: String,
    system: Option<String>,
    prompt: String,
    /// What stands between the tags when the style asks for a thought.
    thought: String,
    reply: String,
    answer: Option<String>,
}

/// Draws the order's records. The same order gives the same records.
///
/// Prompts of the held-out splits are distinct as long as the pool lasts, then start again; training
/// prompts are drawn independently. Ids are `<task>:<split>:<n>`, counted from 1.
///
/// # Errors
/// A style, split or level that the task does not have, or a split that no item was found for.
pub fn generate(order: &Order) -> Result<Vec<Record>> {
    let Order { task, style, split, level, .. } = *order;
    check(order)?;
    let mut rng = Rng::new(&[
        &order.seed.to_le_bytes(),
        task.name().as_bytes(),
        &[style as u8, split as u8, level],
        &order.lane.to_le_bytes(),
    ]);
    let world = matches!(task, Task::Facts | Task::FactDocuments).then(|| facts::World::new(order.seed));
    let mut records = Vec::with_capacity(order.count);
    let mut seen = HashSet::new();
    let held_out = matches!(split, Split::Test | Split::Validation);
    while records.len() < order.count {
        let id = format!("{task}:{}:{}", split.name(), records.len() + 1);
        if task.is_text() {
            let text = match &world {
                Some(world) => world.document(&mut rng),
                None => sums::line(&mut rng),
            };
            let task = Some(task.name().to_string());
            let body = Body::Text(text);
            records.push(Record {
                id,
                source: "workbook".into(),
                body,
                answer: None,
                task,
                level: Some(level),
            });
            continue;
        }
        // A small held-out pool runs dry: after this many known prompts in a row it starts again.
        let mut item = draw(order, world.as_ref(), &mut rng)?;
        for _ in 0..if held_out { 2000 } else { 0 } {
            if !seen.contains(&(item.system.clone(), item.prompt.clone())) {
                break;
            }
            item = draw(order, world.as_ref(), &mut rng)?;
        }
        if held_out && !seen.insert((item.system.clone(), item.prompt.clone())) {
            seen.clear();
            seen.insert((item.system.clone(), item.prompt.clone()));
        }
        records.push(record(id, order, item));
    }
    Ok(records)
}

/// The order asks for something that exists.
fn check(order: &Order) -> Result<()> {
    let Order { task, style, split, level, .. } = *order;
    let styles: &[Style] = match task {
        Task::Subjective => &[Style::Pair, Style::Plain],
        task if task.is_reasoning() || task == Task::Facts => &[Style::Thought, Style::Direct],
        _ => &[Style::Direct],
    };
    ensure!(styles.contains(&style), "workbook task {task} has no style {style:?}, only {styles:?}");
    let levels = task.levels();
    ensure!((1..=levels).contains(&level), "workbook task {task} has levels 1 to {levels}, not {level}");
    match (task.is_text(), split) {
        (true, Split::Test | Split::Validation) => {
            bail!("workbook task {task} is raw text and has no {} split", split.name())
        }
        (true, Split::Train) if task == Task::FactDocuments => {
            bail!("workbook task {task} states every fact, held-out ones too: its split is `all`")
        }
        (false, Split::All) if task != Task::Facts => {
            bail!("workbook task {task}: split `all` would draw held-out items; use `train`")
        }
        _ => Ok(()),
    }
}

/// Draws until an item falls into the order's split.
fn draw(order: &Order, world: Option<&facts::World>, rng: &mut Rng) -> Result<Item> {
    let Order { task, split, level, .. } = *order;
    for _ in 0..100_000 {
        let item = match task {
            Task::Chain => arithmetic::chain(level, rng),
            Task::Eq => arithmetic::eq(level, rng),
            Task::Word => arithmetic::word(level, rng),
            Task::Mod => arithmetic::modulo(level, rng),
            Task::Instruct => instruct::item(level, rng),
            Task::Tool => request::tool(level, rng),
            Task::Pick => request::pick(level, rng),
            Task::Subjective => opinion::item(rng),
            Task::Facts => {
                let world = world.context("facts are drawn from a world")?;
                return Ok(world.question(split, rng));
            }
            Task::FactDocuments | Task::Sums => bail!("workbook task {task} has no items"),
        };
        if split_of(task, &item.key) == split {
            return Ok(item);
        }
    }
    bail!("workbook task {task}: no item of split {} at level {level}", split.name())
}

fn record(id: String, order: &Order, item: Item) -> Record {
    let reply = match order.style {
        Style::Thought | Style::Pair => format!("<think> {}</think>{}", item.thought, item.reply),
        Style::Direct | Style::Plain => item.reply,
    };
    let system = item.system.map(|text| Turn::new(Role::System, text));
    let turns =
        system.into_iter().chain([Turn::new(Role::User, item.prompt), Turn::new(Role::Assistant, reply)]);
    Record {
        id,
        source: "workbook".into(),
        body: Body::Chat(Conversation { turns: turns.collect() }),
        answer: item.answer,
        task: Some(order.task.name().into()),
        level: Some(order.level),
    }
}

/// The split of a key: blake3 of (task, key) modulo 10; 0 is test, 1 is validation, the rest is training.
/// `pick` shares the keys of `tool`, so a held-out request is held out from both. Facts are not split by
/// hash but by the run's seed.
pub fn split_of(task: Task, key: &str) -> Split {
    let domain = if task == Task::Pick { Task::Tool } else { task };
    let hash = blake3::hash(format!("{domain}\0{key}").as_bytes());
    let bytes = hash.as_bytes();
    match u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % 10 {
        0 => Split::Test,
        1 => Split::Validation,
        _ => Split::Train,
    }
}

/// The key of a workbook record, read back from its text, so that it proves what was really written.
/// `None` for raw text and for records that are not of the workbook.
pub fn key(record: &Record) -> Option<String> {
    let task = Task::parse(record.task.as_deref()?).ok()?;
    let (conversation, _) = question(record)?;
    let prompt = &conversation.turns.last()?.text;
    match task {
        Task::Chain | Task::Eq | Task::Word | Task::Mod => arithmetic::read_key(task, prompt),
        Task::Instruct => instruct::read_key(prompt),
        Task::Tool | Task::Pick => request::read_key(prompt),
        Task::Facts => facts::read_key(prompt),
        Task::Subjective => Some(prompt.trim().to_string()),
        Task::FactDocuments | Task::Sums => None,
    }
}

/// A chat record taken apart: the question (without the last assistant turn) and the teacher's answer.
pub fn question(record: &Record) -> Option<(Conversation, &str)> {
    let Body::Chat(conversation) = &record.body else { return None };
    let (last, before) = conversation.turns.split_last()?;
    (last.role == Role::Assistant).then(|| (Conversation { turns: before.to_vec() }, last.text.as_str()))
}

#[cfg(test)]
mod tests;
