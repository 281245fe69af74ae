//! A model's shape, under the names that Hugging Face's `config.json` uses.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Which checkpoint family the tensors are named after. The graph is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    #[default]
    #[serde(rename = "BailingMoeForCausalLM")]
    BailingMoe,
    #[serde(rename = "LlamaForCausalLM")]
    Llama,
    #[serde(rename = "Qwen2ForCausalLM")]
    Qwen2,
}

impl Architecture {
    fn model_type(self) -> &'static str {
        match self {
            Architecture::BailingMoe => "bailing_moe",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }
}

/// The shape of a model (SPEC: the Ling technical report, table of Ling-lite). Dense Llama and Qwen2 models are
/// the same graph with every layer dense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    /// Width of a head; hidden_size / num_attention_heads where it is not stated.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width of a dense layer's MLP.
    #[serde(default)]
    pub intermediate_size: usize,
    /// The first layers that are dense; all of them in a dense model.
    #[serde(default)]
    pub first_k_dense_replace: usize,
    #[serde(default)]
    pub num_experts: usize,
    #[serde(default)]
    pub num_experts_per_tok: usize,
    /// Shared experts, fused into one MLP of this many times `moe_intermediate_size`.
    #[serde(default)]
    pub num_shared_experts: Option<usize>,
    #[serde(default)]
    pub moe_intermediate_size: usize,
    /// Divide each hidden column of the head by its norm over the vocabulary.
    #[serde(default)]
    pub norm_head: bool,
    /// Divide the chosen experts' weights by their sum.
    #[serde(default = "yes")]
    pub norm_topk_prob: bool,
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f32,
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    #[serde(default)]
    pub use_bias: bool,
    #[serde(default)]
    pub use_qkv_bias: bool,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    #[serde(default)]
    pub pad_token_id: Option<u32>,
    #[serde(default)]
    pub eos_token_id: Option<u32>,
    /// Standard deviation of freshly drawn weights.
    #[serde(default = "default_init")]
    pub initializer_range: f32,
    /// The final norm's starting weight. NormHead's logits are flat at a weight of 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub final_norm_init: f32,
}

