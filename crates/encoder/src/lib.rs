//! Bi-encoders: text in, one vector out; as burn modules that train, and as folders that other tools read.
//!
//! | part | owns |
//! |---|---|
//! | [`Encoder`] | network, tokenizer and settings together: load, save, embed texts |
//! | [`Network`] | the burn module: [`TokenBatch`] in, rows on the device out |
//! | [`Architecture`], `transformer`, `attention` | BERT, DistilBERT, RoBERTa and MPNet in one implementation |
//! | `static_embedding`, `tiny` | embedding bags, and the built-in encoder made from a collection's own words |
//! | [`Pooling`], [`normalize`] | from hidden states to one vector |
//! | [`Settings`], `folder`, `save` | sentence-transformers model folders, both layouts read, the verbose one written |
//! | [`Hub`] | models by name from the Hugging Face hub |
//! | `names`, `weights` | names and orientation of tensors in checkpoints |
//!
//! Knows no losses, no collections and no search. Invariant: an [`Encoder`] that exists can embed any text, because
//! sizes, vocabulary and length limits are checked while loading.

mod architecture;
mod attention;
mod batch;
mod encoder;
mod error;
mod folder;
mod hub;
mod names;
mod network;
mod pooling;
mod save;
mod settings;
mod static_embedding;
mod tiny;
mod transformer;
mod weights;

pub use architecture::{Activation, Architecture, Family};
pub use batch::TokenBatch;
pub use encoder::{Card, Encoder, Role};
pub use error::{EncoderError, TensorProblems};
pub use hub::Hub;
pub use network::{Network, check_rows};
pub use pooling::{Pooling, normalize};
pub use settings::{Settings, Similarity};
