//! JSON lines and JSON arrays, one element at a time, never more than the limit in memory.

use super::{Row, Rows};
use crate::ledger::{Fault, Reason};
use anyhow::{Context, Result, bail};
use std::io::BufRead;

pub(super) fn rows(mut input: impl BufRead + Send + 'static, name: String, limit: usize) -> Result<Rows> {
    let first = skip_space(&mut input).with_context(|| format!("{name}: row 1: damaged"))?;
    if first == Some(b'[') {
        input.consume(1);
        return Ok(Box::new(Elements { input, name, limit, row: 0, closed: false, done: false }));
    }
    let start = input.fill_buf().with_context(|| format!("{name}: row 1: damaged"))?;
    if start.starts_with(b"{\n") || start.starts_with(b"{\r\n") {
        bail!("{name} is one JSON object over several lines; expected an array or one object a line");
    }
    Ok(Box::new(Lines { input, name, limit, row: 0, done: false }))
}

/// Skips white space and peeks at the byte after it; none at the end of the file.
fn skip_space(input: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let bytes = input.fill_buf()?;
        let Some(&first) = bytes.first() else { return Ok(None) };
        match bytes.iter().position(|b| !b.is_ascii_whitespace()) {
            Some(0) => return Ok(Some(first)),
            Some(at) => input.consume(at),
            None => {
                let all = bytes.len();
                input.consume(all);
            }
        }
    }
}

/// The bytes of a row as far as the limit, and how many there were.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    seen: usize,
}

impl Bounded {
    fn push(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.seen += bytes.len();
    }

    fn parse(&self) -> Row {
        if self.seen > self.bytes.len() {
            let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(80)]);
            return Err(Fault::new(Reason::TooLongLine, format!("{} bytes: {start}", self.seen)));
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| {
            let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(400)]);
            Fault::new(Reason::UnreadableUtf8, format!("byte {}: {start}", error.valid_up_to()))
        })?;
        serde_json::from_str(text)
            .map_err(|error| Fault::new(Reason::NotJson, format!("{error}: {}", text.trim())))
    }
}

struct Lines<R> {
    input: R,
    name: String,
    limit: usize,
    row: u64,
    done: bool,
}

impl<R: BufRead> Lines<R> {
    /// The next line that is not blank.
    fn line(&mut self) -> std::io::Result<Option<Bounded>> {
        if skip_space(&mut self.input)?.is_none() {
            return Ok(None);
        }
        let mut line = Bounded::default();
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(Some(line));
            }
            let end = bytes.iter().position(|&b| b == b'\n');
            let used = end.unwrap_or(bytes.len());
            line.push(&bytes[..used], self.limit);
            self.input.consume(used + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.done {
            return None;
        }
        self.row += 1;
        match self.line() {
            Ok(line) => line.map(|line| Ok(line.parse())),
            Err(error) => {
                self.done = true;
                Some(Err(error).with_context(|| format!("{}: row {}: damaged", self.name, self.row)))
            }
        }
    }
}

/// The elements of an array whose `[` was read.
struct Elements<R> {
    input: R,
    name: String,
    limit: usize,
    row: u64,
    closed: bool,
    done: bool,
}

/// How far an element has come: brackets and strings are followed, nothing else.
#[derive(Default)]
struct Scan {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Scan {
    /// Whether `byte` comes after the element's end.
    fn ends(&mut self, byte: u8) -> bool {
        if self.string {
            self.string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.string = true,
            b'[' | b'{' => self.depth += 1,
            b',' | b']' | b'}' if self.depth == 0 => return true,
            b']' | b'}' => self.depth -= 1,
            _ => {}
        }
        false
    }
}

impl<R: BufRead> Elements<R> {
    fn element(&mut self) -> Result<Option<Row>> {
        let row = self.row;
        if self.closed {
            return self.end();
        }
        let first =
            skip_space(&mut self.input)?.with_context(|| format!("the file ends before row {row}"))?;
        if first == b']' && row == 1 {
            self.input.consume(1);
            return self.end();
        }
        let (mut element, mut scan) = (Bounded::default(), Scan::default());
        let end = loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                bail!("the file ends inside row {row}");
            }
            let end = bytes.iter().position(|&b| scan.ends(b));
            let used = end.unwrap_or(bytes.len());
            element.push(&bytes[..used], self.limit);
            let last = end.map(|at| bytes[at]);
            self.input.consume(used);
            if let Some(last) = last {
                break last;
            }
        };
        if end == b'}' {
            bail!("a closing brace too many");
        }
        self.input.consume(1);
        self.closed = end == b']';
        Ok(Some(element.parse()))
    }

    /// After the array's `]` nothing may come.
    fn end(&mut self) -> Result<Option<Row>> {
        self.done = true;
        match skip_space(&mut self.input)? {
            None => Ok(None),
            Some(_) => bail!("there is more after the array's end"),
        }
    }
}

impl<R: BufRead> Iterator for Elements<R> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.done {
            return None;
        }
        self.row += 1;
        let element = self.element();
        self.done |= element.is_err();
        element.with_context(|| format!("{}: row {}: damaged", self.name, self.row)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::order;
    use serde_json::{Value, json};
    use std::io::BufReader;

    /// A value of the given depth whose strings are full of what could mislead a scanner.
    fn value(seed: u64, depth: usize) -> Value {
        let texts = ["", "]", "}{", "a\"b", "\\", "\\\"", ",", "\n", "é🙂", "[\"\\"];
        let draw = order(seed, depth as u64, texts.len());
        let text = texts[draw[0]];
        match (depth, draw[1] % 4) {
            (0, 0) => Value::Null,
            (0, 1) => json!(-12.5e3),
            (0, _) => text.into(),
            (_, 0) => json!([]),
            (_, 1) => (0..draw[2] % 3).map(|i| value(seed * 7 + i as u64, depth - 1)).collect(),
            _ => json!({text: value(seed * 5 + 1, depth - 1), "b": value(seed * 3 + 2, depth - 1)}),
        }
    }

    #[test]
    fn rows_survive_any_cut_of_the_buffer() {
        for seed in 0..60u64 {
            // The first row is an object, so that lines are not taken for an array.
            let first = std::iter::once(json!({"first": seed}));
            let values: Vec<Value> = first.chain((0..6).map(|i| value(seed * 31 + i, 3))).collect();
            let array = serde_json::to_string_pretty(&values).unwrap();
            let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
            for text in [array, lines] {
                for capacity in [1, 2, 3, 7, 64] {
                    let bytes = std::io::Cursor::new(text.clone().into_bytes());
                    let input = BufReader::with_capacity(capacity, bytes);
                    let got: Vec<Value> =
                        rows(input, "a".into(), 1 << 20).unwrap().map(|row| row.unwrap().unwrap()).collect();
                    assert_eq!(got, values, "{capacity}: {text}");
                }
            }
        }
    }
}
