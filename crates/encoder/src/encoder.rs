//! An encoder as users know it: network, tokenizer, settings, and the files that travel with them.
//!
//! Loading dispatches to `folder` and `hub`, saving to `save`. Training takes [`Encoder::network`] out, trains a copy on
//! an autodiff device and puts `valid()` of it back.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use corpus::TextTokenizer;
use sha2::{Digest, Sha256};

use crate::batch::TokenBatch;
use crate::error::EncoderError;
use crate::hub::Hub;
use crate::network::{Network, check_rows};
use crate::settings::Settings;
use crate::{folder, save, tiny};

/// A bi-encoder that can be used, trained and saved.
pub struct Encoder {
    /// The trainable part.
    pub network: Network,
    /// Text to token ids, with whatever the model folder asks for around `tokenizer.json`.
    pub tokenizer: TextTokenizer,
    /// Pooling, prompts, lengths, similarity. Change them through [`Encoder::configure`].
    pub settings: Settings,
    /// For the model card that is saved.
    pub card: Card,
    /// Files of the model folder that are saved unchanged: name and content.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Whether the folder asks for lowercasing before the tokenizer.
    pub(crate) lowercase: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("dimension", &self.network.dimension()).field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the README of a saved model says about its origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Hub id of the model that training started from.
    pub base_model: Option<String>,
    /// Names of the collections trained on.
    pub datasets: Vec<String>,
    /// Markdown below the generated part.
    pub text: String,
}

/// In which role a text is embedded: decides prompt and length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No prompt, the document length.
    Plain,
    /// The query prompt and length.
    Query,
    /// The document prompt and length.
    Document,
}

impl Encoder {
    /// Loads a model folder, or a model of the hub given as `organisation/name`, onto `device`.
    ///
    /// # Errors
    /// Says which file, key or tensor is wrong and what would be right.
    pub fn load(spec: &str, device: &Device) -> Result<Self, EncoderError> {
        match Path::new(spec) {
            path if path.is_dir() => folder::load(path, device),
            _ if Hub::is_id(spec) => Self::download(spec, &Hub::from_env(), device),
            _ => Err(EncoderError::UnknownModel { spec: spec.to_owned() }),
        }
    }

    /// Whether [`Encoder::load`] will find an encoder of texts there, without reading its weights; a model of the hub is fetched.
    ///
    /// # Errors
    /// When there is none, or a reranker.
    pub fn check(spec: &str) -> Result<(), EncoderError> {
        folder::check(&Hub::locate(spec)?)
    }

    /// Loads model `id` from a given hub.
    ///
    /// # Errors
    /// As [`Encoder::load`].
    pub fn download(id: &str, hub: &Hub, device: &Device) -> Result<Self, EncoderError> {
        let mut encoder = folder::load(&hub.fetch(id)?, device)?;
        encoder.card.base_model = Some(id.to_owned());
        Ok(encoder)
    }

    /// The built-in encoder: an embedding bag over the words of `texts`, with random vectors drawn from `seed`.
    /// Deterministic in texts and seed, on every device.
    ///
    /// # Panics
    /// Never on account of the texts; an empty collection gives an encoder that knows no word.
    pub fn tiny<'a>(texts: impl Iterator<Item = &'a str>, seed: u64, device: &Device) -> Self {
        tiny::encoder(texts, seed, device)
    }

    /// Replaces the settings, and brings pooling and normalisation into the network.
    ///
    /// # Errors
    /// A length of zero or beyond the positions of the model; nothing is changed then.
    pub fn configure(&mut self, settings: Settings) -> Result<(), EncoderError> {
        settings.check_lengths(self.network.max_length())?;
        self.network = self.network.clone().with_head(settings.pooling, settings.normalize);
        self.settings = settings;
        self.settings.pooling = self.network.pooling();
        Ok(())
    }

    /// Writes the verbose sentence-transformers layout to `folder`: complete or not at all. A model that is there is
    /// replaced.
    ///
    /// # Errors
    /// Something cannot be written, or `folder` holds something else than a model.
    pub fn save(&self, folder: &Path) -> Result<(), EncoderError> {
        save::save(self, folder)
    }

    /// Prompt and length limit of a role.
    pub fn limits(&self, role: Role) -> (&str, usize) {
        let settings = &self.settings;
        match role {
            Role::Plain => ("", settings.document_length),
            Role::Query => (&settings.query_prompt, settings.query_length),
            Role::Document => (&settings.document_prompt, settings.document_length),
        }
    }

    /// Embeds `texts` in batches of at most `batch`, those of like length together: `[texts, dimension]` as
    /// `f32`, in the order given, checked by [`check_rows`]. For a few thousand texts; collections go through token
    /// caches and the embedding store.
    ///
    /// # Errors
    /// The tokenizer fails, the device fails, or a row is not finite or all zero.
    pub fn embed(&self, texts: &[&str], role: Role, batch: usize) -> Result<TensorData, EncoderError> {
        let (prompt, length) = self.limits(role);
        let tokens = self
            .tokenizer
            .encode_all(texts, prompt, length)
            .map_err(|source| EncoderError::Tokenizer { path: "<tokenizer>".into(), source })?;
        let device = self.network.device();
        let dimension = self.network.dimension();
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(tokens[row].len()));
        let mut rows = vec![0.0f32; tokens.len() * dimension];
        for chunk in order.chunks(batch.max(1)) {
            let chosen: Vec<&[u32]> = chunk.iter().map(|&row| tokens[row].as_slice()).collect();
            let encoded = self.network.encode(&TokenBatch::new(&chosen, self.tokenizer.pad_id()), &device);
            let data = encoded.try_into_vec_as::<f32>().map_err(|error| EncoderError::Device { message: format!("{error:?}") })?;
            for (&row, values) in chunk.iter().zip(data.chunks_exact(dimension)) {
                rows[row * dimension..][..dimension].copy_from_slice(values);
            }
        }
        let rows = TensorData::new(rows, [tokens.len(), dimension]);
        check_rows(&rows)?;
        Ok(rows)
    }

    /// SHA-256, in hexadecimal, of everything that an embedding depends on: weights, pooling, normalisation, prompts,
    /// lengths, tokenizer.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let s = &self.settings;
        let head = format!("{:?} {} {} {}", self.network.pooling(), self.network.normalizes(), s.query_length, s.document_length);
        part(head.as_bytes());
        part(s.query_prompt.as_bytes());
        part(s.document_prompt.as_bytes());
        part(self.tokenizer.fingerprint().as_bytes());
        for (name, data) in self.network.tensors() {
            part(name.as_bytes());
            part(data.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
