//! Checks against token ids that transformers made, and of what the file must not decide.

use serde_json::{Value, json};

use super::*;

/// `[PAD]` 0, `[UNK]` 1, `[CLS]` 2, `[SEP]` 3, then the letters a to z; the file asks for padding to 8 and truncation to 4
/// from the left.
pub(crate) fn letters() -> Value {
    let mut vocabulary = json!({ "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3 });
    for (index, letter) in ('a'..='z').enumerate() {
        vocabulary[letter.to_string()] = json!(index + 4);
    }
    let special = |id: u32, content: &str| json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    let named = |id: u32, content: &str| json!({ "id": content, "ids": [id], "tokens": [content] });
    json!({
        "version": "1.0",
        "truncation": { "direction": "Left", "max_length": 4, "strategy": "OnlyFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 9, "pad_type_id": 0, "pad_token": "f" },
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": named(2, "[CLS]"), "[SEP]": named(3, "[SEP]") }
        },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    })
}

pub(crate) fn tokenizer(file: &Value) -> TextTokenizer {
    TextTokenizer::from_bytes(file.to_string().as_bytes()).expect("a valid tokenizer")
}

#[test]
fn padding_and_truncation_of_the_file_are_ignored() {
    let tokenizer = tokenizer(&letters());
    // text, prompt, limit, expected
    let cases: [(&str, &str, usize, &[u32]); 7] = [
        ("a b c d e", "", 512, &[2, 4, 5, 6, 7, 8, 3]),
        ("a b c d e", "", 5, &[2, 4, 5, 6, 3]),
        ("a b c d e", "", 3, &[2, 4, 3]),
        ("A B", "z ", 512, &[2, 29, 4, 5, 3]),
        ("a b", "z ", 4, &[2, 29, 4, 3]),
        ("", "", 512, &[2, 3]),
        ("?", "", 512, &[2, 1, 3]),
    ];
    for (text, prompt, limit, expected) in cases {
        assert_eq!(tokenizer.encode_all(&[text], prompt, limit).unwrap(), [expected], "{prompt:?} + {text:?} to {limit}");
    }
}

#[test]
fn truncation_of_the_file_is_kept_where_it_is_asked_for() {
    let plain = tokenizer(&letters());
    let filed = plain.clone().cut_as_filed().unwrap();
    assert_eq!((plain.longest_row(), filed.longest_row()), (None, Some(4)));
    // limit, expected: the smaller limit holds, and the left end goes, as the file asks.
    let cases: [(usize, &[u32]); 3] = [(512, &[2, 7, 8, 3]), (4, &[2, 7, 8, 3]), (3, &[2, 8, 3])];
    for (limit, expected) in cases {
        assert_eq!(filed.encode_all(&["a b c d e"], "", limit).unwrap(), [expected], "to {limit}");
    }
    assert_eq!(filed.encode_all(&["a"], "", 512).unwrap(), [[2, 4, 3]]);
    assert_ne!(filed.fingerprint(), plain.fingerprint(), "rows of the one are not taken for rows of the other");
    assert_eq!(filed.to_bytes(), plain.to_bytes());

    let mut file = letters();
    file["truncation"]["max_length"] = json!(2);
    let message = tokenizer(&file).cut_as_filed().unwrap_err().to_string();
    assert!(message.contains("truncation.max_length is 2") && message.contains("expected 3 or more"), "{message}");
    file["truncation"] = Value::Null;
    let free = tokenizer(&file).cut_as_filed().unwrap();
    assert_eq!((free.longest_row(), free.fingerprint()), (None, tokenizer(&file).fingerprint()));
}

#[test]
fn many_texts_come_back_in_order() {
    let tokenizer = tokenizer(&letters());
    let texts: Vec<String> = (0..5000).map(|i| ["a ", "b ", "c "][i % 3].repeat(i % 7)).collect();
    for (index, row) in tokenizer.encode_all(&texts, "", 100).unwrap().iter().enumerate() {
        let mut expected = vec![2];
        expected.extend(std::iter::repeat_n(4 + (index % 3) as u32, index % 7));
        expected.push(3);
        assert_eq!(row, &expected);
    }
}

#[test]
fn padding_id_is_the_sections_then_the_tokens_then_zero() {
    let mut file = letters();
    assert_eq!(tokenizer(&file).pad_id(), 9);
    file["padding"] = Value::Null;
    assert_eq!(tokenizer(&file).pad_id(), 0);
    file["added_tokens"].as_array_mut().unwrap().remove(0);
    let vocabulary = file["model"]["vocab"].as_object_mut().unwrap();
    vocabulary.remove("[PAD]");
    vocabulary.insert("<pad>".into(), json!(30));
    assert_eq!(tokenizer(&file).pad_id(), 30);
    file["model"]["vocab"].as_object_mut().unwrap().remove("<pad>");
    assert_eq!(tokenizer(&file).pad_id(), 0);
}

#[test]
fn vocabulary_reaches_to_the_highest_id() {
    let mut file = letters();
    assert_eq!(tokenizer(&file).vocabulary_size(), 30);
    file["model"]["vocab"]["gap"] = json!(99);
    assert_eq!(tokenizer(&file).vocabulary_size(), 100);
}

#[test]
fn bytes_are_kept_and_told_apart() {
    let bytes = letters().to_string();
    let tokenizer = TextTokenizer::from_bytes(bytes.as_bytes()).unwrap();
    assert_eq!(tokenizer.to_bytes(), bytes.as_bytes());
    assert_eq!(tokenizer.fingerprint(), hex(&Sha256::digest(&bytes)));
    assert_eq!(tokenizer.fingerprint().len(), 64);
    let other = TextTokenizer::from_bytes(format!("{bytes}\n").as_bytes()).unwrap();
    assert_ne!(other.fingerprint(), tokenizer.fingerprint());
}

#[test]
fn faults_name_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let missing = TextTokenizer::from_file(&path).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json: ") && missing.contains("expected"), "{missing}");
    for content in ["", "{}", "{\"model\": 3}", "\u{0}"] {
        fs::write(&path, content).unwrap();
        let fault = TextTokenizer::from_file(&path).unwrap_err().to_string();
        assert!(fault.starts_with(&*path.to_string_lossy()) && fault.contains("no usable tokenizer"), "{fault}");
    }
    let short = tokenizer(&letters()).encode_all(&["a"], "", 2).unwrap_err().to_string();
    assert!(short.contains("limit of 2 tokens") && short.contains("set it to 3 or more"), "{short}");
}

#[test]
fn ids_equal_those_of_transformers() {
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden"));
    if !golden.exists() {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: ids of transformers (../shared is not there)");
        }
        return;
    }
    let cases: Value = serde_json::from_slice(&fs::read(golden.join("forward.json")).unwrap()).unwrap();
    let texts: Vec<&str> = cases["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let arrays = fs::read(golden.join("forward.safetensors")).unwrap();
    let (ids, width) = integers(&arrays, "input_ids");
    let (mask, _) = integers(&arrays, "attention_mask");
    let tokenizer = TextTokenizer::from_file(&golden.join("tiny-bert/tokenizer.json")).unwrap();
    let rows = tokenizer.encode_all(&texts, "", 48).unwrap();
    assert_eq!(rows.len() * width, ids.len());
    assert!(rows.iter().any(|row| row.len() == 48), "one text should be cut");
    for (index, row) in rows.iter().enumerate() {
        let place = index * width..(index + 1) * width;
        let length = mask[place.clone()].iter().sum::<i64>() as usize;
        let mut padded: Vec<i64> = row.iter().map(|&id| i64::from(id)).collect();
        assert_eq!(padded.len(), length, "{:?}", texts[index]);
        padded.resize(width, i64::from(tokenizer.pad_id()));
        assert_eq!(padded, ids[place], "{:?}", texts[index]);
    }
}

/// An integer matrix of a safetensors file, row by row, and its width.
fn integers(file: &[u8], name: &str) -> (Vec<i64>, usize) {
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header[name]["dtype"], "I64");
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let bounds = &header[name]["data_offsets"];
    let values = data[number(&bounds[0])..number(&bounds[1])].chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
    (values.collect(), number(&header[name]["shape"][1]))
}
