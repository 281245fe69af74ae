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
