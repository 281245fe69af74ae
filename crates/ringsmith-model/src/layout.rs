//! Where every parameter lies in one flat buffer. Gradients and optimizer moments use the same offsets.

use crate::config::{Architecture, Config};
use crate::names::{Mlp, Part, Slot, name};

/// A gated MLP: `gate_up` is one [2 inner, hidden] matrix (gate rows, then up rows), `down` is [hidden, inner].
#[derive(Clone, Copy, Debug)]
pub struct Swiglu {
    pub gate_up: usize,
    pub down: usize,
    pub inner: usize,
}

/// The second half of a layer.
#[derive(Clone, Debug)]
pub enum Ffn {
    Dense(Swiglu),
    /// `router` is [experts, hidden]; the fused shared MLP is added unweighted.
    Moe {
        router: usize,
        experts: Vec<Swiglu>,
        shared: Option<Swiglu>,
    },
}

/// Offsets of one layer.
#[derive(Clone, Debug)]
pub struct Layer {
    pub input_norm: usize,
    /// [qkv_width, hidden]
    pub qkv: usize,
    pub qkv_bias: Option<usize>,
    /// [hidden, heads_width]
    pub dense: usize,
    pub dense_bias: Option<usize>,
    pub post_norm: usize,
    pub ffn: Ffn,
}

/// A tensor as a checkpoint stores it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Offset of its first element.
    pub at: usize,
}

impl Tensor {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it lies.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.len()
    }

    /// Norms and biases have one axis; weight decay usually leaves them alone.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() > 1
    }
}

/// The whole model's offsets. Tensors start on 64-byte lines; the gaps are always zero.
#[derive(Clone, Debug)]
pub struct Layout {
    /// [vocab, hidden]
    pub embedding: usize,
    pub layers: Vec<Layer>,
    pub norm: usize,
    /// [vocab, hidden]; the embedding itself when they are tied.
    pub head: usize,
    /// Floats in the buffer.
    pub len: usize,
    pub tensors: Vec<Tensor>,
}

impl Layout {
    pub fn new(config: &Config) -> Layout {
        let c = config;
        let mut b = Builder { architecture: c.architecture, len: 0, tensors: Vec::new() };
        let d = c.hidden_size;
        let embedding = b.one(Slot::Embedding, &[c.vocab_size, d]);
        let layers = (0..c.num_hidden_layers).map(|l| layer(&mut b, c, l)).collect();
        let norm = b.one(Slot::FinalNorm, &[d]);
        let head = if c.tie_word_embeddings { embedding } else { b.one(Slot::Head, &[c.vocab_size, d]) };
        Layout { embedding, layers, norm, head, len: b.len, tensors: b.tensors }
    }
}

fn layer(b: &mut Builder, c: &Config, l: usize) -> Layer {
    let d = c.hidden_size;
    let (q, kv) = (c.heads_width(), c.num_key_value_heads * c.head_dim());
    let slot = |part| Slot::Layer(l, part);
    let input_norm = b.one(slot(Part::InputNorm), &[d]);
    let fused = c.architecture == Architecture::BailingMoe;
    let qkv = |b: &mut Builder, bias: bool| {
        let shape = |rows: usize| if bias { vec![rows] } else { vec![rows, d] };
        if fused {
            b.one(slot(Part::Qkv(bias)), &shape(c.qkv_width()))
        } else {
            b.side_by_side(&[
                (slot(Part::Query(bias)), shape(q)),
                (slot(Part::Key(bias)), shape(kv)),
                (slot(Part::Value(bias)), shape(kv)),
            ])
        }
    };
    let (qkv_at, qkv_bias) = (qkv(b, false), c.use_qkv_bias.then(|| qkv(b, true)));
    let dense = b.one(slot(Part::Dense(false)), &[d, q]);
    let dense_bias = c.use_bias.then(|| b.one(slot(Part::Dense(true)), &[d]));
    let post_norm = b.one(slot(Part::PostNorm), &[d]);
    let swiglu = |b: &mut Builder, mlp: Mlp, inner: usize| Swiglu {
        gate_up: b
            .side_by_side(&[(slot(Part::Gate(mlp)), vec![inner, d]), (slot(Part::Up(mlp)), vec![inner, d])]),
        down: b.one(slot(Part::Down(mlp)), &[d, inner]),
        inner,
    };
    let ffn = if c.is_moe(l) {
        let experts =
            (0..c.num_experts).map(|e| swiglu(b, Mlp::Expert(e), c.moe_intermediate_size)).collect();
        let router = b.one(slot(Part::Router), &[c.num_experts, d]);
        // Zero shared experts are an empty MLP in the original's checkpoints; it has tensors but adds nothing.
        let shared = c.num_shared_experts.map(|n| swiglu(b, Mlp::Shared, n * c.moe_intermediate_size));
        Ffn::Moe { router, experts, shared: shared.filter(|s| s.inner > 0) }
    } else {
        Ffn::Dense(swiglu(b, Mlp::Dense, c.intermediate_size))
    };
    Layer { input_norm, qkv: qkv_at, qkv_bias, dense, dense_bias, post_norm, ffn }
}

struct Builder {
    architecture: Architecture,
    len: usize,
    tensors: Vec<Tensor>,
}

impl Builder {
    fn one(&mut self, slot: Slot, shape: &[usize]) -> usize {
        self.side_by_side(&[(slot, shape.to_vec())])
    }

    /// Tensors that the graph uses as one matrix, without a gap between them.
    fn side_by_side(&mut self, parts: &[(Slot, Vec<usize>)]) -> usize {
        let start = self.len;
        for (slot, shape) in parts {
            let tensor = Tensor { name: name(self.architecture, *slot), shape: shape.clone(), at: self.len };
            self.len += tensor.len();
            self.tensors.push(tensor);
        }
        self.len = self.len.next_multiple_of(16);
        start
    }
}
