//! Mathematical answers: taking them out of `\boxed{}` and comparing them.
//!
//! Both sides are read whole. What does not parse is compared as text and never reduced to a number found
//! inside it: 1-1/e is not 1+1/e.

use super::expression::{self, Expr};
use super::number::Ratio;
use regex::Regex;
use std::sync::LazyLock;

/// What stands in the last `\boxed{...}` (or `\fbox`), braces nested; `None` without one or when it never closes.
pub fn boxed(text: &str) -> Option<&str> {
    let at = text.rfind("\\boxed").map(|i| i + 6).max(text.rfind("\\fbox").map(|i| i + 5))?;
    let rest = text[at..].trim_start();
    let Some(inner) = rest.strip_prefix('{') else {
        // `\boxed 9`: one token.
        return rest.split([' ', '$', '.', ',', '\n']).next().filter(|word| !word.is_empty());
    };
    let mut depth = 1;
    let mut escaped = false;
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => {}
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if depth == 0 {
            return Some(&inner[..i]);
        }
    }
    None
}

/// The two answers say the same. Numbers exactly (1/2, 0.5 and \frac12 are one, 0.33 and 1/3 are not),
/// expressions as functions, tuples and intervals in order, sets and bare lists in any order, matrices by
/// entry, words without regard to case. A percent sign may be left out, but not a power of ten.
pub fn equal(answer: &str, reference: &str) -> bool {
    let (a, b) = (clean(answer), clean(reference));
    !a.is_empty() && !b.is_empty() && (a == b || plain_text(&a) == plain_text(&b) || same(&a, &b, 0))
}

static TEXT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\(?:text|mbox|textbf|mathrm|mathbf|textit|operatorname)\s*\{([^{}]*)\}").unwrap()
});
static UNIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?P<value>.*[\d})π])\s*(?:square\s+|cubic\s+|sq\.?\s*)?
        (?:degrees?|dollars?|cents?|inch(?:es)?|feet|foot|ft|yards?|miles?|mph|mm|cm|km|kg|meters?|metres?|
        centimeters?|kilometers?|grams?|pounds?|ounces?|liters?|gallons?|hours?|minutes?|seconds?|days?|weeks?|
        months?|years?|units?|points?|percent|ways?|people)\b\.?\s*(?:\^\{?[23]\}?)?$",
    )
    .unwrap()
});
static TRAILING_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\(?:text|mbox|textbf|mathrm|mathbf|textit)\s*\{[^{}]*\}\s*(?:\^\{?[23]\}?)?\s*$").unwrap()
});

/// Takes off what does not change the meaning: dollars, spacing, sizes of brackets, degrees, units.
fn clean(text: &str) -> String {
    let mut s = text.trim().replace(['\n', '~', '$'], " ").replace("\\$", "").replace("\\ ", " ");
    for (from, to) in [
        ("\\left", ""),
        ("\\right", ""),
        ("\\big", ""),
        ("\\Big", ""),
        ("\\! ", ""),
        ("\\!", ""),
        ("\\,", ""),
        ("\\;", " "),
        ("\\:", " "),
        ("\\quad", " "),
        ("\\displaystyle", ""),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("°", ""),
        ("\\%", "%"),
        ("\\ldots", "..."),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
        ("≤", "\\le"),
        ("≥", "\\ge"),
        ("∞", "\\infty"),
        ("∪", "\\cup"),
        ("\\mid", "|"),
        ("\\cr", "\\\\"),
        ("{,}", ","),
    ] {
        s = s.replace(from, to);
    }
    // `\$` became `\ ` above when the dollar went first.
    s = s.replace("\\ ", " ");
    if TEXT.replace(&s, "").trim().chars().any(|c| c.is_alphanumeric()) {
        // Words after a value are its unit; words within it belong to the answer.
        let valued = |text: &str| text.chars().any(|c| c.is_ascii_digit() || c == '\\');
        if let Some(unit) = TRAILING_TEXT.find(&s).filter(|unit| valued(&s[..unit.start()])) {
            s.truncate(unit.start());
        }
        s = TEXT
            .replace_all(&s, |found: &regex::Captures<'_>| match found[1].trim() {
                "and" | "or" => ", ".into(),
                _ => found[1].to_string(),
            })
            .into_owned();
    } else {
        s = TEXT.replace_all(&s, "$1").into_owned();
    }
    let mut s = s.trim().trim_end_matches(['.', ';', ',']).trim().to_string();
    if let Some(found) = UNIT.captures(&s) {
        s = found["value"].trim().to_string();
    }
    s
}

