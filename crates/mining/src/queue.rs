//! Rows of documents of the last steps as further columns: the queue of MoCo (He et al. 2020, arXiv 1911.05722) when a momentum encoder
//! fills it, a memory bank of pre-batch negatives when the trained one does.
//!
//! A ring of rows on the device beside a ring of ids on the host; the oldest row makes room. Invariants: it holds the last K rows pushed,
//! under the ids they were pushed with, and none carries a gradient. It starts empty. The released MoCo starts from random unit vectors,
//! negatives that no document stands for; here columns are counted at every step anyway, so the first steps have fewer of them and none is
//! noise.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::error::MiningError;
use crate::knowledge::Knowledge;
use crate::state::faulty;
use crate::store::read;

/// A ring of document rows.
#[derive(Debug)]
pub struct Queue {
    /// `[capacity, dimension]`, f32. `None` only while it is written.
    rows: Option<Tensor<2>>,
    /// By slot, as far as filled.
    ids: Vec<u32>,
    /// By slot: pushes since the one that wrote it.
    ages: Vec<u32>,
    /// The slot of the next row.
    next: usize,
    capacity: usize,
    dimension: usize,
    device: Device,
}

const ROWS: &str = "queue.rows";
const IDS: &str = "queue.ids";
const AGES: &str = "queue.ages";
const NEXT: &str = "queue.next";

impl Queue {
    /// An empty queue for the last `capacity` rows of width `dimension`; `capacity x dimension x 4` bytes on `device` at once.
    ///
    /// # Errors
    /// When it could hold nothing.
    pub fn new(capacity: usize, dimension: usize, device: &Device) -> Result<Self, MiningError> {
        if capacity == 0 || dimension == 0 {
            return Err(MiningError::NoQueue { capacity, dimension });
        }
        let device = device.clone().without_autodiff();
        let rows = Some(Tensor::zeros([capacity, dimension], (&device, DType::F32)));
        Ok(Self { rows, ids: Vec::new(), ages: Vec::new(), next: 0, capacity, dimension, device })
    }

    /// Number of rows held.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Rows held at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Steps since the newest and the oldest row were encoded, as the next step sees them (those of the step before are one step old);
    /// one push a step. `None` while it is empty.
    pub fn age_range(&self) -> Option<(u32, u32)> {
        Some((*self.ages.iter().min()? + 1, *self.ages.iter().max()? + 1))
    }

    /// Puts `rows`, `[ids, dimension]`, in the place of the oldest; of more rows than it can hold, the last stay. Gradients are cut off.
    /// Written in place when the columns handed out before are no longer held by anyone.
    ///
    /// # Errors
    /// When there is not one id per row, or rows have another width.
    pub fn push(&mut self, rows: Tensor<2>, ids: &[u32]) -> Result<(), MiningError> {
        let got = rows.dims();
        if got[1] != self.dimension {
            return Err(MiningError::Shape { what: "rows for the queue", got, expected: [ids.len(), self.dimension] });
        }
        if got[0] != ids.len() {
            return Err(MiningError::Count { what: "ids for the rows of a queue", got: ids.len(), expected: got[0] });
        }
        let mut rows = rows.without_autodiff().cast(DType::F32);
        self.ages.iter_mut().for_each(|age| *age = age.saturating_add(1));
        // What is pushed and driven out again by the same call still counts its slots, so a call and its parts leave the same ring.
        let driven_out = ids.len().saturating_sub(self.capacity);
        self.next = (self.next + driven_out) % self.capacity;
        if driven_out > 0 {
            self.ids.resize(self.capacity, 0);
            self.ages.resize(self.capacity, 0);
            rows = rows.slice([driven_out..got[0], 0..self.dimension]);
        }
        let ids = &ids[driven_out..];
        let first = ids.len().min(self.capacity - self.next);
        self.write(rows.clone(), ids, 0..first);
        self.write(rows, ids, first..ids.len());
        Ok(())
    }

    /// Writes a part of the rows from the next slot on, short of the end of the ring.
    fn write(&mut self, rows: Tensor<2>, ids: &[u32], part: Range<usize>) {
        let Some(held) = self.rows.take() else { return };
        let (begin, end) = (self.next, self.next + part.len());
        self.rows = Some(if part.is_empty() {
            held
        } else {
            held.slice_assign([begin..end, 0..self.dimension], rows.slice([part.clone(), 0..self.dimension]))
        });
        self.ids.resize(self.ids.len().max(end), 0);
        self.ids[begin..end].copy_from_slice(&ids[part]);
        self.ages.resize(self.ids.len(), 0);
        self.ages[begin..end].fill(0);
        self.next = end % self.capacity;
    }

    /// The rows held, `[len, dimension]`, and the document of each, in the order of slots (not of age).
    ///
    /// The rows lie on the device without autodiff. burn takes such a tensor as a constant where it meets one with autodiff; to concatenate
    /// them with columns that have gradients, lift them with `Tensor::from_inner(rows)`, and with the same checkpointing strategy where one
    /// is set.
    pub fn columns(&self) -> (Tensor<2>, &[u32]) {
        let filled = self.ids.len();
        let rows = match &self.rows {
            Some(rows) if filled == self.capacity => rows.clone(),
            Some(rows) if filled > 0 => rows.clone().slice([0..filled, 0..self.dimension]),
            _ => Tensor::zeros([0, self.dimension], (&self.device, DType::F32)),
        };
        (rows, &self.ids)
    }

