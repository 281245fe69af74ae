//! A benchmark file is never trained on.

use crate::{MICRO, Place};
use std::fs;

const ROWS: &str = "{\"question\": \"What is 1+1?\", \"answer\": \"1+1=2\\n#### 2\"}\n\
    {\"question\": \"What is 2+2?\", \"answer\": \"2+2=4\\n#### 4\"}\n";

/// A recipe with one more source that reads `file`, and one more benchmark that reads `test.jsonl`.
fn with_files(file: &str) -> Place {
    let place = Place::new(MICRO);
    place.edit(
        "sources = [{ name = \"eq\"",
        &format!("sources = [{{ name = \"gsm\", files = [\"{file}\"] }}, {{ name = \"eq\""),
    );
    place.edit(
        "benchmarks = [",
        "benchmarks = [\n  { name = \"gsm8k\", kind = \"gsm8k\", group = \"reasoning\", files = [\"test.jsonl\"] },",
    );
    fs::write(place.path("test.jsonl"), ROWS).unwrap();
    fs::write(place.path("train.jsonl"), ROWS.replace("1+1", "3+4")).unwrap();
    place
}

fn refused(place: &Place, file: &str) {
    for verb in ["plan", "run"] {
        let said = place.ringsmith(&[verb, "recipe.toml"]).ends(2);
        let named = format!("source \"gsm\" would train on the benchmark file {file} (");
        assert!(said.err.starts_with("error: recipe.toml:") && said.err.contains(&named), "{}", said.err);
    }
}

#[test]
fn a_training_file_is_accepted() {
    with_files("train.jsonl").ringsmith(&["plan", "recipe.toml"]).ends(0);
}

#[test]
fn the_benchmark_itself_is_refused() {
    refused(&with_files("test.jsonl"), "test.jsonl");
    refused(&with_files("./test.jsonl"), "./test.jsonl");
}

#[test]
fn a_copy_of_it_is_refused() {
    let place = with_files("copy.jsonl");
    fs::copy(place.path("test.jsonl"), place.path("copy.jsonl")).unwrap();
    refused(&place, "copy.jsonl");
}

#[test]
fn its_rows_are_refused_in_any_dress() {
    let rows: Vec<serde_json::Value> = ROWS.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let renamed = ROWS.replace("question", "prompt").replace("answer", "completion");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, ROWS.as_bytes()).unwrap();
    let dresses = [
        ("copy.jsonl.gz", gzip.finish().unwrap()),
        ("copy.json", serde_json::to_vec_pretty(&rows).unwrap()),
        ("part.jsonl", ROWS.lines().next().unwrap().into()),
        ("renamed.jsonl", renamed.into_bytes()),
        ("mixed.jsonl", format!("{}{{\"text\": \"own\"}}\n", ROWS).into_bytes()),
    ];
    for (name, bytes) in dresses {
        let place = with_files(name);
        fs::write(place.path(name), bytes).unwrap();
        refused(&place, name);
    }
}

#[test]
fn a_link_to_it_is_refused() {
    let place = with_files("link.jsonl");
    std::os::unix::fs::symlink("test.jsonl", place.path("link.jsonl")).unwrap();
    refused(&place, "link.jsonl");
}

#[test]
fn an_unreadable_file_is_named_before_anything_runs() {
    let cut = "[{\"question\": \"1+1?\", \"answer\": \"2\"}, {\"quest";
    for (name, bytes, said) in [
        ("notes.txt", "text", "unknown format"),
        ("cut.json", cut, "row 2: damaged"),
        ("not.jsonl.gz", "no gzip", "row 1: damaged"),
    ] {
        let place = with_files(name);
        fs::write(place.path(name), bytes).unwrap();
        unreadable(&place, &format!("source \"gsm\" cannot be read: ./{name}"), said);
    }
    let place = with_files("folder.jsonl");
    fs::create_dir(place.path("folder.jsonl")).unwrap();
    unreadable(&place, "source \"gsm\" cannot be read: ./folder.jsonl", "is a folder");
    let place = with_files("train.jsonl");
    fs::write(place.path("test.jsonl"), "{\"question\": \"1+1?\"}\n").unwrap();
    unreadable(&place, "benchmark \"gsm8k\" cannot be read", "test.jsonl");
}

fn unreadable(place: &Place, what: &str, why: &str) {
    for verb in ["plan", "run"] {
        let said = place.ringsmith(&[verb, "recipe.toml"]).ends(2);
        assert!(said.err.contains(what) && said.err.contains(why), "{}", said.err);
        assert_eq!(said.out, "");
    }
}

#[test]
fn a_file_that_sources_md_calls_eval_is_refused() {
    let page =
        "| name | repo | path | role |\n|---|---|---|---|\n| set | owner/repo | data/held.jsonl | eval |\n";
    let place = with_files("set/held.jsonl");
    fs::create_dir(place.path("set")).unwrap();
    fs::write(place.path("set/held.jsonl"), ROWS.replace("1+1", "5+6")).unwrap();
    place.ringsmith(&["plan", "recipe.toml"]).ends(0);
    fs::write(place.path("SOURCES.md"), page).unwrap();
    refused(&place, "set/held.jsonl");
    // Also under another name.
    let place = with_files("train.jsonl");
    fs::create_dir(place.path("set")).unwrap();
    fs::copy(place.path("train.jsonl"), place.path("set/owner_held.jsonl")).unwrap();
    fs::write(place.path("SOURCES.md"), page).unwrap();
    refused(&place, "train.jsonl");
}
