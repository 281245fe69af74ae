//! Expressions as mathematicians write them in LaTeX: parsed whole or not at all, and evaluated.
//!
//! Rational values stay exact, so that 1234567890123 and 1234567890124 differ; everything else is computed
//! in `f64`. Two expressions are equal when they agree at several points in their variables.

use super::number::Ratio;
use std::collections::BTreeMap;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Number(Ratio),
    /// A letter or Greek name; `pi`, `e` and infinity are constants.
    Symbol(String),
    Sum(Box<Expr>, Box<Expr>),
    Product(Box<Expr>, Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Root(Box<Expr>, Box<Expr>),
    /// `sin`, `log`, `abs`, `factorial`, ...
    Apply(String, Box<Expr>),
}

/// A value: exact where every step was rational.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Exact(Ratio),
    Float(f64),
}

impl Value {
    fn float(self) -> f64 {
        match self {
            Value::Exact(ratio) => ratio.to_f64(),
            Value::Float(value) => value,
        }
    }

    /// Exact values must be the same; a float within 1e-11 of its size.
    fn agrees(self, other: Value) -> bool {
        match (self, other) {
            (Value::Exact(a), Value::Exact(b)) => a == b,
            (a, b) => {
                let (a, b) = (a.float(), b.float());
                a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-11 * a.abs().max(b.abs()).max(1.0)
            }
        }
    }
}

const FUNCTIONS: [&str; 12] =
    ["sin", "cos", "tan", "cot", "sec", "csc", "ln", "log", "exp", "arcsin", "arccos", "arctan"];
const GREEK: [&str; 12] =
    ["pi", "theta", "alpha", "beta", "gamma", "lambda", "mu", "phi", "omega", "infty", "sigma", "delta"];

/// The expression a text is, or `None` when any part of it is not understood.
pub fn parse(text: &str) -> Option<Expr> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.sum()?;
    (parser.at == parser.tokens.len()).then_some(expr)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(Ratio),
    /// A letter or a command's name without its backslash.
    Name(String, bool),
    Mark(char),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let c = chars[at];
        at += 1;
        match c {
            c if c.is_whitespace() => {}
            '0'..='9' | '.' => {
                while at < chars.len() && (chars[at].is_ascii_digit() || chars[at] == '.') {
                    at += 1;
                }
                // `\frac12`: arguments without braces are single digits, which the parser splits off.
                tokens.push(Token::Number(Ratio::parse(&chars[start..at].iter().collect::<String>())?));
            }
            '\\' => {
                while at < chars.len() && chars[at].is_ascii_alphabetic() {
                    at += 1;
                }
                if at == start + 1 {
                    return None;
                }
                let name: String = chars[start + 1..at].iter().collect();
                match name.as_str() {
                    "cdot" | "times" => tokens.push(Token::Mark('*')),
                    "div" => tokens.push(Token::Mark('/')),
                    "lvert" | "rvert" | "vert" => tokens.push(Token::Mark('|')),
                    "frac" => {
                        tokens.push(Token::Name(name, true));
                        at = split_digits(&chars, at, 2, &mut tokens);
                    }
                    "sqrt" => {
                        tokens.push(Token::Name(name, true));
                        at = split_digits(&chars, at, 1, &mut tokens);
                    }
                    _ => tokens.push(Token::Name(name, true)),
                }
            }
            'a'..='z' | 'A'..='Z' => {
                let rest: String = chars[start..].iter().take(6).collect();
                if let Some(name) =
                    FUNCTIONS.iter().chain(&["sqrt", "pi"]).find(|name| rest.starts_with(**name))
                {
                    at = start + name.len();
                    tokens.push(Token::Name(name.to_string(), true));
                } else if is_word(&chars, start) {
                    return None;
                } else {
                    tokens.push(Token::Name(c.to_string(), false));
                }
            }
            'π' => tokens.push(Token::Name("pi".into(), true)),
            '√' => tokens.push(Token::Name("sqrt".into(), true)),
            '−' => tokens.push(Token::Mark('-')),
            '×' | '·' => tokens.push(Token::Mark('*')),
            '^' => {
                tokens.push(Token::Mark('^'));
                at = split_digits(&chars, at, 1, &mut tokens);
            }
            '+' | '-' | '*' | '/' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '!' => {
                tokens.push(Token::Mark(c))
            }
            _ => return None,
        }
    }
    Some(tokens)
}

