//! The Ling graph: tokens to tensors, forward and backward, trainer, checkpoints and generation.
//! It must not know text.

pub mod buffer;
pub mod config;
pub mod gemm;
pub mod layout;
pub mod names;
pub mod ops;
pub mod random;
pub mod simd;
pub mod team;

pub use config::Config;
