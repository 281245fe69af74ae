//! Benchmarks run against scripted answers, from files and from the workbook.

use anyhow::Result;
use ringsmith_data::grade::Class;
use ringsmith_data::record::Conversation;
use ringsmith_data::solver::{Answer, Sampling, Solver};
use ringsmith_data::workbook::{self, Order, Split, Style, Task};
use ringsmith_eval::benchmark::Benchmark;
use ringsmith_eval::question::{Question, Reference, prompts, questions};
use ringsmith_eval::report::{ModelScore, Report, table};
use ringsmith_eval::run::{Scored, run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Gives its answers in order, whatever is asked.
struct Scripted(Vec<Answer>);

impl Solver for Scripted {
    fn answer(&mut self, questions: &[Conversation], _: &Sampling) -> Result<Vec<Answer>> {
        Ok(self.0.iter().take(questions.len()).cloned().collect())
    }
}

fn scripted(texts: &[&str]) -> Scripted {
    Scripted(texts.iter().map(|text| Answer { text: (*text).into(), truncated: false }).collect())
}

fn benchmark(value: Value) -> Benchmark {
    serde_json::from_value(value).unwrap()
}

/// A folder of this test's own, with that file in it.
fn folder(test: &str, files: &[(&str, &[Value])]) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&root).unwrap();
    for (name, rows) in files {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(root.join(name), text).unwrap();
    }
    root
}

fn classes(scored: &Scored) -> Vec<Class> {
    scored.items.iter().map(|item| item.class).collect()
}

#[test]
fn the_workbook_teacher_scores_everything() {
    for task in Task::ALL.into_iter().filter(|task| !task.is_text()) {
        let think = task == Task::Subjective;
        let bench = match think {
            true => benchmark(json!({"name": "t", "kind": "think", "count": 60})),
            false => benchmark(
                json!({"name": "t", "kind": "workbook", "group": "general", "task": task.name(), "count": 60}),
            ),
        };
        let asked = questions(&bench, Path::new("/nowhere"), 5).unwrap();
        let records = workbook::generate(&Order::new(task, Split::Test, 60, 5)).unwrap();
        let texts: Vec<&str> = records.iter().map(|record| workbook::question(record).unwrap().1).collect();
        let scored = run(&bench, &asked, &mut scripted(&texts), 5).unwrap();
        assert_eq!(scored.correct(), 60, "{task}");
        let mute = run(&bench, &asked, &mut scripted(&[""; 60]), 5).unwrap();
        assert_eq!(mute.correct(), 0, "{task}");
    }
}

#[test]
fn questions_never_show_the_answer() {
    let bench = benchmark(
        json!({"name": "chain", "kind": "workbook", "group": "reasoning", "task": "chain", "count": 50}),
    );
    for question in questions(&bench, Path::new("/nowhere"), 1).unwrap() {
        assert_eq!(question.conversation.turns.len(), 1);
        assert!(!question.conversation.turns[0].text.contains("boxed"));
    }
}

#[test]
fn benchmark_items_are_not_in_the_training_data() {
    for task in
        [Task::Chain, Task::Eq, Task::Word, Task::Mod, Task::Instruct, Task::Tool, Task::Pick, Task::Facts]
    {
        let bench = benchmark(
            json!({"name": "t", "kind": "workbook", "group": "general", "task": task.name(), "count": 200}),
        );
        let held_out: Vec<String> =
            prompts(&bench, Path::new("/nowhere"), 9).unwrap().into_iter().map(|(_, text)| text).collect();
        let style = if task.is_reasoning() { Style::Direct } else { task.default_style() };
        let training = Order { style, ..Order::new(task, Split::Train, 3000, 9) };
        for record in workbook::generate(&training).unwrap() {
            let (conversation, _) = workbook::question(&record).unwrap();
            let text = conversation.turns.last().unwrap().text.trim().to_string();
            assert!(!held_out.contains(&text), "{text}");
        }
    }
}

