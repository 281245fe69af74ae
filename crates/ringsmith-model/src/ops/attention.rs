//! Causal attention of one document's query rows on its keys and values, for one group of query heads that share
//! a key and value head. Scores are never normalised on the way, so a query's bits do not depend on how many
//! queries are asked at once: generation with a cache equals the full forward pass.

use crate::gemm::{Left, PANEL, Right, gemm, gemm_into, pack, packed_len};
use crate::ops::softmax;
use crate::simd::dot;
use std::cell::RefCell;

/// Query rows that share one block of scores.
const BLOCK: usize = 48;

/// Where the queries stand. Heads lie side by side in a row; `q`, `k`, `v` point into fused rows or a cache.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// First query row of the group's first head; rows are `q_row` apart, heads `head_dim` apart.
    pub q: &'a [f32],
    pub q_row: usize,
    /// Keys packed as [head_dim, keys] (see [`pack_keys`]).
    pub keys: &'a [f32],
    /// Value rows, `v_row` apart.
    pub v: &'a [f32],
    pub v_row: usize,
    pub head_dim: usize,
    /// Query heads in the group.
    pub group: usize,
    /// Query rows, the last of which stands at the last key.
    pub queries: usize,
    /// Keys, the queries' own among them.
    pub total: usize,
}

impl Heads<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Keys that query row i may see.
    fn seen(&self, i: usize) -> usize {
        self.total - self.queries + i + 1
    }
}

/// Packs `keys` rows ([n, head_dim], `stride` apart) for [`Heads::keys`].
pub fn pack_keys(keys: &[f32], stride: usize, n: usize, head_dim: usize, packed: &mut [f32]) {
    pack(keys, stride, n, head_dim, packed);
}

/// Appends one key to a packed cache that has room for it.
pub fn push_key(key: &[f32], position: usize, packed: &mut [f32]) {
    let at = position / PANEL * PANEL * key.len() + position % PANEL;
    for (d, x) in key.iter().enumerate() {
        packed[at + d * PANEL] = *x;
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0.0);
        }
        work(&mut buffer[..len])
    })
}

/// Outputs for every query row and head of the group. `log_sum` [queries, group] may be empty when no backward pass
/// follows.
///
/// # Safety
/// `out` is the first row's first head; rows are `out_row` apart; all of them are writable by this caller alone.
pub unsafe fn forward(h: &Heads<'_>, out: *mut f32, out_row: usize, log_sum: &mut [f32]) {
    scratch(BLOCK * h.total, |scores| {
        for first in (0..h.queries).step_by(BLOCK) {
            let rows = BLOCK.min(h.queries - first);
            let seen = h.seen(first + rows - 1);
            for head in 0..h.group {
                let q = &h.q[first * h.q_row + head * h.head_dim..];
                gemm(
                    rows,
                    seen,
                    h.head_dim,
                    Left::rows(q, h.q_row),
                    Right::Packed(h.keys),
                    scores,
                    seen,
                    false,
                );
                for (i, row) in scores[..rows * seen].chunks_exact_mut(seen).enumerate() {
                    let (row, unseen) = row.split_at_mut(h.seen(first + i));
                    let s = softmax::softmax(h.scale(), row);
                    unseen.fill(0.0);
                    if !log_sum.is_empty() {
                        log_sum[(first + i) * h.group + head] = s;
                    }
                }
                // SAFETY: the caller's promise about `out`.
                unsafe {
                    let out = out.add(first * out_row + head * h.head_dim);
                    gemm_into(
                        rows,
                        h.head_dim,
                        seen,
                        Left::rows(scores, seen),
                        Right::Rows(h.v, h.v_row),
                        out,
                        out_row,
                        false,
                    );
                }
            }
        }
    });
}

/// Gradients of the group's queries, keys and values, all `d_row` apart and overwritten.
pub struct Grads {
    pub dq: *mut f32,
    pub dk: *mut f32,
    pub dv: *mut f32,
    pub d_row: usize,
}

