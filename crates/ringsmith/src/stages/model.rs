//! Models of finished stages, and the shape of a new one.

use super::Context;
use crate::{
    recipe::{Model, Phase},
    stage::{Input, Stage, model},
};
use anyhow::{Context as _, Result};
use ringsmith_data::tokenizer::Tokenizer;
use ringsmith_model::{Config, Ling};
use std::path::PathBuf;

/// The folder of a model: a finished stage's, or the model path's.
pub fn dir(context: &Context<'_>, phase: Phase) -> Result<PathBuf> {
    Ok(match model(context.recipe, phase) {
        Input::Stage(stage) => context.bench.artifact(&stage)?.dir.clone(),
        Input::File(path) => context.bench.data_root.join(path),
    })
}

/// Loads a model of the recipe.
pub fn load(context: &Context<'_>, phase: Phase) -> Result<Ling> {
    let dir = dir(context, phase)?;
    Ling::load(&dir).with_context(|| format!("model {phase}"))
}

/// The shape of the recipe's student, with the tokenizer's vocabulary and stop token.
pub fn config(context: &Context<'_>, m: &Model) -> Result<Config> {
    let tokenizer = Tokenizer::load(&context.bench.artifact(&Stage::Tokenizer)?.dir)?;
    let config = Config {
        architecture: Default::default(),
        vocab_size: tokenizer.vocab_size(),
        hidden_size: m.hidden_size,
        num_hidden_layers: m.num_hidden_layers,
        num_attention_heads: m.num_attention_heads,
        num_key_value_heads: m.num_key_value_heads,
        head_dim: Some(m.head_dim),
        intermediate_size: m.intermediate_size,
        first_k_dense_replace: m.first_k_dense_replace,
        num_experts: m.num_experts,
        num_experts_per_tok: m.num_experts_per_tok,
        num_shared_experts: Some(m.num_shared_experts),
        moe_intermediate_size: m.moe_intermediate_size,
        norm_head: m.norm_head,
        norm_topk_prob: m.norm_topk_prob,
        rms_norm_eps: m.rms_norm_eps as f32,
        rope_theta: m.rope_theta,
        use_bias: m.use_bias,
        use_qkv_bias: m.use_qkv_bias,
        tie_word_embeddings: false,
        max_position_embeddings: m.max_position_embeddings,
        pad_token_id: Some(tokenizer.stop()),
        eos_token_id: Some(tokenizer.stop()),
        initializer_range: m.initializer_range as f32,
        final_norm_init: m.final_norm_init as f32,
    };
    config.check().context("[model]")?;
    Ok(config)
}