#[test]
fn gsm8k_counts_each_way_to_fail() {
    let row = json!({"question": "How many?", "answer": "6*7=<<6*7=42>>42\n#### 42"});
    let root = folder(
        "gsm8k",
        &[("test.jsonl", &[row.clone(), row.clone(), row.clone(), row.clone(), row.clone(), row])],
    );
    let bench =
        benchmark(json!({"name": "g", "kind": "gsm8k", "group": "reasoning", "files": ["test.jsonl"]}));
    let asked = questions(&bench, &root, 0).unwrap();
    assert_eq!((asked.len(), asked[5].id.as_str(), asked[0].text.as_str()), (6, "g:6", "How many?"));
    let mut solver = scripted(&[
        "<think> 6*7</think>It is \\boxed{42}.",
        "6*7 = 42",
        "<think> 6*7 = 42",
        "I found 42, so 41",
        "<think> hm</think>",
        "42",
    ]);
    solver.0[5].truncated = true;
    let scored = run(&bench, &asked, &mut solver, 0).unwrap();
    use Class::{Empty, MissingClose, Right, Truncated, Wrong};
    assert_eq!(classes(&scored), [Right, Right, MissingClose, Wrong, Empty, Truncated]);
    assert_eq!((scored.correct(), scored.count(Truncated)), (2, 1));
    let limited = Benchmark { limit: Some(2), samples: 2, ..bench };
    let scored =
        run(&limited, &questions(&limited, &root, 0).unwrap(), &mut scripted(&["42", "41", "42", "42"]), 0);
    let ids: Vec<String> = scored.unwrap().items.into_iter().map(|item| item.id).collect();
    assert_eq!(ids, ["g:1#1", "g:1#2", "g:2#1", "g:2#2"]);
}

#[test]
fn other_file_benchmarks() {
    let function =
        json!([{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}]);
    let ifeval = json!({
        "prompt": "No commas, in quotes.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": [{}, {}]
    });
    let root = folder(
        "files",
        &[
            ("math.jsonl", &[json!({"problem": "Half?", "answer": "\\frac{1}{2}"})]),
            ("letter.jsonl", &[json!({"question": "Which?", "choices": ["a", "b", "c"], "answer": 2})]),
            ("ifeval.jsonl", &[ifeval]),
            (
                "bfcl.json",
                &[
                    json!({"id": "p0", "question": [[{"role": "user", "content": "one"}]], "function": function}),
                ],
            ),
            ("possible.json", &[json!({"id": "p0", "ground_truth": [{"f": {"a": [1]}}]})]),
            ("think.jsonl", &[json!({"prompt": "Do you like it?"})]),
        ],
    );
    let score = |value: Value, answer: &str| {
        let bench = benchmark(value);
        run(&bench, &questions(&bench, &root, 3).unwrap(), &mut scripted(&[answer]), 3).unwrap()
    };
    let math = json!({"name": "m", "kind": "math500", "group": "reasoning", "files": ["math.jsonl"]});
    assert_eq!(score(math.clone(), "\\boxed{0.5}").correct(), 1);
    assert_eq!(score(math, "0.5").correct(), 0);
    let letter = json!({"name": "l", "kind": "mmlu", "group": "general", "files": ["letter.jsonl"]});
    assert_eq!(score(letter, "Answer: C").correct(), 1);
    let bfcl =
        json!({"name": "b", "kind": "bfcl", "group": "general", "files": ["bfcl.json", "possible.json"]});
    assert_eq!(score(bfcl.clone(), "[f(a=1)]").correct(), 1);
    assert_eq!(score(bfcl, "[f(a=2)]").correct(), 0);
    let ifeval = json!({"name": "i", "kind": "ifeval", "group": "general", "files": ["ifeval.jsonl"]});
    let scored = score(ifeval, "Sure:\n\"yes\"");
    assert_eq!(scored.correct(), 0);
    let counts: Vec<(&str, usize, usize)> =
        scored.measures.iter().map(|m| (m.name.as_str(), m.correct, m.total)).collect();
    assert_eq!(counts, [("prompt_loose", 1, 1), ("instruction_strict", 1, 2), ("instruction_loose", 2, 2)]);
    let think = json!({"name": "t", "kind": "think", "files": ["think.jsonl"]});
    assert_eq!(score(think.clone(), "<think> a</think> b").correct(), 1);
    assert_eq!(score(think, "b").correct(), 0);
}

#[test]
fn shuffled_choices_keep_their_answer() {
    let row = json!({"question": "Which?", "choices": ["w", "x", "right", "y", "z"], "answer": 2});
    let root = folder("shuffle", &[("c.jsonl", &vec![row; 20])]);
    let bench = benchmark(
        json!({"name": "g", "kind": "gpqa", "group": "reasoning", "files": ["c.jsonl"], "shuffle": true}),
    );
    let asked = questions(&bench, &root, 1).unwrap();
    let mut letters = Vec::new();
    for Question { conversation, reference, .. } in &asked {
        let Reference::Letter(letter) = reference else { panic!("a letter") };
        assert!(conversation.turns[0].text.contains(&format!("{letter}. right")));
        letters.push(*letter);
    }
    letters.sort();
    letters.dedup();
    assert!(letters.len() > 1);
    assert_eq!(asked, questions(&bench, &root, 1).unwrap());
}

