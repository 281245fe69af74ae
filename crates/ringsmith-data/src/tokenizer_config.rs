//! `tokenizer_config.json`: the chat template and the names of the control tokens.

use crate::tokenizer::STOP;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::path::Path;

/// The chat format of the Bailing models: role tags, no separators, a stop token after each answer.
pub const BAILING_TEMPLATE: &str = "\
{%- for message in messages -%}
{%- set role = {'user': 'HUMAN', 'tool': 'OBSERVATION'}.get(message.role, message.role | upper) -%}
{{- '<role>' + role + '</role>' + message.content -}}
{%- if message.role == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<role>ASSISTANT</role>' -}}{%- endif -%}";

/// What the project needs of the file; the rest is kept and written back.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerConfig {
    /// The Jinja template of a conversation.
    pub chat_template: String,
    /// The text of the stop token.
    pub eos_token: String,
    pub bos_token: Option<String>,
    pub(crate) rest: Map<String, Value>,
}

impl Default for TokenizerConfig {
    fn default() -> TokenizerConfig {
        let mut rest = Map::new();
        rest.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        rest.insert("pad_token".into(), STOP.into());
        rest.insert("clean_up_tokenization_spaces".into(), false.into());
        TokenizerConfig {
            chat_template: BAILING_TEMPLATE.into(),
            eos_token: STOP.into(),
            bos_token: None,
            rest,
        }
    }
}

impl TokenizerConfig {
    /// Reads the file of a model folder. A template may also stand in `chat_template.jinja`; without the
    /// file or without a template, the Bailing format holds. Errors name the file.
    pub fn load(dir: &Path) -> Result<TokenizerConfig> {
        let path = dir.join("tokenizer_config.json");
        let mut config = TokenizerConfig::default();
        if path.exists() {
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            config.rest = serde_json::from_str(&text)
                .with_context(|| format!("{} is not a JSON object", path.display()))?;
            config.take().with_context(|| path.display().to_string())?;
        }
        let path = dir.join("chat_template.jinja");
        if path.exists() {
            config.chat_template =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(config)
    }

    fn take(&mut self) -> Result<()> {
        match self.rest.remove("chat_template") {
            None | Some(Value::Null) => {}
            Some(Value::String(template)) => self.chat_template = template,
            // Several templates by name; conversations use the one called `default`.
            Some(Value::Array(named)) => {
                let default = named.iter().find(|entry| entry["name"] == "default");
                let template = default.and_then(|entry| entry["template"].as_str());
                self.chat_template = template.context("chat_template has no entry `default`")?.into();
            }
            Some(other) => bail!("chat_template is neither text nor a list: {other}"),
        }
        if let Some(token) = token(self.rest.remove("eos_token"), "eos_token")? {
            self.eos_token = token;
        }
        self.bos_token = token(self.rest.remove("bos_token"), "bos_token")?;
        Ok(())
    }

    /// Writes the file into an existing folder.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let mut object = self.rest.clone();
        object.insert("bos_token".into(), self.bos_token.clone().into());
        object.insert("eos_token".into(), self.eos_token.clone().into());
        object.insert("chat_template".into(), self.chat_template.clone().into());
        let path = dir.join("tokenizer_config.json");
        let text = serde_json::to_string_pretty(&object)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A token's text, given as text or as an object with `content`.
fn token(value: Option<Value>, key: &str) -> Result<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => match other["content"].as_str() {
            Some(text) => Ok(Some(text.into())),
            None => bail!("{key} is not a token: {other}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<TokenizerConfig> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), text).unwrap();
        TokenizerConfig::load(dir.path())
    }

    #[test]
    fn the_forms_of_templates_and_tokens() {
        let config = load(r#"{"chat_template": "T", "eos_token": {"content": "E"}, "x": 1}"#).unwrap();
        assert_eq!((config.chat_template.as_str(), config.eos_token.as_str()), ("T", "E"));
        assert_eq!(config.rest["x"], 1);
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "A"}, {"name": "default", "template": "B"}]}"#;
        assert_eq!(load(named).unwrap().chat_template, "B");
        assert_eq!(load("{}").unwrap().chat_template, BAILING_TEMPLATE);
        for bad in ["[", r#"{"chat_template": 3}"#, r#"{"eos_token": 3}"#] {
            let error = format!("{:#}", load(bad).unwrap_err());
            assert!(error.contains("tokenizer_config.json"), "{error}");
        }
    }

    #[test]
    fn a_template_file_wins_and_saving_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"model_max_length": 9}"#).unwrap();
        std::fs::write(dir.path().join("chat_template.jinja"), "J").unwrap();
        let config = TokenizerConfig::load(dir.path()).unwrap();
        assert_eq!(config.chat_template, "J");
        let again = tempfile::tempdir().unwrap();
        config.save(again.path()).unwrap();
        assert_eq!(TokenizerConfig::load(again.path()).unwrap(), config);
    }
}
