//! Pairs of texts as one row of tokens: what a reranker reads.
//!
//! The pair template of `tokenizer.json` says which special tokens stand where and which type each token has. Rows that are too long
//! lose tokens of the longer text first (`longest_first` of transformers). Padding off, lengths and types checked here, so that a
//! [`TokenPairs`] always fits its model.

use std::path::{Path, PathBuf};

use corpus::{CorpusError, TextTokenizer};
use rayon::prelude::*;
use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection};

use crate::batch::TokenBatch;
use crate::error::EncoderError;

/// One pair of texts, tokenised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairTokens {
    /// Token ids of both texts with their special tokens.
    pub ids: Vec<u32>,
    /// Type of each token; empty when the model tells none apart.
    pub types: Vec<u32>,
}

/// Pairs on the host, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPairs {
    /// Ids, lengths and sizes.
    pub tokens: TokenBatch,
    /// One for each id; none when the model tells no types apart.
    pub types: Option<Vec<u32>>,
}

impl TokenPairs {
    /// Of these rows; `pad_id` stands for one without tokens.
    pub fn new(rows: &[&PairTokens], pad_id: u32) -> Self {
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let tokens = TokenBatch::new(&ids, pad_id);
        let typed = rows.iter().any(|row| !row.types.is_empty());
        let types = typed.then(|| {
            let rows = rows.iter().zip(tokens.lengths());
            rows.flat_map(|(row, &length)| row.types.iter().copied().chain(std::iter::repeat(0)).take(length)).collect()
        });
        Self { tokens, types }
    }
}

/// A tokenizer set to pairs of one length. The library's own truncation is off: it cuts each text at the whole length first, and then
/// halves two texts that only look equally long.
#[derive(Clone)]
pub(crate) struct PairTokenizer {
    tokenizer: Tokenizer,
    /// The same file for single texts: padding id, size, fingerprint, bytes.
    pub(crate) file: TextTokenizer,
    path: PathBuf,
    /// Rows of the token-type embedding when types are used, else 0.
    types: usize,
    max_length: usize,
}

impl PairTokenizer {
    /// `types`: rows of the token-type embedding, 0 when types are not used. `limit`: the positions of the model.
    pub(crate) fn new(file: TextTokenizer, path: &Path, types: usize, max_length: usize, limit: usize) -> Result<Self, EncoderError> {
        let failed = |error: tokenizers::Error| EncoderError::TokenizerBuild { path: path.to_owned(), message: error.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(file.to_bytes()).map_err(failed)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        let mut pairs = Self { tokenizer, file, path: path.to_owned(), types, max_length };
        pairs.truncate_at(max_length, limit)?;
        Ok(pairs)
    }

    /// Sets the length of a pair, special tokens included.
    pub(crate) fn truncate_at(&mut self, max_length: usize, limit: usize) -> Result<(), EncoderError> {
        let special = self.special_tokens();
        if max_length <= special || max_length > limit {
            return Err(EncoderError::PairLength { got: max_length, least: special + 1, limit });
        }
        self.max_length = max_length;
        Ok(())
    }

    fn special_tokens(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(true))
    }

    pub(crate) fn max_length(&self) -> usize {
        self.max_length
    }

    /// Rows of `pairs`, in order, computed in parallel.
    pub(crate) fn encode_all<Q: AsRef<str> + Sync, D: AsRef<str> + Sync>(&self, pairs: &[(Q, D)]) -> Result<Vec<PairTokens>, EncoderError> {
        pairs.par_iter().map(|(query, document)| self.encode(query.as_ref(), document.as_ref())).collect()
    }

    fn encode(&self, query: &str, document: &str) -> Result<PairTokens, EncoderError> {
        let side = |text: &str| self.tokenizer.encode_fast(text, false).map_err(|error| self.failed(&*error));
        let (mut first, mut second) = (side(query)?, side(document)?);
        let kept = longest_first(first.len(), second.len(), self.max_length - self.special_tokens());
        truncate(&mut first, kept.0);
        truncate(&mut second, kept.1);
        // What a template or its absence makes of the second text; a template sets the types itself.
        second.set_type_ids(vec![1; second.len()]);
        let encoding = self.tokenizer.post_process(first, Some(second), true).map_err(|error| self.failed(&*error))?;
        let types = match self.types {
            0 | 1 => Vec::new(),
            _ => encoding.get_type_ids().to_vec(),
        };
        if let Some(&got) = types.iter().find(|&&kind| kind as usize >= self.types) {
            return Err(EncoderError::TokenType { path: self.path.clone(), got, rows: self.types });
        }
        Ok(PairTokens { ids: encoding.get_ids().to_vec(), types })
    }

