//! The guard between training and evaluation: a benchmark file is never trained on.
//!
//! A source's file is refused when it is one of the recipe's benchmarks, or `SOURCES.md` of the data root
//! gives it the role `eval`; by path, and by content, so that a copy under another name is refused too.

use crate::plan::Bench;
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A source that would train on a benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Where in the recipe: `data.<set>.sources.<n>`.
    pub place: String,
    pub message: String,
}

/// The first source of the recipe that would train on a benchmark file.
pub fn leak(bench: &mut Bench<'_>) -> Result<Option<Leak>> {
    let mut banned: BTreeMap<String, String> = BTreeMap::new();
    for benchmark in &bench.recipe.eval.benchmarks {
        for file in &benchmark.files {
            banned.insert(file.clone(), format!("the benchmark \"{}\" reads it", benchmark.name));
        }
    }
    for file in eval_files(&bench.data_root)? {
        banned.entry(file).or_insert_with(|| "SOURCES.md gives it the role eval".into());
    }
    let sizes: BTreeMap<&String, Option<u64>> =
        banned.keys().map(|file| (file, size(&bench.data_root.join(file)))).collect();

    let recipe = bench.recipe;
    for (set, data) in &recipe.data {
        for (i, source) in data.sources.iter().enumerate() {
            for file in &source.files {
                let path = bench.data_root.join(file);
                let real = real(&path);
                let bytes = size(&path);
                for (other, why) in &banned {
                    let same_path = real == self::real(&bench.data_root.join(other));
                    let same_text = !same_path
                        && bytes.is_some_and(|b| b > 0)
                        && bytes == sizes[other]
                        && bench.file_digest(file)? == bench.file_digest(other)?;
                    if same_path || same_text {
                        let copy =
                            if same_text { format!("the same contents as {other}; ") } else { String::new() };
                        return Ok(Some(Leak {
                            place: format!("data.{set}.sources.{i}"),
                            message: format!(
                                "source \"{}\" would train on the benchmark file {file} ({copy}{why})",
                                source.name
                            ),
                        }));
                    }
                }
            }
        }
    }
    Ok(None)
}

fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|m| m.len())
}

/// The path without links and detours; of a file that is not here, the path without `.` and `..`.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir if plain.file_name().is_some() => {
                    plain.pop();
                }
                part => plain.push(part),
            }
        }
        plain
    })
}

/// The files to which `<data-root>/SOURCES.md` gives the role `eval`, relative to the data root. A data root
/// without that page has none.
pub fn eval_files(data_root: &Path) -> Result<Vec<String>> {
    let page = data_root.join("SOURCES.md");
    if !page.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&page).with_context(|| format!("{}", page.display()))?;
    let mut columns: BTreeMap<String, usize> = BTreeMap::new();
    let (mut eval, mut train) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| line.trim_start().starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if cells.contains(&"role") && cells.contains(&"path") {
            columns = cells.iter().enumerate().map(|(i, c)| (c.to_string(), i)).collect();
            continue;
        }
        let cell = |name: &str| columns.get(name).and_then(|&i| cells.get(i)).copied().unwrap_or_default();
        match cell("role") {
            "eval" => eval.extend(places(cell("name"), cell("repo"), cell("path"))),
            "train" => train.extend(places(cell("name"), cell("repo"), cell("path"))),
            _ => {}
        }
    }
    eval.retain(|file| !train.contains(file));
    Ok(eval)
}

/// Where a listed file lies: under the set's name by its base name, with the owner before it where two
/// repositories hold files of one name, and in `possible_answer` where it came from such a folder.
fn places(name: &str, repo: &str, path: &str) -> Vec<String> {
    let (folder, base) = path.rsplit_once('/').unwrap_or(("", path));
    if folder.ends_with("possible_answer") {
        return vec![format!("{name}/possible_answer/{base}")];
    }
    let owner = repo.split('/').next().unwrap_or_default();
    vec![format!("{name}/{base}"), format!("{name}/{owner}_{base}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_sources_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let page = "# Sources\n\n\
            | name | repo | commit | path | rows | bytes | licence | role | arrived |\n|---|---|---|---|---|---|---|---|---|\n\
            | gsm8k | openai/g | 1 | data/train.jsonl | 1 | 1 | MIT | train | ok |\n\
            | gsm8k | openai/g | 1 | data/test.jsonl | 1 | 1 | MIT | eval | ok |\n\
            | bfcl | S/g | 1 | d/possible_answer/a.json | 1 | 1 | MIT | eval | ok |\n";
        fs::write(dir.path().join("SOURCES.md"), page).unwrap();
        let files = eval_files(dir.path()).unwrap();
        assert_eq!(files, ["gsm8k/test.jsonl", "gsm8k/openai_test.jsonl", "bfcl/possible_answer/a.json"]);
        assert!(eval_files(&dir.path().join("none")).unwrap().is_empty());
    }
}
