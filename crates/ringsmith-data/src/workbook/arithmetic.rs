//! The reasoning families: chain, eq, word and mod. Answers stand in `\boxed{}`.

use super::{Item, Rng, Task};
use regex::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

/// First names, also used by the tool requests.
pub(super) const NAMES: [&str; 8] = ["Lea", "Sue", "Tom", "Eva", "Max", "Ida", "Ben", "Kim"];
const OBJECTS: [&str; 4] = ["pens", "coins", "books", "cards"];

/// The ranges of a walk of additions, subtractions and multiplications. Values stay in `1..=value`.
struct Walk {
    steps: usize,
    start: i64,
    operand: i64,
    times: i64,
    value: i64,
}

fn chain_walk(level: u8) -> Walk {
    match level {
        1 => Walk { steps: 3, start: 20, operand: 9, times: 2, value: 40 },
        2 => Walk { steps: 4, start: 40, operand: 15, times: 3, value: 99 },
        3 => Walk { steps: 5, start: 99, operand: 30, times: 5, value: 300 },
        _ => Walk { steps: 6, start: 300, operand: 99, times: 9, value: 999 },
    }
}

/// Word problems walk one step less than chains of the same level.
fn word_walk(level: u8) -> Walk {
    let walk = chain_walk(level);
    Walk { steps: walk.steps - 1, ..walk }
}

impl Walk {
    /// A start and steps `(operation, operand)` whose values all stay in range, with those values.
    fn draw(&self, operations: &[u8], rng: &mut Rng) -> (Vec<(char, i64)>, Vec<i64>) {
        loop {
            let mut values = vec![rng.within(2, self.start)];
            let mut steps = Vec::new();
            while steps.len() < self.steps {
                let operation = *rng.pick(operations) as char;
                let operand = rng.within(2, if operation == '*' { self.times } else { self.operand });
                let value = apply(values[values.len() - 1], operation, operand);
                if !(1..=self.value).contains(&value) {
                    break;
                }
                values.push(value);
                steps.push((operation, operand));
            }
            if steps.len() == self.steps {
                return (steps, values);
            }
        }
    }
}

fn apply(value: i64, operation: char, operand: i64) -> i64 {
    match operation {
        '+' => value + operand,
        '-' => value - operand,
        _ => value * operand,
    }
}

fn walk_key(start: i64, steps: &[(char, i64)]) -> String {
    steps.iter().fold(start.to_string(), |mut key, (operation, operand)| {
        let _ = write!(key, "{operation}{operand}");
        key
    })
}

fn boxed(key: String, prompt: String, thought: String, result: i64) -> Item {
    let reply = format!("\\boxed{{{result}}}");
    Item { key, system: None, prompt, thought, reply, answer: Some(result.to_string()) }
}

pub(super) fn chain(level: u8, rng: &mut Rng) -> Item {
    let (steps, values) = chain_walk(level).draw(b"+-+-*", rng);
    let letter = |i: usize| (b'a' + i as u8) as char;
    let mut given = format!("a={}", values[0]);
    let mut thought = given.clone();
    for (i, (operation, operand)) in steps.iter().enumerate() {
        let _ = write!(given, ", {}={}{operation}{operand}", letter(i + 1), letter(i));
        let _ = write!(thought, ", {}={}{operation}{operand}={}", letter(i + 1), values[i], values[i + 1]);
    }
    let last = letter(steps.len());
    let prompt = match rng.below(2) {
        0 => format!(" Let {given}. What is {last}?"),
        _ => format!(" If {given}, find {last}."),
    };
    boxed(walk_key(values[0], &steps), prompt, thought, values[steps.len()])
}

