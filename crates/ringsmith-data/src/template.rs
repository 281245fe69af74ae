//! The chat template: conversations as the text that the model sees, by the Jinja template of the
//! tokenizer's configuration, with what Hugging Face templates expect of their surroundings.

use crate::record::{Role, Turn};
use crate::tokenizer_config::TokenizerConfig;
use anyhow::{Context, Result, anyhow};
use minijinja::value::{Value, from_args};
use minijinja::{Environment, Error, ErrorKind, State, context};

/// A compiled chat template.
pub struct Template {
    environment: Environment<'static>,
    eos: String,
    bos: Option<String>,
}

impl Template {
    /// Compiles the template; the error says where it is wrong.
    pub fn new(config: &TokenizerConfig) -> Result<Template> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.set_unknown_method_callback(python_method);
        environment
            .add_template_owned("chat", config.chat_template.clone())
            .map_err(|error| anyhow!("{error:#}"))
            .context("the chat template does not compile")?;
        Ok(Template { environment, eos: config.eos_token.clone(), bos: config.bos_token.clone() })
    }

    /// The text of the turns; with `generate`, up to where the assistant begins to speak.
    pub fn render(&self, turns: &[Turn], generate: bool) -> Result<String> {
        let messages: Vec<Value> = turns
            .iter()
            .map(|turn| {
                let role = match turn.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                    Role::Tool => "tool",
                };
                context! { role => role, content => turn.text }
            })
            .collect();
        let template = self.environment.get_template("chat").map_err(|error| anyhow!("{error:#}"))?;
        template
            .render(context! {
                messages => messages,
                add_generation_prompt => generate,
                eos_token => self.eos,
                bos_token => self.bos.as_deref().unwrap_or_default(),
            })
            .map_err(|error| anyhow!("{error:#}"))
            .context("the chat template refuses the conversation")
    }
}

/// The methods of Python's strings and dictionaries that chat templates use.
fn python_method(_: &State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        let set = |args: &[Value]| -> Result<Option<String>, Error> {
            from_args::<(Option<String>,)>(args).map(|(set,)| set)
        };
        let strip = |set: Option<String>, start: bool, end: bool| {
            let out = |c: char| set.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
            let text = if start { text.trim_start_matches(out) } else { text };
            Value::from(if end { text.trim_end_matches(out) } else { text })
        };
        return match method {
            "strip" => Ok(strip(set(args)?, true, true)),
            "lstrip" => Ok(strip(set(args)?, true, false)),
            "rstrip" => Ok(strip(set(args)?, false, true)),
            "upper" => Ok(text.to_uppercase().into()),
            "lower" => Ok(text.to_lowercase().into()),
            "startswith" => from_args(args).map(|(part,): (&str,)| text.starts_with(part).into()),
            "endswith" => from_args(args).map(|(part,): (&str,)| text.ends_with(part).into()),
            "replace" => from_args(args).map(|(old, new): (&str, &str)| text.replace(old, new).into()),
            "split" => match set(args)? {
                Some(part) => Ok(text.split(part.as_str()).map(Value::from).collect()),
                None => Ok(text.split_whitespace().map(Value::from).collect()),
            },
            _ => Err(unknown()),
        };
    }
    let keys = || value.try_iter();
    match method {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        "keys" => Ok(keys()?.collect()),
        "values" => keys()?.map(|key| value.get_item(&key)).collect::<Result<_, _>>(),
        "items" => keys()?
            .map(|key| value.get_item(&key).map(|item| Value::from(vec![key.clone(), item])))
            .collect::<Result<_, _>>(),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, generate: bool) -> Result<String> {
        let turns = [
            Turn::new(Role::System, " S "),
            Turn::new(Role::User, "U"),
            Turn::new(Role::Assistant, "<think>t</think>A"),
            Turn::new(Role::Tool, "O"),
        ];
        let config = TokenizerConfig {
            chat_template: template.into(),
            bos_token: Some("<s>".into()),
            ..TokenizerConfig::default()
        };
        Template::new(&config)?.render(&turns, generate)
    }

    #[test]
    fn the_bailing_format_has_no_separators() {
        let text = render(crate::tokenizer_config::BAILING_TEMPLATE, true).unwrap();
        assert_eq!(
            text,
            "<role>SYSTEM</role> S <role>HUMAN</role>U<role>ASSISTANT</role><think>t</think>A<|endoftext|>\
             <role>OBSERVATION</role>O<role>ASSISTANT</role>"
        );
    }

    #[test]
    fn templates_of_other_makers() {
        let chatml = "{% for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' + \
            message['content'] + '<|im_end|>' + '\\n' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    \
            {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";
        let text = render(chatml, true).unwrap();
        assert!(
            text.starts_with("<|im_start|>system\n S <|im_end|>\n<|im_start|>user\nU<|im_end|>\n"),
            "{text}"
        );
        assert!(text.ends_with("O<|im_end|>\n<|im_start|>assistant\n"), "{text}");
        let methods = "{{ bos_token }}{{ messages[0].content.strip() }}|{{ messages[2].content.split('</think>')[-1] }}\
            |{{ messages[1].get('name', 'none') }}|{% for k, v in messages[1].items() %}{{ k }}={{ v.lower() }};{% endfor %}\
            {{ 'x' if messages[1].content.startswith('U') and not messages[1].tool_calls }}";
        assert_eq!(render(methods, false).unwrap(), "<s>S|A|none|role=user;content=u;x");
    }

    #[test]
    fn a_refusal_and_a_bad_template_are_errors() {
        let error = render("{{ raise_exception('roles must alternate') }}", false).unwrap_err();
        assert!(format!("{error:#}").contains("roles must alternate"), "{error:#}");
        let error = render("{% for %}", false).unwrap_err();
        assert!(format!("{error:#}").contains("does not compile"), "{error:#}");
        assert!(render("{{ messages[0].content.swapcase() }}", false).is_err());
    }
}