static SHORT_SCRIPT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"([_^])\{(\w)\}").unwrap());
static SPLIT_DIGITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d)\s+(\d)").unwrap());

/// For comparison as text: without blanks (but `3 4` is not `34`) and, in words, without case. Braces stay:
/// they tell 1/23 from 12/3.
fn plain_text(text: &str) -> String {
    let letter = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).filter(|t| t.len() == 1);
    let text = SPLIT_DIGITS.replace_all(letter.unwrap_or(text), "$1~$2");
    let text = SHORT_SCRIPT.replace_all(&text, "$1$2");
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if bare.len() > 1 && bare.chars().all(char::is_alphabetic) { bare.to_lowercase() } else { bare }
}

fn same(a: &str, b: &str, depth: usize) -> bool {
    if depth > 8 {
        return false;
    }
    let (a, b) = (a.trim(), b.trim());
    // Nothing equals nothing: an answer of which no part is left is no answer.
    if a.is_empty() || b.is_empty() {
        return false;
    }
    let again = |a: &str, b: &str| same(a, b, depth + 1);
    if let (Some(x), Some(y)) = (a.strip_suffix('%'), b.strip_suffix('%')) {
        return again(x, y);
    }
    if let Some(x) = a.strip_suffix('%') {
        return again(x, b);
    }
    if let Some(y) = b.strip_suffix('%') {
        return again(a, y);
    }
    if let (Some(x), Some(y)) = (Ratio::parse(a), Ratio::parse(b)) {
        return x == y;
    }
    let (unions_a, unions_b): (Vec<&str>, Vec<&str>) =
        (a.split("\\cup").collect(), b.split("\\cup").collect());
    if unions_a.len() > 1 || unions_b.len() > 1 {
        return matched(&unions_a, &unions_b, again);
    }
    if let (Some(x), Some(y)) = (matrix(a), matrix(b)) {
        let alike = |p: &Vec<String>, q: &Vec<String>| {
            p.len() == q.len() && p.iter().zip(q).all(|(p, q)| again(p, q))
        };
        return x.len() == y.len() && x.iter().zip(&y).all(|(p, q)| alike(p, q));
    }
    match (brackets(a), brackets(b)) {
        (Some(x), Some(y)) if x.parts.len() > 1 || y.parts.len() > 1 || x.open == '{' || y.open == '{' => {
            if (x.open, x.close) != (y.open, y.close) {
                return false;
            }
            let (parts_a, parts_b) = (spread(&x.parts), spread(&y.parts));
            return if x.open == '{' {
                matched(&parts_a, &parts_b, again)
            } else {
                parts_a.len() == parts_b.len() && parts_a.iter().zip(&parts_b).all(|(p, q)| again(p, q))
            };
        }
        _ => {}
    }
    // `1,234` beside an expression is one number, not a list.
    let list = |text: &str| match Ratio::parse(text) {
        Some(number) => vec![format!("({})/({})", number.num, number.den)],
        None => spread(&split_top(text, ',')),
    };
    let (list_a, list_b) = (list(a), list(b));
    if list_a.len() > 1 || list_b.len() > 1 {
        return matched(&list_a, &list_b, again);
    }
    match (relation(a), relation(b)) {
        (Some((p, q, r)), Some((s, t, u))) => q == t && equation(q, (p, r), (s, u)),
        // `x = 5` and `5`, `x \in [1,2]` and `[1,2]`.
        (Some((p, "=" | "\\in", q)), None) if p.trim().chars().count() == 1 => again(q, b),
        (None, Some((p, "=" | "\\in", q))) if p.trim().chars().count() == 1 => again(a, q),
        (None, None) => scalar(&list_a[0], &list_b[0]),
        _ => false,
    }
}

