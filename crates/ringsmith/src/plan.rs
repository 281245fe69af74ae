//! The plan: every stage in order, fresh or stale, and why.

mod change;

pub use change::plain;

use crate::{
    recipe::Recipe,
    stage::{Input, Stage, stages},
    store::{Artifact, Inputs, Key, Manifest, Store},
};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// Whether a stage has to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its result is in the store.
    Fresh,
    /// It was made before, from something else.
    Stale,
    /// It was never made.
    New,
    /// Files it reads are not here.
    MissingInput,
}

/// One stage of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    pub stage: String,
    pub state: State,
    /// Why it has to run: `lr 5e-5 -> 3e-5`, `input sft.general changed`, or the files that are missing.
    pub why: Vec<String>,
    /// An earlier run left a part of it, which will be taken up.
    pub unfinished: bool,
    /// Known once everything it is made from is known.
    pub key: Option<Key>,
    pub inputs: Vec<String>,
    /// Files under the data root that are not here.
    pub missing: Vec<String>,
    /// All settings, those the recipe leaves to their defaults among them.
    pub config: Value,
}

/// Every stage of a recipe, in the order in which they run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub recipe: String,
    pub stages: Vec<Item>,
}

/// A recipe against a store and a data root: answers what a stage is made from and whether it is done.
pub struct Bench<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub data_root: PathBuf,
    inputs: Inputs,
    done: HashMap<Stage, Artifact>,
}

/// A stage's manifest before it runs, or what keeps its key from being known.
pub enum Resolved {
    Ready(Box<Manifest>),
    /// These stages have to run first.
    Waiting(Vec<Stage>),
    /// These files are not here.
    Missing(Vec<String>),
}

impl<'a> Bench<'a> {
    pub fn new(recipe: &'a Recipe, store: &'a Store, data_root: &Path) -> Bench<'a> {
        let inputs = Inputs::of(store.root());
        Bench { recipe, store, data_root: data_root.to_owned(), inputs, done: HashMap::new() }
    }

    /// The digest of a file under the data root.
    pub fn file_digest(&mut self, file: &str) -> Result<Option<String>> {
        self.inputs.digest(&self.data_root.join(file))
    }

    /// Whether the guard has found a source clean before, see [`Inputs::is_clean`].
    pub fn is_clean(&self, verdict: &str) -> bool {
        self.inputs.is_clean(verdict)
    }

    /// Remembers that the guard found a source clean.
    pub fn note_clean(&mut self, verdict: String) {
        self.inputs.note_clean(verdict);
    }

    /// Remembers the digests of files for the next run.
    pub fn save(&mut self) -> Result<()> {
        self.inputs.save()
    }

    /// What a stage's result depends on, as far as it is known now.
    pub fn resolve(&mut self, stage: &Stage) -> Result<Resolved> {
        let mut digests = BTreeMap::new();
        let (mut waiting, mut missing) = (Vec::new(), Vec::new());
        for input in stage.inputs(self.recipe) {
            match &input {
                Input::Stage(before) => match self.done.get(before) {
                    Some(artifact) => {
                        digests.insert(input.to_string(), artifact.manifest.output.clone());
                    }
                    None => waiting.push(before.clone()),
                },
                Input::File(file) => match self.file_digest(file)? {
                    Some(digest) => {
                        digests.insert(input.to_string(), digest);
                    }
                    None => missing.push(file.clone()),
                },
            }
        }
        if !missing.is_empty() {
            return Ok(Resolved::Missing(missing));
        }
        if !waiting.is_empty() {
            return Ok(Resolved::Waiting(waiting));
        }
        let config = stage.config(self.recipe);
        let manifest = Manifest::new(&stage.to_string(), stage.version(), config, digests);
        Ok(Resolved::Ready(Box::new(manifest)))
    }

    /// The finished artifact of a stage whose manifest is known, remembered for the stages after it.
    pub fn find(&mut self, stage: &Stage, manifest: &Manifest) -> Result<Option<Artifact>> {
        let found = self.store.find(&manifest.stage, &manifest.key)?;
        if let Some(artifact) = &found {
            self.done.insert(stage.clone(), artifact.clone());
        }
        Ok(found)
    }

    /// Remembers a stage that has just been published.
    pub fn finished(&mut self, stage: &Stage, artifact: Artifact) {
        self.done.insert(stage.clone(), artifact);
    }

    /// Makes the stages found or made by this run the store's current ones.
    pub fn remember(&self) -> Result<()> {
        let keys = self.done.values().map(|a| (a.manifest.stage.clone(), a.manifest.key.clone()));
        self.store.set_current(keys.collect())
    }

    /// A finished stage.
    pub fn artifact(&self, stage: &Stage) -> Result<&Artifact> {
        self.done.get(stage).ok_or_else(|| anyhow::anyhow!("stage {stage} has not been made"))
    }
}

impl Plan {
    /// Looks at every stage in order. Nothing is made.
    pub fn new(bench: &mut Bench<'_>) -> Result<Plan> {
        let mut items = Vec::new();
        for stage in stages(bench.recipe) {
            items.push(item(bench, &stage)?);
        }
        Ok(Plan { recipe: bench.recipe.name.clone(), stages: items })
    }

    /// Every stage is in the store.
    pub fn is_fresh(&self) -> bool {
        self.stages.iter().all(|item| item.state == State::Fresh)
    }

    /// Files that are not here, each once.
    pub fn missing(&self) -> Vec<&str> {
        let mut files: Vec<&str> =
            self.stages.iter().flat_map(|item| &item.missing).map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

fn item(bench: &mut Bench<'_>, stage: &Stage) -> Result<Item> {
    let name = stage.to_string();
    let config = stage.config(bench.recipe);
    let mut item = Item {
        stage: name.clone(),
        state: State::Stale,
        why: Vec::new(),
        unfinished: false,
        key: None,
        inputs: stage.inputs(bench.recipe).iter().map(Input::to_string).collect(),
        missing: Vec::new(),
        config,
    };
    let before = bench.store.current(&name);
    match bench.resolve(stage)? {
        Resolved::Missing(files) => {
            item.state = State::MissingInput;
            item.why.clone_from(&files);
            item.missing = files;
            return Ok(item);
        }
        Resolved::Waiting(stages) => {
            if let Some(before) = &before {
                item.why = change::config(&before.manifest.config, &item.config);
            }
            item.why.extend(stages.iter().map(|stage| format!("input {stage} will change")));
        }
        Resolved::Ready(manifest) => {
            item.key = Some(manifest.key.clone());
            if bench.find(stage, &manifest)?.is_some() {
                item.state = State::Fresh;
                return Ok(item);
            }
            item.unfinished = bench.store.unfinished(&name, &manifest.key);
            if let Some(before) = &before {
                item.why = change::manifest(&before.manifest, &manifest);
            }
        }
    }
    if before.is_none() {
        item.state = State::New;
        item.why = vec!["not made yet".into()];
    }
    Ok(item)
}