/// Three or more letters in a row with a vowel are a word and no product: `cat` is not `act`.
fn is_word(chars: &[char], start: usize) -> bool {
    let run = chars[start..].iter().take_while(|c| c.is_ascii_alphabetic());
    run.clone().count() >= 3 && run.clone().any(|c| "aeiouAEIOU".contains(*c))
}

/// In LaTeX an argument without braces is one character: takes up to `count` digits as single numbers.
fn split_digits(chars: &[char], mut at: usize, count: usize, tokens: &mut Vec<Token>) -> usize {
    for _ in 0..count {
        let next = at + chars[at..].iter().take_while(|c| c.is_whitespace()).count();
        match chars.get(next).and_then(|c| c.to_digit(10)) {
            // `3^12` written by hand means twelve, so only commands split longer numbers.
            Some(_) if count == 1 && tokens.last() == Some(&Token::Mark('^')) => break,
            Some(digit) => {
                tokens.extend(Ratio::new(i128::from(digit), 1).map(Token::Number));
                at = next + 1;
            }
            None => break,
        }
    }
    at
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn sum(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > 100 {
            return None;
        }
        let mut left = self.product()?;
        loop {
            if self.eat('+') {
                left = Expr::Sum(left.into(), self.product()?.into());
            } else if self.eat('-') {
                left = Expr::Sum(left.into(), negated(self.product()?).into());
            } else {
                self.depth -= 1;
                return Some(left);
            }
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut left = self.signed()?;
        loop {
            if self.eat('*') {
                left = Expr::Product(left.into(), self.signed()?.into());
            } else if self.eat('/') {
                left = Expr::Quotient(left.into(), self.signed()?.into());
            } else if matches!(
                self.peek(),
                Some(Token::Number(_) | Token::Name(..) | Token::Mark('(' | '{' | '['))
            ) {
                // Side by side: a product, except a whole number before a fraction of numbers (2 1/2).
                let mixed = matches!(left, Expr::Number(_)) && self.starts_fraction();
                if matches!((&left, self.peek()), (Expr::Number(_), Some(Token::Number(_)))) {
                    return None;
                }
                let right = self.power()?;
                left = match right {
                    Expr::Quotient(..) if mixed => Expr::Sum(left.into(), right.into()),
                    right => Expr::Product(left.into(), right.into()),
                };
            } else {
                return Some(left);
            }
        }
    }

    /// A `\frac` of two plain numbers comes next.
    fn starts_fraction(&self) -> bool {
        let mut rest = self.tokens[self.at..].iter().filter(|t| !matches!(t, Token::Mark('{' | '}')));
        let frac = matches!(rest.next(), Some(Token::Name(name, true)) if name == "frac");
        frac && matches!(rest.next(), Some(Token::Number(_))) && matches!(rest.next(), Some(Token::Number(_)))
    }

    fn signed(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > 100 {
            return None;
        }
        let expr = if self.eat('-') {
            negated(self.signed()?)
        } else if self.eat('+') {
            self.signed()?
        } else {
            self.power()?
        };
        self.depth -= 1;
        Some(expr)
    }

    fn power(&mut self) -> Option<Expr> {
        let mut base = self.atom()?;
        while self.eat('!') {
            base = Expr::Apply("factorial".into(), base.into());
        }
        if self.eat('^') {
            let exponent = self.signed()?;
            base = Expr::Power(base.into(), exponent.into());
        }
        Some(base)
    }

    fn group(&mut self) -> Option<Expr> {
        if self.eat('{') {
            let inner = self.sum()?;
            return self.eat('}').then_some(inner);
        }
        self.atom()
    }

    fn atom(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(number) => Some(Expr::Number(number)),
            Token::Mark(open @ ('(' | '[' | '{' | '|')) => {
                let inner = self.sum()?;
                let close = match open {
                    '(' => ')',
                    '[' => ']',
                    '{' => '}',
                    _ => '|',
                };
                if !self.eat(close) {
                    return None;
                }
                Some(if open == '|' { Expr::Apply("abs".into(), inner.into()) } else { inner })
            }
            Token::Mark(_) => None,
            Token::Name(letter, false) => Some(Expr::Symbol(letter)),
            Token::Name(name, true) => match name.as_str() {
                "frac" => Some(Expr::Quotient(self.group()?.into(), self.group()?.into())),
                "sqrt" => {
                    let degree = if self.eat('[') {
                        let degree = self.sum()?;
                        self.eat(']').then_some(degree)?
                    } else {
                        Expr::Number(Ratio::new(2, 1)?)
                    };
                    Some(Expr::Root(degree.into(), self.group()?.into()))
                }
                name if FUNCTIONS.contains(&name) => {
                    let exponent = if self.eat('^') { Some(self.group()?) } else { None };
                    let applied = Expr::Apply(name.into(), self.argument()?.into());
                    Some(match exponent {
                        Some(exponent) => Expr::Power(applied.into(), exponent.into()),
                        None => applied,
                    })
                }
                name if GREEK.contains(&name) => Some(Expr::Symbol(name.into())),
                _ => None,
            },
        }
    }

    /// What a function is applied to: a bracket, or the factors that follow (`\sin 2x`).
    fn argument(&mut self) -> Option<Expr> {
        if matches!(self.peek(), Some(Token::Mark('(' | '{' | '['))) {
            return self.atom();
        }
        let mut left = self.power()?;
        while matches!(self.peek(), Some(Token::Number(_) | Token::Name(_, false))) {
            left = Expr::Product(left.into(), self.power()?.into());
        }
        Some(left)
    }
}

