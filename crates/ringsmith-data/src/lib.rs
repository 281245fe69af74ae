//! Records, curation, the workbook, graders, the chat template, the tokenizer and packing: text to tokens.
//! It must not know tensors.

pub mod grade;
pub mod ledger;
pub mod read;
pub mod record;
pub mod row;
pub mod shape;
pub mod solver;
pub mod workbook;
