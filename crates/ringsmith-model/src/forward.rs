//! The forward pass. It reads like section 1 of the Ling report: x + attention(norm(x)), then x + experts(norm(x)).
//!
//! Shapes: t tokens of the batch, d hidden, q qkv_width, w heads_width, e experts, k chosen a token, s = t * k slots
//! (a slot is one token at one of its experts; slots are sorted by expert), i inner width of an MLP.

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::cache::Cache;
use crate::config::Config;
use crate::gemm::{Left, Right, gemm, packed_len};
use crate::layout::{Ffn, Swiglu};
use crate::ling::Ling;
use crate::ops::attention::{self, Heads};
use crate::ops::{rmsnorm, rope, router, swiglu};
use crate::simd::{add, axpy};
use crate::team::{Parts, share, share_blocks};
use std::cell::RefCell;
use std::ops::Range;

/// Tokens that a task takes at a time: eight tiles of the matrix kernel.
pub(crate) const BLOCK: usize = 48;
/// Slots of one expert that a task takes at a time.
const SLOTS: usize = 96;

/// One document of the batch: its tokens and the position of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doc {
    pub start: usize,
    pub len: usize,
    pub position: usize,
}

/// Which tokens go to which expert.
#[derive(Default)]
pub struct Routing {
    /// Slot to token.
    pub(crate) token: Vec<u32>,
    /// Slot to its index in the token's choice, as t * k + n.
    pub(crate) choice: Vec<u32>,
    /// t * k + n to slot.
    pub(crate) slot: Vec<u32>,
    /// First slot of every expert, and the end.
    pub starts: Vec<usize>,
    /// (expert, slots) tasks.
    pub(crate) blocks: Vec<(usize, Range<usize>)>,
}

impl Routing {
    /// Counting sort of the choices by expert; tokens stay in order.
    fn sort(&mut self, chosen: &[u32], k: usize, experts: usize) {
        self.starts.clear();
        self.starts.resize(experts + 1, 0);
        for e in chosen {
            self.starts[*e as usize + 1] += 1;
        }
        for e in 0..experts {
            self.starts[e + 1] += self.starts[e];
        }
        let mut next = self.starts.clone();
        for list in [&mut self.token, &mut self.choice, &mut self.slot] {
            list.clear();
            list.resize(chosen.len(), 0);
        }
        for (choice, e) in chosen.iter().enumerate() {
            let slot = next[*e as usize];
            next[*e as usize] += 1;
            self.token[slot] = (choice / k) as u32;
            self.choice[slot] = choice as u32;
            self.slot[choice] = slot as u32;
        }
        self.blocks.clear();
        for e in 0..experts {
            for start in (self.starts[e]..self.starts[e + 1]).step_by(SLOTS) {
                self.blocks.push((e, start..self.starts[e + 1].min(start + SLOTS)));
            }
        }
    }
}

/// What a layer's backward pass needs again.
#[derive(Default)]
pub struct LayerActs {
    /// [t, d] input
    pub x_td: Buffer,
    pub(crate) rstd1_t: Buffer,
    /// [t, q] after rotation
    pub(crate) qkv_tq: Buffer,
    /// [t, w] attention output before its projection
    pub(crate) out_tw: Buffer,
    /// log-sums of the scores, [t, heads] by document and group
    pub(crate) log_sum: Buffer,
    /// [t, d] after attention
    pub(crate) x1_td: Buffer,
    pub(crate) rstd2_t: Buffer,
    /// [t, e] router logits before the softmax, kept for inspection
    pub logits_te: Buffer,
    /// [t, e] router probabilities
    pub probs_te: Buffer,
    /// [t] logsumexp of the router's logits
    pub(crate) router_log_sum_t: Buffer,
    /// [t, k] chosen experts and their weights
    pub chosen_tk: Vec<u32>,
    pub(crate) weights_tk: Buffer,
    pub routing: Routing,
    /// [s, 2 i] experts' gate and up
    pub(crate) gate_up_si: Buffer,
    /// [t, 2 i] gate and up of the shared or dense MLP
    pub(crate) shared_ti: Buffer,
}

