//! `trainer search`: one typed query against a collection.

use anyhow::{Context, Result};
use corpus::{Texts, TokenSpec, Tokens};
use mining::EmbeddingStore;
use serde_json::json;

use crate::args::SearchArgs;
use crate::data::{self, Data};
use crate::device;
use crate::errors::Usage;
use crate::output;
use crate::rows::Rows;
use crate::setup;

/// Characters of a document shown in the table.
const SHOWN: usize = 100;

pub(super) fn run(args: &SearchArgs) -> Result<()> {
    if args.k == 0 || args.k > 1024 {
        return Err(Usage::new(format!("--k {}: expected 1 to 1024", args.k)).into());
    }
    if args.query.trim().is_empty() {
        return Err(Usage::new("the query is empty").into());
    }
    let chosen = device::choose(args.common.device())?;
    let collection = data::open_documents(&args.data)?;
    let encoder = setup::as_meant(setup::encoder_named(&args.model, &collection, 1, &chosen)?, &args.model, &args.meant)?;
    let documents = match &args.document_model {
        Some(model) => setup::document_network(model, &encoder, &args.meant, &collection, &chosen)?,
        None => encoder.network.clone(),
    };
    let data = Data::prepare(collection, &encoder.tokenizer, &encoder.settings)?;
    let device = chosen.device.without_autodiff();
    let mut query = Texts::new();
    query.push(&args.query);
    let spec = TokenSpec { prompt: &encoder.settings.query_prompt, max_length: encoder.settings.query_length };
    let tokens = Tokens::prepare(None, &encoder.tokenizer, &spec, &query)?;
    let embedded = encoder.network.encode(&data.tokens.batch(&[tokens.row(0)]), &device);
    let mut rows = Rows::new(documents, &device, &data.tokens);
    let store = EmbeddingStore::encode(&mut rows, data.documents(), &device).context("encoding the documents")?;
    let top = store.search(embedded, args.k.min(data.documents()), None, None).context("searching")?;
    let documents = &data.collection.documents;
    if args.common.json {
        let hits: Vec<_> =
            top.row(0).map(|(id, score)| json!({ "id": documents.id(id), "score": score, "text": documents.text(id) })).collect();
        return output::json(&json!({ "query": args.query, "hits": hits }));
    }
    for (rank, (id, score)) in top.row(0).enumerate() {
        let text: String = documents.text(id).chars().take(SHOWN).collect();
        output::line(&format!("{:>3}  {score:>8.4}  {}  {text}", rank + 1, documents.id(id)));
    }
    Ok(())
}
