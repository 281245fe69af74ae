//! A whole run, and what surrounds it.

use crate::{MICRO, Place, outputs};
use serde_json::Value;
use std::{fs, time::Instant};

#[test]
fn every_stage_runs_once_and_the_report_reads_as_promised() {
    let place = Place::new(MICRO);
    let said = place.ringsmith(&["run", "recipe.toml", "--store", "here"]).ends(0);
    assert!(said.out.contains("data.reasoning: done in"), "{}", said.out);
    assert!(said.out.contains(": 40 read = 40 kept\n"), "{}", said.out);
    assert!(said.out.contains("talk to it: ringsmith chat --store here\n"), "{}", said.out);

    let start = Instant::now();
    let said = place.ringsmith(&["run", "recipe.toml", "--store", "here"]).ends(0);
    assert!(start.elapsed().as_secs_f64() < 2.0);
    assert!(said.out.starts_with("everything is fresh"), "{}", said.out);
    assert_eq!(said.err, "");

    let said = place.ringsmith(&["show", "report", "--store", "here", "--json"]).ends(0);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["recipe"], "micro");
    let models: Vec<&str> =
        report["models"].as_array().unwrap().iter().map(|m| m["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["base", "stage1", "stage2", "dpo"]);
    for model in report["models"].as_array().unwrap() {
        assert_eq!(model["think_total"], 8);
        assert!(model["reasoning"].is_number() && model["general"].is_number());
        let tasks = model["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), 2);
        for task in tasks {
            assert_eq!(task["total"], 8);
            assert!(task["correct"].as_u64().unwrap() <= 8 && task["low"].as_f64() <= task["high"].as_f64());
        }
    }
    let release = fs::read_dir(place.path("here/release")).unwrap().next().unwrap().unwrap().path();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"] {
        assert!(release.join(name).exists(), "{name}");
    }
    let card = fs::read_to_string(release.join("README.md")).unwrap();
    assert!(card.contains("| sft.reason | `"), "{card}");

    let mut chat = place.command(&["chat", "--store", "here", "--max-tokens", "4"]);
    let chat = chat.stdin(fs::File::open(place.path("recipe.toml")).unwrap()).output().unwrap();
    assert_eq!(chat.status.code(), Some(0));
    let lines = MICRO.lines().filter(|line| !line.trim().is_empty()).count();
    assert_eq!(String::from_utf8(chat.stdout).unwrap().lines().count(), lines);
}

#[test]
fn the_weights_do_not_depend_on_the_number_of_threads() {
    let (one, two) = (Place::new(MICRO), Place::new(MICRO));
    one.ringsmith(&["run", "recipe.toml", "--threads", "1"]).ends(0);
    two.ringsmith(&["run", "recipe.toml", "--threads", "3"]).ends(0);
    assert_eq!(outputs(&one.store()), outputs(&two.store()));
}

#[test]
fn damage_is_named_and_loses_no_other_stage() {
    let place = Place::new(MICRO);
    place.ringsmith(&["run", "recipe.toml"]).ends(0);
    let stage = fs::read_dir(place.path("store/sft.reason")).unwrap().next().unwrap().unwrap().path();
    let weights = stage.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(2);
    assert!(said.err.contains("model.safetensors is damaged"), "{}", said.err);
    // Of the right size, but with one bit changed: found before anything is built on it.
    let mut bent = whole.clone();
    *bent.last_mut().unwrap() ^= 1;
    fs::write(&weights, &bent).unwrap();
    place.edit("lr = 5e-4", "lr = 4e-4");
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(2);
    assert!(said.err.contains("model.safetensors is damaged (its contents have changed)"), "{}", said.err);
    // As the message says: remove that folder and run again.
    fs::remove_dir_all(&stage).unwrap();
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(0);
    assert!(said.out.contains("sft.reason: done") && !said.out.contains("pretrain: done"), "{}", said.out);
    assert_eq!(fs::read(&weights).unwrap(), whole);
}

#[test]
fn two_runs_do_not_share_a_store() {
    let place = Place::new(MICRO);
    fs::create_dir(place.store()).unwrap();
    let lock = fs::File::create(place.path("store/lock")).unwrap();
    lock.try_lock().unwrap();
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(2);
    assert!(said.err.contains("store store is in use by another run"), "{}", said.err);
    drop(lock);
    place.ringsmith(&["plan", "recipe.toml"]).ends(0);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new(MICRO);
    let mut child = place
        .command(&["plan", "recipe.toml"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
