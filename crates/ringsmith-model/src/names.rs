//! The only file that knows Hugging Face tensor names.

use crate::config::Architecture;

/// A tensor's place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Embedding,
    FinalNorm,
    Head,
    Layer(usize, Part),
}

/// A tensor of a layer. The flag of the attention parts says bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    InputNorm,
    /// The fused projection, rows: all q, then k, then v.
    Qkv(bool),
    Query(bool),
    Key(bool),
    Value(bool),
    Dense(bool),
    PostNorm,
    Router,
    Gate(Mlp),
    Up(Mlp),
    Down(Mlp),
}

/// Which MLP of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    Dense,
    Shared,
    Expert(usize),
}

/// The tensor's name in a checkpoint of this architecture.
pub fn name(architecture: Architecture, slot: Slot) -> String {
    let bailing = architecture == Architecture::BailingMoe;
    let (layer, part) = match slot {
        Slot::Embedding if bailing => return "model.word_embeddings.weight".into(),
        Slot::Embedding => return "model.embed_tokens.weight".into(),
        Slot::FinalNorm => return "model.norm.weight".into(),
        Slot::Head => return "lm_head.weight".into(),
        Slot::Layer(layer, part) => (layer, part),
    };
    let kind = |bias: bool| if bias { "bias" } else { "weight" };
    let mlp = |mlp: Mlp, which: &str| match mlp {
        Mlp::Dense => format!("mlp.{which}_proj.weight"),
        Mlp::Shared => format!("mlp.shared_experts.{which}_proj.weight"),
        Mlp::Expert(e) => format!("mlp.experts.{e}.{which}_proj.weight"),
    };
    let rest = match part {
        Part::InputNorm => "input_layernorm.weight".into(),
        Part::PostNorm => "post_attention_layernorm.weight".into(),
        Part::Qkv(bias) => format!("attention.query_key_value.{}", kind(bias)),
        Part::Query(bias) => format!("self_attn.q_proj.{}", kind(bias)),
        Part::Key(bias) => format!("self_attn.k_proj.{}", kind(bias)),
        Part::Value(bias) => format!("self_attn.v_proj.{}", kind(bias)),
        Part::Dense(bias) if bailing => format!("attention.dense.{}", kind(bias)),
        Part::Dense(bias) => format!("self_attn.o_proj.{}", kind(bias)),
        Part::Router => "mlp.gate.weight".into(),
        Part::Gate(m) => mlp(m, "gate"),
        Part::Up(m) => mlp(m, "up"),
        Part::Down(m) => mlp(m, "down"),
    };
    format!("model.layers.{layer}.{rest}")
}
