//! The model: its parameters, fresh or loaded.

use crate::buffer::Buffer;
use crate::config::Config;
use crate::layout::Layout;
use crate::packed::Packed;
use crate::random::normal;
use crate::team::{Parts, share};

/// A model: shape, offsets and weights (f32).
pub struct Ling {
    config: Config,
    layout: Layout,
    params: Buffer,
    packed: Packed,
}

impl Ling {
    /// A model with these parameters, laid out as [`Layout`] says.
    pub fn from_params(config: Config, params: Buffer) -> Ling {
        let layout = Layout::new(&config);
        assert_eq!(params.len(), layout.len);
        let mut packed = Packed::new(&config, &layout);
        packed.update(&config, &layout, &params);
        Ling { config, layout, params, packed }
    }

    /// Fresh weights: matrices normal with standard deviation `initializer_range`, norms 1 (the final one
    /// `final_norm_init`), biases 0. A tensor's draw depends on the seed and its place in the list only.
    pub fn init(config: &Config, seed: u64) -> Ling {
        let layout = Layout::new(config);
        let mut params = Buffer::zeros(layout.len);
        let parts = Parts::new(&mut params);
        share(layout.tensors.len(), |n| {
            let tensor = &layout.tensors[n];
            // SAFETY: tensors do not overlap.
            let values = unsafe { parts.part(tensor.range()) };
            if tensor.is_matrix() {
                for (i, x) in values.iter_mut().enumerate() {
                    *x = config.initializer_range * normal(seed, n as u64, i as u64) as f32;
                }
            } else if tensor.at == layout.norm {
                values.fill(config.final_norm_init);
            } else if tensor.name.ends_with("weight") {
                values.fill(1.0);
            }
        });
        Ling::from_params(config.clone(), params)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The parameters, flat.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The weights as the forward products read them.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Changes the parameters, then brings the packed copies up to date.
    pub fn update(&mut self, change: impl FnOnce(&Layout, &mut [f32])) {
        change(&self.layout, &mut self.params);
        self.packed.update(&self.config, &self.layout, &self.params);
    }

    /// Parameters that are stored, without alignment gaps.
    pub fn num_params(&self) -> usize {
        self.layout.tensors.iter().map(|t| t.len()).sum()
    }

    /// The head for inference: NormHead folded into the weight, the switch off. The outputs are the same up to
    /// rounding; training such a model further is another thing than training the original (see the traps in the
    /// Ling reports' code), so only exports for inference do this.
    pub fn folded(&self) -> Ling {
        let mut params = self.params.clone();
        let mut config = self.config.clone();
        if config.norm_head {
            let d = config.hidden_size;
            for row in params[self.layout.head..][..config.vocab_size * d].chunks_exact_mut(d) {
                crate::simd::mul(&self.packed.head_scale, row);
            }
            config.norm_head = false;
        }
        Ling::from_params(config, params)
    }
}
