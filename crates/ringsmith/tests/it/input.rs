//! Files as people have them: hostile rows go to the ledger and the run goes on.

use crate::{MICRO, Place};
use std::fs;

const TEST: &str = "{\"question\": \"Ann picks nine red apples and four green pears from the old garden, then gives \
    five of the apples to Ben. How many pieces of fruit has Ann now?\", \"answer\": \"9+4-5=8\\n#### 8\"}\n";

/// A recipe with a source `own` that reads `file`, decontaminated against `test.jsonl`.
fn place(file: &str) -> Place {
    let place = Place::new(MICRO);
    place.edit(
        "sources = [{ name = \"eq\", workbook = \"eq\", count = 40 }]\nsteps = [{ purify = {} }]",
        &format!(
            "sources = [{{ name = \"own\", files = [\"{file}\"], think = \"wrap\" }}, {{ name = \"eq\", workbook = \"eq\", count = 40 }}]\n\
             steps = [{{ dedup = {{}} }}, {{ decontaminate = {{}} }}, {{ purify = {{}} }}]"
        ),
    );
    place.edit(
        "benchmarks = [",
        "benchmarks = [\n  { name = \"gsm8k\", kind = \"gsm8k\", group = \"reasoning\", files = [\"test.jsonl\"], max_tokens = 8 },",
    );
    fs::write(place.path("test.jsonl"), TEST).unwrap();
    place
}

#[test]
fn hostile_rows_are_in_the_ledger_and_the_counts_add_up() {
    let leak = TEST.trim_end().replace("green", "yellow");
    let good = "{\"question\": \"What is 3+4?\", \"answer\": \"3+4=7\\n#### 7\"}";
    let long = format!("{{\"question\": \"Long?\", \"answer\": \"{}\"}}", "x".repeat(17 << 20));
    let expected: [(&[u8], &str); 16] = [
        (good.as_bytes(), ""),
        (b"{\"foo\": 1}", "read  unknown-shape"),
        (b"null", "read  unknown-shape"),
        (b"{\"question\": \"\xff?\", \"answer\": \"#### 1\"}", "read  unreadable-utf8"),
        (b"{\"question\": \"cut", "read  not-json"),
        (b"{\"question\": \"Empty?\", \"answer\": \" \"}", "read  empty-answer"),
        (b"{\"question\": \"Null?\", \"answer\": null}", "read  empty-answer"),
        (b"{\"question\": \"\", \"answer\": \"#### 1\"}", "read  empty-prompt"),
        (b"{\"question\": null, \"answer\": \"#### 1\"}", "read  empty-prompt"),
        (b"{\"question\": \"Prose?\", \"answer\": \"Because.\"}", "read  no-final-answer"),
        (b"{\"question\": \"A number?\", \"answer\": 12}\r", ""),
        (b"{\"question\": \"A number as text?\", \"answer\": \"12\"}", ""),
        (long.as_bytes(), "read  too-long-line"),
        (good.as_bytes(), "1.dedup  duplicate  \"the same as own:1\""),
        (
            leak.as_bytes(),
            "2.decontaminate  contaminated  \"gsm8k gsm8k:1: pears from the old garden then gives",
        ),
        (b"{\"question\": \"The last one: 2+2?\", \"answer\": \"#### 4\"}", ""),
    ];
    // In an array the row that is cut would swallow those after it.
    let whole: Vec<_> =
        expected.iter().filter(|(_, reason)| !reason.ends_with("not-json")).copied().collect();
    let bytes = |rows: &[(&[u8], &str)], between: &[u8]| {
        rows.iter().map(|(row, _)| *row).collect::<Vec<_>>().join(between)
    };
    let lines = bytes(&expected, b"\n\n \r\n");
    let array = [b"[\n", bytes(&whole, b",\n").as_slice(), b"\n]\n"].concat();
    let drops = "1 too-long-line + 2 unknown-shape + 2 empty-answer + 2 empty-prompt + 1 no-final-answer + \
        1 duplicate + 1 contaminated";
    for (name, text, rows, counts) in [
        (
            "own.jsonl",
            lines,
            &expected[..],
            format!("16 read = 4 kept + 1 unreadable-utf8 + 1 not-json + {drops}"),
        ),
        ("own.json", array, &whole, format!("15 read = 4 kept + 1 unreadable-utf8 + {drops}")),
    ] {
        let place = place(name);
        fs::write(place.path(name), [b"\xEF\xBB\xBF", text.as_slice()].concat()).unwrap();
        place.ringsmith(&["run", "recipe.toml"]).ends(0);
        let said = place.ringsmith(&["show", "ledger", "data.reasoning"]).ends(0);
        assert!(said.out.contains(&format!("\n  own: {counts}\n")), "{}", said.out);
        for (i, (_, reason)) in rows.iter().enumerate() {
            let start = format!("data.reasoning  own:{}  ", i + 1);
            match said.out.lines().find_map(|line| line.strip_prefix(&start)) {
                None => assert_eq!(*reason, "", "{name}, row {}", i + 1),
                Some(line) => assert!(!reason.is_empty() && line.starts_with(reason), "{reason}: {line}"),
            }
        }
    }
}

#[test]
fn every_format_gives_the_same_records() {
    let csv = "question,answer\n\"What is\n3+4?\",\"3+4=7\n#### 7\"\n\"Say \"\"4\"\", please\",4\n";
    let rows = [
        r#"{"question": "What is\n3+4?", "answer": "3+4=7\n#### 7"}"#,
        r#"{"question": "Say \"4\", please", "answer": 4}"#,
    ];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, rows.join("\n").as_bytes()).unwrap();
    let mut first = None;
    for (name, bytes) in [
        ("own.jsonl", rows.join("\r\n").into_bytes()),
        ("own.json", format!("[{}]", rows.join(", ")).into_bytes()),
        ("own.jsonl.gz", gzip.finish().unwrap()),
        ("own.csv", csv.into()),
    ] {
        let place = place(name);
        fs::write(place.path(name), bytes).unwrap();
        place.ringsmith(&["run", "recipe.toml"]).ends(0);
        let stage = fs::read_dir(place.path("store/data.reasoning")).unwrap().next().unwrap().unwrap().path();
        let records = fs::read_to_string(stage.join("records.jsonl")).unwrap();
        assert_eq!(records.matches("\"source\":\"own\"").count(), 2, "{records}");
        assert_eq!(*first.get_or_insert_with(|| records.clone()), records, "{name}");
    }
}
