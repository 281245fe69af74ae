//! A row: documents packed into at most `length` tokens, as the trainer reads them.

/// Mask flag: the token is a target of the loss (it is predicted from the tokens before it in its document).
pub const SUPERVISED: u8 = 1;
/// Mask flag: the token is part of the answer's format (`<think>`, `</think>`, the stop token).
pub const FORMAT: u8 = 2;

/// One tokenised document: `tokens` and `mask` have the same length; the first token is never supervised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub tokens: Vec<u32>,
    pub mask: Vec<u8>,
    /// Index into the row file's source names.
    pub source: u16,
}

/// Documents that share a row. They never attend to each other and positions restart at each.
/// A preference row holds exactly two: the chosen answer's document, then the rejected one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub docs: Vec<Sample>,
}