pub(super) fn word(level: u8, rng: &mut Rng) -> Item {
    let (steps, values) = word_walk(level).draw(b"+-+-*", rng);
    let mut names = NAMES;
    rng.shuffle(&mut names);
    let object = rng.pick(&OBJECTS);
    let mut prompt = format!(" {} has {} {object}.", names[0], values[0]);
    let mut thought = Vec::new();
    for (i, (operation, operand)) in steps.iter().enumerate() {
        let (who, whom) = (names[i + 1], names[i]);
        let _ = match operation {
            '+' => write!(prompt, " {who} has {operand} more than {whom}."),
            '-' => write!(prompt, " {who} has {operand} fewer than {whom}."),
            _ => write!(prompt, " {who} has {operand} times as many as {whom}."),
        };
        thought.push(format!("{}{operation}{operand}={}", values[i], values[i + 1]));
    }
    let _ = write!(prompt, " How many {object} has {}?", names[steps.len()]);
    boxed(walk_key(values[0], &steps), prompt, thought.join(", "), values[steps.len()])
}

pub(super) fn eq(level: u8, rng: &mut Rng) -> Item {
    // Largest a, x, b, c and c+b.
    let (a_max, x_max, b_max, c_max, sum_max) = match level {
        1 => (5, 9, 30, 50, 80),
        2 => (9, 15, 60, 150, 200),
        3 => (15, 40, 200, 600, 800),
        _ => (30, 99, 900, 3000, 3900),
    };
    loop {
        let (a, x, b) = (rng.within(2, a_max), rng.within(2, x_max), rng.within(1, b_max));
        let plus = rng.chance(0.5);
        let c = if plus { a * x + b } else { a * x - b };
        if !(0..=c_max).contains(&c) || c + b > sum_max {
            continue;
        }
        let letter = rng.pick(&["x", "y", "n"]);
        let (sign, inverse) = if plus { ('+', '-') } else { ('-', '+') };
        let equation = format!("{a}{letter}{sign}{b}={c}");
        let prompt = match rng.below(2) {
            0 => format!(" Solve {equation}."),
            _ => format!(" Find {letter} if {equation}."),
        };
        let thought = format!("{c}{inverse}{b}={}, {}/{a}={x}", a * x, a * x);
        return boxed(format!("{a}{sign}{b}={c}"), prompt, thought, x);
    }
}

pub(super) fn modulo(level: u8, rng: &mut Rng) -> Item {
    let (a, b, m) = match level {
        1 => (rng.within(5, 35), rng.within(2, 15), rng.within(3, 6)),
        2 => (rng.within(10, 99), rng.within(5, 60), rng.within(3, 12)),
        3 => (rng.within(50, 300), rng.within(20, 200), rng.within(5, 20)),
        _ => (rng.within(100, 999), rng.within(100, 999), rng.within(7, 30)),
    };
    let (sum, whole) = (a + b, (a + b) / m * m);
    let prompt = match rng.below(2) {
        0 => format!(" Compute ({a}+{b}) mod {m}."),
        _ => format!(" What is the remainder of {a}+{b} by {m}?"),
    };
    let thought = format!("{a}+{b}={sum}, {m}*{}={whole}, {sum}-{whole}={}", sum / m, sum - whole);
    boxed(format!("{a}+{b}%{m}"), prompt, thought, sum - whole)
}

static CHAIN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[a-z]=(?:(\d+)|[a-z]([-+*])(\d+))").unwrap());
static EQ: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d+)[a-z]([-+]\d+=\d+)").unwrap());
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"has (\d+) (more than|fewer than|times as|\w+)").unwrap());
static MOD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d+)\+(\d+)\D+(\d+)").unwrap());

/// The numbers and operations of a prompt.
pub(super) fn read_key(task: Task, prompt: &str) -> Option<String> {
    let mut key = String::new();
    match task {
        Task::Chain => {
            for part in CHAIN.captures_iter(prompt) {
                key.extend((1..=3).filter_map(|i| part.get(i)).map(|m| m.as_str()));
            }
        }
        Task::Eq => {
            let part = EQ.captures(prompt)?;
            key = format!("{}{}", &part[1], &part[2]);
        }
        Task::Word => {
            for part in WORD.captures_iter(prompt) {
                key.push_str(match &part[2] {
                    "more than" => "+",
                    "fewer than" => "-",
                    "times as" => "*",
                    _ => "",
                });
                key.push_str(&part[1]);
            }
        }
        Task::Mod => {
            let part = MOD.captures(prompt)?;
            key = format!("{}+{}%{}", &part[1], &part[2], &part[3]);
        }
        _ => return None,
    }
    (!key.is_empty()).then_some(key)
}