fn scalar(a: &str, b: &str) -> bool {
    match (expression::parse(a), expression::parse(b)) {
        (Some(a), Some(b)) => expression::equal(&a, &b),
        _ => plain_text(a) == plain_text(b),
    }
}

/// Both sides are the same, or (for equations) one is the other scaled or with its sides swapped.
fn equation(relation: &str, (p, q): (&str, &str), (s, t): (&str, &str)) -> bool {
    if scalar(p, s) && scalar(q, t) {
        return true;
    }
    if relation != "=" {
        return false;
    }
    let difference = |l: &str, r: &str| {
        let minus = Expr::Number(Ratio { num: -1, den: 1 });
        let right = Expr::Product(minus.into(), expression::parse(r)?.into());
        Some(Expr::Sum(expression::parse(l)?.into(), right.into()))
    };
    match (difference(p, q), difference(s, t)) {
        (Some(x), Some(y)) => {
            let flipped = Expr::Product(Expr::Number(Ratio { num: -1, den: 1 }).into(), y.clone().into());
            expression::equal(&x, &y) || expression::equal(&x, &flipped)
        }
        _ => false,
    }
}

fn relation(text: &str) -> Option<(&str, &str, &str)> {
    ["\\in", "\\le", "\\ge", "=", "<", ">"].into_iter().find_map(|sign| {
        let at = text.find(sign)?;
        let after = &text[at + sign.len()..];
        let command = sign.starts_with('\\') && after.starts_with(|c: char| c.is_ascii_alphabetic());
        (!command && !after.contains(['=', '<', '>'])).then(|| (text[..at].trim(), sign, after.trim()))
    })
}

struct Bracketed<'a> {
    open: char,
    close: char,
    parts: Vec<&'a str>,
}

/// The whole text is one bracket: `(a, b)`, `[a, b)`, `\{a, b\}`.
fn brackets(text: &str) -> Option<Bracketed<'_>> {
    if let Some(inner) = text.strip_prefix("\\{").and_then(|t| t.strip_suffix("\\}")) {
        return Some(Bracketed { open: '{', close: '}', parts: split_top(inner, ',') });
    }
    let open = text.chars().next().filter(|c| matches!(c, '(' | '['))?;
    let close = text.chars().last().filter(|c| matches!(c, ')' | ']'))?;
    let inner = text.get(1..text.len() - 1)?;
    let mut depth = 0;
    for c in inner.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    Some(Bracketed { open, close, parts: split_top(inner, ',') })
}

