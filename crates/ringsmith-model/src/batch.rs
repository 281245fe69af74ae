//! What one forward pass reads: documents laid end to end, without padding.

use std::ops::Range;

/// Mask flag: the token is a target of the loss.
pub const SUPERVISED: u8 = 1;
/// Mask flag: the token belongs to the answer's format.
pub const FORMAT: u8 = 2;

/// Documents end to end. They never see each other and positions restart at each. In a preference batch documents
/// come in pairs: chosen, then rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub tokens: Vec<u32>,
    /// Lengths of the documents; they add up to `tokens.len()`.
    pub docs: Vec<usize>,
    /// One flag byte a token: [`SUPERVISED`] and [`FORMAT`]. A document's first token is never supervised.
    pub mask: Vec<u8>,
    /// One source a document.
    pub source: Vec<u16>,
}

impl Batch {
    /// Adds a document. A flag on its first token is dropped, as nothing predicts it.
    pub fn push(&mut self, tokens: &[u32], mask: &[u8], source: u16) {
        assert_eq!(tokens.len(), mask.len());
        if tokens.is_empty() {
            return;
        }
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.mask.extend_from_slice(mask);
        self.mask[start] = 0;
        self.docs.push(tokens.len());
        self.source.push(source);
    }

    /// A batch that is only read: nothing is supervised.
    pub fn unsupervised<'a>(docs: impl IntoIterator<Item = &'a [u32]>) -> Batch {
        let mut batch = Batch::default();
        for doc in docs {
            batch.push(doc, &vec![0; doc.len()], 0);
        }
        batch
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The documents' token ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.docs.iter().scan(0, |start, len| {
            let range = *start..*start + len;
            *start = range.end;
            Some(range)
        })
    }

    /// Tokens that are targets.
    pub fn supervised(&self) -> usize {
        self.mask.iter().filter(|m| **m & SUPERVISED != 0).count()
    }

    /// Documents `docs` as a batch of their own.
    pub fn slice(&self, docs: Range<usize>) -> Batch {
        let start: usize = self.docs[..docs.start].iter().sum();
        let len: usize = self.docs[docs.clone()].iter().sum();
        Batch {
            tokens: self.tokens[start..start + len].to_vec(),
            docs: self.docs[docs.clone()].to_vec(),
            mask: self.mask[start..start + len].to_vec(),
            source: self.source[docs].to_vec(),
        }
    }
}
