use super::*;
use serde_json::json;

/// The roles and texts of a conversation, one line each.
fn lines(chat: &Conversation) -> String {
    let line = |turn: &crate::record::Turn| format!("{:?}: {}", turn.role, turn.text.replace('\n', "/"));
    chat.turns.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn read(row: Value) -> Record {
    record(&row, "s", "s:1".into(), None).unwrap_or_else(|fault| panic!("{row}: {fault:?}"))
}

fn chat(row: Value) -> String {
    match read(row).body {
        Body::Chat(chat) => lines(&chat),
        other => panic!("{other:?}"),
    }
}

fn fault(row: Value) -> Fault {
    record(&row, "s", "s:1".into(), None).unwrap_err()
}

#[test]
fn every_single_turn_shape() {
    for row in [
        json!({"instruction": "Q", "input": "", "output": "A"}),
        json!({"instruction": "Q", "context": null, "response": "A"}),
        json!({"question": "Q", "answer": "A"}),
        json!({"problem": "Q", "answer": "A"}),
        json!({"problem": "Q", "solution": "A", "answer": "7"}),
        json!({"question": "Q", "solution": "no", "answer": "7", "model_completion": "A"}),
        json!({"prompt": "Q", "completion": "A"}),
        json!({"prompt": "Q", "response": "A"}),
        json!({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]}),
        json!({"instruction": "Q", "instances": [{"input": "", "output": ""}, {"input": "", "output": "A"}]}),
        json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]},
                            {"role": "assistant", "content": [{"type": "text", "value": "A"}]}]}),
        json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "tools": "[]"}),
    ] {
        assert_eq!(chat(row.clone()), "User: Q\nAssistant: A", "{row}");
    }
    assert_eq!(read(json!({"text": "T"})).body, Body::Text("T".into()));
}

#[test]
fn inputs_history_and_system_texts_are_kept() {
    let row =
        json!({"system": "S", "instruction": "Q", "input": "I", "output": "A", "history": [["q", "a"]]});
    assert_eq!(chat(row), "System: S\nUser: q\nAssistant: a\nUser: Q/I\nAssistant: A");
    let row = json!({"instruction": "Q", "instances": [{"input": "I", "output": "A"}]});
    assert_eq!(chat(row), "User: Q/I\nAssistant: A");
}

