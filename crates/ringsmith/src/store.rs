//! The store: finished stages, immutable, each under the key of everything that determines it.
//!
//! ```text
//! store/<stage>/<key>/manifest.json    done and immutable
//! store/<stage>/<key>.part/            unfinished; a stage resumes from what it finds there
//! ```

pub mod inputs;
pub mod manifest;

pub use inputs::Inputs;
pub use manifest::{Key, Manifest, Output};

use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a run waits for the store's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

const MANIFEST: &str = "manifest.json";

/// Which artifact of each stage the last complete run ended with, for `show`, `chat` and the plan's reasons.
/// Only a pointer: nothing is lost with it.
const CURRENT: &str = "current.json";

/// Files that tell of a run but do not determine its result, so they enter no digest.
const NOTES: &[&str] = &["metrics.jsonl", "timing.json"];

/// A store, open for reading, or for writing when it holds the lock.
pub struct Store {
    root: PathBuf,
    lock: Option<File>,
}

/// A finished artifact: its manifest and where its files lie.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// An unfinished stage: the folder it writes into, and what its manifest will say.
pub struct Work {
    pub dir: PathBuf,
    manifest: Manifest,
}

impl Store {
    /// Opens a store for writing, making it if need be. Only one process can hold it so; a second waits a moment,
    /// since a killed run takes one to be gone, and then gets an error.
    pub fn open(root: &Path) -> Result<Store> {
        fs::create_dir_all(root).with_context(|| format!("store {}", root.display()))?;
        let path = root.join("lock");
        let lock = File::create(&path).with_context(|| format!("store lock {}", path.display()))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Store { root: root.to_owned(), lock: Some(lock) }),
                Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_PATIENCE => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "store {} is in use by another run; wait for it, or use another --store",
                    root.display()
                ),
                Err(TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("store lock {}", path.display()));
                }
            }
        }
    }

    /// Opens a store for reading; it need not exist.
    pub fn look(root: &Path) -> Store {
        Store { root: root.to_owned(), lock: None }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn dir(&self, stage: &str, key: &Key) -> PathBuf {
        self.root.join(stage).join(key.as_str())
    }

    /// The finished artifact of a stage under a key. Damage (a manifest that cannot be read, a file gone or of
    /// another size) is an error that names the file.
    pub fn find(&self, stage: &str, key: &Key) -> Result<Option<Artifact>> {
        let dir = self.dir(stage, key);
        if !dir.exists() {
            return Ok(None);
        }
        let artifact = read_artifact(&dir)?;
        ensure!(
            artifact.manifest.key == *key && artifact.manifest.stage == stage,
            damaged(&dir.join(MANIFEST), "it belongs to another stage", &dir)
        );
        for (name, output) in &artifact.manifest.outputs {
            let path = dir.join(name);
            let bytes = fs::metadata(&path).map(|m| m.len());
            match bytes {
                Ok(bytes) if bytes == output.bytes => {}
                Ok(bytes) => {
                    bail!(damaged(&path, &format!("{bytes} bytes, should be {}", output.bytes), &dir))
                }
                Err(e) => bail!(damaged(&path, &e.to_string(), &dir)),
            }
        }
        Ok(Some(artifact))
    }

    /// The artifact of a stage that the last complete run found or made; without one, the newest.
    pub fn current(&self, stage: &str) -> Option<Artifact> {
        let key = self.pointers().remove(stage);
        key.and_then(|key| self.find(stage, &key).ok().flatten()).or_else(|| self.newest(stage))
    }

    /// Sets the current artifacts of some stages; the others stay as they are.
    pub fn set_current(&self, keys: BTreeMap<String, Key>) -> Result<()> {
        let mut all = self.pointers();
        all.extend(keys);
        write_durably(&self.root.join(CURRENT), &serde_json::to_vec_pretty(&all)?)
    }

    fn pointers(&self) -> BTreeMap<String, Key> {
        let bytes = fs::read(self.root.join(CURRENT)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// The newest finished artifact of a stage, whatever its key; unreadable ones are passed over.
    fn newest(&self, stage: &str) -> Option<Artifact> {
        let entries = fs::read_dir(self.root.join(stage)).ok()?;
        entries
            .flatten()
            .filter(|e| !e.file_name().to_string_lossy().ends_with(".part"))
            .filter_map(|e| read_artifact(&e.path()).ok())
            .max_by_key(|a| (a.manifest.created_ms, a.manifest.key.clone()))
    }

    /// Whether an unfinished folder is there to be resumed.
    pub fn unfinished(&self, stage: &str, key: &Key) -> bool {
        self.part(stage, key).exists()
    }

    fn part(&self, stage: &str, key: &Key) -> PathBuf {
        self.root.join(stage).join(format!("{}.part", key.as_str()))
    }

    /// Begins or resumes a stage: its unfinished folder exists afterwards.
    pub fn begin(&self, manifest: Manifest) -> Result<Work> {
        ensure!(self.lock.is_some(), "store {} is open for reading only", self.root.display());
        let dir = self.part(&manifest.stage, &manifest.key);
        fs::create_dir_all(&dir).with_context(|| format!("stage folder {}", dir.display()))?;
        Ok(Work { dir, manifest })
    }

    /// Publishes a stage: digests every file of its folder, writes the manifest last, makes all of it durable,
    /// and renames once.
    pub fn publish(&self, work: Work, seconds: f64) -> Result<Artifact> {
        let Work { dir, mut manifest } = work;
        let mut names = Vec::new();
        list(&dir, Path::new(""), &mut names)?;
        names.retain(|name| name != MANIFEST && !is_scratch(name));
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
            file.sync_all().with_context(|| format!("{}", path.display()))?;
            let bytes = file.metadata()?.len();
            let digest = inputs::digest_file(&path)?;
            manifest.outputs.insert(name, Output { bytes, digest });
        }
        manifest.seconds = seconds;
        manifest.created_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        manifest.output = manifest.output_digest(NOTES);
        write_durably(&dir.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
        sync_dir(&dir)?;
        self.settle(&dir, manifest)
    }

    /// Publishes a stage that was killed between its manifest and the rename.
    pub fn recover(&self, stage: &str, key: &Key) -> Result<Option<Artifact>> {
        let dir = self.part(stage, key);
        match read_artifact(&dir) {
            Ok(whole) if whole.manifest.key == *key && whole.verify().is_ok() => {
                self.settle(&dir, whole.manifest).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Drops what only resuming needs (which stays until the manifest is safe) and renames.
    fn settle(&self, dir: &Path, manifest: Manifest) -> Result<Artifact> {
        for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| is_scratch(&name.to_string_lossy())) {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.with_context(|| path.display().to_string())?;
            }
        }
        let done = self.dir(&manifest.stage, &manifest.key);
        fs::rename(dir, &done).with_context(|| format!("{} to {}", dir.display(), done.display()))?;
        sync_dir(done.parent().unwrap_or(&self.root))?;
        Ok(Artifact { dir: done, manifest })
    }
}

impl Artifact {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads every file and compares it with the manifest, before another stage builds on it.
    pub fn verify(&self) -> Result<()> {
        for (name, output) in &self.manifest.outputs {
            let path = self.dir.join(name);
            let digest = inputs::digest_file(&path)?;
            ensure!(digest == output.digest, damaged(&path, "its contents have changed", &self.dir));
        }
        Ok(())
    }
}

/// Checkpoints, and what a killed write left behind: no part of a result.
fn is_scratch(name: &str) -> bool {
    name.starts_with("checkpoint-") || name.ends_with(".tmp")
}

fn damaged(path: &Path, what: &str, dir: &Path) -> String {
    format!(
        "{} is damaged ({what}); remove the folder {} and run again to make that stage anew, the others stay",
        path.display(),
        dir.display()
    )
}

fn read_artifact(dir: &Path) -> Result<Artifact> {
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|e| anyhow::anyhow!(damaged(&path, &e.to_string(), dir)))?;
    let manifest =
        serde_json::from_slice(&bytes).map_err(|e| anyhow::anyhow!(damaged(&path, &e.to_string(), dir)))?;
    Ok(Artifact { dir: dir.to_owned(), manifest })
}

/// Every file under `dir`, by its path within it with `/` between the parts.
fn list(dir: &Path, within: &Path, names: &mut Vec<String>) -> Result<()> {
    let here = dir.join(within);
    for entry in fs::read_dir(&here).with_context(|| format!("{}", here.display()))? {
        let entry = entry?;
        let name = within.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(dir, &name, names)?;
        } else {
            names.push(name.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

/// Writes a file so that, after a crash, it is either absent or whole: beside it first, then renamed.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_added_extension("tmp");
    let write = || -> std::io::Result<()> {
        fs::write(&temporary, bytes)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn sync_dir(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("{}", dir.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(lr: f64) -> Manifest {
        Manifest::new("sft.reason", 1, json!({ "lr": lr }), BTreeMap::new())
    }

    fn publish(store: &Store, lr: f64, text: &str) -> Artifact {
        let work = store.begin(manifest(lr)).unwrap();
        fs::create_dir_all(work.dir.join("sub")).unwrap();
        fs::write(work.dir.join("sub/a.txt"), text).unwrap();
        fs::write(work.dir.join("metrics.jsonl"), format!("{:?}", std::time::Instant::now())).unwrap();
        store.publish(work, 0.5).unwrap()
    }

    #[test]
    fn published_is_found_and_its_digest_leaves_notes_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let first = publish(&store, 1.0, "same");
        let second = publish(&store, 2.0, "same");
        assert_ne!(first.manifest.key, second.manifest.key);
        assert_eq!(first.manifest.output, second.manifest.output);
        let found = store.find("sft.reason", &first.manifest.key).unwrap().unwrap();
        found.verify().unwrap();
        assert_eq!(found.manifest, first.manifest);
        assert!(!store.unfinished("sft.reason", &first.manifest.key));
        assert!(store.find("dpo", &first.manifest.key).unwrap().is_none());
    }

    #[test]
    fn current_is_what_the_last_run_ended_with() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.current("sft.reason").is_none());
        let first = publish(&store, 1.0, "a");
        std::thread::sleep(std::time::Duration::from_millis(5));
        let second = publish(&store, 2.0, "b");
        assert_eq!(store.current("sft.reason").unwrap().manifest.key, second.manifest.key);
        store.set_current(BTreeMap::from([("sft.reason".into(), first.manifest.key.clone())])).unwrap();
        assert_eq!(store.current("sft.reason").unwrap().manifest.key, first.manifest.key);
    }

    #[test]
    fn a_stage_killed_before_its_rename_is_recovered_and_scratch_is_no_result() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let made = publish(&store, 1.0, "text");
        let part = store.part("sft.reason", &made.manifest.key);
        fs::rename(&made.dir, &part).unwrap();
        fs::create_dir(part.join("checkpoint-1")).unwrap();
        fs::write(part.join("manifest.json.tmp"), "{").unwrap();
        let again = store.recover("sft.reason", &made.manifest.key).unwrap().unwrap();
        assert_eq!(again.manifest, made.manifest);
        assert!(!made.dir.join("checkpoint-1").exists() && !made.dir.join("manifest.json.tmp").exists());
        // Without a manifest, or with a file that differs, there is nothing to recover.
        fs::rename(&made.dir, &part).unwrap();
        fs::write(part.join("sub/a.txt"), "tExt").unwrap();
        assert!(store.recover("sft.reason", &made.manifest.key).unwrap().is_none());
        fs::write(part.join("new.tmp"), "").unwrap();
        let work = store.begin(manifest(1.0)).unwrap();
        assert!(
            store.publish(work, 0.0).unwrap().manifest.outputs.keys().all(|name| !name.ends_with(".tmp"))
        );
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = Store::open(dir.path()).unwrap();
        assert!(Store::open(dir.path()).err().unwrap().to_string().contains("in use by another run"));
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let made = publish(&store, 1.0, "text");
        let path = made.path("sub/a.txt");
        fs::write(&path, "tex").unwrap();
        let said = store.find("sft.reason", &made.manifest.key).unwrap_err().to_string();
        assert!(said.contains("sub/a.txt") && said.contains("3 bytes, should be 4"), "{said}");
        fs::write(&path, "tEXt").unwrap();
        let found = store.find("sft.reason", &made.manifest.key).unwrap().unwrap();
        assert!(found.verify().unwrap_err().to_string().contains("contents have changed"));
        fs::write(made.path(MANIFEST), "{").unwrap();
        let said = store.find("sft.reason", &made.manifest.key).unwrap_err().to_string();
        assert!(said.contains("manifest.json is damaged"), "{said}");
    }
}
