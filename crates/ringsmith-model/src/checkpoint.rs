//! Model folders in Hugging Face layout: `config.json` and `*.safetensors`, one file or shards with an index.

use crate::buffer::Buffer;
use crate::config::Config;
use crate::layout::Layout;
use crate::ling::Ling;
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

impl Ling {
    /// Loads a folder; f32, bf16 and f16 tensors become f32.
    ///
    /// # Errors
    /// Names the file and the tensor: a missing, extra or misshapen tensor, an unsupported type, a damaged file.
    pub fn load(dir: &Path) -> Result<Ling> {
        let config = Config::load(dir)?;
        let maps = shards(dir)?
            .into_iter()
            .map(|path| map(&path).map(|map| (path, map)))
            .collect::<Result<Vec<(PathBuf, Mmap)>>>()?;
        let files =
            maps.iter().map(|(path, map)| Ok((path, open(path, map)?))).collect::<Result<Vec<_>>>()?;
        // The shape is compared with what is stored before it asks for any memory.
        let stored: usize = files.iter().map(|(_, file)| file.len()).sum();
        let experts = if config.is_moe(config.num_hidden_layers - 1) { config.num_experts } else { 0 };
        ensure!(
            config.num_hidden_layers <= stored && experts <= stored,
            "{}: {} layers and {} experts, but the weights are {stored} tensors in all",
            dir.join("config.json").display(),
            config.num_hidden_layers,
            config.num_experts,
        );
        let layout = Layout::new(&config);
        let wanted: HashMap<&str, usize> =
            layout.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let mut found: Vec<Option<(&Path, TensorView<'_>)>> = layout.tensors.iter().map(|_| None).collect();
        for (path, file) in &files {
            for (name, view) in file.iter() {
                let at = || format!("{}: tensor `{name}`", path.display());
                let Some(&i) = wanted.get(name) else {
                    let tied = config.tie_word_embeddings && name == "lm_head.weight";
                    if tied || view.shape().contains(&0) || name.ends_with("rotary_emb.inv_freq") {
                        continue;
                    }
                    bail!("{}: not part of a {:?} of this shape", at(), config.architecture);
                };
                let tensor = &layout.tensors[i];
                ensure!(found[i].is_none(), "{}: stored twice", at());
                ensure!(
                    view.shape() == tensor.shape,
                    "{}: expected {:?}, found {:?}",
                    at(),
                    tensor.shape,
                    view.shape()
                );
                found[i] = Some((path, view));
            }
        }
        let missing: Vec<&str> = layout
            .tensors
            .iter()
            .zip(&found)
            .filter(|(t, f)| f.is_none() && !t.is_empty())
            .map(|(t, _)| t.name.as_str())
            .collect();
        if let [first, rest @ ..] = missing.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            bail!("{}: missing tensor `{first}`{more}", dir.display());
        }
        let mut params = Buffer::zeros(layout.len);
        for (tensor, (path, view)) in
            layout.tensors.iter().zip(&found).filter_map(|(t, f)| Some((t, f.as_ref()?)))
        {
            read(view, &mut params[tensor.range()])
                .with_context(|| format!("{}: tensor `{}`", path.display(), tensor.name))?;
        }
        Ok(Ling::from_params(config, params))
    }

    /// Writes `config.json` and `model.safetensors` (f32) into `dir`, synced.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join("config.json");
        let mut text = serde_json::to_string_pretty(&self.config().to_json())?;
        text.push('\n');
        write(&path, text.as_bytes())?;
        let tensors: Vec<_> = self
            .layout()
            .tensors
            .iter()
            .map(|t| (t.name.clone(), t.shape.clone(), &self.params()[t.range()]))
            .collect();
        save_tensors(&dir.join("model.safetensors"), &tensors, &[("format", "pt")])
    }
}

/// Writes a file and makes sure that it is on disk.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Writes f32 tensors (name, shape, values) as safetensors, with metadata.
pub fn save_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, &[f32])],
    metadata: &[(&str, &str)],
) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, shape, values)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes(values))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let data = safetensors::serialize(views, Some(metadata))
        .with_context(|| format!("writing {}", path.display()))?;
    write(path, &data)
}