fn negated(expr: Expr) -> Expr {
    Expr::Product(Expr::Number(Ratio { num: -1, den: 1 }).into(), expr.into())
}

impl Expr {
    /// Names of the free variables, sorted.
    pub fn variables(&self, found: &mut BTreeMap<String, f64>) {
        match self {
            Expr::Number(_) => {}
            Expr::Symbol(name) if matches!(name.as_str(), "pi" | "e") => {}
            Expr::Symbol(name) => {
                found.insert(name.clone(), 0.0);
            }
            Expr::Apply(_, a) => a.variables(found),
            Expr::Sum(a, b)
            | Expr::Product(a, b)
            | Expr::Quotient(a, b)
            | Expr::Power(a, b)
            | Expr::Root(a, b) => {
                a.variables(found);
                b.variables(found);
            }
        }
    }

    /// The value with these variables; `None` where it is undefined.
    pub fn value(&self, at: &BTreeMap<String, f64>) -> Option<Value> {
        let exact = |ratio: Option<Ratio>, float: f64| match ratio {
            Some(ratio) => Some(Value::Exact(ratio)),
            None => float.is_finite().then_some(Value::Float(float)),
        };
        match self {
            Expr::Number(number) => Some(Value::Exact(*number)),
            Expr::Symbol(name) => Some(Value::Float(match name.as_str() {
                "pi" => std::f64::consts::PI,
                "e" => std::f64::consts::E,
                name => *at.get(name)?,
            })),
            Expr::Sum(a, b) => match (a.value(at)?, b.value(at)?) {
                (Value::Exact(a), Value::Exact(b)) => a.plus(b).map(Value::Exact),
                (a, b) => exact(None, a.float() + b.float()),
            },
            Expr::Product(a, b) => match (a.value(at)?, b.value(at)?) {
                (Value::Exact(a), Value::Exact(b)) => a.times(b).map(Value::Exact),
                (a, b) => exact(None, a.float() * b.float()),
            },
            Expr::Quotient(a, b) => match (a.value(at)?, b.value(at)?) {
                (Value::Exact(a), Value::Exact(b)) => a.over(b).map(Value::Exact),
                (a, b) => exact(None, a.float() / b.float()),
            },
            Expr::Power(a, b) => match (a.value(at)?, b.value(at)?) {
                (Value::Exact(a), Value::Exact(Ratio { num, den: 1 })) => power(a, num).map(Value::Exact),
                (a, b) => exact(None, a.float().powf(b.float())),
            },
            Expr::Root(degree, a) => {
                let degree = degree.value(at)?.float();
                match a.value(at)? {
                    Value::Exact(a) => exact(root(a, degree), odd_root(a.to_f64(), degree)),
                    Value::Float(a) => exact(None, odd_root(a, degree)),
                }
            }
            Expr::Apply(name, a) => {
                let value = a.value(at)?;
                if let (Value::Exact(ratio), "abs") = (value, name.as_str()) {
                    return Some(Value::Exact(Ratio { num: ratio.num.abs(), den: ratio.den }));
                }
                if let (Value::Exact(Ratio { num: n @ 0..=30, den: 1 }), "factorial") = (value, name.as_str())
                {
                    return Ratio::new((1..=n).product(), 1).map(Value::Exact);
                }
                let x = value.float();
                let y = match name.as_str() {
                    "sin" => x.sin(),
                    "cos" => x.cos(),
                    "tan" => x.tan(),
                    "cot" => 1.0 / x.tan(),
                    "sec" => 1.0 / x.cos(),
                    "csc" => 1.0 / x.sin(),
                    "ln" | "log" => x.ln(),
                    "exp" => x.exp(),
                    "arcsin" => x.asin(),
                    "arccos" => x.acos(),
                    "arctan" => x.atan(),
                    "abs" => x.abs(),
                    _ => return None,
                };
                exact(None, y)
            }
        }
    }
}

