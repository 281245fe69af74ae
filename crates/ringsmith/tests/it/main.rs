//! The real binary in temporary folders: no network, nothing beside the project.

mod guard;
mod heldout;
mod input;
mod kill;
mod plan;
mod recipe;
mod run;
mod score;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A recipe that runs every stage in a few seconds.
const MICRO: &str = include_str!("micro.toml");

/// A temporary folder with a recipe in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(recipe: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn edit(&self, from: &str, to: &str) {
        let path = self.path("recipe.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringsmith"));
        command.current_dir(self.dir.path()).args(args);
        command
    }

    /// Runs the binary to its end.
    fn ringsmith(&self, args: &[&str]) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }
}

/// What the binary said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    #[track_caller]
    fn ends(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// The output digest of every finished stage, by stage; a store where each stage was made once.
fn outputs(store: &Path) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    for stage in std::fs::read_dir(store).unwrap().flatten().filter(|e| e.path().is_dir()) {
        for key in std::fs::read_dir(stage.path()).unwrap().flatten() {
            let manifest = std::fs::read(key.path().join("manifest.json")).unwrap();
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            let name = stage.file_name().into_string().unwrap();
            let before = found.insert(name, manifest["output"].as_str().unwrap().to_owned());
            assert!(before.is_none(), "made twice: {}", stage.path().display());
        }
    }
    found
}
