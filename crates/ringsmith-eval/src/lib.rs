//! Benchmarks, runs, statistics and the report. It must not know the model.
