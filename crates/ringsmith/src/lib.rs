//! The whole line: recipe, plan, store, stages and the command line over the three rooms that do the work.
//! It must not know how to compute anything.

pub mod cli;
pub mod guard;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod stage;
pub mod stages;
pub mod store;
