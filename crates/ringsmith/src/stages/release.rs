//! The release: a model folder in Hugging Face layout with a card that says where it comes from.

use super::{Context, Outcome, model};
use crate::stage::Stage;
use anyhow::{Context as _, Result};
use std::{fmt::Write as _, fs, path::Path};

pub fn make(context: &Context<'_>) -> Result<Outcome> {
    let release = context.recipe.release.as_ref().context("no [release] table")?;
    let ling = model::load(context, release.model)?;
    ling.save(context.dir)?;
    let tokenizer = &context.bench.artifact(&Stage::Tokenizer)?.dir;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        copy(&tokenizer.join(name), &context.dir.join(name))?;
    }
    let card = card(context, ling.num_params())?;
    crate::store::write_durably(&context.dir.join("README.md"), card.as_bytes())?;
    Ok(Outcome::Done(Some(format!("{} parameters", ling.num_params()))))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The model card: what it is, what it scored, and the key of every stage that it was made from.
fn card(context: &Context<'_>, params: usize) -> Result<String> {
    let recipe = context.recipe;
    let release = recipe.release.as_ref().context("no [release] table")?;
    let mut card = format!(
        "---\nlicense: {}\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n# {}\n\n",
        release.license, recipe.name
    );
    if !release.about.is_empty() {
        writeln!(card, "{}\n", release.about.trim())?;
    }
    writeln!(
        card,
        "{params} parameters, trained by ringsmith from the recipe `{}` (model `{}`).\n",
        recipe.name, release.model
    )?;
    if let Ok(report) = context.bench.artifact(&Stage::Report) {
        let path = report.path("report.txt");
        let table = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        writeln!(card, "## Scores\n\n```\n{}\n```\n", table.trim_end())?;
    }
    writeln!(card, "## Lineage\n\n| stage | key | output |\n|---|---|---|")?;
    for stage in crate::stage::stages(recipe) {
        if let Ok(artifact) = context.bench.artifact(&stage)
            && stage != Stage::Release
        {
            writeln!(
                card,
                "| {stage} | `{}` | `{}` |",
                artifact.manifest.key,
                &artifact.manifest.output[..16]
            )?;
        }
    }
    Ok(card)
}
