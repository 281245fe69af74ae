//! What `plan` says before and after a run, and what a change makes run again.

use crate::{MICRO, Place};

#[test]
fn a_change_reruns_what_follows_it_and_nothing_before() {
    let place = Place::new(MICRO);
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(0);
    assert!(said.out.lines().all(|line| line.ends_with(": new")), "{}", said.out);
    place.ringsmith(&["run", "recipe.toml"]).ends(0);
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(0);
    assert!(said.out.ends_with("\neverything is fresh\n"), "{}", said.out);

    place.edit("lr = 5e-5", "lr = 3e-5");
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(0);
    let stale: Vec<&str> = said.out.lines().filter(|line| !line.ends_with(": fresh")).collect();
    assert_eq!(stale[0], "dpo: stale: lr 5e-5 -> 3e-5");
    assert_eq!(stale[1], "eval.dpo: stale: input dpo will change");
    let names: Vec<&str> = stale.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["dpo", "eval.dpo", "report", "release"]);
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(0);
    let made: Vec<&str> =
        said.out.lines().filter_map(|l| l.split_once(": done in ")).map(|(s, _)| s).collect();
    assert_eq!(made, names);

    // Back again: all of that is still there.
    place.edit("lr = 3e-5", "lr = 5e-5");
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(0);
    assert!(said.out.starts_with("everything is fresh"), "{}", said.out);
}

#[test]
fn settings_left_unsaid_are_printed() {
    let said = Place::new(MICRO).ringsmith(&["plan", "recipe.toml"]).ends(0);
    for line in ["  dpo.beta = 0.1", "  training.beta2 = 0.95", "  model.head_dim = 8", "  dpo.eps = 1e-8"] {
        assert!(said.out.lines().any(|l| l == line), "{line} is not in\n{}", said.out);
    }
    let said = Place::new(MICRO).ringsmith(&["plan", "recipe.toml", "--json"]).ends(0);
    let plan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(plan["stages"][0]["state"], "new");
}

#[test]
fn missing_files_are_listed_and_a_changed_file_is_noticed() {
    let place = Place::new(MICRO);
    place.edit(
        "sources = [{ name = \"facts\"",
        "sources = [{ name = \"own\", files = [\"own.jsonl\"] }, { name = \"facts\"",
    );
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(1);
    assert!(said.out.contains("data.general: missing input: own.jsonl"), "{}", said.out);
    assert!(said.out.contains("1 input files are not under .:\n  own.jsonl"), "{}", said.out);
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(2);
    assert!(said.err.contains("own.jsonl"), "{}", said.err);

    let row = "{\"instruction\": \" Say hi.\", \"output\": \" hi\"}\n";
    std::fs::write(place.path("own.jsonl"), format!("{row}not json\n")).unwrap();
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(0);
    assert!(said.out.contains(": 22 read = 21 kept + 1 not-json"), "{}", said.out);
    let said = place.ringsmith(&["show", "ledger", "data.general"]).ends(0);
    assert!(said.out.contains("own:2  read  not-json"), "{}", said.out);
    std::fs::write(place.path("own.jsonl"), format!("{row}{row}")).unwrap();
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(0);
    assert!(said.out.contains("data.general: stale: input file own.jsonl changed"), "{}", said.out);
    assert!(said.out.contains("sft.general: stale: input rows.sft.general will change"), "{}", said.out);
    assert!(said.out.contains("\nsft.reason: fresh\n"), "{}", said.out);
}
