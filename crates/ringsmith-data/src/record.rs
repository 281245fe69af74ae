//! A record: one piece of training or evaluation material, whatever file or generator it came from.

use serde::{Deserialize, Serialize};

/// Who speaks a turn. `Tool` is what a tool returned (ShareGPT's `observation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub role: Role,
    pub text: String,
}

impl Turn {
    pub fn new(role: Role, text: impl Into<String>) -> Turn {
        Turn { role, text: text.into() }
    }
}

/// Turns in order. A training conversation ends with an assistant turn, a question does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conversation {
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// A single user turn.
    pub fn ask(prompt: impl Into<String>) -> Conversation {
        Conversation { turns: vec![Turn::new(Role::User, prompt)] }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Raw text, every token of it supervised.
    Text(String),
    /// A conversation; only assistant turns are supervised.
    Chat(Conversation),
    /// A prompt (ends with a user or tool turn) with a better and a worse answer.
    Pair { prompt: Conversation, chosen: String, rejected: String },
}

/// One record. `id` is unique within its source and stable over runs (`<source>:<row>` for files,
/// counted from 1), so a score can be traced back to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub source: String,
    pub body: Body,
    /// The final answer, where the source states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Topic or task name, where the source states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Difficulty level, where the source states one (1 is easiest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
}

impl Body {
    /// What is asked: system, user and tool turns of the conversation or the pair's prompt, a line each; none
    /// for raw text.
    pub fn prompt(&self) -> Option<String> {
        let (Body::Chat(chat) | Body::Pair { prompt: chat, .. }) = self else { return None };
        let asked = chat.turns.iter().filter(|turn| turn.role != Role::Assistant);
        Some(asked.map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n"))
    }

    /// Everything it says, a turn or an answer a line.
    pub fn text(&self) -> String {
        let turns = |chat: &Conversation| chat.turns.iter().map(|turn| turn.text.clone()).collect::<Vec<_>>();
        match self {
            Body::Text(text) => text.clone(),
            Body::Chat(chat) => turns(chat).join("\n"),
            Body::Pair { prompt, chosen, rejected } => {
                format!("{}\n{chosen}\n{rejected}", turns(prompt).join("\n"))
            }
        }
    }

    /// The answer that is learned: the last turn of a conversation, the chosen answer of a pair.
    pub fn answer(&self) -> Option<&str> {
        match self {
            Body::Text(_) => None,
            Body::Chat(chat) => {
                chat.turns.last().filter(|t| t.role == Role::Assistant).map(|t| t.text.as_str())
            }
            Body::Pair { chosen, .. } => Some(chosen),
        }
    }
}
