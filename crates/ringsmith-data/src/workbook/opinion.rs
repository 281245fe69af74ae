//! Subjective queries: questions of taste, where only the `<think>` pair can be judged.

use super::{Item, Rng};

const ADJECTIVES: [&str; 8] = ["old", "new", "small", "big", "red", "quiet", "wild", "strange"];
const NOUNS: [&str; 24] = [
    "fox", "cat", "dog", "owl", "bear", "horse", "river", "lake", "hill", "garden", "house", "bridge",
    "tower", "song", "story", "poem", "game", "film", "dance", "dream", "road", "ship", "clock", "lamp",
];
/// Twelve templates; the first six ask for an opinion, the others for a feeling.
const TEMPLATES: [&str; 12] = [
    "What do you think of the {}?",
    "Do you like the {}?",
    "What is your view of the {}?",
    "Would you pick the {}?",
    "Is the {} a good thing?",
    "Tell me your opinion of the {}.",
    "How do you feel about the {}?",
    "Would you miss the {}?",
    "Does the {} make you happy?",
    "Could you love the {}?",
    "Why do people love the {}?",
    "Say something nice about the {}.",
];
/// Two fixed thoughts: easy to say, so that what fails is the pair and not the words.
const THOUGHTS: [&str; 2] =
    ["The user wants an opinion. I keep it short.", "This is about a mood. One line will do."];

pub(super) fn item(rng: &mut Rng) -> Item {
    let template = rng.below(TEMPLATES.len());
    let noun = *rng.pick(&NOUNS);
    let topic = match rng.below(ADJECTIVES.len() + 1) {
        0 => noun.to_string(),
        i => format!("{} {noun}", ADJECTIVES[i - 1]),
    };
    let prompt = format!(" {}", TEMPLATES[template].replace("{}", &topic));
    let feeling = template / 6;
    let reply = match feeling {
        0 => format!(" I like the {topic}, it is calm and kind."),
        _ => format!(" The {topic} feels warm and dear to me."),
    };
    Item {
        key: prompt.trim().to_string(),
        system: None,
        prompt,
        thought: THOUGHTS[feeling].into(),
        reply,
        answer: None,
    }
}

/// The same answer with a broken `<think>` pair, the rejected side of a format pair: both tags gone (1/3),
/// the opening tag gone, the closing tag gone, the thought gone with its tags, or `</think></think>` (1/6 each).
/// A text without a pair comes back as it is.
pub fn break_think(text: &str, rng: &mut Rng) -> String {
    let Some((thought, rest)) = text.strip_prefix("<think>").and_then(|text| text.split_once("</think>"))
    else {
        return text.to_string();
    };
    match rng.below(6) {
        0 | 1 => format!("{thought}{rest}"),
        2 => format!("{thought}</think>{rest}"),
        3 => format!("<think>{thought}{rest}"),
        4 => rest.to_string(),
        _ => format!("<think>{thought}</think></think>{rest}"),
    }
}
