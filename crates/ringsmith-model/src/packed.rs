//! The weights once more, packed as right operands of the forward products. Rebuilt after every optimizer step,
//! which costs about a hundredth of it.

use crate::buffer::Buffer;
use crate::config::Config;
use crate::gemm::{PANEL, pack_block, packed_len};
use crate::layout::{Ffn, Layout, Swiglu};
use crate::team::{Parts, share, share_blocks};

/// A packed weight [out, in]: offset into [`Packed::data`].
#[derive(Clone, Copy, Debug)]
struct Weight {
    from: usize,
    to: usize,
    rows: usize,
    cols: usize,
}

/// Packed copies, found by the weight's offset in the parameters.
pub struct Packed {
    data: Buffer,
    weights: Vec<Weight>,
    panels: Vec<(usize, usize)>,
    /// 1 / (norm of each hidden column of the head over the vocabulary + 1e-7), or nothing without NormHead.
    pub head_scale: Vec<f32>,
}

impl Packed {
    pub fn new(config: &Config, layout: &Layout) -> Packed {
        let d = config.hidden_size;
        let mut list: Vec<(usize, usize, usize)> = Vec::new();
        let swiglu = |list: &mut Vec<_>, s: &Swiglu| {
            list.push((s.gate_up, 2 * s.inner, d));
            list.push((s.down, d, s.inner));
        };
        for layer in &layout.layers {
            list.push((layer.qkv, config.qkv_width(), d));
            list.push((layer.dense, d, config.heads_width()));
            match &layer.ffn {
                Ffn::Dense(s) => swiglu(&mut list, s),
                Ffn::Moe { router, experts, shared } => {
                    list.push((*router, config.num_experts, d));
                    experts.iter().chain(shared).for_each(|s| swiglu(&mut list, s));
                }
            }
        }
        list.push((layout.head, config.vocab_size, d));
        list.sort_unstable();
        let mut len = 0;
        let mut weights = Vec::new();
        let mut panels = Vec::new();
        for (w, (from, rows, cols)) in list.into_iter().enumerate() {
            weights.push(Weight { from, to: len, rows, cols });
            panels.extend((0..rows.div_ceil(PANEL)).map(|p| (w, p)));
            len += packed_len(cols, rows);
        }
        Packed { data: Buffer::zeros(len), weights, panels, head_scale: Vec::new() }
    }

    /// Packs the current parameters.
    pub fn update(&mut self, config: &Config, layout: &Layout, params: &[f32]) {
        let data = Parts::new(&mut self.data);
        share(self.panels.len(), |i| {
            let (w, p) = self.panels[i];
            let w = &self.weights[w];
            let at = w.to + p * PANEL * w.cols;
            // SAFETY: every panel has its own part.
            let panel = unsafe { data.part(at..at + PANEL * w.cols) };
            pack_block(&params[w.from..w.from + w.rows * w.cols], w.cols, w.rows, w.cols, p, panel);
        });
        if config.norm_head {
            let d = config.hidden_size;
            let head = &params[layout.head..layout.head + config.vocab_size * d];
            self.head_scale.resize(d, 0.0);
            let scale = Parts::new(&mut self.head_scale);
            share_blocks(d, 16, |columns| {
                let mut sums = [0f64; 16];
                for row in head.chunks_exact(d) {
                    for (s, w) in sums.iter_mut().zip(&row[columns.clone()]) {
                        *s += (*w as f64) * (*w as f64);
                    }
                }
                // SAFETY: every block has its own columns.
                for (scale, s) in unsafe { scale.part(columns) }.iter_mut().zip(sums) {
                    *scale = 1.0 / (s.sqrt() as f32 + 1e-7);
                }
            });
        }
    }

    /// The packed copy of the weight that starts at `from` in the parameters.
    pub fn get(&self, from: usize) -> &[f32] {
        let i = self.weights.binary_search_by_key(&from, |w| w.from).expect("a weight starts there");
        let w = &self.weights[i];
        &self.data[w.to..w.to + packed_len(w.cols, w.rows)]
    }
}
