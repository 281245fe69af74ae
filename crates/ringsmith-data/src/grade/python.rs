//! Function calls as Python writes them: `[f(a=1), g.h(b="x")]`.

use serde_json::{Map, Value};

/// A call with its keyword arguments. Tuples are lists; `True`, `False` and `None` become JSON's.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// The calls a text consists of, in brackets or bare; `None` when any part is something else
/// (positional arguments, operators, names as values).
pub fn calls(text: &str) -> Option<Vec<Call>> {
    let mut reader = Reader { rest: text.trim(), depth: 0 };
    let listed = reader.eat("[");
    let mut calls = Vec::new();
    while !(listed && reader.eat("]")) {
        calls.push(reader.call()?);
        if !reader.eat(",") {
            if listed && !reader.eat("]") {
                return None;
            }
            break;
        }
    }
    reader.skip();
    reader.rest.is_empty().then_some(calls)
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, mark: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, also: &[char]) -> Option<&'a str> {
        self.skip();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || also.contains(&c)));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn call(&mut self) -> Option<Call> {
        let name = self.word(&['.'])?.to_string();
        if name.starts_with(|c: char| c.is_ascii_digit()) || !self.eat("(") {
            return None;
        }
        let mut arguments = Map::new();
        while !self.eat(")") {
            let key = self.word(&[])?.to_string();
            if !self.eat("=") {
                return None;
            }
            let value = self.value()?;
            if arguments.insert(key, value).is_some() {
                return None;
            }
            if !self.eat(",") {
                if !self.eat(")") {
                    return None;
                }
                break;
            }
        }
        Some(Call { name, arguments })
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > 50 {
            return None;
        }
        self.skip();
        let value = match self.rest.chars().next()? {
            '"' | '\'' => Value::String(self.string()?),
            '[' => self.list("[", "]")?,
            '(' => self.list("(", ")")?,
            '{' => self.dict()?,
            '-' | '+' | '.' | '0'..='9' => self.number()?,
            _ => match self.word(&[])? {
                "True" | "true" => Value::Bool(true),
                "False" | "false" => Value::Bool(false),
                "None" | "null" => Value::Null,
                _ => return None,
            },
        };
        self.depth -= 1;
        Some(value)
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Value> {
        self.eat(open);
        let mut values = Vec::new();
        let mut comma = true;
        while !self.eat(close) {
            if !comma {
                return None;
            }
            values.push(self.value()?);
            comma = self.eat(",");
        }
        // `(3)` is three, `(3,)` a tuple.
        if open == "(" && values.len() == 1 && !comma { values.pop() } else { Some(Value::Array(values)) }
    }

    fn dict(&mut self) -> Option<Value> {
        self.eat("{");
        let mut values = Map::new();
        let mut comma = true;
        while !self.eat("}") {
            self.skip();
            if !comma || !self.rest.starts_with(['"', '\'']) {
                return None;
            }
            let key = self.string()?;
            if !self.eat(":") {
                return None;
            }
            let value = self.value()?;
            values.insert(key, value);
            comma = self.eat(",");
        }
        Some(Value::Object(values))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'u' => {
                        let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                    }
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        None
    }

    fn number(&mut self) -> Option<Value> {
        let mut previous = ' ';
        let end = self.rest.find(|c: char| {
            let sign = matches!(c, '-' | '+') && matches!(previous, ' ' | 'e' | 'E');
            let part = c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '_') || sign;
            previous = c;
            !part
        });
        let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let text = text.replace('_', "");
        match text.parse::<i64>() {
            Ok(number) => Some(number.into()),
            Err(_) => serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_are_read() {
        let found =
            calls(r#"[math.f(a=1, b=-2.5e3, c="it's", d=[1, (2, 3)], e={'k': True}, g=None), h()]"#).unwrap();
        assert_eq!(found[0].name, "math.f");
        let expected =
            json!({"a": 1, "b": -2500.0, "c": "it's", "d": [1, [2, 3]], "e": {"k": true}, "g": null});
        assert_eq!(Value::Object(found[0].arguments.clone()), expected);
        assert_eq!(found[1], Call { name: "h".into(), arguments: Map::new() });
        assert_eq!(calls("f(a='x\\'y')").unwrap()[0].arguments["a"], json!("x'y"));
    }

    #[test]
    fn other_things_are_refused() {
        for text in
            ["f(1)", "f(a=1", "f(a=b)", "I call f(a=1)", "[f(a=1)] done", "f(a=1, a=2)", "f(a=2*3)", ""]
        {
            assert!(calls(text).is_none_or(|calls| calls.is_empty()), "{text}");
        }
    }
}
