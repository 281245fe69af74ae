//! f32 matrix products.
//!
//! Invariant: every element of C is one chain of fused multiply-adds in the order of k, started from 0 or from
//! the C that is there. So an element's bits do not depend on the shape of the product it is part of, on tiles,
//! on threads, nor on the processor: a row computed alone equals the row computed in a batch, and accumulating
//! over two calls equals one call over the joined k. Libraries do not promise this, which is why the kernel is ours.

use crate::simd::{Isa, isa};

/// Columns of a packed panel: four AVX-512 vectors.
pub const PANEL: usize = 64;
/// Depth of one pass: a panel of this depth stays in the second-level cache beside A's rows.
const DEPTH: usize = 256;

/// The left operand, [m, k]: element (i, k) is `data[i * row + k * col]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

impl<'a> Left<'a> {
    /// Rows of length `stride` in memory, used as they are.
    pub fn rows(data: &'a [f32], stride: usize) -> Left<'a> {
        Left { data, row: stride, col: 1 }
    }

    /// The transpose of rows of length `stride`.
    pub fn transposed(data: &'a [f32], stride: usize) -> Left<'a> {
        Left { data, row: 1, col: stride }
    }
}

/// The right operand, [k, n].
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// Row-major with this many elements between rows.
    Rows(&'a [f32], usize),
    /// Panels of [`PANEL`] columns made by [`pack`] or [`pack_block`].
    Packed(&'a [f32]),
}

/// Floats that a packed [k, n] matrix takes.
pub fn packed_len(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(PANEL)
}

/// Packs the transpose of `w` ([n, k] rows, `stride` apart) as the right operand [k, n].
pub fn pack(w: &[f32], stride: usize, n: usize, k: usize, packed: &mut [f32]) {
    assert!(packed.len() >= packed_len(k, n));
    for (p, panel) in packed.chunks_mut(k * PANEL).take(n.div_ceil(PANEL)).enumerate() {
        pack_block(w, stride, n, k, p, panel);
    }
}

/// Packs panel `p` (columns from p * PANEL) of [`pack`].
pub fn pack_block(w: &[f32], stride: usize, n: usize, k: usize, p: usize, panel: &mut [f32]) {
    let first = p * PANEL;
    let width = PANEL.min(n - first);
    assert!(panel.len() >= k * PANEL && (first + width - 1) * stride + k <= w.len());
    if width < PANEL {
        panel[..k * PANEL].fill(0.0);
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        let mut j = 0;
        while j + 16 <= width {
            let mut i = 0;
            while i + 16 <= k {
                // SAFETY: 16 rows from first + j and 16 columns from i lie in w; 16 panel rows from i lie in panel.
                unsafe {
                    transpose16(
                        w.as_ptr().add((first + j) * stride + i),
                        stride,
                        panel.as_mut_ptr().add(i * PANEL + j),
                    );
                }
                i += 16;
            }
            for c in j..j + 16 {
                for d in i..k {
                    panel[d * PANEL + c] = w[(first + c) * stride + d];
                }
            }
            j += 16;
        }
        for c in j..width {
            for d in 0..k {
                panel[d * PANEL + c] = w[(first + c) * stride + d];
            }
        }
        return;
    }
    for c in 0..width {
        let row = &w[(first + c) * stride..][..k];
        for (d, &x) in row.iter().enumerate() {
            panel[d * PANEL + c] = x;
        }
    }
}

/// dst[i][j] = src[j][i] for a 16 x 16 block; dst rows are PANEL apart.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn transpose16(src: *const f32, stride: usize, dst: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise about the 16 rows on both sides.
    unsafe {
        let mut r = [_mm512_setzero_ps(); 16];
        for (i, r) in r.iter_mut().enumerate() {
            *r = _mm512_loadu_ps(src.add(i * stride));
        }
        let mut t = [_mm512_setzero_ps(); 16];
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            let (a, b) = (_mm512_castps_pd(t[4 * i]), _mm512_castps_pd(t[4 * i + 1]));
            let (c, d) = (_mm512_castps_pd(t[4 * i + 2]), _mm512_castps_pd(t[4 * i + 3]));
            r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
            r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
            r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
            r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
        }
        for i in 0..4 {
            t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
            t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
            t[i + 8] = _mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
            t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
        }
        for i in 0..4 {
            _mm512_storeu_ps(dst.add(i * PANEL), _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]));
            _mm512_storeu_ps(dst.add((i + 4) * PANEL), _mm512_shuffle_f32x4::<0x88>(t[i + 4], t[i + 12]));
            _mm512_storeu_ps(dst.add((i + 8) * PANEL), _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]));
            _mm512_storeu_ps(dst.add((i + 12) * PANEL), _mm512_shuffle_f32x4::<0xdd>(t[i + 4], t[i + 12]));
        }
    }
}

/// C [m, n] (rows `stride` apart) = A B, or C += A B when `accumulate`.
pub fn gemm(
    m: usize,
    n: usize,
    k: usize,
    a: Left<'_>,
    b: Right<'_>,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= c.len());
    // SAFETY: C's m rows lie in `c`, which nobody else can touch.
    unsafe { gemm_into(m, n, k, a, b, c.as_mut_ptr(), stride, accumulate) }
}

