//! `ringsmith plan`: every stage, fresh or stale and why, with everything the recipe means.

use super::{End, guarded_recipe};
use crate::{
    plan::{Bench, Item, Plan, State, plain},
    store::Store,
};
use anyhow::Result;
use serde_json::Value;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Show every stage: fresh or stale and why, its full settings, and which input files are missing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status 1 when input files are missing, 2 when the recipe is wrong or would train on \
    a benchmark.\n\nExamples:\n  ringsmith plan recipes/tiny.toml\n  ringsmith plan recipes/real-small.toml \
    --data-root ../datasets --brief"
)]
pub struct Args {
    /// The recipe file
    recipe: PathBuf,
    /// Folder that the recipe's file names start from
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_root: PathBuf,
    /// One line a stage, without the settings
    #[arg(long)]
    brief: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, store: &Path) -> Result<End> {
    let store = Store::look(store);
    let recipe = guarded_recipe(&args.recipe, &store, &args.data_root)?;
    let mut bench = Bench::new(&recipe, &store, &args.data_root);
    let plan = Plan::new(&mut bench)?;
    bench.save()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?;
    } else {
        for item in &plan.stages {
            writeln!(out, "{}", line(item))?;
            if !args.brief {
                write!(out, "{}", settings(item))?;
            }
        }
        let missing = plan.missing();
        if !missing.is_empty() {
            writeln!(out, "\n{} input files are not under {}:", missing.len(), args.data_root.display())?;
            missing.iter().try_for_each(|file| writeln!(out, "  {file}"))?;
        } else if plan.is_fresh() {
            writeln!(out, "\neverything is fresh")?;
        }
    }
    Ok(if plan.missing().is_empty() { End::Done } else { End::No })
}

/// `dpo: stale: lr 5e-5 -> 3e-5`.
pub fn line(item: &Item) -> String {
    let state = match item.state {
        State::Fresh => "fresh",
        State::Stale => "stale",
        State::New => "new",
        State::MissingInput => "missing input",
    };
    let mut line = format!("{}: {state}", item.stage);
    if item.state == State::New && !item.unfinished {
        return line;
    }
    if !item.why.is_empty() {
        line += &format!(": {}", item.why.join(", "));
    }
    if item.unfinished {
        line += " (a part is there and will be taken up)";
    }
    line
}

/// Every setting on a line of its own, by its dotted name.
fn settings(item: &Item) -> String {
    let mut text = String::new();
    if !item.inputs.is_empty() {
        text += &format!("  from {}\n", item.inputs.join(", "));
    }
    spread("", &item.config, &mut text);
    text
}

fn spread(name: &str, value: &Value, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                spread(&name, value, text);
            }
        }
        Value::Object(_) if name.is_empty() => {}
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                *text += &format!("  {name} += {}\n", plain(item));
            }
        }
        value => *text += &format!("  {name} = {}\n", plain(value)),
    }
}
