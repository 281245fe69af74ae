//! The backward pass, layer by layer from the top. Shapes are those of `forward.rs`.
//!
//! Every weight's gradient is one product over all tokens, so it is one chain of additions in token order: passing
//! a batch in two halves accumulates to the same sum as passing it whole, up to the router's own losses.

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::forward::{Acts, BLOCK, LayerActs, gather, scratch, wide};
use crate::gemm::{Left, Right, gemm, packed_len};
use crate::layout::{Ffn, Layer, Swiglu};
use crate::ling::Ling;
use crate::ops::attention::{self, Grads, Heads};
use crate::ops::router::Extra;
use crate::ops::{rmsnorm, router, swiglu};
use crate::simd::add;
use crate::team::{Parts, share, share_blocks};
use crate::weights::{self, Column, Outer};

/// Factors of the router's own losses for this batch (its share of the global batch already in them).
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterLoss {
    /// Of the balance loss, experts * Σ load share * mean probability, averaged over the layers.
    pub balance: f32,
    /// Of the z-loss, mean of logsumexp², averaged over the layers.
    pub z: f32,
}

/// Values of the router's losses, means over the mixture layers, and every layer's load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterStats {
    pub balance: f64,
    pub z: f64,
    /// Tokens of every expert, by layer.
    pub load: Vec<Vec<usize>>,
}

impl RouterStats {
    /// Reads them off a forward pass.
    pub fn of(model: &Ling, acts: &Acts) -> RouterStats {
        let c = model.config();
        let mut stats = RouterStats::default();
        let t = acts.positions.len();
        for layer in acts.layers.iter().take(c.num_hidden_layers).skip(c.first_k_dense_replace) {
            let load: Vec<usize> = layer.routing.starts.windows(2).map(|w| w[1] - w[0]).collect();
            let mean = mean_probs(layer, c.num_experts);
            let share = |n: usize| n as f64 / (t * c.num_experts_per_tok) as f64;
            let dot: f64 = load.iter().zip(&mean).map(|(n, p)| share(*n) * p).sum();
            stats.balance += c.num_experts as f64 * dot;
            stats.z += layer.router_log_sum_t.iter().map(|l| (*l as f64).powi(2)).sum::<f64>() / t as f64;
            stats.load.push(load);
        }
        let layers = stats.load.len().max(1) as f64;
        stats.balance /= layers;
        stats.z /= layers;
        stats
    }
}

fn mean_probs(layer: &LayerActs, e: usize) -> Vec<f64> {
    let mut sums = vec![0f64; e];
    for row in layer.probs_te.chunks_exact(e) {
        for (s, p) in sums.iter_mut().zip(row) {
            *s += *p as f64;
        }
    }
    let t = (layer.probs_te.len() / e) as f64;
    sums.iter().map(|s| s / t).collect()
}

/// Buffers of the backward pass. `dx_td` enters as the gradient of [`Acts::out_td`].
#[derive(Default)]
pub struct Work {
    pub dx_td: Buffer,
    next_td: Buffer,
    dx1_td: Buffer,
    normed1_td: Buffer,
    normed2_td: Buffer,
    dnormed1_td: Buffer,
    dnormed2_td: Buffer,
    dout_tw: Buffer,
    dqkv_tq: Buffer,
    dlogits_te: Buffer,
    act_ti: Buffer,
    dweights_tk: Buffer,
    pub(crate) head: HeadWork,
    x_sd: Buffer,
    dy_sd: Buffer,
    dx_sd: Buffer,
    act_si: Buffer,
}

/// Buffers of the head's backward pass: n places, v vocabulary.
#[derive(Default)]
pub(crate) struct HeadWork {
    pub x_nd: Buffer,
    pub out_nd: Buffer,
    pub dnormed_nd: Buffer,
    pub rstd_n: Buffer,
    pub dlogits_nv: Buffer,
}

