//! Benchmarks, runs, statistics and the report. It must not know the model.

pub mod benchmark;
pub mod chart;
pub mod html;
pub mod interval;
pub mod question;
pub mod report;
pub mod run;
