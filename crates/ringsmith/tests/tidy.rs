//! Rules of the house that a compiler does not hold.

use std::path::{Path, PathBuf};

/// One check after another may be long, and so may the backward pass: it mirrors the forward pass step by step.
const LONG: &[&str] = &["crates/ringsmith-model/tests/golden.rs"];

/// Names for crates that own nothing in particular.
const BANNED: &[&str] = &["core", "common", "utils", "util", "helpers", "misc", "shared"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

/// Rust files below `crates/`, by their path from the root, with their text.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    for entry in std::fs::read_dir(root.join("crates")).unwrap().flatten() {
        for part in ["src", "tests", "examples", "benches"].map(|p| entry.path().join(p)) {
            if part.is_dir() {
                walk(&part, &mut found);
            }
        }
    }
    assert!(found.len() > 50, "only {} files below {}", found.len(), root.display());
    let name = |p: &Path| p.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
    found.iter().map(|p| (name(p), std::fs::read_to_string(p).unwrap())).collect()
}

#[test]
fn files_stay_short() {
    for (file, text) in sources() {
        let lines = text.lines().count();
        assert!(
            lines <= 500 || LONG.contains(&file.as_str()),
            "{file} has {lines} lines: look for the missing noun"
        );
    }
}

#[test]
fn every_crate_says_what_it_must_not_know() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let noun = name.trim_start_matches("ringsmith-");
        assert!(!BANNED.contains(&noun), "{name}: what does it own?");
        let text = std::fs::read_to_string(entry.path().join("src/lib.rs")).unwrap();
        let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(doc.contains("must not know"), "{name}: its first lines do not say what it must not know");
    }
}

#[test]
fn rooms_keep_apart() {
    let banned: [(&str, &[&str]); 3] = [
        ("ringsmith-data", &["ringsmith_model", "ringsmith_eval"]),
        ("ringsmith-model", &["ringsmith_data", "ringsmith_eval", "tokenizers"]),
        ("ringsmith-eval", &["ringsmith_model"]),
    ];
    for (file, text) in sources() {
        for (room, others) in banned {
            let inside = file.starts_with(&format!("crates/{room}/"));
            for other in others.iter().filter(|_| inside) {
                assert!(!text.contains(&format!("{other}::")), "{file} must not know {other}");
            }
        }
        assert!(!text.contains(concat!("async ", "fn")), "{file}: async code waits for the server");
    }
}

/// Hugging Face names of tensors are the business of one file; tests and `lm_head`'s tied twin aside.
#[test]
fn one_file_knows_tensor_names() {
    const NAMES: [&str; 5] =
        [".query_key_value", ".word_embeddings", ".input_layernorm", ".down_proj", "self_attn."];
    for (file, text) in sources() {
        if !file.contains("/src/") || file == "crates/ringsmith-model/src/names.rs" {
            continue;
        }
        let shipped = text.split("#[cfg(test)]").next().unwrap();
        for name in NAMES {
            assert!(!shipped.contains(name), "{file} knows the tensor name {name:?}");
        }
    }
}