/// Gradients of every parameter into `grads` (added to what is there when `accumulate`).
pub fn backward(
    model: &Ling,
    batch: &Batch,
    acts: &mut Acts,
    work: &mut Work,
    losses: RouterLoss,
    grads: &mut [f32],
    accumulate: bool,
) {
    let c = model.config();
    let (t, d) = (batch.len(), c.hidden_size);
    let (q, w, e, k) = (c.qkv_width(), c.heads_width(), c.num_experts, c.num_experts_per_tok);
    assert_eq!(work.dx_td.len(), t * d);
    for buffer in [
        &mut work.next_td,
        &mut work.dx1_td,
        &mut work.normed1_td,
        &mut work.normed2_td,
        &mut work.dnormed1_td,
        &mut work.dnormed2_td,
    ] {
        buffer.resize(t * d);
    }
    work.dout_tw.resize(t * w);
    work.dqkv_tq.resize(t * q);
    work.dlogits_te.resize(t * e);
    work.dweights_tk.resize(t * k);
    let params = model.params();

    for (l, layer) in model.layout().layers.iter().enumerate().rev() {
        let here = &mut acts.layers[l];
        // The norms' outputs again; what the forward pass kept is their inputs.
        {
            let (n1, n2) = (Parts::new(&mut work.normed1_td), Parts::new(&mut work.normed2_td));
            let here = &*here;
            share_blocks(t, BLOCK, |r| {
                // SAFETY: every block has its own rows.
                let (n1, n2) = unsafe { (n1.part(wide(&r, d)), n2.part(wide(&r, d))) };
                for (i, t) in r.enumerate() {
                    let (row, out) = (t * d..(t + 1) * d, i * d..(i + 1) * d);
                    let weight = |at: usize| &params[at..at + d];
                    rmsnorm::scale(
                        &here.x_td[row.clone()],
                        weight(layer.input_norm),
                        here.rstd1_t[t],
                        &mut n1[out.clone()],
                    );
                    rmsnorm::scale(&here.x1_td[row], weight(layer.post_norm), here.rstd2_t[t], &mut n2[out]);
                }
            });
        }
        if let Ffn::Moe { experts, .. } = &layer.ffn {
            experts_backward(model, experts, here, work);
        }
        tokens_backward(model, l, layer, here, work, losses);
        attention_backward(model, here, acts.docs.as_slice(), work);
        // Rotation, projection and the input norm: the gradient of the layer's input.
        {
            let rope = &acts.rope;
            let (dqkv, dn) = (Parts::new(&mut work.dqkv_tq), Parts::new(&mut work.dnormed1_td));
            let dx = Parts::new(&mut work.next_td);
            let (here, dx1, positions) = (&*here, &*work.dx1_td, &acts.positions);
            let rotated = q - c.num_key_value_heads * c.head_dim();
            share_blocks(t, BLOCK, |r| {
                // SAFETY: every block has its own rows.
                let (dqkv, dn, dx) =
                    unsafe { (dqkv.part(wide(&r, q)), dn.part(wide(&r, d)), dx.part(wide(&r, d))) };
                for (row, position) in dqkv.chunks_exact_mut(q).zip(&positions[r.clone()]) {
                    rope.backward(*position, &mut row[..rotated]);
                }
                let b = Right::Rows(&params[layer.qkv..layer.qkv + q * d], d);
                gemm(r.len(), d, q, Left::rows(dqkv, q), b, dn, d, false);
                dx.copy_from_slice(&dx1[wide(&r, d)]);
                for (i, t) in r.enumerate() {
                    let (row, out) = (t * d..(t + 1) * d, i * d..(i + 1) * d);
                    let weight = &params[layer.input_norm..layer.input_norm + d];
                    rmsnorm::backward(
                        &here.x_td[row],
                        weight,
                        here.rstd1_t[t],
                        &dn[out.clone()],
                        &mut dx[out],
                    );
                }
            });
        }
        weights_backward(model, layer, here, work, grads, accumulate);
        std::mem::swap(&mut work.dx_td, &mut work.next_td);
    }
    embedding_backward(model, batch, &work.dx_td, grads, accumulate);
}