/// Buffers of a pass; kept from step to step.
pub struct Acts {
    pub(crate) docs: Vec<Doc>,
    pub(crate) positions: Vec<usize>,
    pub layers: Vec<LayerActs>,
    /// [t, d] output of the last layer, before the final norm
    pub out_td: Buffer,
    pub(crate) rope: rope::Table,
    hidden_td: Buffer,
    sum_td: Buffer,
    expert_sd: Buffer,
}

impl Acts {
    pub fn new(config: &Config) -> Acts {
        Acts {
            docs: Vec::new(),
            positions: Vec::new(),
            layers: Vec::new(),
            out_td: Buffer::default(),
            rope: rope::Table::new(config.head_dim(), config.rope_theta),
            hidden_td: Buffer::default(),
            sum_td: Buffer::default(),
            expert_sd: Buffer::default(),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Buffer> = RefCell::default();
}

/// This thread's scratch, for one use at a time.
pub(crate) fn scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.resize(len);
        work(buffer)
    })
}

/// `range` of rows as a range of floats, `width` to a row.
pub(crate) fn wide(range: &Range<usize>, width: usize) -> Range<usize> {
    range.start * width..range.end * width
}

/// Runs the batch; `acts.out_td` holds the last layer's output. With `caches`, one a document, the documents
/// continue what the caches hold and nothing is kept for a backward pass.
pub fn forward(model: &Ling, batch: &Batch, acts: &mut Acts, mut caches: Option<&mut [&mut Cache]>) {
    let c = model.config();
    let t = batch.len();
    acts.docs.clear();
    acts.positions.clear();
    for (n, range) in batch.ranges().enumerate() {
        let position = caches.as_ref().map_or(0, |c| c[n].len());
        acts.docs.push(Doc { start: range.start, len: range.len(), position });
        acts.positions.extend(position..position + range.len());
    }
    assert_eq!(acts.positions.len(), t, "documents add up to the batch");
    assert!(batch.tokens.iter().all(|id| (*id as usize) < c.vocab_size), "a token is outside the vocabulary");
    let (d, q, w, hd) = (c.hidden_size, c.qkv_width(), c.heads_width(), c.head_dim());
    acts.rope.reach(acts.positions.iter().max().map_or(0, |p| p + 1));
    let keep = caches.is_none();
    let place = |l: usize| if keep { l } else { l % 2 };
    acts.layers.resize_with(if keep { c.num_hidden_layers } else { 2 }, LayerActs::default);
    acts.hidden_td.resize(t * d);
    acts.sum_td.resize(t * d);
    acts.out_td.resize(t * d);
    let Acts { docs, positions, layers, out_td, rope, hidden_td, sum_td, expert_sd } = acts;
    let (docs, positions, rope) = (docs.as_slice(), positions.as_slice(), &*rope);
    let params = model.params();
    let packed = model.packed();
    let embedding = &params[model.layout().embedding..];

    for (l, layer) in model.layout().layers.iter().enumerate() {
        let (here, below) = if l == 0 {
            (&mut layers[0], None)
        } else {
            let [here, below] = layers.get_disjoint_mut([place(l), place(l - 1)]).expect("two layers");
            (here, Some(&*below))
        };
        here.size(c, t);

        // The layer below comes together; norm, projection and rotation.
        {
            let (x, rstd, qkv) =
                (Parts::new(&mut here.x_td), Parts::new(&mut here.rstd1_t), Parts::new(&mut here.qkv_tq));
            let (sum, experts) = (&**sum_td, &**expert_sd);
            let norm = &params[layer.input_norm..layer.input_norm + d];
            share_blocks(t, BLOCK, |r| {
                // SAFETY: every block has its own rows.
                let (x, rstd, qkv) =
                    unsafe { (x.part(wide(&r, d)), rstd.part(r.clone()), qkv.part(wide(&r, q))) };
                match below {
                    None => {
                        for (x, id) in x.chunks_exact_mut(d).zip(&batch.tokens[r.clone()]) {
                            x.copy_from_slice(&embedding[*id as usize * d..][..d]);
                        }
                    }
                    Some(below) => combine(&r, d, sum, below, experts, x),
                }
                scratch(r.len() * d, |normed| {
                    for (i, rstd) in rstd.iter_mut().enumerate() {
                        let row = i * d..(i + 1) * d;
                        *rstd = rmsnorm::forward(&x[row.clone()], norm, c.rms_norm_eps, &mut normed[row]);
                    }
                    gemm(
                        r.len(),
                        q,
                        d,
                        Left::rows(normed, d),
                        Right::Packed(packed.get(layer.qkv)),
                        qkv,
                        q,
                        false,
                    );
                });
                for (row, position) in qkv.chunks_exact_mut(q).zip(&positions[r]) {
                    if let Some(bias) = layer.qkv_bias {
                        add(&params[bias..bias + q], row);
                    }
                    rope.forward(*position, &mut row[..q - c.num_key_value_heads * hd]);
                }
            });
        }

        attend(c, l, docs, here, caches.as_deref_mut());

        // Attention's projection, norm, router, and the MLP that every token takes.
        {
            let moe = c.is_moe(l);
            let (e, k) = (c.num_experts, c.num_experts_per_tok);
            let always = match &layer.ffn {
                Ffn::Dense(s) => Some(s),
                Ffn::Moe { shared, .. } => shared.as_ref(),
            };
            let i2 = always.map_or(0, |s| 2 * s.inner);
            here.shared_ti.resize(t * i2);
            let (out, x_td) = (&*here.out_tw, &*here.x_td);
            let (x1, rstd) = (Parts::new(&mut here.x1_td), Parts::new(&mut here.rstd2_t));
            let (logits, probs) = (Parts::new(&mut here.logits_te), Parts::new(&mut here.probs_te));
            let (chosen, weights) = (Parts::new(&mut here.chosen_tk), Parts::new(&mut here.weights_tk));
            let (log_sum, shared) = (Parts::new(&mut here.router_log_sum_t), Parts::new(&mut here.shared_ti));
            let (hidden, sum) = (Parts::new(hidden_td), Parts::new(sum_td));
            let norm = &params[layer.post_norm..layer.post_norm + d];
            share_blocks(t, BLOCK, |r| {
                let m = r.len();
                // SAFETY: every block has its own rows.
                let (x1, rstd, hidden, sum) = unsafe {
                    (
                        x1.part(wide(&r, d)),
                        rstd.part(r.clone()),
                        hidden.part(wide(&r, d)),
                        sum.part(wide(&r, d)),
                    )
                };
                x1.copy_from_slice(&x_td[wide(&r, d)]);
                let (a, b) = (Left::rows(&out[wide(&r, w)], w), Right::Packed(packed.get(layer.dense)));
                gemm(m, d, w, a, b, x1, d, true);
                for (i, rstd) in rstd.iter_mut().enumerate() {
                    let row = i * d..(i + 1) * d;
                    if let Some(bias) = layer.dense_bias {
                        add(&params[bias..bias + d], &mut x1[row.clone()]);
                    }
                    *rstd = rmsnorm::forward(&x1[row.clone()], norm, c.rms_norm_eps, &mut hidden[row]);
                }
                if let (true, Ffn::Moe { router: at, .. }) = (moe, &layer.ffn) {
                    // SAFETY: as above.
                    let (logits, probs, chosen, weights, log_sum) = unsafe {
                        (
                            logits.part(wide(&r, e)),
                            probs.part(wide(&r, e)),
                            chosen.part(wide(&r, k)),
                            weights.part(wide(&r, k)),
                            log_sum.part(r.clone()),
                        )
                    };
                    gemm(m, e, d, Left::rows(hidden, d), Right::Packed(packed.get(*at)), logits, e, false);
                    probs.copy_from_slice(logits);
                    for i in 0..m {
                        log_sum[i] = router::forward(
                            &mut probs[i * e..(i + 1) * e],
                            c.norm_topk_prob,
                            &mut chosen[i * k..(i + 1) * k],
                            &mut weights[i * k..(i + 1) * k],
                        );
                    }
                }
                sum.copy_from_slice(x1);
                if let Some(mlp) = always {
                    // SAFETY: as above.
                    let gate_up = unsafe { shared.part(wide(&r, i2)) };
                    swiglu_rows(model, mlp, m, hidden, gate_up, sum, true);
                }
            });
        }

        // The experts, each on its own tokens.
        if let Ffn::Moe { experts, .. } = &layer.ffn {
            let k = c.num_experts_per_tok;
            here.routing.sort(&here.chosen_tk, k, c.num_experts);
            let i2 = 2 * c.moe_intermediate_size;
            here.gate_up_si.resize(t * k * i2);
            expert_sd.resize(t * k * d);
            let (gate_up, y) = (Parts::new(&mut here.gate_up_si), Parts::new(expert_sd));
            let (routing, hidden) = (&here.routing, &**hidden_td);
            share(routing.blocks.len(), |b| {
                let (expert, slots) = &routing.blocks[b];
                let m = slots.len();
                // SAFETY: every block has its own slots.
                let (gate_up, y) = unsafe { (gate_up.part(wide(slots, i2)), y.part(wide(slots, d))) };
                // The inputs are gathered where the outputs will be.
                gather(hidden, d, &routing.token[slots.clone()], y);
                scratch(m * d, |x| {
                    x.copy_from_slice(y);
                    crate::gemm::gemm(
                        m,
                        i2,
                        d,
                        Left::rows(x, d),
                        Right::Packed(packed.get(experts[*expert].gate_up)),
                        gate_up,
                        i2,
                        false,
                    );
                });
                down_rows(model, &experts[*expert], m, gate_up, y, false);
            });
        }
    }
    let last = &layers[place(c.num_hidden_layers - 1)];
    let (sum, experts, out) = (&**sum_td, &**expert_sd, Parts::new(out_td));
    share_blocks(t, BLOCK, |r| {
        // SAFETY: every block has its own rows.
        combine(&r, d, sum, last, experts, unsafe { out.part(wide(&r, d)) });
    });
    if let Some(caches) = caches {
        for (cache, doc) in caches.iter_mut().zip(docs) {
            cache.advance(doc.len);
        }
    }
}

