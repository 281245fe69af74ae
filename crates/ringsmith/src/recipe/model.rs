//! The student: a shape to train from scratch, or a compact base model to start from.

use serde::{Deserialize, Serialize};

/// `[model]`: either `path` (a folder in Hugging Face layout under the data root), which then says the
/// shape, or a BailingMoE to be drawn at random in the names of `config.json`. The vocabulary size and the
/// stop token come from the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    /// Width of a dense layer's MLP (the first `first_k_dense_replace` layers).
    pub intermediate_size: usize,
    pub moe_intermediate_size: usize,
    pub num_experts: usize,
    pub num_experts_per_tok: usize,
    pub num_shared_experts: usize,
    pub first_k_dense_replace: usize,
    pub norm_head: bool,
    pub norm_topk_prob: bool,
    pub use_bias: bool,
    pub use_qkv_bias: bool,
    pub rope_theta: f64,
    pub rms_norm_eps: f64,
    pub max_position_embeddings: usize,
    /// Standard deviation of every matrix at the start.
    pub initializer_range: f64,
    /// Value of the final norm's weights at the start; above 1 it keeps NormHead's logits from being flat.
    pub final_norm_init: f64,
}

/// No count or width of a model that is trained here comes near this.
const LARGEST: usize = 1 << 20;

impl Default for Model {
    fn default() -> Model {
        Model {
            path: None,
            hidden_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: 0,
            intermediate_size: 0,
            moe_intermediate_size: 0,
            num_experts: 0,
            num_experts_per_tok: 0,
            num_shared_experts: 0,
            first_k_dense_replace: 0,
            norm_head: true,
            norm_topk_prob: true,
            use_bias: false,
            use_qkv_bias: false,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-6,
            max_position_embeddings: 16384,
            initializer_range: 0.02,
            final_norm_init: 1.0,
        }
    }
}

impl Model {
    /// Fills what follows from other keys, then says what is missing or cannot be, with the key it concerns.
    pub fn settle(&mut self) -> Result<(), (&'static str, String)> {
        if let Some(path) = &self.path {
            let alone = Model { path: Some(path.clone()), ..Model::default() };
            if *self != alone {
                return Err((
                    "path",
                    "a model taken from a path has its shape already; give one of the two".into(),
                ));
            }
            return Ok(());
        }
        let needed = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
        ];
        if let Some((name, _)) = needed.iter().find(|(_, value)| *value == 0) {
            return Err((name, "a model from scratch needs this, at least 1 (or give `path`)".into()));
        }
        let numbers = [
            ("rope_theta", self.rope_theta, self.rope_theta > 0.0),
            ("rms_norm_eps", self.rms_norm_eps, self.rms_norm_eps >= 0.0),
            ("initializer_range", self.initializer_range, self.initializer_range >= 0.0),
            ("final_norm_init", self.final_norm_init, true),
        ];
        if let Some((name, value, _)) = numbers.iter().find(|(_, value, fine)| !(*fine && value.is_finite()))
        {
            return Err((name, format!("{value} is out of range")));
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("num_experts", self.num_experts),
            ("num_shared_experts", self.num_shared_experts),
        ];
        if let Some((name, value)) = sizes.iter().find(|(_, value)| *value > LARGEST) {
            return Err((name, format!("{value} is more than {LARGEST}")));
        }
        if self.num_key_value_heads == 0 {
            self.num_key_value_heads = self.num_attention_heads;
        }
        if self.head_dim == 0 {
            self.head_dim = self.hidden_size / self.num_attention_heads;
        }
        if self.intermediate_size == 0 {
            self.intermediate_size = 4 * self.hidden_size;
        }
        if self.num_experts_per_tok > self.num_experts {
            let said = format!("{} of only {} experts", self.num_experts_per_tok, self.num_experts);
            return Err(("num_experts_per_tok", said));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let said =
                format!("{} does not divide {} heads", self.num_key_value_heads, self.num_attention_heads);
            return Err(("num_key_value_heads", said));
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim == 0 {
            return Err(("head_dim", format!("{} is not even, as rotary positions need", self.head_dim)));
        }
        Ok(())
    }
}
