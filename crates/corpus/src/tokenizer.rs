//! Texts to token ids, through the `tokenizers` library and a `tokenizer.json`.
//!
//! Owns what the file must not decide: padding is off (batches have none) and every call says how
//! long a row may be, whatever truncation the file asks for, unless a model's reader is known to keep that
//! ([`TextTokenizer::cut_as_filed`]). Keeps the file's bytes, so that a saved model carries the
//! tokenizer that it was trained with. Storing ids is the business of `tokens.rs`.

use std::{
    borrow::Cow,
    fmt, fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::error::CorpusError;

/// Names of the padding token, tried in turn when the file has no padding section.
const PAD_TOKENS: [&str; 2] = ["[PAD]", "<pad>"];

/// A tokenizer as its `tokenizer.json` describes it, without the file's padding and, until told otherwise, truncation.
#[derive(Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    bytes: Vec<u8>,
    fingerprint: String,
    pad_id: u32,
    vocabulary_size: usize,
    /// What the file's truncation says: longest row, and the end that a longer one loses.
    filed: Option<(usize, TruncationDirection)>,
    /// The same, where it is kept.
    cut: Option<(usize, TruncationDirection)>,
    /// The file, for messages.
    origin: PathBuf,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when the file cannot be read or describes no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, CorpusError> {
        let bytes = fs::read(path).map_err(|error| CorpusError::Tokenizer {
            path: path.to_owned(),
            reason: format!("{error}; expected a tokenizer.json, as the tokenizers library saves it"),
        })?;
        Self::new(bytes, path)
    }

    /// Takes the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when it describes no tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CorpusError> {
        Self::new(bytes.to_vec(), Path::new("tokenizer.json"))
    }

    fn new(bytes: Vec<u8>, origin: &Path) -> Result<Self, CorpusError> {
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| CorpusError::Tokenizer {
            path: origin.to_owned(),
            reason: format!("no usable tokenizer ({error}); expected a tokenizer.json, as the tokenizers library saves it"),
        })?;
        let pad_id = match tokenizer.get_padding() {
            Some(padding) => padding.pad_id,
            None => PAD_TOKENS.iter().find_map(|token| tokenizer.token_to_id(token)).unwrap_or(0),
        };
        let filed = tokenizer.get_truncation().map(|truncation| (truncation.max_length, truncation.direction));
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| failure(origin, &*error))?;
        let vocabulary_size = tokenizer.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1);
        let fingerprint = hex(&Sha256::digest(&bytes));
        Ok(Self { tokenizer, bytes, fingerprint, pad_id, vocabulary_size, filed, cut: None, origin: origin.to_owned() })
    }

    /// The same, but a row also ends where the file's truncation says, be that sooner than a call does, and loses the end that the file
    /// names. Its fingerprint is another then, because its rows may be.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when the file would leave nothing of a text.
    pub fn cut_as_filed(mut self) -> Result<Self, CorpusError> {
        let Some((longest, _)) = self.filed else { return Ok(self) };
        let special = self.special_tokens();
        if longest <= special {
            return Err(CorpusError::Tokenizer {
                path: self.origin,
                reason: format!(
                    "truncation.max_length is {longest}, which leaves nothing of a text; expected {} or more, or no truncation",
                    special + 1
                ),
            });
        }
        self.cut = self.filed;
        self.fingerprint = hex(&Sha256::new().chain_update(&self.bytes).chain_update(b" cut as filed").finalize());
        Ok(self)
    }

    /// Tokens at which every row ends at the latest, where [`TextTokenizer::cut_as_filed`] found a truncation.
    pub fn longest_row(&self) -> Option<usize> {
        self.cut.map(|(longest, _)| longest)
    }

    /// Token ids of every text with `prompt` in front of it, in order, computed in parallel. Special tokens are included;
    /// a row longer than `max_length` loses its right end (or what [`TextTokenizer::cut_as_filed`] found), never its special tokens.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when `max_length` leaves no room beside the special tokens, or the tokenizer fails.
    pub fn encode_all<T: AsRef<str> + Sync>(&self, texts: &[T], prompt: &str, max_length: usize) -> Result<Vec<Vec<u32>>, CorpusError> {
        let truncating = self.truncating(prompt, max_length)?;
        texts.par_iter().map(|text| truncating.encode(text.as_ref())).collect()
    }

    /// The tokenizer for many calls with one prompt and one length; setting the length copies the vocabulary.
    pub(crate) fn truncating<'a>(&'a self, prompt: &'a str, max_length: usize) -> Result<Truncating<'a>, CorpusError> {
        let special = self.special_tokens();
        if max_length <= special {
            return Err(CorpusError::Tokenizer {
                path: self.origin.clone(),
                reason: format!(
                    "a length limit of {max_length} tokens leaves no room for text beside {special} special tokens; set it to {} or more",
                    special + 1
                ),
            });
        }
        let mut tokenizer = self.tokenizer.clone();
        let (longest, direction) = self.cut.unwrap_or((usize::MAX, TruncationDirection::Right));
        let max_length = max_length.min(longest);
        let truncation = TruncationParams { direction, max_length, strategy: TruncationStrategy::LongestFirst, stride: 0 };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| failure(&self.origin, &*error))?;
        Ok(Truncating { tokenizer, prompt, origin: &self.origin })
    }

    /// Number of special tokens in every row (2 for BERT: `[CLS]` and `[SEP]`).
    pub fn special_tokens(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }

    /// Id that stands for a text without tokens: the file's padding section, else `[PAD]` or `<pad>`, else 0.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Rows that an embedding table needs: the highest id plus 1, added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The id of a token, if the vocabulary has it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Sha256 of the file's bytes, and of what is kept of them, in hex.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The `tokenizer.json` as read, byte for byte.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A vocabulary fills a screen many times over; the fingerprint says as much.
impl fmt::Debug for TextTokenizer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TextTokenizer")
            .field("origin", &self.origin)
            .field("fingerprint", &self.fingerprint)
            .field("vocabulary_size", &self.vocabulary_size)
            .field("pad_id", &self.pad_id)
            .finish_non_exhaustive()
    }
}

/// A tokenizer set to one prompt and one length.
pub(crate) struct Truncating<'a> {
    tokenizer: Tokenizer,
    prompt: &'a str,
    origin: &'a Path,
}

impl Truncating<'_> {
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, CorpusError> {
        let input = if self.prompt.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{}{text}", self.prompt)) };
        let encoding = self.tokenizer.encode_fast(input, true).map_err(|error| failure(self.origin, &*error))?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn failure(origin: &Path, error: &(dyn std::error::Error + Send + Sync)) -> CorpusError {
    CorpusError::Tokenizer {
        path: origin.to_owned(),
        reason: format!("the tokenizer fails ({error}); check that it belongs to this model"),
    }
}

/// Lower-case hex of a digest.
pub(crate) fn hex(digest: &[u8]) -> String {
    use fmt::Write;
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
pub(crate) mod tests;