impl LayerActs {
    fn size(&mut self, c: &Config, t: usize) {
        let (d, e, k) = (c.hidden_size, c.num_experts, c.num_experts_per_tok);
        self.x_td.resize(t * d);
        self.rstd1_t.resize(t);
        self.rstd2_t.resize(t);
        self.qkv_tq.resize(t * c.qkv_width());
        self.out_tw.resize(t * c.heads_width());
        self.log_sum.resize(t * c.num_attention_heads);
        self.x1_td.resize(t * d);
        self.logits_te.resize(t * e);
        self.probs_te.resize(t * e);
        self.router_log_sum_t.resize(t);
        self.chosen_tk.resize(t * k, 0);
        self.weights_tk.resize(t * k);
        // A dense layer has no slots; without a backward pass two layers take turns with one set of buffers.
        self.routing.slot.clear();
    }
}

/// Rows of a layer's output: the sum so far plus every token's experts, in the order of its choice.
fn combine(r: &Range<usize>, d: usize, sum: &[f32], layer: &LayerActs, experts: &[f32], out: &mut [f32]) {
    out.copy_from_slice(&sum[wide(r, d)]);
    if layer.routing.slot.is_empty() {
        return;
    }
    let k = layer.routing.slot.len() / (sum.len() / d);
    for (row, t) in out.chunks_exact_mut(d).zip(r.clone()) {
        for choice in t * k..(t + 1) * k {
            let slot = layer.routing.slot[choice] as usize;
            axpy(layer.weights_tk[choice], &experts[slot * d..][..d], row);
        }
    }
}

