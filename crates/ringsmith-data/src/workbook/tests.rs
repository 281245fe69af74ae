use super::*;
use std::collections::HashMap;

fn order(task: Task, split: Split, count: usize) -> Order {
    Order::new(task, split, count, 7)
}

fn prompt(record: &Record) -> String {
    let (conversation, _) = question(record).unwrap();
    conversation.turns.iter().map(|turn| turn.text.as_str()).collect()
}

const CHAT: [Task; 9] = [
    Task::Chain,
    Task::Eq,
    Task::Word,
    Task::Mod,
    Task::Instruct,
    Task::Tool,
    Task::Pick,
    Task::Facts,
    Task::Subjective,
];

#[test]
fn the_same_order_gives_the_same_records() {
    for task in Task::ALL {
        let split = if task == Task::FactDocuments { Split::All } else { Split::Train };
        let order = order(task, split, 50);
        assert_eq!(generate(&order).unwrap(), generate(&order).unwrap());
        assert_ne!(generate(&order).unwrap(), generate(&Order { seed: 8, ..order }).unwrap());
        assert_ne!(generate(&order).unwrap(), generate(&Order { lane: 1, ..order }).unwrap());
    }
}

#[test]
fn no_key_is_in_two_splits() {
    for task in CHAT {
        let mut home: HashMap<String, Split> = HashMap::new();
        for level in 1..=task.levels() {
            for split in [Split::Train, Split::Validation, Split::Test] {
                for record in generate(&Order { level, ..order(task, split, 600) }).unwrap() {
                    let key = key(&record).unwrap_or_else(|| panic!("no key in {record:?}"));
                    if task != Task::Facts {
                        assert_eq!(split_of(task, &key), split, "{record:?}");
                    }
                    assert_eq!(*home.entry(key).or_insert(split), split, "{record:?}");
                }
            }
        }
    }
}

#[test]
fn direct_answers_keep_to_the_split_too() {
    for task in [Task::Chain, Task::Eq, Task::Word, Task::Mod] {
        for record in generate(&Order { style: Style::Direct, ..order(task, Split::Train, 500) }).unwrap() {
            assert_eq!(split_of(task, &key(&record).unwrap()), Split::Train);
            assert!(!question(&record).unwrap().1.contains("<think>"));
        }
    }
}

#[test]
fn held_out_prompts_are_distinct() {
    for task in CHAT {
        let records = generate(&order(task, Split::Test, 200)).unwrap();
        let distinct: HashSet<String> = records.iter().map(prompt).collect();
        assert_eq!(distinct.len(), 200, "{task}");
    }
}

#[test]
fn a_dry_pool_starts_again() {
    let records = generate(&order(Task::Facts, Split::Validation, 250)).unwrap();
    let distinct: HashSet<String> = records.iter().map(prompt).collect();
    assert_eq!((records.len(), distinct.len()), (250, 100));
}

#[test]
fn facts_divide_as_stated_and_are_all_in_the_documents() {
    let keys = |split, count| -> HashSet<String> {
        generate(&order(Task::Facts, split, count)).unwrap().iter().map(|r| key(r).unwrap()).collect()
    };
    assert_eq!(keys(Split::Test, 240).len(), 120);
    assert_eq!(keys(Split::Validation, 100).len(), 50);
    assert_eq!(keys(Split::Train, 4000).len(), 130);
    assert_eq!(keys(Split::All, 8000).len(), 300);
    let documents = generate(&order(Task::FactDocuments, Split::All, 3000)).unwrap();
    let texts: HashSet<&str> = documents
        .iter()
        .map(|record| match &record.body {
            Body::Text(text) => text.as_str(),
            _ => panic!("a document is raw text"),
        })
        .collect();
    for record in generate(&order(Task::Facts, Split::Test, 200)).unwrap() {
        let (key, answer) = (key(&record).unwrap(), record.answer.unwrap());
        let (country, kind) = key.split_once(' ').unwrap();
        let sentence = format!("The {kind} of {country} is {answer}.");
        let entry = format!("{kind} {answer}");
        let stated =
            |t: &&str| t.contains(&sentence) || (t.contains(&format!(" {country}:")) && t.contains(&entry));
        assert!(texts.iter().any(stated), "{sentence}");
    }
}

#[test]
fn texts_start_with_a_space() {
    for task in CHAT {
        for record in generate(&order(task, Split::Train, 50)).unwrap() {
            let Body::Chat(conversation) = &record.body else { panic!("chat") };
            for turn in &conversation.turns {
                let first = turn.text.chars().next().unwrap();
                assert!(matches!(first, ' ' | '<' | '\\'), "{:?}", turn.text);
                if let Some(rest) = turn.text.strip_prefix("<think>") {
                    assert!(rest.starts_with(' '));
                }
            }
        }
    }
}

#[test]
fn the_teacher_computes_rightly() {
    for task in [Task::Chain, Task::Word] {
        for level in 1..=4 {
            for record in generate(&Order { level, ..order(task, Split::Train, 200) }).unwrap() {
                let key = key(&record).unwrap();
                let start = key.find(['+', '-', '*']).unwrap();
                let mut value: i64 = key[..start].parse().unwrap();
                let mut rest = &key[start..];
                while !rest.is_empty() {
                    let end = rest[1..].find(['+', '-', '*']).map_or(rest.len(), |i| i + 1);
                    let operand: i64 = rest[1..end].parse().unwrap();
                    value = match &rest[..1] {
                        "+" => value + operand,
                        "-" => value - operand,
                        _ => value * operand,
                    };
                    rest = &rest[end..];
                }
                assert_eq!(record.answer.as_deref(), Some(value.to_string().as_str()));
                let answer = question(&record).unwrap().1;
                assert!(answer.ends_with(&format!("={value}</think>\\boxed{{{value}}}")), "{answer}");
            }
        }
    }
}

#[test]
fn level_one_keeps_to_its_ranges() {
    for record in generate(&order(Task::Chain, Split::Train, 2000)).unwrap() {
        let value: i64 = record.answer.as_deref().unwrap().parse().unwrap();
        assert!((1..=40).contains(&value));
        assert_eq!(key(&record).unwrap().matches(['+', '-', '*']).count(), 3);
    }
}

#[test]
fn impossible_orders_are_refused() {
    let fails = |order: Order| generate(&order).unwrap_err().to_string();
    assert!(fails(order(Task::Chain, Split::All, 1)).contains("held-out"));
    assert!(fails(order(Task::FactDocuments, Split::Train, 1)).contains("`all`"));
    assert!(fails(Order { level: 2, ..order(Task::Facts, Split::Train, 1) }).contains("levels 1 to 1"));
    assert!(
        fails(Order { style: Style::Pair, ..order(Task::Eq, Split::Train, 1) }).contains("no style Pair")
    );
    assert!(Task::parse("sudoku").unwrap_err().to_string().contains("sudoku"));
}

#[test]
fn broken_pairs_come_in_their_shares() {
    let mut rng = Rng::new(&[b"break"]);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for _ in 0..6000 {
        *counts.entry(break_think("<think> t</think> a", &mut rng)).or_default() += 1;
    }
    let share = |text: &str| (counts[text] as f64 / 1000.0).round() as usize;
    assert_eq!(counts.len(), 5);
    assert_eq!(share(" t a"), 2);
    for text in [" t</think> a", "<think> t a", " a", "<think> t</think></think> a"] {
        assert_eq!(share(text), 1, "{text}");
    }
}