#[test]
fn tool_calls_are_the_assistants_text() {
    let row = json!({
        "tools": "[{\"name\": \"f\"}]",
        "conversations": [
            {"from": "human", "value": "Q"},
            {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"},
            {"from": "observation", "value": "O"},
            {"from": "gpt", "value": "A"},
        ],
    });
    let expected = "System: You can call these tools:/[{\"name\": \"f\"}]\nUser: Q\n\
        Assistant: {\"name\": \"f\", \"arguments\": {}}\nTool: O\nAssistant: A";
    assert_eq!(chat(row), expected);
    let call = json!({"type": "function", "id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}});
    let row = |calls: Value| {
        json!({"messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": null, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "O"},
            {"role": "assistant", "content": "A"},
        ]})
    };
    let one = "{\"name\":\"f\",\"arguments\":{\"x\":1}}";
    let expected = format!("System: S\nUser: Q\nAssistant: {one}\nTool: O\nAssistant: A");
    assert_eq!(chat(row(json!([call.clone()]))), expected);
    assert!(chat(row(json!([call.clone(), call]))).contains(&format!("Assistant: [{one},{one}]\n")));
}

#[test]
fn every_preference_shape() {
    let user = json!({"role": "user", "content": "Q"});
    let gpt = |text: &str| json!({"from": "gpt", "value": text});
    let whole = |text: &str| json!([user, {"role": "assistant", "content": text}]);
    for row in [
        json!({"prompt": "Q", "chosen": "C", "rejected": "R"}),
        json!({"question": "Q", "chosen": "C", "rejected": "R"}),
        json!({"instruction": "Q", "input": "", "chosen": "C", "rejected": "R"}),
        json!({"prompt": [user], "chosen": [{"role": "assistant", "content": "C"}], "rejected": [gpt("R")]}),
        json!({"chosen": whole("C"), "rejected": whole("R")}),
        json!({"prompt": "Q", "chosen": whole("C"), "rejected": whole("R"), "score_chosen": 1.0}),
        json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": gpt("C"), "rejected": gpt("R")}),
    ] {
        match read(row.clone()).body {
            Body::Pair { prompt, chosen, rejected } => {
                assert_eq!((lines(&prompt).as_str(), &*chosen, &*rejected), ("User: Q", "C", "R"), "{row}");
            }
            other => panic!("{other:?}"),
        }
    }
    let row = json!({"system": "S", "prompt": "Q", "chosen": whole("C"), "rejected": whole("R")});
    match read(row).body {
        Body::Pair { prompt, .. } => assert_eq!(lines(&prompt), "System: S\nUser: Q"),
        other => panic!("{other:?}"),
    }
    let row = json!({"chosen": whole("C"), "rejected": [{"role": "user", "content": "X"}, gpt("R")]});
    assert_eq!(fault(row).reason, Reason::UnknownShape);
    assert_eq!(fault(json!({"prompt": "Q", "chosen": "C"})).reason, Reason::UnknownShape);
}

#[test]
fn answers_tasks_and_levels() {
    let row = read(json!({"question": "Q", "answer": "1+1 = <<1+1=2>>2\n#### 2"}));
    assert_eq!(row.answer.as_deref(), Some("2"));
    let row = read(json!({"problem": "Q", "answer": "x", "type": "Algebra", "difficulty": 5.0}));
    assert_eq!(
        (row.answer.as_deref(), row.task.as_deref(), row.level),
        (Some("x"), Some("Algebra"), Some(5))
    );
    let row = read(json!({"problem": "Q", "solution": "S", "answer": 3, "level": "Level 3"}));
    assert_eq!((row.answer.as_deref(), row.level), (Some("3"), Some(3)));
    let row = read(json!({"question": "Why?", "answer": "Because of this.", "level": "hard"}));
    assert_eq!((row.answer, row.level), (None, None));
    assert_eq!(read(json!({"question": "How many?", "answer": 5})).answer.as_deref(), Some("5"));
    assert_eq!(read(json!({"question": "How far?", "answer": "infinity"})).answer, None);
}

#[test]
fn named_columns_win() {
    let fields = Fields {
        prompt: Some("quiz".into()),
        final_answer: Some("reward.truth".into()),
        ..Fields::default()
    };
    let row = json!({"quiz": "Q", "reward": {"truth": "A"}, "output": "not this"});
    let got = record(&row, "s", "s:1".into(), Some(&fields)).unwrap();
    assert!(matches!(&got.body, Body::Chat(chat) if lines(chat) == "User: Q\nAssistant: A"));
    let missing = record(&json!({"quiz": "Q"}), "s", "s:1".into(), Some(&fields)).unwrap_err();
    assert_eq!(missing.reason, Reason::UnknownShape);
    assert!(missing.evidence.contains("reward.truth"), "{}", missing.evidence);
}

#[test]
fn faults() {
    let user = json!({"role": "user", "content": "Q"});
    for (row, reason, evidence) in [
        (json!({"foo": 1, "bar": 2}), Reason::UnknownShape, "foo, bar"),
        (json!([1, 2]), Reason::UnknownShape, "[1,2]"),
        (json!({"instruction": "Q"}), Reason::UnknownShape, "instruction"),
        (json!({"messages": "hello"}), Reason::UnknownShape, "hello"),
        (json!({"messages": [{"role": "critic", "content": "x"}]}), Reason::UnknownShape, "critic"),
        (json!({"messages": [user]}), Reason::EmptyAnswer, "User"),
        (json!({"messages": []}), Reason::EmptyPrompt, ""),
        (json!({"question": "Q", "answer": " \n"}), Reason::EmptyAnswer, ""),
        (json!({"problem": "Q", "answer": null}), Reason::EmptyAnswer, ""),
        (json!({"question": " ", "answer": "A"}), Reason::EmptyPrompt, ""),
        (json!({"question": null, "answer": "A"}), Reason::EmptyPrompt, "question, answer"),
        (json!({"question": null, "id": 3}), Reason::UnknownShape, "question, id"),
        (json!({"prompt": "Q", "chosen": "C", "rejected": ""}), Reason::EmptyAnswer, "rejected"),
        (
            json!({"conversations": [user, {"role": "assistant", "content": "A"}], "chosen": "C", "rejected": "R"}),
            Reason::UnknownShape,
            "Assistant",
        ),
        (json!({"text": ""}), Reason::EmptyAnswer, ""),
        (json!({"instruction": "Q", "instances": []}), Reason::EmptyAnswer, ""),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            Reason::NeedsImage,
            "image_url",
        ),
    ] {
        let fault = fault(row.clone());
        assert_eq!(fault.reason, reason, "{row}");
        assert!(fault.evidence.contains(evidence), "{row}: {}", fault.evidence);
    }
}

#[test]
fn turns_as_json_text_are_turns() {
    let turns = json!([{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]);
    for key in ["messages", "conversations"] {
        assert_eq!(chat(json!({key: turns.to_string()})), chat(json!({key: turns})));
    }
    let (good, bad) = (json!({"from": "gpt", "value": "C"}), json!({"role": "assistant", "content": "R"}));
    let row = |good: Value, bad: Value| read(json!({"prompt": "Q", "chosen": good, "rejected": bad}));
    assert_eq!(row(good.to_string().into(), bad.to_string().into()), row(good, bad));
    // Text that only looks like JSON stays text.
    let text = "{\"name\": \"pay\"}";
    let Body::Pair { chosen, .. } = row(text.into(), "[]x".into()).body else { panic!() };
    assert_eq!(chosen, text);
}
