//! Decontamination: records that contain benchmark items are dropped (report, section 2).

use crate::ledger::{Fault, Reason};
use crate::record::Record;
use crate::words::{ngrams, words};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A question of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchmarkItem {
    pub benchmark: String,
    /// The item within the benchmark.
    pub id: String,
    /// The question as it is asked.
    pub text: String,
}

/// Drops a record when it holds at least `share` of an item's n-grams, or `run` words of an item on end.
/// N-grams that occur in more than `common` items (stock phrases) count for none. An item of fewer words
/// than `ngram` is looked for as a whole, one of fewer than four not at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decontaminate {
    /// Words of an n-gram; by default 8.
    pub ngram: usize,
    /// By default 0.5.
    pub share: f64,
    /// By default 20 words.
    pub run: usize,
    /// By default 3 items.
    pub common: usize,
}

impl Default for Decontaminate {
    fn default() -> Decontaminate {
        Decontaminate { ngram: 8, share: 0.5, run: 20, common: 3 }
    }
}

/// Fewest words of an item that can be told from chance.
const FEWEST: usize = 4;

impl Decontaminate {
    /// The index of the items. No items, or settings under which nothing could be found, are an error:
    /// a decontamination that marks nothing would pass unseen.
    pub(super) fn index<'a>(&self, items: &'a [BenchmarkItem]) -> Result<Index<'a>> {
        if items.is_empty() {
            bail!("decontaminate has no benchmark items to look for");
        }
        if self.ngram < FEWEST || !(self.share > 0.0 && self.share <= 1.0) {
            bail!("decontaminate needs an ngram of {FEWEST} or more and a share above 0, at most 1");
        }
        let grams: Vec<(usize, BTreeSet<u64>)> = items
            .iter()
            .map(|item| {
                let words = words(&item.text);
                let n = self.ngram.min(words.len());
                (n, if n < FEWEST { BTreeSet::new() } else { ngrams(&words, n).into_iter().collect() })
            })
            .collect();
        let mut seen: HashMap<u64, usize> = HashMap::new();
        for gram in grams.iter().flat_map(|(_, grams)| grams) {
            *seen.entry(*gram).or_default() += 1;
        }
        let mut index = Index { step: *self, items, totals: vec![0; items.len()], by_size: BTreeMap::new() };
        for (i, (n, grams)) in grams.iter().enumerate() {
            let telling: Vec<&u64> = grams.iter().filter(|gram| seen[gram] <= self.common).collect();
            // An item all of stock phrases is still looked for.
            let grams = if telling.is_empty() { grams.iter().collect() } else { telling };
            index.totals[i] = grams.len();
            for gram in grams {
                index.by_size.entry(*n).or_default().entry(*gram).or_default().push(i);
            }
        }
        Ok(index)
    }
}

/// Benchmark items by their n-grams.
pub(super) struct Index<'a> {
    step: Decontaminate,
    items: &'a [BenchmarkItem],
    /// How many n-grams of each item count.
    totals: Vec<usize>,
    /// Items by n-gram, for each length of n-grams.
    by_size: BTreeMap<usize, HashMap<u64, Vec<usize>>>,
}

impl Index<'_> {
    pub(super) fn fault(&self, record: &Record) -> Option<Fault> {
        let words = words(&record.body.text());
        for (n, index) in &self.by_size {
            let grams = ngrams(&words, *n);
            let mut hits: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (at, gram) in grams.iter().enumerate() {
                for item in index.get(gram).into_iter().flatten() {
                    hits.entry(*item).or_default().push(at);
                }
            }
            for (item, places) in hits {
                let (start, length) = longest_run(&places);
                let found = places.iter().map(|at| grams[*at]).collect::<HashSet<_>>().len();
                let share = found as f64 / self.totals[item] as f64;
                if share >= self.step.share || length + n > self.step.run {
                    let BenchmarkItem { benchmark, id, .. } = &self.items[item];
                    let span = words[start..start + length + n - 1].join(" ");
                    return Some(Fault::new(Reason::Contaminated, format!("{benchmark} {id}: {span}")));
                }
            }
        }
        None
    }
}

/// Where the longest run of consecutive numbers begins and how many they are.
fn longest_run(places: &[usize]) -> (usize, usize) {
    let runs = places.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| (run[0], run.len()))
        .max_by_key(|(start, length)| (*length, usize::MAX - start))
        .unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    fn item(id: &str, text: &str) -> BenchmarkItem {
        BenchmarkItem { benchmark: "gsm8k".into(), id: id.into(), text: text.into() }
    }

    const DUCKS: &str = "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes \
        muffins for her friends every day with four. How much in dollars does she make every day?";

    fn found(items: &[BenchmarkItem], prompt: &str, answer: &str) -> Option<String> {
        let index = Decontaminate::default().index(items).unwrap();
        index.fault(&record("a:1", prompt, answer)).map(|fault| fault.evidence)
    }

    #[test]
    fn copies_are_found_in_another_dress_and_in_the_answer() {
        let items =
            [item("1", "Something else altogether that nobody ever asks of anyone."), item("2", DUCKS)];
        let dressed = DUCKS.to_uppercase().replace(' ', "\n ").replace(',', "");
        for (prompt, answer) in [(DUCKS, "18"), (dressed.as_str(), "18"), ("Q", DUCKS)] {
            let evidence = found(&items, &format!("Please solve: {prompt} Thanks."), answer).unwrap();
            assert!(evidence.starts_with("gsm8k 2: janet s ducks lay 16 eggs"), "{evidence}");
        }
        let half = &DUCKS[..DUCKS.len() * 2 / 3];
        assert!(found(&items, half, "?").is_some());
        let other = DUCKS
            .replace("eggs", "stones")
            .replace("three", "five")
            .replace("friends", "aunt")
            .replace("dollars", "euros");
        assert_eq!(found(&items, &other, "18"), None);
    }

    #[test]
    fn stock_phrases_and_single_overlaps_do_not_count() {
        let stock = "What is the sum of all possible values of x such that";
        let items: Vec<_> = (0..6)
            .map(|i| item(&i.to_string(), &format!("{stock} the number {i} divides the {i}th power of it?")))
            .collect();
        assert_eq!(found(&items, &format!("{stock} x is green?"), "3"), None);
        assert!(found(&items, &items[4].text, "3").unwrap().starts_with("gsm8k 4"));
    }

    #[test]
    fn short_items_are_looked_for_whole() {
        let items = [item("1", "Solve 3y+6=15."), item("2", "Why?")];
        assert!(found(&items, "Please solve 3y + 6 = 15!", "3").is_some());
        assert_eq!(found(&items, "Please solve 3y - 6 = 15!", "7"), None);
        assert_eq!(found(&items, "Why?", "Because."), None);
        assert!(Decontaminate::default().index(&[]).is_err());
    }
}