/// Experts: dx of every slot, the gradient of every slot's weight, and the operands of the weights' gradients.
fn experts_backward(model: &Ling, experts: &[Swiglu], here: &mut LayerActs, work: &mut Work) {
    let c = model.config();
    let (d, i) = (c.hidden_size, c.moe_intermediate_size);
    let s = here.routing.token.len();
    for (buffer, width) in
        [(&mut work.x_sd, d), (&mut work.dy_sd, d), (&mut work.dx_sd, d), (&mut work.act_si, i)]
    {
        buffer.resize(s * width);
    }
    let params = model.params();
    let (x, dy) = (Parts::new(&mut work.x_sd), Parts::new(&mut work.dy_sd));
    let (dx, act) = (Parts::new(&mut work.dx_sd), Parts::new(&mut work.act_si));
    let (gate_up, dweights) = (Parts::new(&mut here.gate_up_si), Parts::new(&mut work.dweights_tk));
    let (routing, weights) = (&here.routing, &*here.weights_tk);
    let (hidden, dout) = (&*work.normed2_td, &*work.dx_td);
    share(routing.blocks.len(), |b| {
        let (expert, slots) = &routing.blocks[b];
        let (mlp, m) = (&experts[*expert], slots.len());
        // SAFETY: every block has its own slots, and a slot its own choice.
        unsafe {
            let (x, dy) = (x.part(wide(slots, d)), dy.part(wide(slots, d)));
            let (dx, act) = (dx.part(wide(slots, d)), act.part(wide(slots, i)));
            let gate_up = gate_up.part(wide(slots, 2 * i));
            gather(hidden, d, &routing.token[slots.clone()], x);
            gather(dout, d, &routing.token[slots.clone()], dy);
            scratch(m * i, |dact| {
                let down = Right::Rows(&params[mlp.down..mlp.down + d * i], i);
                gemm(m, i, d, Left::rows(dy, d), down, dact, i, false);
                for n in 0..m {
                    let choice = routing.choice[slots.start + n] as usize;
                    let (one, two) = (n * i..(n + 1) * i, n * 2 * i..(n + 1) * 2 * i);
                    // Σ dy·y equals Σ dact·act, so the experts' outputs need not be kept.
                    dweights.part(choice..choice + 1)[0] = swiglu::backward(
                        weights[choice],
                        &dact[one.clone()],
                        &mut gate_up[two],
                        &mut act[one],
                    );
                }
            });
            let up = Right::Rows(&params[mlp.gate_up..mlp.gate_up + 2 * i * d], d);
            gemm(m, d, 2 * i, Left::rows(gate_up, 2 * i), up, dx, d, false);
        }
    });
}

