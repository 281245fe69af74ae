//! The guard between training and evaluation: a benchmark file is never trained on.
//!
//! A source's file is refused when it is one of the recipe's benchmarks, or `SOURCES.md` of the data root
//! gives it the role `eval`: by path, and by content, row by row, so that a copy is refused too, under another
//! name, compressed, in another format, or in part (more than half of either file's rows are in the other).
//! A file that cannot be read is found here as well, before anything runs.

use crate::plan::Bench;
use anyhow::{Context, Result};
use ringsmith_data::read::{self, ROW_LIMIT};
use ringsmith_eval::question::questions;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

/// A source that cannot be trained on, or a benchmark that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the recipe: `data.<set>.sources.<n>`.
    pub place: String,
    pub message: String,
}

/// The first benchmark whose files are here but damaged or of another shape: better known now than after
/// the training.
pub fn unreadable(bench: &Bench<'_>) -> Option<Refusal> {
    let recipe = bench.recipe;
    let here = |file: &String| bench.data_root.join(file).exists();
    recipe.eval.benchmarks.iter().enumerate().find_map(|(i, benchmark)| {
        if !benchmark.kind.is_implemented() || !benchmark.files.iter().all(here) {
            return None;
        }
        let error = questions(benchmark, &bench.data_root, recipe.seed).err()?;
        let message = format!("benchmark \"{}\" cannot be read: {error:#}", benchmark.name);
        Some(Refusal { place: format!("eval.benchmarks.{i}"), message })
    })
}

/// The first source of the recipe that would train on a benchmark file, or whose file is damaged or of an
/// unknown format. A file that is not here is passed over.
pub fn leak(bench: &mut Bench<'_>) -> Result<Option<Refusal>> {
    let mut banned: BTreeMap<String, String> = BTreeMap::new();
    for benchmark in &bench.recipe.eval.benchmarks {
        for file in &benchmark.files {
            banned.insert(file.clone(), format!("the benchmark \"{}\" reads it", benchmark.name));
        }
    }
    for file in eval_files(&bench.data_root)? {
        banned.entry(file).or_insert_with(|| "SOURCES.md gives it the role eval".into());
    }
    let paths: BTreeMap<PathBuf, &String> =
        banned.keys().map(|file| (real(&bench.data_root.join(file)), file)).collect();
    let mut digests: BTreeMap<String, &String> = BTreeMap::new();
    let mut all = blake3::Hasher::new();
    for file in banned.keys() {
        if let Some(digest) = bench.file_digest(file)? {
            all.update(digest.as_bytes());
            digests.insert(digest, file);
        }
    }
    let all = all.finalize();

    let mut rows: Option<Vec<(&String, HashSet<u64>)>> = None;
    let recipe = bench.recipe;
    for (set, data) in &recipe.data {
        for (i, source) in data.sources.iter().enumerate() {
            let leak = |said: String| {
                let message = format!("source \"{}\" {said}", source.name);
                Ok(Some(Refusal { place: format!("data.{set}.sources.{i}"), message }))
            };
            for file in &source.files {
                let path = bench.data_root.join(file);
                if let Some(other) = paths.get(&real(&path)) {
                    return leak(format!("would train on the benchmark file {file} ({})", banned[*other]));
                }
                let Some(digest) = bench.file_digest(file)? else { continue };
                let copy = |of: &str, other: &String| {
                    format!("would train on the benchmark file {file} ({of} {other}; {})", banned[other])
                };
                if let Some(other) = digests.get(&digest) {
                    return leak(copy("the same contents as", other));
                }
                // Reading every benchmark takes a second; what was found clean stays so until a file changes.
                let verdict = blake3::hash(format!("{digest}{all}").as_bytes()).to_hex().to_string();
                if bench.is_clean(&verdict) {
                    continue;
                }
                let own = match row_hashes(&path) {
                    Ok(own) => own,
                    Err(error) => return leak(format!("cannot be read: {error:#}")),
                };
                let rows = rows.get_or_insert_with(|| {
                    // A benchmark's file in a format of its own is still known by its contents.
                    let read = |file| Some((file, row_hashes(&bench.data_root.join(file)).ok()?));
                    banned.keys().filter_map(read).collect()
                });
                for (other, theirs) in rows {
                    let shared = own.intersection(theirs).count();
                    // Short rows may be in both by chance; most of either file may not.
                    if 2 * shared > own.len().min(theirs.len()) {
                        return leak(copy(&format!("{shared} of its {} rows are in", own.len()), other));
                    }
                }
                bench.note_clean(verdict);
            }
        }
    }
    Ok(None)
}

/// One number for each different row of a file: of its values in any order, whatever their columns are called.
fn row_hashes(path: &Path) -> Result<HashSet<u64>> {
    let mut hashes = HashSet::new();
    for row in read::rows(path, ROW_LIMIT)? {
        let Ok(Value::Object(columns)) = row? else { continue };
        let mut values: Vec<String> = columns
            .into_iter()
            .filter_map(|(_, value)| match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            })
            .filter(|text| !text.is_empty())
            .collect();
        if !values.is_empty() {
            values.sort_unstable();
            let mut hasher = DefaultHasher::new();
            values.hash(&mut hasher);
            hashes.insert(hasher.finish());
        }
    }
    Ok(hashes)
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
