//! The Ling graph: tokens to tensors, forward and backward, trainer, checkpoints and generation.
//! It must not know text.

pub mod adamw;
pub mod backward;
pub mod batch;
pub mod buffer;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod engine;
pub mod forward;
pub mod gemm;
pub mod head;
pub mod layout;
pub mod ling;
pub mod names;
pub mod objective;
pub mod ops;
pub mod packed;
pub mod preference;
pub mod random;
pub mod simd;
pub mod team;
pub mod train;
mod weights;

pub use batch::Batch;
pub use config::Config;
pub use ling::Ling;