/// What every token does alone between attention and experts: router, shared or dense MLP, norm, projection.
fn tokens_backward(
    model: &Ling,
    l: usize,
    layer: &Layer,
    here: &mut LayerActs,
    work: &mut Work,
    losses: RouterLoss,
) {
    let c = model.config();
    let t = here.rstd2_t.len();
    let (d, w, e, k) = (c.hidden_size, c.heads_width(), c.num_experts, c.num_experts_per_tok);
    let always = match &layer.ffn {
        Ffn::Dense(s) => Some(s),
        Ffn::Moe { shared, .. } => shared.as_ref(),
    };
    let inner = always.map_or(0, |s| s.inner);
    work.act_ti.resize(t * inner);
    let router = match &layer.ffn {
        Ffn::Moe { router, .. } => Some(*router),
        Ffn::Dense(_) => None,
    };
    let moe_layers = (c.num_hidden_layers - c.first_k_dense_replace).max(1) as f32;
    debug_assert!(c.is_moe(l) == router.is_some());
    let dprobs: Vec<f32> = if router.is_some() && losses.balance != 0.0 {
        let share = |e: usize| (here.routing.starts[e + 1] - here.routing.starts[e]) as f32 / (t * k) as f32;
        (0..e).map(|n| losses.balance * e as f32 * share(n) / (t as f32 * moe_layers)).collect()
    } else {
        vec![0.0; e]
    };
    let z = losses.z / (t as f32 * moe_layers);
    let params = model.params();
    let (dn, dx1) = (Parts::new(&mut work.dnormed2_td), Parts::new(&mut work.dx1_td));
    let (dlogits, dout) = (Parts::new(&mut work.dlogits_te), Parts::new(&mut work.dout_tw));
    let (act, gate_up) = (Parts::new(&mut work.act_ti), Parts::new(&mut here.shared_ti));
    let (dx, dweights, dx_sd) = (&*work.dx_td, &*work.dweights_tk, &*work.dx_sd);
    let (probs, chosen, weights) = (&*here.probs_te, &*here.chosen_tk, &*here.weights_tk);
    let (routing, log_sum, x1, rstd2) =
        (&here.routing, &*here.router_log_sum_t, &*here.x1_td, &*here.rstd2_t);
    share_blocks(t, BLOCK, |r| {
        let m = r.len();
        // SAFETY: every block has its own rows.
        let (dn, dx1, dout) =
            unsafe { (dn.part(wide(&r, d)), dx1.part(wide(&r, d)), dout.part(wide(&r, w))) };
        match router {
            None => dn.fill(0.0),
            Some(at) => {
                // SAFETY: as above.
                let dlogits = unsafe { dlogits.part(wide(&r, e)) };
                for (i, t) in r.clone().enumerate() {
                    let (te, tk) = (t * e..(t + 1) * e, t * k..(t + 1) * k);
                    router::backward(
                        &probs[te],
                        c.norm_topk_prob,
                        &chosen[tk.clone()],
                        &weights[tk.clone()],
                        &dweights[tk],
                        Some(Extra { balance: &dprobs, z, log_sum: log_sum[t] }),
                        &mut dlogits[i * e..(i + 1) * e],
                    );
                }
                let b = Right::Rows(&params[at..at + e * d], d);
                gemm(m, d, e, Left::rows(dlogits, e), b, dn, d, false);
                for (row, t) in dn.chunks_exact_mut(d).zip(r.clone()) {
                    for slot in &routing.slot[t * k..(t + 1) * k] {
                        add(&dx_sd[*slot as usize * d..][..d], row);
                    }
                }
            }
        }
        if let Some(mlp) = always {
            // SAFETY: as above.
            let (act, gate_up) = unsafe { (act.part(wide(&r, inner)), gate_up.part(wide(&r, 2 * inner))) };
            scratch(m * inner, |dact| {
                let down = Right::Rows(&params[mlp.down..mlp.down + d * inner], inner);
                gemm(m, inner, d, Left::rows(&dx[wide(&r, d)], d), down, dact, inner, false);
                for n in 0..m {
                    let (one, two) = (n * inner..(n + 1) * inner, n * 2 * inner..(n + 1) * 2 * inner);
                    swiglu::backward(1.0, &dact[one.clone()], &mut gate_up[two], &mut act[one]);
                }
            });
            let up = Right::Rows(&params[mlp.gate_up..mlp.gate_up + 2 * inner * d], d);
            gemm(m, d, 2 * inner, Left::rows(gate_up, 2 * inner), up, dn, d, true);
        }
        dx1.copy_from_slice(&dx[wide(&r, d)]);
        for (i, t) in r.clone().enumerate() {
            let (row, out) = (t * d..(t + 1) * d, i * d..(i + 1) * d);
            let weight = &params[layer.post_norm..layer.post_norm + d];
            rmsnorm::backward(&x1[row], weight, rstd2[t], &dn[out.clone()], &mut dx1[out]);
        }
        let b = Right::Rows(&params[layer.dense..layer.dense + d * w], w);
        gemm(m, w, d, Left::rows(dx1, d), b, dout, w, false);
    });
}

fn attention_backward(model: &Ling, here: &LayerActs, docs: &[crate::forward::Doc], work: &mut Work) {
    let c = model.config();
    let (q, w, hd, kv) = (c.qkv_width(), c.heads_width(), c.head_dim(), c.num_key_value_heads);
    let group = c.num_attention_heads / kv;
    let (k_at, v_at) = (w, w + kv * hd);
    let (qkv, out, dout, log_sum) = (&*here.qkv_tq, &*here.out_tw, &*work.dout_tw, &*here.log_sum);
    let dqkv = Parts::new(&mut work.dqkv_tq);
    share(docs.len() * kv, |task| {
        let (doc, g) = (&docs[task / kv], task % kv);
        let (row, n) = (doc.start * q, doc.len);
        let k = &qkv[row + k_at + g * hd..];
        scratch(packed_len(hd, n), |keys| {
            attention::pack_keys(k, q, n, hd, keys);
            let heads = Heads {
                q: &qkv[row + g * group * hd..],
                q_row: q,
                keys,
                v: &qkv[row + v_at + g * hd..],
                v_row: q,
                head_dim: hd,
                group,
                queries: n,
                total: n,
            };
            let at = doc.start * w + g * group * hd;
            let first = doc.start * c.num_attention_heads + g * group * n;
            // SAFETY: this task alone writes these columns of the document's rows.
            unsafe {
                let grads = Grads {
                    dq: dqkv.at(row + g * group * hd),
                    dk: dqkv.at(row + k_at + g * hd),
                    dv: dqkv.at(row + v_at + g * hd),
                    d_row: q,
                };
                let log_sum = &log_sum[first..first + group * n];
                attention::backward(&heads, k, q, &out[at..], &dout[at..], w, log_sum, &grads);
            }
        });
    });
}

