//! Gradients of weights: leftᵀ right over the tokens, cut into tasks that each own some rows.

use crate::gemm::{Left, Right, gemm_into};
use crate::ops::rmsnorm;
use crate::simd::add;
use crate::team::{Parts, share};
use std::ops::Range;

/// A weight's gradient [rows, cols] at `at`: leftᵀ right over `k` tokens.
pub(crate) struct Outer<'a> {
    pub at: usize,
    pub rows: usize,
    pub cols: usize,
    pub k: usize,
    pub left: &'a [f32],
    pub right: &'a [f32],
}

/// A vector's gradient, one value a column.
pub(crate) enum Column<'a> {
    Norm { at: usize, x: &'a [f32], rstd: &'a [f32], dy: &'a [f32] },
    Bias { at: usize, dy: &'a [f32], width: usize },
}

/// Rows of a weight's gradient that a task takes.
const ROWS: usize = 48;
/// Columns of a vector's gradient that a task takes.
const COLUMNS: usize = 64;

/// Runs the tasks; each owns its part of `grads`.
pub(crate) fn run(
    outers: &[Outer<'_>],
    columns: &[Column<'_>],
    d: usize,
    grads: &mut [f32],
    accumulate: bool,
) {
    let mut tasks: Vec<(usize, Range<usize>)> = Vec::new();
    let mut split = |n: usize, len: usize, block: usize| {
        tasks.extend((0..len).step_by(block).map(|at| (n, at..len.min(at + block))));
    };
    for (n, outer) in outers.iter().enumerate() {
        split(n, outer.rows, ROWS);
    }
    for (n, column) in columns.iter().enumerate() {
        split(outers.len() + n, if let Column::Bias { width, .. } = column { *width } else { d }, COLUMNS);
    }
    let grads = Parts::new(grads);
    share(tasks.len(), |n| {
        let (n, range) = &tasks[n];
        if let Some(o) = outers.get(*n) {
            let at = o.at + range.start * o.cols;
            // SAFETY: tasks cover disjoint rows of disjoint tensors.
            let part = unsafe { grads.part(at..at + range.len() * o.cols) };
            let left = if o.k == 0 { o.left } else { &o.left[range.start..] };
            let (a, b) = (Left::transposed(left, o.rows), Right::Rows(o.right, o.cols));
            // SAFETY: as above.
            unsafe { gemm_into(range.len(), o.cols, o.k, a, b, part.as_mut_ptr(), o.cols, accumulate) };
            return;
        }
        let column = &columns[n - outers.len()];
        let (Column::Norm { at, .. } | Column::Bias { at, .. }) = column;
        // SAFETY: as above.
        let part = unsafe { grads.part(at + range.start..at + range.end) };
        if !accumulate {
            part.fill(0.0);
        }
        match column {
            Column::Norm { x, rstd, dy, .. } => rmsnorm::backward_weight(x, rstd, dy, d, range.start, part),
            Column::Bias { dy, width, .. } => {
                dy.chunks_exact(*width).for_each(|row| add(&row[range.clone()], part));
            }
        }
    });
}

/// The gradient of a vector (the final norm's weight) from rows of its inputs and outputs.
pub(crate) fn norm_backward(
    at: usize,
    x: &[f32],
    rstd: &[f32],
    dy: &[f32],
    d: usize,
    grads: &mut [f32],
    accumulate: bool,
) {
    run(&[], &[Column::Norm { at, x, rstd, dy }], d, grads, accumulate);
}

/// The gradient of a weight [rows, cols] from `k` rows of its outputs' gradients and of its inputs.
pub(crate) fn weight_backward(
    at: usize,
    (rows, cols, k): (usize, usize, usize),
    dy: &[f32],
    x: &[f32],
    grads: &mut [f32],
    accumulate: bool,
) {
    run(&[Outer { at, rows, cols, k, left: dy, right: x }], &[], cols, grads, accumulate);
}