fn power(base: Ratio, exponent: i128) -> Option<Ratio> {
    let size = u32::try_from(exponent.unsigned_abs()).ok()?;
    let (num, den) = (base.num.checked_pow(size)?, base.den.checked_pow(size)?);
    if exponent < 0 { Ratio::new(den, num) } else { Ratio::new(num, den) }
}

/// The exact root, where there is one.
fn root(value: Ratio, degree: f64) -> Option<Ratio> {
    if degree.fract() != 0.0 || !(1.0..=64.0).contains(&degree) {
        return None;
    }
    let whole = |n: i128| {
        let r = odd_root(n as f64, degree).round() as i128;
        (r.checked_pow(degree as u32)? == n).then_some(r)
    };
    Ratio::new(whole(value.num)?, whole(value.den)?)
}

/// Real roots of negative numbers exist for odd degrees.
fn odd_root(value: f64, degree: f64) -> f64 {
    if value < 0.0 && degree % 2.0 == 1.0 { -(-value).powf(1.0 / degree) } else { value.powf(1.0 / degree) }
}

/// The two agree wherever they were tried: at one point without variables, else at six, four or more of
/// which must be defined for both.
pub fn equal(a: &Expr, b: &Expr) -> bool {
    let mut point = BTreeMap::new();
    a.variables(&mut point);
    b.variables(&mut point);
    let tries = if point.is_empty() { 1 } else { 6 };
    let mut defined = 0;
    for round in 0..tries {
        for (i, value) in point.values_mut().enumerate() {
            // Irrational, mixed in sign and far from each other.
            let sign = if (round + i) % 3 == 2 { -1.0 } else { 1.0 };
            *value = sign * (0.37 + f64::sqrt((2 + 3 * round + 7 * i) as f64));
        }
        match (a.value(&point), b.value(&point)) {
            (Some(a), Some(b)) if a.agrees(b) => defined += 1,
            (None, None) => {}
            _ => return false,
        }
    }
    defined > 0 && (tries == 1 || defined >= 3)
}
