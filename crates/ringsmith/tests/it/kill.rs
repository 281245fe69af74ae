//! Killed at any moment and started again, a run ends with the same weights, bit for bit.

use crate::{MICRO, Place, outputs};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Checkpoints at every step, so that a kill finds one.
const RUN: [&str; 4] = ["run", "recipe.toml", "--checkpoint-every", "0"];

fn start(place: &Place) -> Child {
    place.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Whether a stage has an unfinished folder.
fn unfinished(stage: &Path) -> bool {
    let entries = fs::read_dir(stage).into_iter().flatten().flatten();
    entries.into_iter().any(|e| e.file_name().to_string_lossy().ends_with(".part"))
}

/// Waits until the stage is under way and then `after`; false if the run ended before.
fn wait_for(stage: &Path, after: Duration, child: &mut Child) -> bool {
    while !unfinished(stage) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    std::thread::sleep(after);
    true
}

/// Starts a run and kills it in that stage; whether it was in it.
fn strike(place: &Place, stage: &Path, after: Duration) -> bool {
    let mut child = start(place);
    let hit = wait_for(stage, after, &mut child) && unfinished(stage);
    child.kill().unwrap();
    child.wait().unwrap();
    hit && unfinished(stage)
}

/// Training long enough that a kill comes in time on a busy machine.
fn slow() -> String {
    let text = MICRO.replace("length = 256\n", "length = 256\nepochs = 8\n").replace("epochs = 2\n", "");
    text.replace("length = 512\n", "length = 512\nepochs = 8\n")
}

#[test]
fn killed_in_every_stage_the_weights_are_the_same() {
    let whole = Place::new(&slow());
    whole.ringsmith(&RUN).ends(0);
    let expected = outputs(&whole.store());

    let place = Place::new(&slow());
    let mut hit = BTreeSet::new();
    // Several moments of every stage: at once, and later ones as far as the stage lasts.
    let plan: serde_json::Value =
        serde_json::from_str(&place.ringsmith(&["plan", "recipe.toml", "--json"]).ends(0).out).unwrap();
    for stage in plan["stages"].as_array().unwrap() {
        let stage = stage["stage"].as_str().unwrap();
        for millis in [0, 1, 4, 12, 30] {
            let folder = place.store().join(stage);
            if folder.exists() && !unfinished(&folder) {
                break;
            }
            if strike(&place, &folder, Duration::from_millis(millis)) {
                hit.insert(stage.to_owned());
            }
        }
    }
    // On a busy machine a kill comes late and a stage slips by whole; such a stage is begun again.
    for stage in ["pretrain", "sft.reason", "sft.general", "dpo"] {
        let folder = place.store().join(stage);
        let mut tries = 0;
        while !hit.contains(stage) {
            tries += 1;
            assert!(tries <= 50, "{stage} was never killed, only {hit:?}");
            fs::remove_dir_all(&folder).ok();
            if strike(&place, &folder, Duration::ZERO) {
                hit.insert(stage.to_owned());
            }
        }
    }
    place.ringsmith(&RUN).ends(0);
    assert_eq!(outputs(&place.store()), expected);
}

#[test]
fn ctrl_c_leaves_a_checkpoint_and_ends_with_130() {
    let whole = Place::new(MICRO);
    whole.ringsmith(&RUN).ends(0);

    // Enough steps that the signal comes in the middle of them.
    let place = Place::new(MICRO);
    place.edit("epochs = 2", "epochs = 200");
    let mut child =
        place.command(&["run", "recipe.toml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stage = place.path("store/sft.general");
    assert!(wait_for(&stage, Duration::from_millis(50), &mut child));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(5));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("sft.general: stopped; the same command goes on from here"), "{said}");
    let part = fs::read_dir(&stage).unwrap().next().unwrap().unwrap().path();
    let checkpoint = fs::read_dir(&part)
        .unwrap()
        .flatten()
        .any(|e| e.file_name().to_string_lossy().starts_with("checkpoint-"));
    assert!(checkpoint, "no checkpoint in {}", part.display());
    let said = place.ringsmith(&["plan", "recipe.toml", "--brief"]).ends(0);
    assert!(said.out.contains("a part is there and will be taken up"), "{}", said.out);
}

#[test]
fn a_damaged_checkpoint_is_named_and_loses_no_finished_stage() {
    let place = Place::new(MICRO);
    place.edit("epochs = 2", "epochs = 200");
    let mut child = start(&place);
    let stage = place.path("store/sft.general");
    assert!(wait_for(&stage, Duration::from_millis(100), &mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    let part = fs::read_dir(&stage).unwrap().next().unwrap().unwrap().path();
    let name = |e: &fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let checkpoint = fs::read_dir(&part)
        .unwrap()
        .flatten()
        .filter(|e| name(e).starts_with("checkpoint-") && !name(e).contains('.'))
        .max_by_key(|e| e.file_name())
        .unwrap();
    let state = checkpoint.path().join("state.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(2);
    assert!(said.err.contains("stage sft.general") && said.err.contains("damaged"), "{}", said.err);
    fs::remove_dir_all(checkpoint.path()).unwrap();
    place.edit("epochs = 200", "epochs = 2");
    let said = place.ringsmith(&["run", "recipe.toml"]).ends(0);
    assert!(!said.out.contains("pretrain: done") && said.out.contains("sft.general: done"), "{}", said.out);
}
