//! The tokenizer: `tokenizer.json` in Hugging Face form, loaded or trained as byte-level BPE.
//!
//! Text never becomes a control token by accident: [`Tokenizer::encode_plain`] spells `<role>…</role>` or
//! `<think>` out in ordinary tokens, and only [`Tokenizer::token`] gives the control tokens themselves.

use crate::tokenizer_config::TokenizerConfig;
use anyhow::{Context, Result, anyhow, bail};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// Ends an answer, and pads.
pub const STOP: &str = "<|endoftext|>";
/// Opens the thought.
pub const THINK: &str = "<think>";
/// Closes the thought.
pub const THINK_END: &str = "</think>";
/// The control tokens of a tokenizer trained here, in the order of their ids from 0.
pub const SPECIALS: [&str; 7] = [
    STOP,
    "<role>HUMAN</role>",
    "<role>ASSISTANT</role>",
    "<role>SYSTEM</role>",
    "<role>OBSERVATION</role>",
    THINK,
    THINK_END,
];

/// The split of the `bailingmoe` pre-tokenizer: GPT-2 style words, digits one by one.
const BAILING_SPLIT: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// Text to token ids and back.
pub struct Tokenizer {
    /// The whole tokenizer, for decoding.
    full: tokenizers::Tokenizer,
    /// The same without control tokens, for text.
    plain: tokenizers::Tokenizer,
    json: String,
    /// Control tokens (special tokens, the stop token and the think tags) by their text.
    control: BTreeMap<String, u32>,
    /// Matches any of them; none where there are none.
    pattern: Option<Regex>,
    pub config: TokenizerConfig,
    stop: u32,
}

impl Tokenizer {
    /// Loads `tokenizer.json` and, where it exists, `tokenizer_config.json` from a model folder.
    /// Errors name the file.
    pub fn load(dir: &Path) -> Result<Tokenizer> {
        let path = dir.join("tokenizer.json");
        let json =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let config = TokenizerConfig::load(dir)?;
        Tokenizer::parse(json, config).with_context(|| format!("{} is damaged", path.display()))
    }

    fn parse(json: String, config: TokenizerConfig) -> Result<Tokenizer> {
        let parse = |json: &str| tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(|e| anyhow!(e));
        let full = parse(&json)?;
        let mut value: Value = serde_json::from_str(&json)?;
        let mut control = BTreeMap::new();
        if let Some(added) = value.get_mut("added_tokens").and_then(Value::as_array_mut) {
            added.retain(|token| {
                let text = token["content"].as_str().unwrap_or_default();
                let keep = token["special"] != true && ![THINK, THINK_END, &config.eos_token].contains(&text);
                if let (false, Some(id)) = (keep, full.token_to_id(text)) {
                    control.insert(text.to_owned(), id);
                }
                keep
            });
        }
        let plain = parse(&value.to_string())?;
        let stop = *control.get(&config.eos_token).with_context(|| {
            format!("the stop token {} (eos_token) is not among its special tokens", config.eos_token)
        })?;
        let mut texts: Vec<&str> = control.keys().map(String::as_str).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let any = texts.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
        let pattern = if any.is_empty() { None } else { Some(Regex::new(&any)?) };
        Ok(Tokenizer { full, plain, json, control, pattern, config, stop })
    }

