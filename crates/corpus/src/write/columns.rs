//! Mined negatives in columns, as sentence-transformers trains on them: triplets and n-tuples.
//!
//! Some readers go by the order of the columns and some by their names, so both say the same. A query with several positives gives a row
//! (or, as triplets, a group of rows) for each.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{MinedRow, Sink};
use crate::error::CorpusError;

#[derive(Serialize)]
struct Triplet<'a> {
    anchor: &'a str,
    positive: &'a str,
    negative: &'a str,
}

struct Tuple<'a> {
    anchor: &'a str,
    positive: &'a str,
    negatives: Vec<&'a str>,
}

impl Serialize for Tuple<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut row = out.serialize_map(Some(2 + self.negatives.len()))?;
        row.serialize_entry("anchor", self.anchor)?;
        row.serialize_entry("positive", self.positive)?;
        for (at, negative) in self.negatives.iter().enumerate() {
            row.serialize_entry(&format!("negative_{}", at + 1), negative)?;
        }
        row.end()
    }
}

pub(super) fn triplets(sink: &mut Sink<'_>, row: &MinedRow) -> Result<(), CorpusError> {
    let documents = &sink.collection.documents;
    let anchor = sink.collection.queries.text(row.query);
    for &(positive, _) in &row.positives {
        for &(negative, ..) in &row.negatives {
            let value = Triplet { anchor, positive: documents.text(positive), negative: documents.text(negative) };
            sink.row(&value, 1)?;
        }
    }
    Ok(())
}

/// One row per positive with the first `width` negatives.
pub(super) fn tuples(sink: &mut Sink<'_>, row: &MinedRow, width: usize) -> Result<(), CorpusError> {
    let documents = &sink.collection.documents;
    for &(positive, _) in &row.positives {
        if row.negatives.len() < width {
            sink.summary.short += 1;
            continue;
        }
        let value = Tuple {
            anchor: sink.collection.queries.text(row.query),
            positive: documents.text(positive),
            negatives: row.negatives[..width].iter().map(|&(negative, ..)| documents.text(negative)).collect(),
        };
        sink.row(&value, width)?;
    }
    Ok(())
}
