//! A wrong recipe: exit status 2, and the place named.

use crate::{MICRO, Place};

#[test]
fn a_typo_is_named_at_its_place_with_the_nearest_key() {
    let place = Place::new(MICRO);
    place.edit("lr = 1e-3\n\n[sft.reason]", "lerning_rate = 1e-3\n\n[sft.reason]");
    let text = std::fs::read_to_string(place.path("recipe.toml")).unwrap();
    let line = text.lines().position(|l| l.starts_with("lerning_rate")).unwrap() + 1;
    for verb in ["run", "plan"] {
        let said = place.ringsmith(&[verb, "recipe.toml"]).ends(2);
        let expected = format!(
            "error: recipe.toml:{line}:1: unknown key \"lerning_rate\" in [pretrain]; did you mean \"lr\"?\n"
        );
        assert_eq!(said.err, expected);
        assert_eq!(said.out, "");
    }
    assert!(!place.path("store/pretrain").exists());
}

#[test]
fn names_of_every_table_and_list_are_checked() {
    for (from, to, expected) in [
        ("[sft.general]", "[sft.genral]", "did you mean \"general\"?"),
        ("purify = {}", "purfy = {}", "did you mean \"purify\"?"),
        ("workbook = \"eq\"", "workbook = \"eqs\"", "did you mean \"eq\"?"),
        ("kind = \"think\"", "kind = \"thinks\"", "did you mean \"think\"?"),
        ("data = \"reasoning\"\n", "data = \"reasonin\"\n", "did you mean \"reasoning\"?"),
        ("from = \"base\"", "from = \"dpo\"", "sft.reason.from: dpo does not come before sft.reason"),
        ("lr = 5e-5", "lr = -1.0", "dpo.lr: -1 is out of range"),
        ("max_position_embeddings = 512", "max_position_embeddings = \"a\"", "invalid type"),
        (
            "task = \"eq\"",
            "task = \"eq\", split = \"train\"",
            "benchmark eq: `split` must be test or validation",
        ),
        ("workbook = \"eq\"", "workbook = \"eq\", split = \"test\"", "would train on held-out items"),
        ("seed = 3", "seed = 3\nseed = 4", "recipe.toml:3:1: duplicate key \"seed\""),
        (
            "sources = [\"facts\"]",
            "sources = [\"fact\"]",
            "kl.sources.0: no source \"fact\"; did you mean \"facts\"?",
        ),
        (
            "terms = { kl",
            "terms = { weights = { fcts = 2.0 }, kl",
            "no source \"fcts\"; did you mean \"facts\"?",
        ),
        ("terms = { kl", "terms = { weights = { facts = -2.0 }, kl", "weights.facts: -2 is out of range"),
        ("terms = { kl", "terms = { balance = nan, kl", "terms.balance: NaN is out of range"),
        ("weight = 0.1", "weight = -0.1", "terms.kl.weight: -0.1 is out of range"),
        ("nll = 0.05", "terms = { weights = { fmt = 1.0 } }", "dpo.terms.weights.fmt: no source \"fmt\""),
        ("nll = 0.05", "beta1 = 1.5", "dpo.beta1: 1.5 is out of range"),
        ("nll = 0.05", "beta = inf", "dpo.beta: inf is out of range"),
        ("pairs = 10\nmax", "pairs = 0\nmax", "preference.rule.pairs: 0 is out of range"),
        ("temperature = 0.6", "temperature = -1.0", "`temperature` must not be negative"),
        ("top_p = 0.95", "top_p = 0.0", "`top_p` must be above 0"),
        ("count = 8", "count = 0", "`count` must be at least 1"),
        ("count = 8", "level = 9, count = 8", "task eq has levels 1 to 4, not 9"),
        ("count = 20", "take = 3, count = 20", "mean nothing"),
        ("count = 20", "level = 9, count = 20", "has no such level; tool has 1 to 2"),
        ("count = 20", "count = 0", "at least 1"),
        ("vocab_size = 300", "vocab_size = 100000000000", "tokenizer.vocab_size: 100000000000 is not within"),
        ("{ pretrain = 40, reasoning = 20 }", "{}", "tokenizer.data: takes no text"),
        ("batch = 2", "batch = 99999999999", "pretrain.batch: 99999999999 is out of range"),
        ("hidden_size = 16", "hidden_size = 100000000000", "model.hidden_size: 100000000000 is more than"),
        (
            "initializer_range = 0.05",
            "initializer_range = nan",
            "model.initializer_range: NaN is out of range",
        ),
        (
            "max_position_embeddings = 512",
            "max_position_embeddings = 8",
            "256 is more than the model's 8 positions",
        ),
    ] {
        let place = Place::new(MICRO);
        place.edit(from, to);
        let said = place.ringsmith(&["plan", "recipe.toml"]).ends(2);
        assert!(said.err.starts_with("error: recipe.toml:") && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn a_missing_recipe_is_named() {
    let said = Place::new("").ringsmith(&["run", "nothing.toml"]).ends(2);
    assert!(said.err.contains("nothing.toml"), "{}", said.err);
}

#[test]
fn the_projects_own_recipes_are_accepted() {
    let place = Place::new("");
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    for (name, code, file) in [
        ("tiny.toml", 0, None),
        ("real-small.toml", 1, Some("gsm8k/train.jsonl")),
        ("ring-lite-distill.toml", 1, Some("inclusionAI/Ling-lite")),
    ] {
        let path = recipes.join(name);
        let said = place.ringsmith(&["plan", path.to_str().unwrap()]).ends(code);
        if let Some(file) = file {
            assert!(said.out.contains(&format!("\n  {file}\n")), "{}", said.out);
        }
    }
}
