//! Text as words for comparison: lower case, punctuation dropped, arithmetic kept.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Signs without which two problems would look alike.
const SIGNS: &str = "+-*/=<>^%";

/// The words of a text: runs of letters and digits, each arithmetic sign, each character of scripts that
/// put no blanks between words.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut last = ' ';
    for c in text.chars() {
        if c.is_alphanumeric() && !is_unspaced(c) {
            word.extend(c.to_lowercase());
            last = c;
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        // A ruler of dashes is one sign.
        if is_unspaced(c) || SIGNS.contains(c) && last != c {
            words.push(c.into());
        }
        last = c;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Chinese and Japanese characters.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// One number for each run of `n` words, in order; none where there are fewer.
pub fn ngrams(words: &[String], n: usize) -> Vec<u64> {
    let hashes: Vec<u64> = words.iter().map(hash).collect();
    hashes.windows(n.max(1)).map(hash).collect()
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_ignore_dress_and_keep_arithmetic() {
        assert_eq!(words("Solve  $3Y+6=15$, please!"), ["solve", "3y", "+", "6", "=", "15", "please"]);
        assert_ne!(words("x+1"), words("x-1"));
        assert_eq!(words("a ------ b - - c"), ["a", "-", "b", "-", "-", "c"]);
        assert_eq!(words("细胞a b"), ["细", "胞", "a", "b"]);
        let (one, two) = (words("A b c d"), words("x a, B. c"));
        assert_eq!(ngrams(&one, 3)[0], ngrams(&two, 3)[1]);
        assert!(ngrams(&one, 5).is_empty());
    }
}
