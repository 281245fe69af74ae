//! The graph's operations, one a file, forward beside backward. Rows are tokens.

pub mod attention;
pub mod rmsnorm;
pub mod rope;
pub mod router;
pub mod softmax;
pub mod swiglu;

#[cfg(test)]
pub(crate) mod check;