/// Copies the tokens' rows.
pub(crate) fn gather(from: &[f32], d: usize, tokens: &[u32], to: &mut [f32]) {
    for (to, t) in to.chunks_exact_mut(d).zip(tokens) {
        to.copy_from_slice(&from[*t as usize * d..][..d]);
    }
}

/// A gated MLP on m rows of x: fills gate_up, writes (or adds to) y.
fn swiglu_rows(
    model: &Ling,
    mlp: &Swiglu,
    m: usize,
    x: &[f32],
    gate_up: &mut [f32],
    y: &mut [f32],
    accumulate: bool,
) {
    let d = model.config().hidden_size;
    let i2 = 2 * mlp.inner;
    let b = Right::Packed(model.packed().get(mlp.gate_up));
    gemm(m, i2, d, Left::rows(x, d), b, gate_up, i2, false);
    down_rows(model, mlp, m, gate_up, y, accumulate);
}

/// The second half of a gated MLP: y from gate_up.
fn down_rows(model: &Ling, mlp: &Swiglu, m: usize, gate_up: &[f32], y: &mut [f32], accumulate: bool) {
    let (d, i) = (model.config().hidden_size, mlp.inner);
    scratch(m * i, |act| {
        for (act, gate_up) in act.chunks_exact_mut(i).zip(gate_up.chunks_exact(2 * i)) {
            swiglu::forward(gate_up, act);
        }
        let b = Right::Packed(model.packed().get(mlp.down));
        gemm(m, d, i, Left::rows(act, i), b, y, d, accumulate);
    });
}

