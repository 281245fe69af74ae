//! Exact numbers, and the last number of a text (GSM8K).

use regex::Regex;
use std::sync::LazyLock;

/// A rational number in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    pub num: i128,
    pub den: i128,
}

impl Ratio {
    /// `None` for a zero denominator.
    pub fn new(num: i128, den: i128) -> Option<Ratio> {
        if den == 0 || num == i128::MIN || den == i128::MIN {
            return None;
        }
        let divisor = gcd(num.unsigned_abs(), den.unsigned_abs()).max(1) as i128 * den.signum();
        Some(Ratio { num: num / divisor, den: den / divisor })
    }

    /// A decimal such as `1,234.50`, `-3` or `.5`; commas only as separators of thousands.
    pub fn parse(text: &str) -> Option<Ratio> {
        if !DECIMAL.is_match(text) {
            return None;
        }
        let plain = text.replace(',', "");
        let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
        let den = 10i128.checked_pow(fraction.len() as u32)?;
        Ratio::new(format!("{whole}{fraction}").parse().ok()?, den)
    }

    pub fn plus(self, other: Ratio) -> Option<Ratio> {
        let left = self.num.checked_mul(other.den)?;
        let right = other.num.checked_mul(self.den)?;
        Ratio::new(left.checked_add(right)?, self.den.checked_mul(other.den)?)
    }

    pub fn times(self, other: Ratio) -> Option<Ratio> {
        Ratio::new(self.num.checked_mul(other.num)?, self.den.checked_mul(other.den)?)
    }

    pub fn over(self, other: Ratio) -> Option<Ratio> {
        Ratio::new(self.num.checked_mul(other.den)?, self.den.checked_mul(other.num)?)
    }

    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

static DECIMAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?$|^[-+]?\d+\.$").unwrap());
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?(\d{1,3}(,\d{3})+\b|\d+)(\.\d+)?|-?\.\d+").unwrap());

/// The last number written in a text. A minus after a digit, letter or bracket is an operation, not a sign.
pub fn last_number(text: &str) -> Option<Ratio> {
    let found = NUMBER.find_iter(text).last()?;
    let before = &text[..found.start()];
    let bracket = |c: char| matches!(c, ')' | ']' | '}');
    let operation = before.ends_with(|c: char| c.is_alphabetic())
        || before.trim_end().ends_with(|c: char| c.is_ascii_digit() || bracket(c));
    let written = found.as_str();
    Ratio::parse(if operation { written.trim_start_matches('-') } else { written })
}

/// The number after GSM8K's `####`.
pub fn gsm8k_reference(answer: &str) -> Option<Ratio> {
    Ratio::parse(answer.rsplit_once("####")?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(num: i128, den: i128) -> Option<Ratio> {
        Ratio::new(num, den)
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Ratio::parse("1,234.50"), ratio(2469, 2));
        assert_eq!(Ratio::parse("-.5"), ratio(-1, 2));
        assert_eq!(Ratio::parse("12,34"), None);
        assert_eq!(Ratio::parse(""), None);
        assert_eq!(Ratio::parse("-"), None);
        assert_eq!(Ratio::parse("1/2"), None);
        assert_eq!(ratio(1, 0), None);
        assert_eq!(ratio(2, -4), ratio(-1, 2));
    }

    #[test]
    fn the_last_number_counts() {
        assert_eq!(last_number("She makes 9 * 2 = $18 every day."), ratio(18, 1));
        assert_eq!(last_number("It costs $1,234.50."), ratio(2469, 2));
        assert_eq!(last_number("so 12-7"), ratio(7, 1));
        assert_eq!(last_number("so 12 -7"), ratio(7, 1));
        assert_eq!(last_number("the answer is -7"), ratio(-7, 1));
        assert_eq!(last_number("3, 4, 5"), ratio(5, 1));
        assert_eq!(last_number("none"), None);
        assert_eq!(gsm8k_reference("so\n#### 2,125"), ratio(2125, 1));
    }
}