/// All gradients of a layer's weights, as one list of tasks.
fn weights_backward(
    model: &Ling,
    layer: &Layer,
    here: &LayerActs,
    work: &Work,
    grads: &mut [f32],
    accumulate: bool,
) {
    let c = model.config();
    let t = here.rstd1_t.len();
    let (d, q, w, e) = (c.hidden_size, c.qkv_width(), c.heads_width(), c.num_experts);
    let mut outers = Vec::new();
    let mut columns = Vec::new();
    let outer = |at, rows, cols, left, right| Outer { at, rows, cols, k: t, left, right };
    outers.push(outer(layer.qkv, q, d, &work.dqkv_tq[..], &work.normed1_td[..]));
    outers.push(outer(layer.dense, d, w, &work.dx1_td[..], &here.out_tw[..]));
    let always = match &layer.ffn {
        Ffn::Dense(s) => Some(s),
        Ffn::Moe { shared, .. } => shared.as_ref(),
    };
    if let Some(mlp) = always {
        outers.push(outer(mlp.gate_up, 2 * mlp.inner, d, &here.shared_ti[..], &work.normed2_td[..]));
        outers.push(outer(mlp.down, d, mlp.inner, &work.dx_td[..], &work.act_ti[..]));
    }
    if let Ffn::Moe { router, experts, .. } = &layer.ffn {
        outers.push(outer(*router, e, d, &work.dlogits_te[..], &work.normed2_td[..]));
        let i = c.moe_intermediate_size;
        for (n, mlp) in experts.iter().enumerate() {
            let slots = here.routing.starts[n]..here.routing.starts[n + 1];
            let k = slots.len();
            let (one, two) = (wide(&slots, i), wide(&slots, 2 * i));
            let (x, dy) = (&work.x_sd[wide(&slots, d)], &work.dy_sd[wide(&slots, d)]);
            outers.push(Outer {
                at: mlp.gate_up,
                rows: 2 * i,
                cols: d,
                k,
                left: &here.gate_up_si[two],
                right: x,
            });
            outers.push(Outer { at: mlp.down, rows: d, cols: i, k, left: dy, right: &work.act_si[one] });
        }
    }
    columns.push(Column::Norm {
        at: layer.input_norm,
        x: &here.x_td,
        rstd: &here.rstd1_t,
        dy: &work.dnormed1_td,
    });
    columns.push(Column::Norm {
        at: layer.post_norm,
        x: &here.x1_td,
        rstd: &here.rstd2_t,
        dy: &work.dnormed2_td,
    });
    if let Some(at) = layer.qkv_bias {
        columns.push(Column::Bias { at, dy: &work.dqkv_tq, width: q });
    }
    if let Some(at) = layer.dense_bias {
        columns.push(Column::Bias { at, dy: &work.dx1_td, width: d });
    }
    weights::run(&outers, &columns, d, grads, accumulate);
}

/// Tasks of the embedding's gradient; each looks through all tokens for its own.
const EMBEDDING_TASKS: usize = 8;

/// Adds every token's gradient to its row, in token order. The padding token's row has no gradient, as in the
/// original.
fn embedding_backward(model: &Ling, batch: &Batch, dx: &[f32], grads: &mut [f32], accumulate: bool) {
    let c = model.config();
    let (d, at) = (c.hidden_size, model.layout().embedding);
    // A tied head has written its gradient there already.
    let fresh = !accumulate && !c.tie_word_embeddings;
    let grads = Parts::new(&mut grads[at..at + c.vocab_size * d]);
    let width = c.vocab_size.div_ceil(EMBEDDING_TASKS);
    share_blocks(c.vocab_size, width, |ids| {
        // SAFETY: every task owns the rows of its ids.
        let part = unsafe { grads.part(wide(&ids, d)) };
        if fresh {
            part.fill(0.0);
        }
        for (t, id) in batch.tokens.iter().enumerate() {
            if ids.contains(&(*id as usize)) && c.pad_token_id != Some(*id) {
                add(&dx[t * d..(t + 1) * d], &mut part[(*id as usize - ids.start) * d..][..d]);
            }
        }
    });
}