/// Reads every tensor of a safetensors file as f32, with its metadata.
pub fn load_tensors(path: &Path) -> Result<(BTreeMap<String, Vec<f32>>, HashMap<String, String>)> {
    let map = map(path)?;
    let file = open(path, &map)?;
    let (_, header) = SafeTensors::read_metadata(&map).with_context(|| path.display().to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let mut values = vec![0.0; view.shape().iter().product()];
        read(&view, &mut values).with_context(|| format!("{}: tensor `{name}`", path.display()))?;
        tensors.insert(name.to_string(), values);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn bytes(values: &[f32]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little")) };
    // SAFETY: f32 has no padding and every byte pattern is a valid u8.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    // SAFETY: model files are not changed while they are read; a store's artifacts are immutable.
    unsafe { Mmap::map(&file) }.with_context(|| path.display().to_string())
}

fn open<'a>(path: &Path, map: &'a Mmap) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(map).map_err(|e| {
        anyhow::anyhow!(
            "{}: damaged or truncated safetensors file ({} bytes): {e}",
            path.display(),
            map.len()
        )
    })
}

fn read(view: &TensorView<'_>, out: &mut [f32]) -> Result<()> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => {
            for (x, b) in out.iter_mut().zip(data.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        Dtype::BF16 => {
            for (x, b) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                *x = half::bf16::from_le_bytes(*b).to_f32();
            }
        }
        Dtype::F16 => {
            for (x, b) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                *x = half::f16::from_le_bytes(*b).to_f32();
            }
        }
        other => bail!("type {other:?} is not supported (f32, bf16 and f16 are)"),
    }
    Ok(())
}

/// The files that hold the weights: `model.safetensors`, the index's shards, or whatever single file there is.
fn shards(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join("model.safetensors.index.json");
    let single = dir.join("model.safetensors");
    if !single.exists() && index.exists() {
        let text = std::fs::read_to_string(&index).with_context(|| index.display().to_string())?;
        let json: serde_json::Value =
            serde_json::from_str(&text).with_context(|| index.display().to_string())?;
        let map = json.get("weight_map").and_then(|m| m.as_object());
        let map = map.with_context(|| format!("{}: no \"weight_map\"", index.display()))?;
        let mut files = Vec::new();
        for (tensor, file) in map {
            let file =
                file.as_str().with_context(|| format!("{}: `{tensor}` names no file", index.display()))?;
            let path = dir.join(file);
            ensure!(
                path.parent() == Some(dir),
                "{}: `{tensor}` points outside the folder: {file}",
                index.display()
            );
            if !files.contains(&path) {
                files.push(path);
            }
        }
        files.sort();
        return Ok(files);
    }
    if single.exists() {
        return Ok(vec![single]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{}: no *.safetensors file", dir.display());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What loading says after `config.json` was changed.
    fn refusal(key: &str, value: Value) -> String {
        let dir = tempfile::tempdir().unwrap();
        Ling::init(&Config::example(), 1).save(dir.path()).unwrap();
        let mut config = Config::example().to_json();
        config[key] = value;
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        format!("{:#}", Ling::load(dir.path()).err().unwrap())
    }

    #[test]
    fn a_shape_that_is_not_the_files_is_refused_before_it_takes_memory() {
        let said = refusal("vocab_size", json!(1u64 << 27));
        assert!(
            said.contains("embeddings.weight`: expected [134217728, 32], found [64, 32]")
                || said.contains("lm_head"),
            "{said}"
        );
        assert!(refusal("vocab_size", json!(1u64 << 63)).contains("vocab_size"));
        for key in ["num_experts", "num_hidden_layers"] {
            assert!(refusal(key, json!(100_000_000)).contains("config.json: "), "{key}");
        }
        assert!(refusal("num_hidden_layers", json!(3)).contains("missing tensor `model.layers.2."));
        assert!(refusal("num_hidden_layers", json!(1)).contains("tensor `model.layers.1."));
    }
}