fn yes() -> bool {
    true
}
fn one() -> f32 {
    1.0
}
fn is_one(x: &f32) -> bool {
    *x == 1.0
}
fn default_eps() -> f32 {
    1e-6
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_positions() -> usize {
    16_384
}
fn default_init() -> f32 {
    0.02
}

/// No axis of a real model comes near this, and offsets of this many rows by as many columns do not overflow.
const LARGEST: usize = 1 << 28;

/// The key whose value does not fit its type, with a colon; nothing when it is not one key's fault.
fn misfit(known: &Value, kept: &Map<String, Value>) -> String {
    let fits = |(key, value): (&String, &Value)| {
        let mut one = known.clone();
        one[key] = value.clone();
        serde_json::from_value::<Config>(one).is_ok()
    };
    kept.iter().find(|pair| !fits(*pair)).map_or(String::new(), |(key, _)| format!("{key}: "))
}

/// Keys of `config.json` that change the computation in ways this graph does not have, with the values it accepts.
const UNSUPPORTED: [(&str, fn(&Value) -> bool); 6] = [
    ("rope_scaling", Value::is_null),
    ("use_sliding_window", |v| v == &Value::Bool(false)),
    ("hidden_act", |v| v == "silu"),
    ("attention_bias", |v| v == &Value::Bool(false)),
    ("mlp_bias", |v| v == &Value::Bool(false)),
    ("quantization_config", Value::is_null),
];

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// Names the file and the key: unreadable, an unknown architecture, a missing key or a shape that cannot be.
    pub fn load(dir: &Path) -> Result<Config> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let json: Value =
            serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))?;
        Config::from_json(&json).with_context(|| path.display().to_string())
    }

    /// Reads the parsed `config.json`.
    pub fn from_json(json: &Value) -> Result<Config> {
        let json = json.as_object().context("not a JSON object")?;
        let name = json.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        let name = name.context("no \"architectures\"")?;
        let architecture: Architecture = serde_json::from_value(name.into()).ok().with_context(|| {
            format!(
                "unknown architecture {name:?}; known are BailingMoeForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM"
            )
        })?;
        for (key, accepted) in UNSUPPORTED {
            if let Some(value) = json.get(key)
                && !accepted(value)
            {
                bail!("{key} = {value} is not supported");
            }
        }
        let known = serde_json::to_value(Config::example())?;
        let mut kept: Map<String, Value> = json
            .iter()
            .filter(|(k, v)| (known.get(*k).is_some() || *k == "final_norm_init") && !v.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        kept.insert("architecture".into(), name.into());
        for key in ["eos_token_id", "pad_token_id"] {
            if let Some(Value::Array(ids)) = kept.get(key) {
                let first = ids.first().cloned().unwrap_or(Value::Null);
                kept.insert(key.into(), first);
            }
            // Some published configs write "no such token" as -1.
            if kept.get(key).is_some_and(|id| id == &Value::from(-1)) {
                kept.remove(key);
            }
        }
        if architecture != Architecture::BailingMoe {
            let layers = kept.get("num_hidden_layers").cloned().unwrap_or(Value::Null);
            kept.insert("first_k_dense_replace".into(), layers);
            kept.entry("num_key_value_heads")
                .or_insert_with(|| json.get("num_attention_heads").cloned().unwrap_or(Value::Null));
            kept.insert("use_qkv_bias".into(), (architecture == Architecture::Qwen2).into());
        }
        if architecture == Architecture::BailingMoe {
            // The original class's default, which differs from Llama's and Qwen2's.
            kept.entry("rms_norm_eps").or_insert_with(|| 1e-5.into());
        }
        let config: Config = serde_json::from_value(Value::Object(kept.clone()))
            .map_err(|e| anyhow::anyhow!("{}{e}", misfit(&known, &kept)))?;
        config.check()?;
        Ok(config)
    }

    /// What `config.json` says, readable by Hugging Face's code and by [`Config::load`].
    pub fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(self).expect("a config is plain data");
        let map = json.as_object_mut().expect("a struct is an object");
        let architecture = map.remove("architecture").expect("it has an architecture");
        map.insert("architectures".into(), Value::Array(vec![architecture]));
        map.insert("model_type".into(), self.architecture.model_type().into());
        map.insert("hidden_act".into(), "silu".into());
        map.insert("torch_dtype".into(), "float32".into());
        if self.architecture != Architecture::BailingMoe {
            for key in [
                "num_experts",
                "num_experts_per_tok",
                "num_shared_experts",
                "moe_intermediate_size",
                "norm_head",
                "norm_topk_prob",
                "first_k_dense_replace",
                "use_bias",
                "use_qkv_bias",
            ] {
                map.remove(key);
            }
        }
        json
    }

    /// Refuses shapes that cannot be.
    pub fn check(&self) -> Result<()> {
        let c = self;
        ensure!(c.vocab_size > 0 && c.hidden_size > 0, "vocab_size and hidden_size must be positive");
        ensure!(c.num_hidden_layers > 0, "num_hidden_layers must be positive");
        ensure!(
            c.num_attention_heads > 0 && c.num_key_value_heads > 0,
            "num_attention_heads and num_key_value_heads must be positive"
        );
        ensure!(
            c.num_attention_heads.is_multiple_of(c.num_key_value_heads),
            "num_attention_heads {} is not a multiple of num_key_value_heads {}",
            c.num_attention_heads,
            c.num_key_value_heads
        );
        ensure!(
            c.head_dim.is_some() || c.hidden_size.is_multiple_of(c.num_attention_heads),
            "hidden_size {} is not a multiple of num_attention_heads {} and there is no head_dim",
            c.hidden_size,
            c.num_attention_heads
        );
        ensure!(c.head_dim().is_multiple_of(2) && c.head_dim() > 0, "head_dim {} is not even", c.head_dim());
        for (key, size) in [
            ("vocab_size", Some(c.vocab_size)),
            ("hidden_size", Some(c.hidden_size)),
            ("num_hidden_layers", Some(c.num_hidden_layers)),
            ("head_dim x num_attention_heads", c.head_dim().checked_mul(c.num_attention_heads)),
            ("intermediate_size", Some(c.intermediate_size)),
            ("num_experts", Some(c.num_experts)),
            ("moe_intermediate_size", Some(c.moe_intermediate_size)),
            (
                "num_shared_experts x moe_intermediate_size",
                c.num_shared_experts.unwrap_or(0).checked_mul(c.moe_intermediate_size),
            ),
        ] {
            ensure!(size.is_some_and(|size| size <= LARGEST), "{key} is more than {LARGEST}");
        }
        ensure!(c.rms_norm_eps >= 0.0, "rms_norm_eps {} is negative", c.rms_norm_eps);
        ensure!(
            c.rope_theta > 0.0 && c.rope_theta.is_finite(),
            "rope_theta {} is not positive",
            c.rope_theta
        );
        if c.first_k_dense_replace > 0 {
            ensure!(c.intermediate_size > 0, "dense layers need an intermediate_size");
        }
        if c.first_k_dense_replace < c.num_hidden_layers {
            ensure!(
                c.num_experts > 0 && c.moe_intermediate_size > 0,
                "num_experts and moe_intermediate_size must be positive"
            );
            ensure!(
                (1..=c.num_experts).contains(&c.num_experts_per_tok),
                "num_experts_per_tok {} is not within 1..={}",
                c.num_experts_per_tok,
                c.num_experts
            );
        }
        Ok(())
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Rows of the fused query, key and value projection.
    pub fn qkv_width(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim()
    }

    /// Width of the heads' outputs side by side.
    pub fn heads_width(&self) -> usize {
        self.num_attention_heads * self.head_dim()
    }

    /// Whether layer `l` is a mixture of experts.
    pub fn is_moe(&self, l: usize) -> bool {
        l >= self.first_k_dense_replace
    }

    /// A small BailingMoE, for tests and as the list of known keys.
    pub fn example() -> Config {
        Config {
            architecture: Architecture::BailingMoe,
            vocab_size: 64,
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: Some(8),
            intermediate_size: 48,
            first_k_dense_replace: 0,
            num_experts: 4,
            num_experts_per_tok: 2,
            num_shared_experts: Some(1),
            moe_intermediate_size: 16,
            norm_head: true,
            norm_topk_prob: true,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            use_bias: false,
            use_qkv_bias: false,
            tie_word_embeddings: false,
            max_position_embeddings: 512,
            pad_token_id: Some(0),
            eos_token_id: Some(0),
            initializer_range: 0.08,
            final_norm_init: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip() {
        for architecture in [Architecture::BailingMoe, Architecture::Llama, Architecture::Qwen2] {
            let mut config = Config { architecture, ..Config::example() };
            if architecture != Architecture::BailingMoe {
                config = Config {
                    first_k_dense_replace: config.num_hidden_layers,
                    use_qkv_bias: architecture == Architecture::Qwen2,
                    num_experts: 0,
                    num_experts_per_tok: 0,
                    num_shared_experts: None,
                    moe_intermediate_size: 0,
                    norm_head: false,
                    ..config
                };
            }
            assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
        }
    }

    #[test]
    fn unsaid_keys_are_what_the_original_class_has() {
        let mut json = Config::example().to_json();
        json.as_object_mut().unwrap().remove("rms_norm_eps");
        json["pad_token_id"] = (-1).into();
        let config = Config::from_json(&json).unwrap();
        assert_eq!((config.rms_norm_eps, config.pad_token_id), (1e-5, None));
        json["architectures"] = serde_json::json!(["LlamaForCausalLM"]);
        assert_eq!(Config::from_json(&json).unwrap().rms_norm_eps, 1e-6);
    }

    #[test]
    fn refusals_name_the_key() {
        let refuse = |key: &str, value: Value| {
            let mut json = Config::example().to_json();
            json[key] = value;
            format!("{:#}", Config::from_json(&json).unwrap_err())
        };
        assert!(refuse("architectures", serde_json::json!(["GPT2LMHeadModel"])).contains("GPT2LMHeadModel"));
        assert!(refuse("hidden_act", "gelu".into()).contains("hidden_act"));
        assert!(refuse("num_experts_per_tok", 9.into()).contains("num_experts_per_tok"));
        assert!(refuse("vocab_size", Value::Null).contains("vocab_size"));
        assert!(refuse("norm_head", "yes".into()).contains("norm_head: invalid type"));
        assert!(refuse("num_experts", (-1).into()).contains("num_experts: invalid value"));
        assert!(refuse("head_dim", (1u64 << 62).into()).contains("head_dim x num_attention_heads is more"));
        assert!(refuse("rms_norm_eps", (-1).into()).contains("rms_norm_eps"));
        assert!(refuse("rope_theta", 0.into()).contains("rope_theta"));
    }
}