/// [`gemm`] into a block of a larger matrix that other threads write elsewhere.
///
/// # Safety
/// C's m rows of n floats, `stride` apart, are writable and nobody else touches them.
#[allow(clippy::too_many_arguments)]
pub unsafe fn gemm_into(
    m: usize,
    n: usize,
    k: usize,
    a: Left<'_>,
    b: Right<'_>,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            for i in 0..m {
                // SAFETY: the caller's promise.
                unsafe { std::slice::from_raw_parts_mut(c.add(i * stride), n) }.fill(0.0);
            }
        }
        return;
    }
    assert!((m - 1) * a.row + (k - 1) * a.col < a.data.len(), "left operand too short");
    match b {
        Right::Rows(data, row) => assert!((k - 1) * row + n <= data.len(), "right operand too short"),
        Right::Packed(data) => assert!(packed_len(k, n) <= data.len(), "packed operand too short"),
    }
    let tile = tile_for(isa());
    let mut depth = 0;
    while depth < k {
        let d = DEPTH.min(k - depth);
        let mut col = 0;
        while col < n {
            let width = PANEL.min(n - col);
            let (b, b_row) = match b {
                Right::Rows(data, row) => (&data[depth * row + col..], row),
                Right::Packed(data) => (&data[col * k + depth * PANEL..], PANEL),
            };
            let job = Job {
                a: a.data[depth * a.col..].as_ptr(),
                a_row: a.row,
                a_col: a.col,
                b: b.as_ptr(),
                b_row,
                // SAFETY: column `col` of C's first row, in bounds by the caller's promise.
                c: unsafe { c.add(col) },
                c_row: stride,
                k: d,
                keep: accumulate || depth > 0,
            };
            // SAFETY: the asserts above cover A and B, the caller's promise covers C; the instruction set is there.
            unsafe { tile(&job, m, width) };
            col += width;
        }
        depth += d;
    }
}

/// One panel of C: `width` <= PANEL columns, `k` <= DEPTH deep.
struct Job {
    a: *const f32,
    a_row: usize,
    a_col: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
    k: usize,
    /// Chains continue from the C that is there.
    keep: bool,
}

type Tile = unsafe fn(&Job, m: usize, width: usize);

fn tile_for(isa: Isa) -> Tile {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::panel,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::panel,
        _ => baseline_panel,
    }
}

/// The definition: one chain an element.
unsafe fn baseline_panel(job: &Job, m: usize, width: usize) {
    for i in 0..m {
        // SAFETY: the job's operands cover m x width x k.
        unsafe {
            let c = std::slice::from_raw_parts_mut(job.c.add(i * job.c_row), width);
            if !job.keep {
                c.fill(0.0);
            }
            for d in 0..job.k {
                let a = *job.a.add(i * job.a_row + d * job.a_col);
                let b = std::slice::from_raw_parts(job.b.add(d * job.b_row), width);
                for (c, b) in c.iter_mut().zip(b) {
                    *c = a.mul_add(*b, *c);
                }
            }
        }
    }
}

