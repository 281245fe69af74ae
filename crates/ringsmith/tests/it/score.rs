//! `score`: one line of log-probabilities for each line of tokens.

use crate::{MICRO, Place, Said};
use std::{io::Write, process::Stdio};

/// Only the base model is made: what follows it is cut off.
fn with_model() -> Place {
    let place = Place::new(MICRO.split("[sft.reason]").next().unwrap());
    place.ringsmith(&["run", "recipe.toml"]).ends(0);
    let model = std::fs::read_dir(place.path("store/pretrain")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(model, place.path("model")).unwrap();
    place
}

fn score(place: &Place, input: &str) -> Said {
    let mut child = place
        .command(&["score", "--model", "model"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Said::from(child.wait_with_output().unwrap())
}

#[test]
fn token_ids_need_no_tokenizer_and_bad_lines_are_named() {
    let place = with_model();
    let said = score(
        &place,
        "{\"input_ids\": [5, 6, 7]}\n{\"input_ids\": [5, 6]}\n{\"input_ids\": []}\n{\"input_ids\": [9]}\n",
    )
    .ends(0);
    let lines: Vec<serde_json::Value> = said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let counts: Vec<usize> = lines.iter().map(|l| l["logprobs"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 1, 0, 0]);
    // What comes later changes nothing before it.
    assert_eq!(lines[0]["logprobs"][0], lines[1]["logprobs"][0]);
    assert!(lines[0]["logprobs"][0].as_f64().unwrap() < 0.0);

    for (input, expected) in [
        (
            "{\"input_ids\": [1]}\n{\"input_ids\": [1, 100000]}\n",
            "stdin: line 2: id 100000 is outside the vocabulary",
        ),
        ("{\"input_ids\": [1]}\nnonsense\n", "stdin: line 2: "),
        ("{}\n", "stdin: line 1: needs either"),
        ("{\"text\": \"a\"}\n", "tokenizer.json"),
        ("{\"input_ids\": [1, -1]}\n", "stdin: line 1: "),
    ] {
        let said = score(&place, input).ends(2);
        assert!(said.err.contains(expected), "{}", said.err);
    }
}
