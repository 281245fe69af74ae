//! The trainer: steps, checkpoints, metrics. A run killed anywhere and started again ends with the same bits.
//!
//! A step's batch and random numbers are functions of its number, so a checkpoint is the weights, the moments and
//! the step count, and resuming needs no more.

use crate::adamw::{AdamW, Hyper};
use crate::batch::Batch;
use crate::checkpoint::{load_tensors, save_tensors};
use crate::ling::Ling;
use crate::objective::{Bench, Losses, Objective, Terms};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The global batch of a step.
pub struct Step {
    pub batch: Batch,
    /// One reference log-probability a document for a preference objective, else empty.
    pub reference: Vec<f64>,
}

/// A training run.
pub struct Job<'a> {
    /// Holds `checkpoint-*` folders and `metrics.jsonl`.
    pub dir: &'a Path,
    /// The starting weights.
    pub start: &'a dyn Fn() -> Result<Ling>,
    /// The divergence term's teacher.
    pub frozen: Option<Ling>,
    pub hyper: Hyper,
    pub objective: Objective,
    pub terms: Terms,
    /// Names of the sources, for the metrics.
    pub sources: Vec<String>,
    pub steps: u64,
    /// The global batch of a step (from 0); the same for the same step.
    pub batch: &'a dyn Fn(u64) -> Result<Step>,
    /// Set to ask for a checkpoint and an early end.
    pub stop: &'a AtomicBool,
    pub checkpoint_every: Duration,
    pub progress: &'a mut dyn FnMut(&Metrics),
}

/// How a run ended.
pub enum Outcome {
    Done(Box<Ling>),
    /// Stopped on request, with a checkpoint.
    Stopped,
}

/// What a step reports.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Steps taken so far.
    pub step: u64,
    pub steps: u64,
    pub losses: Losses,
    pub grad_norm: f64,
    pub lr: f64,
    pub tokens: usize,
    pub seconds: f64,
}

impl Metrics {
    fn json(&self, sources: &[String]) -> Value {
        let l = &self.losses;
        let by_source: serde_json::Map<String, Value> = sources
            .iter()
            .zip(&l.sources)
            .filter(|(_, (n, _))| *n > 0)
            .map(|(name, (n, nll))| (name.clone(), json!({"loss": nll / *n as f64, "tokens": n})))
            .collect();
        let mut line = json!({
            "step": self.step, "loss": l.total, "nll": l.nll, "grad_norm": self.grad_norm, "lr": self.lr,
            "tokens": self.tokens, "tokens_per_s": self.tokens as f64 / self.seconds, "sources": by_source,
            "balance": l.balance, "z": l.z, "load": l.load,
        });
        if let Some((loss, accuracy, margin)) = l.preference {
            line["preference"] = json!({"loss": loss, "accuracy": accuracy, "margin": margin});
        }
        for (key, value) in [("kl", l.kl), ("l2_sp", l.l2_sp)] {
            if value != 0.0 {
                line[key] = value.into();
            }
        }
        line
    }
}

/// Runs the job to its end or until it is stopped, from its newest checkpoint if there is one.
///
/// # Errors
/// A damaged checkpoint, a full disk, a batch that cannot be read, a loss that is not finite; each names its place.
pub fn train(job: Job<'_>) -> Result<Outcome> {
    fs::create_dir_all(job.dir).with_context(|| job.dir.display().to_string())?;
    let (mut model, mut adamw) = match newest(job.dir)? {
        Some(path) => resume(&path, (job.start)()?)?,
        None => {
            let model = (job.start)()?;
            let adamw = AdamW::new(model.layout());
            (model, adamw)
        }
    };
    let start = if job.terms.l2_sp != 0.0 { Some((job.start)()?) } else { None };
    let metrics_path = job.dir.join("metrics.jsonl");
    let mut metrics = reopen(&metrics_path, adamw.step)?;
    let mut bench = Bench::new(&model);
    let mut saved = Instant::now();
    while adamw.step < job.steps {
        if job.stop.load(Ordering::Relaxed) {
            metrics.sync_all()?;
            save(job.dir, &model, &adamw)?;
            return Ok(Outcome::Stopped);
        }
        let clock = Instant::now();
        let step = adamw.step;
        let Step { batch, reference } = (job.batch)(step)?;
        ensure!(batch.supervised() > 0, "step {}: no supervised token in its batch", step + 1);
        let start = start.as_ref().map(Ling::params);
        let losses = bench.gradients(
            &model,
            &job.objective,
            &job.terms,
            &batch,
            &reference,
            job.frozen.as_ref(),
            start,
        );
        let lr = job.hyper.lr_at(step, job.steps);
        let grad_norm = bench.step(&mut model, &mut adamw, &job.hyper, lr);
        ensure!(
            losses.total.is_finite() && grad_norm.is_finite(),
            "step {}: loss {} and gradient norm {grad_norm} are not finite; a lower lr may help",
            step + 1,
            losses.total
        );
        let line = Metrics {
            step: step + 1,
            steps: job.steps,
            losses,
            grad_norm,
            lr,
            tokens: batch.len(),
            seconds: clock.elapsed().as_secs_f64(),
        };
        let mut text = line.json(&job.sources).to_string();
        text.push('\n');
        metrics.write_all(text.as_bytes()).with_context(|| format!("writing {}", metrics_path.display()))?;
        (job.progress)(&line);
        if saved.elapsed() >= job.checkpoint_every && adamw.step < job.steps {
            metrics.sync_all()?;
            save(job.dir, &model, &adamw)?;
            saved = Instant::now();
        }
    }
    metrics.sync_all()?;
    Ok(Outcome::Done(Box::new(model)))
}