/// Walks the rows of a panel in tiles of at most `$most` rows, the last two evened out.
#[cfg(target_arch = "x86_64")]
macro_rules! rows {
    ($job:expr, $m:expr, $most:literal, $vectors:literal, $mask:expr, [$($r:literal)*]) => {{
        let (mut i, m) = (0, $m);
        while i < m {
            let left = m - i;
            let rows = if left >= 2 * $most || left <= $most { left.min($most) } else { left.div_ceil(2) };
            match rows {
                $($r => kernel::<$r, $vectors>($job, i, $mask),)*
                _ => unreachable!(),
            }
            i += rows;
        }
    }};
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Job;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn panel(job: &Job, m: usize, width: usize) {
        let rest = width % 16;
        let mask: __mmask16 = if rest == 0 { 0xffff } else { (1 << rest) - 1 };
        // SAFETY: the caller's promise; the mask keeps the last vector within `width`.
        unsafe {
            match width.div_ceil(16) {
                4 => rows!(job, m, 6, 4, mask, [1 2 3 4 5 6]),
                3 => rows!(job, m, 8, 3, mask, [1 2 3 4 5 6 7 8]),
                2 => rows!(job, m, 8, 2, mask, [1 2 3 4 5 6 7 8]),
                _ => rows!(job, m, 8, 1, mask, [1 2 3 4 5 6 7 8]),
            }
        }
    }

    /// Rows i..i + M, N vectors wide, the last one masked.
    #[target_feature(enable = "avx512f")]
    unsafe fn kernel<const M: usize, const N: usize>(job: &Job, i: usize, mask: __mmask16) {
        // SAFETY: the job covers these rows and columns.
        unsafe {
            let c = job.c.add(i * job.c_row);
            let mut acc = [[_mm512_setzero_ps(); N]; M];
            if job.keep {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc.iter_mut().enumerate() {
                        let at = c.add(r * job.c_row + v * 16);
                        *acc = if v + 1 == N { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_loadu_ps(at) };
                    }
                }
            }
            let mut a = job.a.add(i * job.a_row);
            let mut b = job.b;
            for _ in 0..job.k {
                let mut row = [_mm512_setzero_ps(); N];
                for (v, row) in row.iter_mut().enumerate() {
                    let at = b.add(v * 16);
                    *row = if v + 1 == N { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_loadu_ps(at) };
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.add(r * job.a_row));
                    for (acc, row) in acc.iter_mut().zip(row) {
                        *acc = _mm512_fmadd_ps(x, row, *acc);
                    }
                }
                a = a.add(job.a_col);
                b = b.add(job.b_row);
            }
            for (r, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let at = c.add(r * job.c_row + v * 16);
                    if v + 1 == N {
                        _mm512_mask_storeu_ps(at, mask, *acc)
                    } else {
                        _mm512_storeu_ps(at, *acc)
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Job;
    use std::arch::x86_64::*;

    /// Sixteen columns at a time; a ragged rest goes the baseline's way.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn panel(job: &Job, m: usize, width: usize) {
        // SAFETY: the caller's promise; column blocks stay within `width`.
        unsafe {
            let mut col = 0;
            while col < width {
                let block = Job { b: job.b.add(col), c: job.c.add(col), ..*job };
                if width - col >= 16 {
                    rows!(&block, m, 6, 2, (), [1 2 3 4 5 6]);
                } else {
                    super::baseline_panel(&block, m, width - col);
                }
                col += 16;
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn kernel<const M: usize, const N: usize>(job: &Job, i: usize, _: ()) {
        // SAFETY: the job covers these rows and columns.
        unsafe {
            let c = job.c.add(i * job.c_row);
            let mut acc = [[_mm256_setzero_ps(); N]; M];
            if job.keep {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc.iter_mut().enumerate() {
                        *acc = _mm256_loadu_ps(c.add(r * job.c_row + v * 8));
                    }
                }
            }
            let mut a = job.a.add(i * job.a_row);
            let mut b = job.b;
            for _ in 0..job.k {
                let mut row = [_mm256_setzero_ps(); N];
                for (v, row) in row.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(b.add(v * 8));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.add(r * job.a_row));
                    for (acc, row) in acc.iter_mut().zip(row) {
                        *acc = _mm256_fmadd_ps(x, row, *acc);
                    }
                }
                a = a.add(job.a_col);
                b = b.add(job.b_row);
            }
            for (r, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    _mm256_storeu_ps(c.add(r * job.c_row + v * 8), *acc);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..n)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                x as f32 / u32::MAX as f32 - 0.5
            })
            .collect()
    }

    /// The invariant: every path gives the chain's bits, whatever the shape.
    #[test]
    fn every_element_is_one_chain() {
        for (m, n, k) in
            [(1, 1, 1), (3, 16, 5), (7, 17, 33), (13, 64, 300), (8, 100, 64), (6, 130, 257), (5, 48, 16)]
        {
            let (x, w, start) = (noise(m * k, 1), noise(n * k, 2), noise(m * n, 3));
            let mut wt = vec![0.0; k * n];
            for j in 0..n {
                for d in 0..k {
                    wt[d * n + j] = w[j * k + d];
                }
            }
            let mut xt = vec![0.0; k * m];
            for i in 0..m {
                for d in 0..k {
                    xt[d * m + i] = x[i * k + d];
                }
            }
            let mut packed = vec![0.0; packed_len(k, n)];
            pack(&w, k, n, k, &mut packed);
            for accumulate in [false, true] {
                let mut want = start.clone();
                for i in 0..m {
                    for j in 0..n {
                        let mut c = if accumulate { start[i * n + j] } else { 0.0 };
                        for d in 0..k {
                            c = x[i * k + d].mul_add(w[j * k + d], c);
                        }
                        want[i * n + j] = c;
                    }
                }
                for a in [Left::rows(&x, k), Left::transposed(&xt, m)] {
                    for b in [Right::Packed(&packed), Right::Rows(&wt, n)] {
                        let mut c = start.clone();
                        gemm(m, n, k, a, b, &mut c, n, accumulate);
                        assert!(c == want, "{m} {n} {k}");
                        #[cfg(target_arch = "x86_64")]
                        if is_x86_feature_detected!("avx2")
                            && is_x86_feature_detected!("fma")
                            && k <= DEPTH
                            && n <= PANEL
                        {
                            let mut c = start.clone();
                            let (b, b_row) = match b {
                                Right::Rows(b, row) => (b, row),
                                Right::Packed(b) => (b, PANEL),
                            };
                            let job = Job {
                                a: a.data.as_ptr(),
                                a_row: a.row,
                                a_col: a.col,
                                b: b.as_ptr(),
                                b_row,
                                c: c.as_mut_ptr(),
                                c_row: n,
                                k,
                                keep: accumulate,
                            };
                            // SAFETY: operands sized above.
                            unsafe { avx2::panel(&job, m, n) };
                            assert!(c == want, "avx2 {m} {n} {k}");
                        }
                    }
                }
            }
        }
    }
}
