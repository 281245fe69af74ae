//! Requests that a tool serves: `tool` answers with the call in JSON, `pick` with the tool's name.

use super::arithmetic::NAMES;
use super::{Item, Rng};
use serde_json::{Map, Value};

const CITIES: [&str; 8] = ["Rome", "Oslo", "Paris", "Cairo", "Lima", "Delhi", "Tokyo", "Bern"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ITEMS: [&str; 24] = [
    "pens", "books", "lamps", "chairs", "cups", "plates", "shoes", "socks", "hats", "coats", "keys", "bags",
    "balls", "bikes", "clocks", "boxes", "nails", "ropes", "maps", "stamps", "towels", "knives", "forks",
    "spoons",
];

/// A tool: its name, its parameters in order and the wordings of a request.
struct Tool {
    name: &'static str,
    parameters: [&'static str; 2],
    wordings: [&'static str; 3],
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "weather",
        parameters: ["city", "day"],
        wordings: [
            "What is the weather in {city} on {day}?",
            "Weather in {city} for {day}, please.",
            "How warm is it in {city} on {day}?",
        ],
    },
    Tool {
        name: "alarm",
        parameters: ["hour", "day"],
        wordings: [
            "Wake me at {hour} on {day}.",
            "Set an alarm for {hour} on {day}.",
            "Alarm at {hour} on {day}.",
        ],
    },
    Tool {
        name: "pay",
        parameters: ["to", "sum"],
        wordings: ["Send {sum} euros to {to}.", "Pay {sum} euros to {to}.", "Give {to} {sum} euros."],
    },
    Tool {
        name: "buy",
        parameters: ["item", "count"],
        wordings: ["Buy {count} {item}.", "Order {count} {item}.", "I need {count} {item}."],
    },
    Tool {
        name: "train",
        parameters: ["from", "to"],
        wordings: [
            "Find a train from {from} to {to}.",
            "Train from {from} to {to}, please.",
            "I want to go from {from} to {to}.",
        ],
    },
    Tool {
        name: "call",
        parameters: ["who", "day"],
        wordings: ["Call {who} on {day}.", "Phone {who} on {day}.", "Ring {who} on {day}, please."],
    },
];

/// A tool with its arguments, numbers as numbers.
struct Call {
    tool: &'static Tool,
    arguments: [Value; 2],
}

impl Call {
    fn draw(level: u8, rng: &mut Rng) -> Call {
        let tool = &TOOLS[rng.below(TOOLS.len())];
        let mut arguments = tool.parameters.map(|parameter| match (tool.name, parameter) {
            (_, "city" | "from") | ("train", "to") => Value::from(*rng.pick(&CITIES)),
            (_, "day") => Value::from(*rng.pick(&DAYS)),
            (_, "hour") => Value::from(rng.within(1, 12)),
            (_, "sum") => Value::from(if level == 1 { rng.within(10, 60) } else { rng.within(100, 999) }),
            (_, "count") => Value::from(if level == 1 { rng.within(2, 9) } else { rng.within(10, 99) }),
            (_, "item") => Value::from(*rng.pick(&ITEMS)),
            _ => Value::from(*rng.pick(&NAMES)),
        });
        while arguments[0] == arguments[1] {
            arguments[1] = Value::from(*rng.pick(&CITIES));
        }
        Call { tool, arguments }
    }

    fn word(&self, rng: &mut Rng) -> String {
        let mut text = rng.pick(&self.tool.wordings).to_string();
        for (parameter, argument) in self.tool.parameters.iter().zip(&self.arguments) {
            let shown = argument.as_str().map_or_else(|| argument.to_string(), str::to_string);
            text = text.replace(&format!("{{{parameter}}}"), &shown);
        }
        format!(" {text}")
    }

    /// Compact JSON, which is also the key.
    fn json(&self) -> String {
        let arguments: Map<String, Value> =
            self.tool.parameters.iter().map(|p| p.to_string()).zip(self.arguments.iter().cloned()).collect();
        serde_json::json!({"name": self.tool.name, "args": arguments}).to_string()
    }

    /// JSON with a blank after colons and commas, as people write it.
    fn reply(&self) -> String {
        let [p, q] = self.tool.parameters;
        let [a, b] = &self.arguments;
        format!(" {{\"name\": \"{}\", \"args\": {{\"{p}\": {a}, \"{q}\": {b}}}}}", self.tool.name)
    }
}

pub(super) fn tool(level: u8, rng: &mut Rng) -> Item {
    let call = Call::draw(level, rng);
    Item {
        key: call.json(),
        system: Some(" Call in JSON.".into()),
        prompt: call.word(rng),
        thought: String::new(),
        reply: call.reply(),
        answer: Some(call.json()),
    }
}

pub(super) fn pick(level: u8, rng: &mut Rng) -> Item {
    let call = Call::draw(level, rng);
    let served = rng.chance(0.5);
    let mut offered: Vec<&str> =
        TOOLS.iter().map(|t| t.name).filter(|name| *name != call.tool.name).collect();
    rng.shuffle(&mut offered);
    offered.truncate(if level == 1 { 3 } else { 5 });
    if served {
        offered.pop();
        offered.push(call.tool.name);
        rng.shuffle(&mut offered);
    }
    let answer = if served { call.tool.name } else { "none" };
    Item {
        key: call.json(),
        system: Some(format!(" Tools: {}. Name only.", offered.join(", "))),
        prompt: call.word(rng),
        thought: String::new(),
        reply: format!(" {answer}"),
        answer: Some(answer.into()),
    }
}

/// The call that a request words, as compact JSON.
pub(super) fn read_key(prompt: &str) -> Option<String> {
    TOOLS.iter().find_map(|tool| {
        let found = tool.wordings.iter().find_map(|wording| unword(wording, prompt.trim()))?;
        let arguments = tool.parameters.map(|parameter| {
            let value = found.iter().find(|(name, _)| *name == parameter).map_or("", |(_, value)| value);
            value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from)
        });
        Some(Call { tool, arguments }.json())
    })
}

/// The values that fill a wording's `{holes}` to give `text`.
fn unword<'a>(wording: &'a str, text: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut pieces = wording.split('{');
    let mut rest = text.strip_prefix(pieces.next()?)?;
    let mut values = Vec::new();
    for piece in pieces {
        let (name, literal) = piece.split_once('}')?;
        let end = rest.find(literal)?;
        values.push((name, &rest[..end]));
        rest = &rest[end + literal.len()..];
    }
    (rest.is_empty() && values.iter().all(|(_, value)| !value.contains(' '))).then_some(values)
}