/// The backward pass of [`forward`] over a whole document (queries = total). `k` are the key rows, `k_row` apart;
/// `out` and `dout` are rows of the group's heads, `out_row` apart.
///
/// # Safety
/// The gradients' rows are writable by this caller alone.
#[allow(clippy::too_many_arguments)]
pub unsafe fn backward(
    h: &Heads<'_>,
    k: &[f32],
    k_row: usize,
    out: &[f32],
    dout: &[f32],
    out_row: usize,
    log_sum: &[f32],
    grads: &Grads,
) {
    assert_eq!(h.queries, h.total);
    let (n, hd) = (h.total, h.head_dim);
    let packed = packed_len(hd, n);
    scratch(packed + 2 * BLOCK * n, |buffer| {
        let (values, rest) = buffer.split_at_mut(packed);
        let (probs, dscores) = rest.split_at_mut(BLOCK * n);
        pack(h.v, h.v_row, n, hd, values);
        let mut begun = false;
        for first in (0..n).step_by(BLOCK) {
            let rows = BLOCK.min(n - first);
            let seen = h.seen(first + rows - 1);
            for head in 0..h.group {
                let q = &h.q[first * h.q_row + head * hd..];
                let at = first * out_row + head * hd;
                let (o, d_o) = (&out[at..], &dout[at..]);
                gemm(rows, seen, hd, Left::rows(q, h.q_row), Right::Packed(h.keys), probs, seen, false);
                gemm(rows, seen, hd, Left::rows(d_o, out_row), Right::Packed(values), dscores, seen, false);
                for i in 0..rows {
                    let sees = h.seen(first + i);
                    let (p, unseen_p) = probs[i * seen..(i + 1) * seen].split_at_mut(sees);
                    let (d, unseen_d) = dscores[i * seen..(i + 1) * seen].split_at_mut(sees);
                    softmax::again(h.scale(), log_sum[(first + i) * h.group + head], p);
                    let along = dot(&o[i * out_row..][..hd], &d_o[i * out_row..][..hd]);
                    softmax::backward(p, along, h.scale(), d);
                    unseen_p.fill(0.0);
                    unseen_d.fill(0.0);
                }
                // SAFETY: the caller's promise. Rows of dk and dv that this block is the first to reach start at
                // zero; the others continue.
                unsafe {
                    let dq = grads.dq.add(first * grads.d_row + head * hd);
                    gemm_into(
                        rows,
                        hd,
                        seen,
                        Left::rows(dscores, seen),
                        Right::Rows(k, k_row),
                        dq,
                        grads.d_row,
                        false,
                    );
                    if head == 0 {
                        for row in if begun { first..seen } else { 0..seen } {
                            std::slice::from_raw_parts_mut(grads.dk.add(row * grads.d_row), hd).fill(0.0);
                            std::slice::from_raw_parts_mut(grads.dv.add(row * grads.d_row), hd).fill(0.0);
                        }
                        begun = true;
                    }
                    let (ds, p) = (Left::transposed(dscores, seen), Left::transposed(probs, seen));
                    gemm_into(seen, hd, rows, ds, Right::Rows(q, h.q_row), grads.dk, grads.d_row, true);
                    gemm_into(seen, hd, rows, p, Right::Rows(d_o, out_row), grads.dv, grads.d_row, true);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{gradient, noise, weigh};

    const HD: usize = 6;
    const GROUP: usize = 2;
    const ROW: usize = (GROUP + 2) * HD;

    /// The last `queries` of a document's `n` rows.
    fn heads<'a>(qkv: &'a [f32], keys: &'a [f32], n: usize, queries: usize) -> Heads<'a> {
        Heads {
            q: &qkv[(n - queries) * ROW..],
            q_row: ROW,
            keys,
            v: &qkv[(GROUP + 1) * HD..],
            v_row: ROW,
            head_dim: HD,
            group: GROUP,
            queries,
            total: n,
        }
    }

    fn run(qkv: &[f32], n: usize, queries: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut keys = vec![0.0; packed_len(HD, n)];
        pack_keys(&qkv[GROUP * HD..], ROW, n, HD, &mut keys);
        let (mut out, mut log_sum) = (vec![0.0; queries * GROUP * HD], vec![0.0; queries * GROUP]);
        // SAFETY: `out` is this test's own.
        unsafe { forward(&heads(qkv, &keys, n, queries), out.as_mut_ptr(), GROUP * HD, &mut log_sum) };
        (out, log_sum, keys)
    }

    /// Gradients of a document whose outputs' gradients are `dout`.
    fn run_back(qkv: &[f32], n: usize, dout: &[f32]) -> Vec<f32> {
        let (out, log_sum, keys) = run(qkv, n, n);
        let mut d = vec![f32::NAN; n * ROW];
        let start = d.as_mut_ptr();
        // SAFETY: `d` is this test's own.
        unsafe {
            let (dk, dv) = (start.add(GROUP * HD), start.add((GROUP + 1) * HD));
            let grads = Grads { dq: start, dk, dv, d_row: ROW };
            let k = &qkv[GROUP * HD..];
            backward(&heads(qkv, &keys, n, n), k, ROW, &out, dout, GROUP * HD, &log_sum, &grads);
        }
        d
    }

    #[test]
    fn gradients() {
        for n in [1, 7] {
            let dout = noise(n * GROUP * HD, 5);
            let qkv: Vec<f32> = noise(n * ROW, 4).iter().map(|x| x * 3.0).collect();
            gradient(&qkv, &run_back(&qkv, n, &dout), |x| weigh(&run(x, n, n).0, &dout));
        }
    }

    /// Long enough for several blocks and panels.
    #[test]
    fn the_last_queries_alone_give_the_same_bits() {
        let n = 131;
        let qkv = noise(n * ROW, 9);
        let (all, _, _) = run(&qkv, n, n);
        for queries in [1, 5, 50] {
            let (some, _, _) = run(&qkv, n, queries);
            assert!(some == all[(n - queries) * GROUP * HD..]);
        }
    }

    /// Blocks after the first must continue, not restart, the keys' gradients.
    #[test]
    fn many_blocks_sum_up() {
        let n = 101;
        let (qkv, dout) = (noise(n * ROW, 4), noise(n * GROUP * HD, 5));
        let d = run_back(&qkv, n, &dout);
        for at in [
            0,
            GROUP * HD,
            GROUP * HD + 3,
            (GROUP + 1) * HD,
            50 * ROW + GROUP * HD,
            60 * ROW + (GROUP + 1) * HD + 1,
        ] {
            let diff = |h: f32| {
                let mut x = qkv.clone();
                x[at] += h;
                weigh(&run(&x, n, n).0, &dout)
            };
            let want = (diff(1e-2) - diff(-1e-2)) / 2e-2;
            assert!((want - d[at] as f64).abs() < 2e-3 * (1.0 + want.abs()), "{at}: {} {want}", d[at]);
        }
    }
}
