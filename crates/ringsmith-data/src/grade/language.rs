//! Which language a text is in, by script and by frequent words: a heuristic in place of the `langdetect`
//! package that IFEval's original uses. It is sure about scripts of one language, and only as good as its
//! short word lists where languages share a script (Latin, Cyrillic, Arabic, Devanagari).

/// Frequent short words of languages in shared scripts.
const WORDS: [(&str, &str); 20] = [
    (
        "en",
        "the of and to in is that it for was with as on are this be at you have not from by or but we they he she",
    ),
    (
        "de",
        "der die das und ist nicht ein eine zu den mit sich auf für von dem im auch es an als wie ich sie er wir",
    ),
    (
        "fr",
        "le la les des et est une un dans pour que qui pas sur avec ce il elle nous vous je du au plus sont",
    ),
    ("es", "el la los las de y que en un una es por con para no se su al lo como más pero del son está"),
    (
        "it",
        "il lo la gli le di e che è un una per con non si del della dei sono come più anche nel alla questo",
    ),
    ("pt", "o a os as de e que em um uma é por com para não se do da dos das como mais mas no na são você"),
    ("nl", "de het een en van is dat op te in niet met voor zijn er aan ook als bij maar om je wij ik"),
    ("fi", "ja on ei se että oli hän mutta kun niin myös ovat kuin tai joka minä tämä sen voi olla"),
    (
        "sw",
        "na ya wa kwa ni katika za la kuwa hii hiyo pia au lakini kama huu yake wao sana cha ambayo kila watu",
    ),
    ("vi", "và của là có không được một cho trong những người với các để này đã khi tôi bạn"),
    ("ru", "и в не на что с по это как он она но мы вы я из у за так для от все быть"),
    ("bg", "и на да се за от е са не по със това като но ще си ли ме той тя към през които"),
    ("uk", "і в не на що з у до як це та є але ми ви я від для за його її все бути"),
    ("ar", "في من على إلى أن هذا هذه التي الذي لا ما كان مع عن هو هي أو كل"),
    ("fa", "در از به که این را با است برای آن یک می های خود شد ما تا هم شما"),
    ("ur", "کے میں کی ہے اور سے کا کو نے یہ ہیں پر کہ جو بھی تھا ایک لیے آپ"),
    ("hi", "के में की है और से का को पर यह हैं कि जो भी एक नहीं लिए आप हम ने"),
    ("mr", "आणि आहे च्या मध्ये हे या ते तो ती आहेत साठी एक केले नाही मी तुम्ही होते असे"),
    ("ne", "छ र को मा हो यो लागि भएको गर्न पनि एक छन् तपाईं गर्ने हुन् यस का ले"),
    ("id", "yang dan di ini itu dengan untuk dari pada tidak adalah akan ke dalam kami saya anda juga"),
];

/// Scripts of (for this purpose) one language.
const SCRIPTS: [(&str, std::ops::RangeInclusive<u32>); 14] = [
    ("th", 0x0e00..=0x0e7f),
    ("ko", 0xac00..=0xd7af),
    ("bn", 0x0980..=0x09ff),
    ("pa", 0x0a00..=0x0a7f),
    ("gu", 0x0a80..=0x0aff),
    ("ta", 0x0b80..=0x0bff),
    ("te", 0x0c00..=0x0c7f),
    ("kn", 0x0c80..=0x0cff),
    ("ml", 0x0d00..=0x0d7f),
    ("he", 0x0590..=0x05ff),
    ("el", 0x0370..=0x03ff),
    ("ja", 0x3040..=0x30ff),
    ("zh", 0x4e00..=0x9fff),
    ("ka", 0x10a0..=0x10ff),
];

/// The likeliest language as an ISO 639-1 code; `None` without letters or without a known word.
pub fn detect(text: &str) -> Option<&'static str> {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let within =
        |range: &std::ops::RangeInclusive<u32>| text.chars().filter(|c| range.contains(&(*c as u32))).count();
    for (code, range) in &SCRIPTS {
        // A little kana is enough: Japanese is mostly written in Chinese characters.
        let enough = if *code == "ja" { letters / 8 } else { letters / 2 };
        if within(range) > enough {
            return Some(code);
        }
    }
    let lower = text.to_lowercase();
    // Combining vowel signs belong to the word.
    let words: Vec<&str> = lower
        .split(|c: char| {
            c.is_whitespace() || c.is_ascii_punctuation() || matches!(c, '।' | '،' | '؟' | '۔' | '’')
        })
        .filter(|word| !word.is_empty())
        .collect();
    let score = |list: &str| {
        let list: Vec<&str> = list.split(' ').collect();
        words.iter().filter(|word| list.contains(word)).count()
    };
    let (count, code) =
        WORDS.iter().rev().map(|(code, list)| (score(list), *code)).max_by_key(|(count, _)| *count)?;
    (count > 0).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages() {
        for (text, code) in [
            ("The cat is on the mat and it is happy.", "en"),
            ("Die Katze ist auf der Matte und sie schläft nicht.", "de"),
            ("Le chat est sur la table et il dort avec nous.", "fr"),
            ("O gato não está na mesa, mas você é feliz com uma casa.", "pt"),
            ("यह एक अच्छा दिन है और हम खुश हैं।", "hi"),
            ("हे एक चांगले पुस्तक आहे आणि मी ते वाचले आहे", "mr"),
            ("यो राम्रो दिन हो र तपाईं खुसी छन् भएको छ", "ne"),
            ("ಇದು ಒಳ್ಳೆಯ ದಿನ", "kn"),
            ("안녕하세요 반갑습니다", "ko"),
            ("این کتاب برای شما است", "fa"),
            ("یہ کتاب آپ کے لیے ہے اور اچھی ہے", "ur"),
            ("هذا الكتاب في البيت", "ar"),
            ("Это хорошая книга, но мы не читали", "ru"),
            ("Това е хубава книга и ще се чете от него", "bg"),
            ("Hii ni nyumba ya watu na watoto wa kwetu", "sw"),
            ("これは良い本です", "ja"),
            ("这是一本好书", "zh"),
        ] {
            assert_eq!(detect(text), Some(code), "{text}");
        }
        assert_eq!(detect("123 !?"), None);
    }
}
