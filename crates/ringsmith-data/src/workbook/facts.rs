//! Invented countries and their facts: something to know, to lose and to keep.

use super::instruct::CATEGORIES;
use super::{Item, Rng, Split};

const HEADS: [&str; 10] = ["Brui", "Kal", "Mor", "Ten", "Vos", "Lun", "Zar", "Pel", "Dri", "Sho"];
const TAILS: [&str; 10] = ["ra", "dia", "via", "nor", "tan", "lia", "mar", "bek", "go", "wen"];
const KINDS: [&str; 4] = ["metal", "animal", "color", "food"];
/// Facts held out for the test and for validation, of the 300; the rest may be asked in stage 2.
const TEST: usize = 120;
const VALIDATION: usize = 50;

/// One fact: the country's metal, animal, color or food.
struct Fact {
    country: String,
    kind: &'static str,
    value: &'static str,
}

/// The facts of one seed: 100 countries, three of the four kinds each.
pub(super) struct World {
    /// Three facts a country, one country after the other.
    facts: Vec<Fact>,
    /// Indices into `facts`, shuffled: test, then validation, then training.
    order: Vec<usize>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::new(&[b"facts", &seed.to_le_bytes()]);
        let mut facts = Vec::new();
        for (head, tail) in HEADS.iter().flat_map(|head| TAILS.iter().map(move |tail| (head, tail))) {
            let mut kinds = KINDS;
            rng.shuffle(&mut kinds);
            facts.extend(kinds[..3].iter().map(|kind| Fact {
                country: format!("{head}{tail}"),
                kind,
                value: rng.pick::<&str>(values(kind)),
            }));
        }
        let mut order: Vec<usize> = (0..facts.len()).collect();
        rng.shuffle(&mut order);
        World { facts, order }
    }

    pub(super) fn question(&self, split: Split, rng: &mut Rng) -> Item {
        let pool = match split {
            Split::Test => &self.order[..TEST],
            Split::Validation => &self.order[TEST..TEST + VALIDATION],
            Split::Train => &self.order[TEST + VALIDATION..],
            Split::All => &self.order[..],
        };
        let Fact { country, kind, value } = &self.facts[*rng.pick(pool)];
        let prompt = match rng.below(2) {
            0 => format!(" Which {kind} does {country} have?"),
            _ => format!(" What is the {kind} of {country}?"),
        };
        Item {
            key: format!("{country} {kind}"),
            system: None,
            prompt,
            thought: format!("The {kind} of {country} is {value}."),
            reply: format!(" {value}"),
            answer: Some(value.to_string()),
        }
    }

    /// The three facts of one country, as sentences or as a list.
    pub(super) fn document(&self, rng: &mut Rng) -> String {
        let country = rng.below(self.facts.len() / 3);
        let mut facts: Vec<&Fact> = self.facts[country * 3..][..3].iter().collect();
        rng.shuffle(&mut facts);
        let name = &facts[0].country;
        if rng.chance(0.5) {
            let sentences = facts.iter().map(|f| format!(" The {} of {name} is {}.", f.kind, f.value));
            sentences.collect()
        } else {
            let list: Vec<_> = facts.iter().map(|f| format!("{} {}", f.kind, f.value)).collect();
            format!(" {name}: {}.", list.join(", "))
        }
    }
}

/// The eight values of a kind: the instruct categories' members.
fn values(kind: &str) -> &'static [&'static str; 8] {
    CATEGORIES.iter().find(|c| c.0 == kind).map(|c| &c.2).expect("each kind of fact is a category")
}

/// The values of the kind that `value` belongs to, so that a grader can tell a rival from a bystander.
pub fn value_kind(value: &str) -> Option<&'static [&'static str; 8]> {
    KINDS.into_iter().map(values).find(|values| values.contains(&value))
}

/// `<country> <kind>` of a question.
pub(super) fn read_key(prompt: &str) -> Option<String> {
    let words: Vec<&str> = prompt.split(|c: char| !c.is_alphabetic()).collect();
    let kind = KINDS.into_iter().find(|kind| words.contains(kind))?;
    let country = words
        .iter()
        .find(|word| HEADS.iter().any(|h| word.strip_prefix(h).is_some_and(|t| TAILS.contains(&t))))?;
    Some(format!("{country} {kind}"))
}