/// Removes the run's checkpoints, once its result is safe elsewhere.
pub fn remove_checkpoints(dir: &Path) -> Result<()> {
    for path in checkpoints(dir)? {
        fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn checkpoints(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("checkpoint-")))
        .collect();
    found.sort();
    Ok(found)
}

fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    Ok(checkpoints(dir)?.into_iter().rfind(|p| p.extension().is_none()))
}

/// Writes a checkpoint beside the others, renames it into place, then removes what it supersedes.
fn save(dir: &Path, model: &Ling, adamw: &AdamW) -> Result<()> {
    let path = dir.join(format!("checkpoint-{:09}", adamw.step));
    let part = path.with_extension("part");
    let write = || -> Result<()> {
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fs::create_dir(&part)?;
        let list = [("params", model.params()), ("m", &*adamw.m), ("v", &*adamw.v)];
        let tensors: Vec<_> = list.iter().map(|(n, x)| (n.to_string(), vec![x.len()], *x)).collect();
        let sum = format!("{:016x}", list.iter().fold(0, |h, (_, x)| checksum(h, x)));
        let step = adamw.step.to_string();
        save_tensors(&part.join("state.safetensors"), &tensors, &[("step", &step), ("checksum", &sum)])?;
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::rename(&part, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("checkpoint step {}: {}", adamw.step, path.display()))?;
    for old in checkpoints(dir)? {
        if old != path {
            fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
        }
    }
    Ok(())
}

/// The state that a checkpoint holds, for a model of `like`'s shape.
fn resume(path: &Path, mut like: Ling) -> Result<(Ling, AdamW)> {
    let at = || format!("checkpoint {}: damaged; remove it to start this stage again", path.display());
    let read = || -> Result<(HashMap<String, String>, [Vec<f32>; 3])> {
        let (mut tensors, metadata) = load_tensors(&path.join("state.safetensors"))?;
        let mut take = |name: &str| {
            let values = tensors.remove(name).with_context(|| format!("no tensor `{name}`"))?;
            let want = like.layout().len;
            ensure!(values.len() == want, "tensor `{name}`: expected [{want}], found [{}]", values.len());
            Ok(values)
        };
        let list = [take("params")?, take("m")?, take("v")?];
        let sum = format!("{:016x}", list.iter().fold(0, |h, x| checksum(h, x)));
        let want = metadata.get("checksum").context("no checksum")?;
        ensure!(*want == sum, "checksum {sum}, expected {want}");
        Ok((metadata, list))
    };
    let (metadata, [params, m, v]) = read().with_context(at)?;
    let mut adamw = AdamW::new(like.layout());
    adamw.step = metadata.get("step").and_then(|s| s.parse().ok()).with_context(at)?;
    adamw.m.copy_from_slice(&m);
    adamw.v.copy_from_slice(&v);
    like.update(|_, p| p.copy_from_slice(&params));
    Ok((like, adamw))
}

fn checksum(start: u64, x: &[f32]) -> u64 {
    x.iter().fold(start, |h, x| (h ^ x.to_bits() as u64).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

/// The metrics file with the lines up to `step`, open for more.
fn reopen(path: &Path, step: u64) -> Result<File> {
    let at = || format!("writing {}", path.display());
    let mut kept = Vec::new();
    if let Ok(file) = File::open(path) {
        for line in BufReader::new(file).split(b'\n') {
            let line = line.with_context(at)?;
            match serde_json::from_slice::<Value>(&line) {
                Ok(json) if json["step"].as_u64().is_some_and(|s| s <= step) => {
                    kept.extend_from_slice(&line);
                    kept.push(b'\n');
                }
                _ => break,
            }
        }
    }
    // Beside it first: a kill here must not lose the lines of the steps that are never taken again.
    let part = path.with_added_extension("tmp");
    let mut file = File::create(&part).with_context(at)?;
    file.write_all(&kept).with_context(at)?;
    fs::rename(&part, path).with_context(at)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_taken_up_at_the_checkpoint_and_a_kill_meanwhile_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, seen) = (dir.path().join("metrics.jsonl"), dir.path().join("seen"));
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st";
        fs::write(&path, text).unwrap();
        // The old file as a kill would leave it: it is replaced, never emptied.
        fs::hard_link(&path, &seen).unwrap();
        reopen(&path, 2).unwrap().write_all(b"{\"step\":3,\"again\":1}\n").unwrap();
        assert_eq!(fs::read_to_string(&seen).unwrap(), text);
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":1}\n");
    }
}