fn split_top(text: &str, at: char) -> Vec<&str> {
    let mut depth = 0i32;
    let mut start = 0;
    let mut parts = Vec::new();
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            c if c == at && depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// `a \pm b` stands for two members.
fn spread(parts: &[&str]) -> Vec<String> {
    let both = |part: &&str| match part.split_once("\\pm").or_else(|| part.split_once('±')) {
        Some((left, right)) => vec![format!("{left} + {right}"), format!("{left} - {right}")],
        None => vec![part.to_string()],
    };
    parts.iter().flat_map(both).collect()
}

/// One to one, in any order.
fn matched<T: AsRef<str>>(a: &[T], b: &[T], same: impl Fn(&str, &str) -> bool) -> bool {
    let mut left: Vec<&str> = b.iter().map(AsRef::as_ref).collect();
    a.len() == b.len()
        && a.iter().all(|x| match left.iter().position(|y| same(x.as_ref(), y)) {
            Some(i) => {
                left.swap_remove(i);
                true
            }
            None => false,
        })
}

/// Rows of a `pmatrix`, `bmatrix`, ...
fn matrix(text: &str) -> Option<Vec<Vec<String>>> {
    let inner = text.strip_prefix("\\begin{")?.split_once("matrix}")?.1.rsplit_once("\\end{")?.0;
    let rows = inner.split("\\\\").map(str::trim).filter(|row| !row.is_empty());
    Some(rows.map(|row| row.split('&').map(|cell| cell.trim().to_string()).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes() {
        assert_eq!(boxed(r"so \boxed{\frac{1}{2}} and \boxed{\{1,2\}}."), Some(r"\{1,2\}"));
        assert_eq!(boxed(r"$\boxed 9$"), Some("9"));
        assert_eq!(boxed(r"\boxed{\frac{1}{2}"), None);
        assert_eq!(boxed("nothing"), None);
    }

    #[test]
    fn equal_answers() {
        for (a, b) in [
            (r"\frac{1}{2}", "0.5"),
            (r"\frac12", "1/2"),
            (r"\dfrac{14}{3}", r"\frac{14}{3}"),
            (r"10,\!080", "10080"),
            ("11,111,111,100", r"11,\! 111,\! 111,\! 100"),
            (r"\$32,\!348", "32348"),
            ("$18.90", r"\$18.90"),
            (r"90^\circ", "90"),
            (r"864 \mbox{ inches}^2", "864"),
            ("15 cm^2", r"15\mbox{ cm}^2"),
            (r"5.4 \text{ cents}", "5.4"),
            (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
            (r"\text{Evelyn}", "evelyn"),
            (r"\text{(C)}", "C"),
            ("x=5", "5"),
            ("1,-2", "-2, 1"),
            (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"),
            (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1+\sqrt5, 1-\sqrt5\}"),
            (r"70 \sqrt{2}", r"70\sqrt2"),
            (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
            ("(a+5)(b+2)", "(b+2)(a+5)"),
            ("x^2+2x+1", "(x+1)^2"),
            (r"1\frac{4}{5}", r"\frac{9}{5}"),
            (r"137 \frac{1}{2}", "137.5"),
            (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
            (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"),
            (r"x \in [-2,7]", "[-2,7]"),
            (r"(2,\infty)", "(2, ∞)"),
            (
                r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
                r"\begin{pmatrix} -\frac13 \\ \frac23 \end{pmatrix}",
            ),
            ("y = 2x + 3", "y=3+2x"),
            ("5x - 7y + 11z + 4 = 0", "-5x+7y-11z-4=0"),
            (r"50\%", "50"),
            ("6 - 5i", "-5i+6"),
            (r"2^{10}", "1024"),
            ("1-1/e", r"1-\frac{1}{e}"),
            (r"\sqrt[3]{-8}", "-2"),
            (".35625", "0.35625"),
            (r"4210_{5}", "4210_5"),
            ("10{,}080", "10080"),
            ("1,234", r"1000+234"),
            (r"\sin^2 x", r"(\sin x)^2"),
        ] {
            assert!(equal(a, b), "{a} and {b}");
            assert!(equal(b, a), "{b} and {a}");
        }
    }

    #[test]
    fn different_answers() {
        for (a, b) in [
            ("1-1/e", "1+1/e"),
            (r"1-\frac{1}{e}", r"1+\frac{1}{e}"),
            ("0.33", r"\frac{1}{3}"),
            ("3.14", r"\pi"),
            ("(3,4]", "(3,4)"),
            ("(3,4]", "[3,4]"),
            ("(1,2)", "(2,1)"),
            ("(1,2)", "12"),
            ("1,2", "12"),
            ("1,2,2", "1,1,2"),
            ("1234567890123", "1234567890124"),
            (r"52_8", "52"),
            (r"52_8", "52_9"),
            (r"\badcommand{4}", "4"),
            (r"\badcommand{4}", r"\othercommand{4}"),
            ("the answer is 4", "5"),
            ("there are 4 cases", "4"),
            ("", ""),
            ("x=5", "x=6"),
            ("y=2x", "y=-2x"),
            ("x<3", "x>3"),
            (r"5\%", "0.5"),
            (r"\frac{1}{0}", r"\frac{2}{0}"),
            (r"\infty", r"-\infty"),
            ("cat", "act"),
            ("2^3", "6"),
            ("10^400", "10^401"),
            ("3 4", "34"),
            (r"\frac{1}{23}", r"\frac{12}{3}"),
            (r"\foo{1}{23}", r"\foo{12}{3}"),
            (r"R^2", "r^2"),
            ("3, 100", "3100"),
            (r"3\text{ hours }20", r"3\text{ minutes }20"),
            (r"\text{Set }3", r"\text{Class }3"),
            (r"\sqrt[2.5]{4}", "2"),
        ] {
            assert!(!equal(a, b), "{a} and {b}");
            assert!(!equal(b, a), "{b} and {a}");
        }
    }
}