    fn failed(&self, error: &(dyn std::error::Error + Send + Sync)) -> EncoderError {
        let reason = format!("the tokenizer fails on a pair of texts ({error}); check that it belongs to this model");
        EncoderError::Tokenizer { path: self.path.clone(), source: CorpusError::Tokenizer { path: self.path.clone(), reason } }
    }
}

/// Tokens kept of two texts when there is room for so many: the longer one is cut down to the shorter, then both in halves, the odd
/// token to the longer one (the second when they are equal).
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let short = first.min(second).min(room / 2);
    if first > second { (room - short, short) } else { (short, room - short) }
}

/// Keeps the first `count` tokens and not what is cut off, which a template would multiply.
fn truncate(encoding: &mut Encoding, count: usize) {
    encoding.truncate(count, 0, TruncationDirection::Right);
    drop(encoding.take_overflowing());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer(max_length: usize) -> Result<PairTokenizer, EncoderError> {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
        let mark = |id: &str, kind: u32| json!({"SpecialToken": {"id": id, "type_id": kind}});
        let bytes = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [special(0, "[PAD]"), special(1, "[CLS]"), special(2, "[SEP]")],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing", "single": [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0)],
                "pair": [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0), text("B", 1), mark("[SEP]", 1)],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}},
            },
            "model": {"type": "WordLevel", "unk_token": "[PAD]", "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5}},
        });
        let file = TextTokenizer::from_bytes(bytes.to_string().as_bytes()).unwrap();
        PairTokenizer::new(file, Path::new("tokenizer.json"), 2, max_length, 9)
    }

    fn row(pairs: &PairTokenizer, query: &str, document: &str) -> (Vec<u32>, Vec<u32>) {
        let row = pairs.encode(query, document).unwrap();
        (row.ids, row.types)
    }

    #[test]
    fn pairs_follow_the_template_and_the_longer_text_is_cut_first() {
        let pairs = tokenizer(8).unwrap();
        assert_eq!(row(&pairs, "a", "b c"), (vec![1, 3, 2, 4, 5, 2], vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(row(&pairs, "a", "b b b b b b"), (vec![1, 3, 2, 4, 4, 4, 4, 2], vec![0, 0, 0, 1, 1, 1, 1, 1]));
        assert_eq!(row(&pairs, "a a a a a a", "b").0, [1, 3, 3, 3, 3, 2, 4, 2]);
        assert_eq!(row(&pairs, "a a a a", "b b b b b").0, [1, 3, 3, 2, 4, 4, 4, 2], "halves, the odd token to the longer text");
        assert_eq!(row(&pairs, "", "").0, [1, 2, 2]);
        let batch = TokenPairs::new(&[&pairs.encode("a", "b c").unwrap(), &pairs.encode("", "b").unwrap()], 0);
        assert_eq!((batch.tokens.width(), batch.tokens.lengths()), (6, &[6, 4][..]));
        assert_eq!(batch.types.unwrap(), [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn the_longer_text_loses_tokens_until_both_are_equally_long() {
        for first in 0..12usize {
            for second in 0..12usize {
                for room in 1..24usize {
                    let mut kept = (first, second);
                    while kept.0 + kept.1 > room {
                        // On equal lengths the odd token stays with the text that was longer to begin with.
                        let cut_first = kept.0 > kept.1 || (kept.0 == kept.1 && first <= second);
                        if cut_first { kept.0 -= 1 } else { kept.1 -= 1 }
                    }
                    assert_eq!(longest_first(first, second, room), kept, "{first} and {second} in {room}");
                }
            }
        }
    }

    #[test]
    fn impossible_lengths_and_types_are_refused() {
        for length in [0, 3, 10] {
            let message = tokenizer(length).err().expect("a length that cannot be").to_string();
            assert!(message.contains(&format!("is {length}, expected 4 to 9")), "{message}");
        }
        let mut pairs = tokenizer(4).unwrap();
        assert_eq!(row(&pairs, "a b", "c").0.len(), 4);
        pairs.types = 3;
        assert_eq!(row(&pairs, "a b", "c").1.len(), 4);
        pairs.types = 1;
        assert!(row(&pairs, "a b", "c").1.is_empty(), "one type tells nothing apart");
    }
}