#[test]
fn subjective_queries_come_in_several_shapes() {
    let rows = [
        json!({"prompt": "a"}),
        json!({"question": "b"}),
        json!({"Instruction": "c"}),
        json!({"turns": ["d", "and more"]}),
    ];
    let root = folder("subjective", &[("q.jsonl", &rows)]);
    let bench = benchmark(json!({"name": "t", "kind": "think", "files": ["q.jsonl"]}));
    let asked: Vec<_> = questions(&bench, &root, 0).unwrap().into_iter().map(|q| q.text).collect();
    assert_eq!(asked, ["a", "b", "c", "d"]);
}

#[test]
fn errors_name_what_is_wrong() {
    let root = folder("errors", &[("bad.jsonl", &[json!({"question": "x", "answer": "no number"})])]);
    let fails = |value: Value| format!("{:#}", questions(&benchmark(value), &root, 0).unwrap_err());
    let missing = fails(json!({"name": "g", "kind": "gsm8k", "group": "reasoning", "files": ["none.jsonl"]}));
    assert!(missing.contains("benchmark g") && missing.contains("none.jsonl"), "{missing}");
    let bad = fails(json!({"name": "g", "kind": "gsm8k", "group": "reasoning", "files": ["bad.jsonl"]}));
    assert!(bad.contains("bad.jsonl, row 1") && bad.contains("####"), "{bad}");
    for kind in ["livecodebench", "mathbench", "teval"] {
        let error = fails(json!({"name": "l", "kind": kind, "group": "reasoning", "files": ["bad.jsonl"]}));
        assert!(error.contains(&format!("benchmark kind {kind} is not implemented yet")), "{error}");
    }
    let bench = benchmark(json!({"name": "t", "kind": "think", "count": 3}));
    let asked = questions(&bench, &root, 0).unwrap();
    let short = run(&bench, &asked, &mut scripted(&["a"]), 0).unwrap_err();
    assert!(short.to_string().contains("1 answers to 3 questions"), "{short}");
}

/// A run of that many items, so many of them right.
fn scored(name: &str, kind: &str, group: Option<&str>, correct: usize, total: usize) -> Scored {
    let item = |i: usize| {
        let (correct, class) = if i < correct { (true, "right") } else { (false, "wrong") };
        json!({"id": format!("{name}:{i}"), "correct": correct, "class": class, "think": "ok", "answer": ""})
    };
    let items: Vec<Value> = (0..total).map(item).collect();
    let run = json!({"benchmark": name, "kind": kind, "group": group, "items": items, "measures": []});
    serde_json::from_value(run).unwrap()
}

#[test]
fn the_report_has_its_published_shape() {
    let runs = [
        scored("chain", "workbook", Some("reasoning"), 3, 4),
        scored("eq", "workbook", Some("reasoning"), 1, 4),
        scored("tool", "workbook", Some("general"), 2, 5),
        scored("subjective", "think", None, 7, 10),
    ];
    let report = Report { recipe: "tiny".into(), models: vec![ModelScore::new("base", &runs)] };
    let value = serde_json::to_value(&report).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&value), "recipe models");
    let model = &value["models"][0];
    assert_eq!(keys(model), "model reasoning general think_wrong think_total tasks");
    assert_eq!(
        (&model["model"], &model["reasoning"], &model["general"]),
        (&json!("base"), &json!(50.0), &json!(40.0))
    );
    assert_eq!((&model["think_wrong"], &model["think_total"]), (&json!(3), &json!(10)));
    let tasks = model["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3);
    assert_eq!(keys(&tasks[0]), "task group correct total low high");
    assert_eq!(tasks[0]["group"], json!("reasoning"));
    assert_eq!((&tasks[0]["correct"], &tasks[0]["total"]), (&json!(3), &json!(4)));
    assert!((tasks[0]["low"].as_f64().unwrap() - 30.06).abs() < 0.01);
    assert!((tasks[0]["high"].as_f64().unwrap() - 95.44).abs() < 0.01);
    assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report);
    let text = table(&report);
    for part in ["75.0 [30, 95] 3/4", "reasoning mean", "50.0", "3 of 10"] {
        assert!(text.contains(part), "{text}");
    }
    let empty = Report { recipe: "x".into(), models: vec![ModelScore::new("base", &[])] };
    assert!(serde_json::to_value(&empty).unwrap()["models"][0]["reasoning"].is_null());
}
