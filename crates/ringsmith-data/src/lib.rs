//! Records, curation, the workbook, graders, the chat template, the tokenizer and packing: text to tokens.
//! It must not know tensors.

pub mod chat_tokenizer;
pub mod grade;
pub mod ledger;
pub mod order;
pub mod pack;
pub mod read;
pub mod record;
pub mod row;
pub mod row_file;
pub mod shape;
pub mod solver;
pub mod source;
pub mod step;
pub mod template;
pub mod think;
pub mod tokenizer;
pub mod tokenizer_config;
pub mod words;
pub mod workbook;
