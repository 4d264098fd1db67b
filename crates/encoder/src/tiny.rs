//! `builtin:tiny`: an embedding bag over the words of a collection, made on the spot and trained in seconds.
//!
//! The tokenizer is a real `tokenizer.json` (lowercase, split at whitespace and punctuation, whole words), so the saved
//! model loads in sentence-transformers. Everything is a function of texts and seed: counting is exact, ties go by word,
//! and vectors are drawn on the host from whole numbers, so no device and no math library can change a bit.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use corpus::TextTokenizer;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Map, Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::encoder::{Card, Encoder};
use crate::error::EncoderError;
use crate::names;
use crate::network::{Network, Plan, STATIC_LENGTH};
use crate::pooling::Pooling;
use crate::settings::Settings;
use crate::weights::Weights;

const DIMENSION: usize = 128;
/// Words kept, without the two special tokens.
const WORDS: usize = 20_000;
/// Standard deviation of the first vectors; small against what a training step moves.
const DEVIATION: f32 = 0.1;

pub(crate) fn encoder<'a>(texts: impl Iterator<Item = &'a str>, seed: u64, device: &Device) -> Encoder {
    let build = || {
        let bytes = tokenizer_json(&vocabulary(texts))?;
        let path = Path::new("<builtin:tiny>");
        let tokenizer = TextTokenizer::from_bytes(&bytes).map_err(|source| EncoderError::Tokenizer { path: path.to_owned(), source })?;
        let rows = tokenizer.vocabulary_size();
        let table = TensorData::new(normal(rows * DIMENSION, DEVIATION, seed), [rows, DIMENSION]);
        let weights = Weights::from_tensors("builtin:tiny", [(names::BAG.to_owned(), table)]);
        let plan = Plan::Static { vocabulary: rows, dimension: DIMENSION };
        Ok::<_, EncoderError>(Encoder {
            network: Network::build(&plan, Pooling::Mean, true, weights, device)?,
            tokenizer,
            settings: Settings::plain(Pooling::Mean, true, STATIC_LENGTH),
            card: Card::default(),
            files: vec![("tokenizer.json".to_owned(), bytes)],
            lowercase: false,
        })
    };
    // Nothing here depends on files or users: words are plain strings and the tokenizer is of a fixed form.
    build().expect("the built-in encoder is well-formed")
}

/// The most frequent words, most frequent first, ties by word.
fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let normalizer = BertNormalizer::default();
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        let mut normalized = NormalizedString::from(text);
        // Both steps fail only in hooks that these two types do not have.
        if normalizer.normalize(&mut normalized).is_err() {
            continue;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if BertPreTokenizer.pre_tokenize(&mut pieces).is_err() {
            continue;
        }
        for (word, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), 1);
                }
            }
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
    words.truncate(WORDS);
    words.into_iter().map(|(word, _)| word).collect()
}

/// `tokenizer.json` over `words`, as the tokenizers crate itself writes it.
fn tokenizer_json(words: &[String]) -> Result<Vec<u8>, EncoderError> {
    let failed = |message: String| EncoderError::TokenizerBuild { path: "<builtin:tiny>".into(), message };
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let mut vocabulary = Map::from_iter([("[PAD]".to_owned(), json!(0)), ("[UNK]".to_owned(), json!(1))]);
    for word in words {
        let next = vocabulary.len();
        vocabulary.entry(word.clone()).or_insert_with(|| Value::from(next));
    }
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    let bytes = serde_json::to_vec(&description).map_err(|error| failed(error.to_string()))?;
    let tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| failed(error.to_string()))?;
    tokenizer.to_string(true).map(String::into_bytes).map_err(|error| failed(error.to_string()))
}

/// Nearly normal numbers with the given deviation: the sum of twelve uniform ones has mean 6 and variance 1, and
/// needs no function whose last bit differs between platforms.
pub(crate) fn normal(count: usize, deviation: f32, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || {
        let sum: i64 = (0..6).map(|_| random.next_u64()).map(|word| i64::from(word as u32) + i64::from((word >> 32) as u32)).sum();
        // Exact in f64: at most 36 bits. The centre is 12 times the mean of a 32-bit word.
        (sum as f64 - 6.0 * 4_294_967_295.0) / 4_294_967_296.0
    };
    (0..count).map(|_| (draw() * f64::from(deviation)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_the_tokenizer_splits_them() {
        let words = vocabulary(["The cat, the dog.", "A CAT; naïve café"].into_iter());
        assert_eq!(words[..2], ["cat", "the"]);
        assert!(words.contains(&"naive".to_owned()) && words.contains(&",".to_owned()));
        assert_eq!(words.len(), 9);
    }

    #[test]
    fn special_tokens_come_first() {
        let bytes = tokenizer_json(&["b".to_owned(), "[UNK]".to_owned(), "a".to_owned()]).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let ids = |text: &str| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!((tokenizer.token_to_id("[PAD]"), ids("b a zebra")), (Some(0), vec![2, 3, 1]));
    }

    #[test]
    fn numbers_are_nearly_normal_and_repeat() {
        let values = normal(100_000, DEVIATION, 7);
        assert_eq!(values[..8], normal(8, DEVIATION, 7)[..]);
        assert_ne!(values[..8], normal(8, DEVIATION, 8)[..]);
        let mean = values.iter().sum::<f32>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1e5;
        assert!(mean.abs() < 1e-3, "{mean}");
        assert!((variance.sqrt() - DEVIATION).abs() < 1e-3, "{variance}");
    }
}
