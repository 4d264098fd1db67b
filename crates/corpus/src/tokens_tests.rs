//! The cache: found again, told apart by everything that matters, mended when damaged.

use std::time::SystemTime;

use super::*;
use crate::tokenizer::tests::{letters, tokenizer};

fn texts(from: &[&str]) -> Texts {
    let mut texts = Texts::new();
    for text in from {
        texts.push(text);
    }
    texts
}

fn rows(tokens: &Tokens) -> Vec<Vec<u32>> {
    (0..tokens.len() as u32).map(|index| tokens.row(index).to_vec()).collect()
}

/// The files of a cache folder with the time of their last change.
fn files(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path(), entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    files.sort();
    files
}

const SPEC: TokenSpec<'_> = TokenSpec { prompt: "q ", max_length: 6 };

#[test]
fn rows_equal_direct_encoding_with_and_without_cache() {
    let tokenizer = tokenizer(&letters());
    let many: Vec<String> = (0..BLOCK_TEXTS + 100).map(|i| "x y z ".repeat(i % 5)).collect();
    let texts = texts(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = tokenizer.encode_all(&many, SPEC.prompt, SPEC.max_length).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("not/yet/there");
    for cache in [None, Some(cache.as_path()), Some(cache.as_path())] {
        let tokens = Tokens::prepare(cache, &tokenizer, &SPEC, &texts).unwrap();
        assert_eq!(tokens.len(), many.len());
        assert_eq!(tokens.total_tokens(), expected.iter().map(|row| row.len() as u64).sum::<u64>());
        assert!(rows(&tokens) == expected, "with cache {cache:?}");
    }
    assert_eq!(files(&cache).len(), 1, "one file and no temporary");
}

#[test]
fn no_texts_are_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    for cache in [None, Some(folder.path()), Some(folder.path())] {
        let tokens = Tokens::prepare(cache, &tokenizer(&letters()), &SPEC, &Texts::new()).unwrap();
        assert!(tokens.is_empty());
        assert_eq!(tokens.total_tokens(), 0);
    }
    let empty = Tokens::prepare(None, &tokenizer(&letters()), &TokenSpec { prompt: "", max_length: 6 }, &texts(&[""])).unwrap();
    assert_eq!(empty.row(0), [2, 3]);
}

#[test]
fn a_hit_leaves_the_file_alone_and_does_not_tokenise() {
    let folder = tempfile::tempdir().unwrap();
    let (tokenizer, texts) = (tokenizer(&letters()), texts(&["a b", "c"]));
    drop(Tokens::prepare(Some(folder.path()), &tokenizer, &SPEC, &texts).unwrap());
    let before = files(folder.path());
    // A row altered behind the cache's back shows where rows come from.
    let mut content = fs::read(&before[0].0).unwrap();
    let last = content.len() - size_of::<u32>();
    content[last..].copy_from_slice(&77_u32.to_ne_bytes());
    fs::write(&before[0].0, content).unwrap();
    let altered = files(folder.path());
    let tokens = Tokens::prepare(Some(folder.path()), &tokenizer, &SPEC, &texts).unwrap();
    assert_eq!(rows(&tokens), [vec![2, 20, 4, 5, 3], vec![2, 20, 6, 77]]);
    assert_eq!(files(folder.path()), altered);
}

#[test]
fn each_ingredient_changes_the_key() {
    let plain = tokenizer(&letters());
    let other = TextTokenizer::from_bytes(format!("{} ", letters()).as_bytes()).unwrap();
    let base = key(&plain, &SPEC, &texts(&["ab", "c"]));
    let changed = [
        ("tokenizer", key(&other, &SPEC, &texts(&["ab", "c"]))),
        ("prompt", key(&plain, &TokenSpec { prompt: "q", ..SPEC }, &texts(&["ab", "c"]))),
        ("length", key(&plain, &TokenSpec { max_length: 7, ..SPEC }, &texts(&["ab", "c"]))),
        ("a text", key(&plain, &SPEC, &texts(&["ab", "d"]))),
        ("order", key(&plain, &SPEC, &texts(&["c", "ab"]))),
        ("where texts end", key(&plain, &SPEC, &texts(&["a", "bc"]))),
        ("one text more", key(&plain, &SPEC, &texts(&["ab", "c", ""]))),
        ("one text less", key(&plain, &SPEC, &texts(&["ab"]))),
    ];
    assert_eq!(base, key(&plain, &SPEC, &texts(&["ab", "c"])));
    for (index, (what, key)) in changed.iter().enumerate() {
        assert_ne!(base, *key, "{what}");
        assert!(changed[..index].iter().all(|(_, earlier)| earlier != key), "{what}");
    }
}

#[test]
fn damaged_files_are_made_anew() {
    let (tokenizer, texts) = (tokenizer(&letters()), texts(&["a b", "", "c d e f g"]));
    let folder = tempfile::tempdir().unwrap();
    let expected = rows(&Tokens::prepare(Some(folder.path()), &tokenizer, &SPEC, &texts).unwrap());
    let path = files(folder.path())[0].0.clone();
    let good = fs::read(&path).unwrap();
    let mut damages: Vec<(String, Vec<u8>)> = Vec::new();
    for length in [0, 1, 63, 64, 64 + 8, good.len() - 4, good.len() - 1] {
        damages.push((format!("cut to {length}"), good[..length].to_vec()));
    }
    damages.push(("longer".into(), [&good[..], &[0; 4]].concat()));
    // Magic, version, rows, tokens, key, and each of the four offsets.
    for byte in [0, 8, 16, 24, 40, 64, 72, 80, 88] {
        let mut bad = good.clone();
        bad[byte] ^= 0x20;
        damages.push((format!("byte {byte} flipped"), bad));
    }
    let mut huge = good.clone();
    huge[24..32].fill(0xff);
    damages.push(("an absurd number of tokens".into(), huge));
    for (what, bad) in damages {
        fs::write(&path, bad).unwrap();
        let tokens = Tokens::prepare(Some(folder.path()), &tokenizer, &SPEC, &texts).unwrap();
        assert_eq!(rows(&tokens), expected, "{what}");
        drop(tokens);
        assert!(fs::read(&path).unwrap() == good, "{what}");
        assert_eq!(files(folder.path()).len(), 1, "{what}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("occupied");
    fs::write(&file, "").unwrap();
    let fault = Tokens::prepare(Some(&file), &tokenizer(&letters()), &SPEC, &texts(&["a"])).unwrap_err();
    assert!(matches!(fault, CorpusError::Cache { .. }), "{fault}");
    assert!(fault.to_string().contains("occupied"), "{fault}");
}
