//! Keys and values of one sequence, for generation.

use crate::config::Config;
use crate::gemm::PANEL;
use crate::ops::attention::push_key;

/// Grows by whole panels of positions.
pub struct Cache {
    len: usize,
    kv: usize,
    hd: usize,
    layers: Vec<LayerCache>,
}

#[derive(Clone)]
struct LayerCache {
    /// One packed buffer a key head.
    keys: Vec<Vec<f32>>,
    /// Rows of all value heads.
    values: Vec<f32>,
}

impl Cache {
    pub fn new(config: &Config) -> Cache {
        let kv = config.num_key_value_heads;
        let layer = LayerCache { keys: vec![Vec::new(); kv], values: Vec::new() };
        Cache { len: 0, kv, hd: config.head_dim(), layers: vec![layer; config.num_hidden_layers] }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores layer `l`'s key and value heads of the token `ahead` places after the last held one.
    pub(crate) fn push(&mut self, l: usize, ahead: usize, key: &[f32], value: &[f32]) {
        let position = self.len + ahead;
        let (hd, layer) = (self.hd, &mut self.layers[l]);
        for (packed, key) in layer.keys.iter_mut().zip(key.chunks_exact(hd)) {
            let room = (position + 1).next_multiple_of(PANEL) * hd;
            if packed.len() < room {
                packed.resize(room, 0.0);
            }
            push_key(key, position, packed);
        }
        layer.values.extend_from_slice(value);
    }

    /// The pushed tokens of all layers are held now.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }

    pub(crate) fn keys(&self, l: usize, g: usize) -> &[f32] {
        &self.layers[l].keys[g]
    }

    /// Value head `g` of layer `l`, and the distance between its rows.
    pub(crate) fn values(&self, l: usize, g: usize) -> (&[f32], usize) {
        (&self.layers[l].values[g * self.hd..], self.kv * self.hd)
    }
}
