//! Digests of the files under the data root, remembered by size and modification time, and what the guard found
//! clean, so that a second run need not read them again.

use super::write_durably;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    mtime_ns: u64,
    digest: String,
}

/// What is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// Files by their path.
    files: BTreeMap<String, Seen>,
    /// Sources that were held against benchmarks and found clean, by the digests of both.
    clean: BTreeSet<String>,
}

/// The memory of one store (`store/inputs.json`).
pub struct Inputs {
    cache: PathBuf,
    known: Known,
    changed: bool,
}

impl Inputs {
    /// A cache that cannot be read is an empty one: it is only there to save time.
    pub fn of(store: &Path) -> Inputs {
        let cache = store.join("inputs.json");
        let known = fs::read(&cache).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        Inputs { cache, known, changed: false }
    }

    /// The digest of a file's contents, or of a folder's files with their names; `None` if it is not there.
    pub fn digest(&mut self, path: &Path) -> Result<Option<String>> {
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("input {}", path.display())),
        };
        if meta.is_dir() {
            let mut names: Vec<PathBuf> =
                fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>()?;
            names.retain(|p| p.is_file());
            names.sort();
            let mut hasher = blake3::Hasher::new();
            for file in names {
                let digest = self.digest(&file)?.unwrap_or_default();
                hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
                hasher.update(digest.as_bytes());
            }
            return Ok(Some(hasher.finalize().to_hex().to_string()));
        }
        let mtime_ns = meta
            .modified()
            .ok()
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |d| d.as_nanos() as u64);
        let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned();
        if let Some(seen) = self.known.files.get(&name)
            && seen.bytes == meta.len()
            && seen.mtime_ns == mtime_ns
        {
            return Ok(Some(seen.digest.clone()));
        }
        let digest = digest_file(path)?;
        self.known.files.insert(name, Seen { bytes: meta.len(), mtime_ns, digest: digest.clone() });
        self.changed = true;
        Ok(Some(digest))
    }

    /// Whether this verdict of the guard was noted.
    pub fn is_clean(&self, verdict: &str) -> bool {
        self.known.clean.contains(verdict)
    }

    /// Notes that the guard found a source clean.
    pub fn note_clean(&mut self, verdict: String) {
        self.changed |= self.known.clean.insert(verdict);
    }

    /// Writes what was learned, if the store exists.
    pub fn save(&mut self) -> Result<()> {
        if self.changed && self.cache.parent().is_some_and(Path::exists) {
            write_durably(&self.cache, &serde_json::to_vec_pretty(&self.known)?)?;
            self.changed = false;
        }
        Ok(())
    }
}

/// blake3 of a file's contents, in hexadecimal.
pub fn digest_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = io::Read::read(&mut file, &mut buffer).with_context(|| format!("{}", path.display()))?;
        if n == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_has_another_digest_and_a_missing_one_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        let mut inputs = Inputs::of(dir.path());
        assert_eq!(inputs.digest(&file).unwrap(), None);
        fs::write(&file, "one").unwrap();
        let one = inputs.digest(&file).unwrap();
        fs::write(&file, "two!").unwrap();
        assert_ne!(inputs.digest(&file).unwrap(), one);
        inputs.save().unwrap();
        assert_eq!(Inputs::of(dir.path()).known.files.len(), 1);
        let before = inputs.digest(dir.path()).unwrap();
        fs::write(dir.path().join("b"), "").unwrap();
        assert_ne!(inputs.digest(dir.path()).unwrap(), before);
    }
}