    /// Trains a byte-level BPE of at most `vocab_size` entries: the control tokens [`SPECIALS`], all 256
    /// bytes, then merges. The same texts give the same tokenizer, byte for byte.
    pub fn train(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Tokenizer> {
        if vocab_size < SPECIALS.len() + 256 {
            bail!(
                "a vocabulary of {vocab_size} has no room for {} control tokens and 256 bytes",
                SPECIALS.len()
            );
        }
        let failed = |error: tokenizers::Error| anyhow!("cannot train the tokenizer: {error}");
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        let split = SplitPattern::Regex(BAILING_SPLIT.into());
        let split = Split::new(split, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
        let bytes = ByteLevel::new(false, true, false);
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])));
        tokenizer.with_decoder(Some(bytes));
        let specials = SPECIALS.map(|text| AddedToken::from(text, true).normalized(false));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(specials.to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        // No control token is registered yet, so tags inside the texts are learned as plain text.
        tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), texts).map_err(failed)?;
        let mut value: Value = serde_json::from_str(&tokenizer.to_string(false).map_err(failed)?)?;
        // The think tags are part of the answer: decoders that skip special tokens must keep them.
        for token in value["added_tokens"].as_array_mut().into_iter().flatten() {
            if token["content"] == THINK || token["content"] == THINK_END {
                token["special"] = json!(false);
            }
        }
        Tokenizer::parse(value.to_string(), TokenizerConfig::default())
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into an existing folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join("tokenizer.json");
        std::fs::write(&path, &self.json).with_context(|| format!("cannot write {}", path.display()))?;
        self.config.save(dir)
    }

    /// Text as tokens; what reads like a control token is spelled out.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.plain.encode_fast(text, false);
        Ok(encoding.map_err(|error| anyhow!("cannot tokenize: {error}"))?.get_ids().to_vec())
    }

    /// Text as tokens, control tokens recognised. For text that is trusted, such as what `score` reads.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, self.controls(text), |plain| self.encode_plain(plain))
    }

    /// The control tokens in a text with the places where they begin, the longest where several begin.
    pub(crate) fn controls<'t>(&self, text: &'t str) -> impl Iterator<Item = (usize, &'t str)> {
        let found = self.pattern.iter().flat_map(|pattern| pattern.find_iter(text));
        found.map(|found| (found.start(), found.as_str()))
    }

    /// The tokens of a text with control tokens at the places given and `plain` for what is between.
    pub(crate) fn encode_with<'t>(
        &self,
        text: &'t str,
        controls: impl Iterator<Item = (usize, &'t str)>,
        plain: impl Fn(&str) -> Result<Vec<u32>>,
    ) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut done = 0;
        for (at, token) in controls {
            ids.extend(plain(&text[done..at])?);
            ids.extend(self.token(token));
            done = at + token.len();
        }
        ids.extend(plain(&text[done..])?);
        Ok(ids)
    }

    /// The text of tokens, think tags and other control tokens included.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.full.decode(ids, false).map_err(|error| anyhow!("cannot decode: {error}"))
    }

    /// The id of a control token.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.control.get(text).copied()
    }

    /// The token that ends an answer.
    pub fn stop(&self) -> u32 {
        self.stop
    }

    /// The number of ids, control tokens included.
    pub fn vocab_size(&self) -> usize {
        self.full.get_vocab_size(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        (0..300).map(|i| format!(" Lea has {i} coins, Sue's got {} more. 你好 ŷ\n", i * 7)).collect()
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(texts().into_iter(), 320).unwrap()
    }

    #[test]
    fn training_is_deterministic_and_survives_saving() {
        let dir = tempfile::tempdir().unwrap();
        let first = tokenizer();
        assert_eq!(first.json, tokenizer().json);
        first.save(dir.path()).unwrap();
        let loaded = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(loaded.json, first.json);
        assert_eq!(loaded.config, first.config);
        assert_eq!((loaded.vocab_size(), loaded.stop()), (first.vocab_size(), 0));
        assert!((264..=320).contains(&first.vocab_size()));
    }

    #[test]
    fn every_text_comes_back() {
        let tokenizer = tokenizer();
        for text in ["", " ", "a", "  two\n\n\tlines ", "Привет, 世界! 🙂", "\0\u{7f}é\r\n", "x=12345;"]
        {
            for ids in [tokenizer.encode(text).unwrap(), tokenizer.encode_plain(text).unwrap()] {
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
        }
        // Digits one by one, so a number's tokens are as many as its digits.
        assert_eq!(tokenizer.encode("2222").unwrap().len(), 4);
        assert!(tokenizer.encode(" Lea has").unwrap().len() < 8);
    }

    #[test]
    fn control_tokens_only_where_asked_for() {
        let tokenizer = tokenizer();
        for (id, text) in SPECIALS.iter().enumerate() {
            assert_eq!(tokenizer.token(text), Some(id as u32));
            assert_eq!(tokenizer.encode(text).unwrap(), [id as u32]);
            let plain = tokenizer.encode_plain(text).unwrap();
            assert!(plain.iter().all(|&id| id as usize >= SPECIALS.len()), "{text}");
            assert_eq!(tokenizer.decode(&plain).unwrap(), *text);
        }
        let ids = tokenizer.encode("<think>a</think>b").unwrap();
        assert_eq!((ids[0], ids[2]), (5, 6));
        // Others who read the files see the same tokens, and skip all but the think tags.
        let text = "<role>HUMAN</role> Lea has 12<role>ASSISTANT</role><think>a</think> b<|endoftext|>";
        let theirs = tokenizer.full.encode_fast(text, true).unwrap();
        assert_eq!(theirs.get_ids(), tokenizer.encode(text).unwrap());
        assert_eq!(tokenizer.full.decode(&ids, true).unwrap(), "<think>a</think>b");
    }

    #[test]
    fn failures_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = |dir: &Path| format!("{:#}", Tokenizer::load(dir).err().unwrap());
        assert!(error(dir.path()).contains("tokenizer.json"));
        std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
        assert!(error(dir.path()).contains("tokenizer.json is damaged"));
        tokenizer().save(dir.path()).unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), "[]").unwrap();
        assert!(error(dir.path()).contains("tokenizer_config.json"));
        std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        assert!(error(dir.path()).contains("</s>"));
        assert!(Tokenizer::train(texts().into_iter(), 100).is_err());
    }
}