    /// By query, which of the columns are no negatives of it: documents judged for the query, and copies of their texts or of the query's
    /// own. A column may come twice. Lists, as there are few of many.
    ///
    /// # Errors
    /// When a document or a query is not in the collection.
    pub fn blocked(&self, queries: &[u32], knowledge: &Knowledge) -> Result<Vec<Vec<usize>>, MiningError> {
        let (documents, known) = (knowledge.documents(), knowledge.queries());
        if let Some(&id) = self.ids.iter().find(|&&id| id as usize >= documents) {
            return Err(MiningError::Beyond { side: "document", id, count: documents });
        }
        if let Some(&id) = queries.iter().find(|&&id| id as usize >= known) {
            return Err(MiningError::Beyond { side: "query", id, count: known });
        }
        // A judged document has its own text, so copies are all there is to ask for.
        let texts = knowledge.places(&self.ids);
        Ok(queries.par_iter().map(|&query| texts.copies(query).collect()).collect())
    }

    /// The state as named tensors: rows, ids and ages by slot, and the next slot; nothing for an empty queue.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn state(&self) -> Result<Vec<(String, TensorData)>, MiningError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, ids) = self.columns();
        let shape = [ids.len(), self.dimension];
        let whole = |numbers: &[u32]| TensorData::new(numbers.iter().map(|&it| i64::from(it)).collect::<Vec<_>>(), [shape[0]]);
        Ok(vec![
            (AGES.to_owned(), whole(&self.ages)),
            (IDS.to_owned(), whole(ids)),
            (NEXT.to_owned(), TensorData::new(vec![self.next as i64], [1])),
            (ROWS.to_owned(), TensorData::new(read(rows, "reading the queue")?, shape)),
        ])
    }

    /// Replaces the content by what [`Self::state`] gave, to the slot and the bit. On an error nothing is changed.
    ///
    /// # Errors
    /// When tensors are missing or unknown, or belong to a queue of another size.
    pub fn restore(&mut self, state: Vec<(String, TensorData)>) -> Result<(), MiningError> {
        let mut restored = Self::new(self.capacity, self.dimension, &self.device)?;
        if !state.is_empty() {
            let Saved { rows, ids, ages, next } = self.parts(state)?;
            restored.push(rows, &ids)?;
            (restored.ages, restored.next) = (ages, next);
        }
        *self = restored;
        Ok(())
    }

    /// The parts of a saved state that fits this queue.
    fn parts(&self, state: Vec<(String, TensorData)>) -> Result<Saved, MiningError> {
        let mut state: BTreeMap<String, TensorData> = state.into_iter().collect();
        let names = state.keys().cloned().collect::<Vec<_>>().join(", ");
        let [ages, ids, next, rows] = [AGES, IDS, NEXT, ROWS].map(|name| state.remove(name));
        let (Some(ages), Some(ids), Some(next), Some(rows), true) = (ages, ids, next, rows, state.is_empty()) else {
            return Err(faulty(format!("a queue has the tensors {AGES}, {IDS}, {NEXT} and {ROWS}, got {names}")));
        };
        for (name, data, format) in
            [(AGES, &ages, DType::I64), (IDS, &ids, DType::I64), (NEXT, &next, DType::I64), (ROWS, &rows, DType::F32)]
        {
            if data.dtype() != format {
                return Err(faulty(format!("{name} is {:?}, expected {format:?}", data.dtype())));
            }
        }
        let filled = ids.num_elements();
        let (shape, expected) = (rows.shape().to_vec(), vec![filled, self.dimension]);
        if filled == 0 || filled > self.capacity || shape != expected || ages.num_elements() != filled {
            let (capacity, ages) = (self.capacity, ages.num_elements());
            return Err(faulty(format!(
                "{ROWS} is {shape:?} with {filled} ids and {ages} ages, expected {expected:?} and 1 to {capacity} rows"
            )));
        }
        let next = next.iter::<i64>().next().unwrap_or(-1);
        // Before it is full, the next slot is the first free one.
        let slot = usize::try_from(next).ok().filter(|&next| if filled < self.capacity { next == filled } else { next < filled });
        let next = slot.ok_or_else(|| faulty(format!("{NEXT} is {next} in a queue of {filled} of {} rows", self.capacity)))?;
        let whole = |data: &TensorData, fault: &str| {
            let numbers: Result<Vec<u32>, _> = data.iter::<i64>().map(u32::try_from).collect();
            numbers.map_err(|_| faulty(fault.to_owned()))
        };
        let ids = whole(&ids, &format!("{IDS} holds a number that is no document"))?;
        let ages = whole(&ages, &format!("{AGES} holds a number that is no age"))?;
        Ok(Saved { rows: Tensor::from_data(rows, (&self.device, DType::F32)), ids, ages, next })
    }
}

/// A queue out of a checkpoint.
struct Saved {
    rows: Tensor<2>,
    ids: Vec<u32>,
    ages: Vec<u32>,
    next: usize,
}

#[cfg(test)]
mod tests;
