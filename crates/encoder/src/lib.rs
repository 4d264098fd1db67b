//! Bi-encoders, text in, one vector out, and rerankers, two texts in, one score out: as burn modules that train, and as folders that
//! other tools read.
//!
//! | part | owns |
//! |---|---|
//! | [`Encoder`] | network, tokenizer and settings together: load, save, embed texts |
//! | [`Network`] | the burn module: [`TokenBatch`] in, rows on the device out |
//! | `keys` | typed access to the keys of a JSON file |
//! | [`Architecture`], `transformer`, `layer`, `attention` | BERT, DistilBERT, RoBERTa, MPNet, ModernBERT and decoders in one implementation |
//! | `static_embedding`, `tiny` | embedding bags, and the built-in encoder made from a collection's own words |
//! | `states`, [`Pooling`] | hidden states without padding, and from them to one vector |
//! | [`Settings`], `folder`, `save` | sentence-transformers model folders, both layouts read, the verbose one written |
//! | [`CrossEncoder`], [`PairNetwork`], `pairs` | rerankers: a pair of texts in, one score out; loaded, saved, made from an encoder |
//! | `interaction` | the reranker made from word vectors alone |
//! | [`Hub`] | models by name from the Hugging Face hub |
//! | `names`, `weights` | names and orientation of tensors in checkpoints |
//!
//! Knows no losses, no collections and no search. Invariant: an [`Encoder`] that exists can embed any text, because
//! sizes, vocabulary and length limits are checked while loading.

mod architecture;
mod attention;
mod batch;
mod cross_encoder;
mod encoder;
mod error;
mod folder;
mod hub;
mod interaction;
mod keys;
mod layer;
mod linear;
mod names;
mod network;
mod pair_network;
mod pairs;
mod pooling;
mod save;
mod settings;
mod states;
mod static_embedding;
mod tiny;
mod transformer;
mod weights;

pub use architecture::{Activation, Architecture, Family, Rotary};
pub use batch::TokenBatch;
pub use cross_encoder::{CrossEncoder, probability};
pub use encoder::{Card, Encoder, Role};
pub use error::{EncoderError, TensorProblems};
pub use hub::Hub;
pub use network::{Network, check_rows};
pub use pair_network::PairNetwork;
pub use pairs::{PairTokens, TokenPairs};
pub use pooling::Pooling;
pub use settings::{Settings, Similarity};
