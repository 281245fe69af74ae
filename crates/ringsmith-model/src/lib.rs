//! The Ling graph: tokens to tensors, forward and backward, trainer, checkpoints and generation.
//! It must not know text.