/// Attention of every document, in its own tokens or continuing its cache.
fn attend(c: &Config, l: usize, docs: &[Doc], here: &mut LayerActs, caches: Option<&mut [&mut Cache]>) {
    let (q, w, hd, kv) = (c.qkv_width(), c.heads_width(), c.head_dim(), c.num_key_value_heads);
    let group = c.num_attention_heads / kv;
    let (k_at, v_at) = (w, w + kv * hd);
    let qkv = &*here.qkv_tq;
    let out = Parts::new(&mut here.out_tw);
    let caches = caches.map(|caches| {
        for (cache, doc) in caches.iter_mut().zip(docs) {
            for t in doc.start..doc.start + doc.len {
                let row = &qkv[t * q..(t + 1) * q];
                cache.push(l, t - doc.start, &row[k_at..v_at], &row[v_at..]);
            }
        }
        &*caches
    });
    let log_sum = Parts::new(&mut here.log_sum);
    share(docs.len() * kv, |task| {
        let (doc, g) = (&docs[task / kv], task % kv);
        let total = doc.position + doc.len;
        let row = doc.start * q;
        let mut heads = Heads {
            q: &qkv[row + g * group * hd..],
            q_row: q,
            keys: &[],
            v: &[],
            v_row: q,
            head_dim: hd,
            group,
            queries: doc.len,
            total,
        };
        // SAFETY: this task alone writes the group's columns of the document's rows, and its log-sums.
        unsafe {
            let out = out.at(doc.start * w + g * group * hd);
            if let Some(caches) = caches {
                let cache = &caches[task / kv];
                heads.keys = cache.keys(l, g);
                (heads.v, heads.v_row) = cache.values(l, g);
                attention::forward(&heads, out, w, &mut []);
            } else {
                let first = doc.start * c.num_attention_heads + g * group * doc.len;
                let log_sum = log_sum.part(first..first + group * doc.len);
                scratch(packed_len(hd, total), |keys| {
                    attention::pack_keys(&qkv[row + k_at + g * hd..], q, total, hd, keys);
                    let heads = Heads { keys, v: &qkv[row + v_at + g * hd..], ..heads };
                    attention::forward(&heads, out, w, log_sum);
                });
            }
        }
    });
}
