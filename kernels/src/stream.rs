//! The rows of a search, shard after shard: shards on the device, or a file whose next shard is made ready while the device works on the last.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, Tensor};

use crate::disk::DiskStore;
use crate::search::SearchError;

/// Rows to search; ids are places.
#[derive(Clone, Copy, Debug)]
pub enum Store<'a> {
    /// Shards `[rows, dimension]`, f32 or f16, on the device of the queries, each within one binding. Ids run over the shards in order.
    Shards(&'a [Tensor<2>]),
    /// A file, streamed through the device, at most 16 MiB at a time. 16-bit rows stay so where the device reads them, else they are widened on the way;
    /// 8-bit rows are searched as the 32-bit numbers they stand for.
    Disk(&'a DiskStore),
}

impl<'a> From<&'a [Tensor<2>]> for Store<'a> {
    fn from(shards: &'a [Tensor<2>]) -> Self {
        Self::Shards(shards)
    }
}

impl<'a> From<&'a Vec<Tensor<2>>> for Store<'a> {
    fn from(shards: &'a Vec<Tensor<2>>) -> Self {
        Self::Shards(shards)
    }
}

impl<'a, const N: usize> From<&'a [Tensor<2>; N]> for Store<'a> {
    fn from(shards: &'a [Tensor<2>; N]) -> Self {
        Self::Shards(shards)
    }
}

impl<'a> From<&'a DiskStore> for Store<'a> {
    fn from(store: &'a DiskStore) -> Self {
        Self::Disk(store)
    }
}

impl Store<'_> {
    /// Rows of all shards.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Shards(shards) => shards.iter().map(|shard| shard.dims()[0]).sum(),
            Self::Disk(store) => store.rows(),
        }
    }

    /// Width, device and format. Gives the numbers and the format of each shard.
    pub(crate) fn check(&self, queries: &Tensor<2>) -> Result<Vec<(usize, DType)>, SearchError> {
        let expected = queries.dims()[1];
        let shards = match self {
            Self::Shards(shards) => shards,
            Self::Disk(store) if store.dimension() != expected => {
                return Err(SearchError::Dimension { shard: 0, got: store.dimension(), expected });
            }
            // Its shards are made to fit.
            Self::Disk(_) => return Ok(Vec::new()),
        };
        for (shard, rows) in shards.iter().enumerate() {
            let got = rows.dims()[1];
            if got != expected {
                return Err(SearchError::Dimension { shard, got, expected });
            }
            if rows.device() != queries.device() {
                let [got, expected] = [rows, queries].map(|tensor| format!("{:?}", tensor.device()));
                return Err(SearchError::Elsewhere { shard, got, expected });
            }
            if !matches!(rows.dtype(), DType::F32 | DType::F16) {
                return Err(SearchError::Format { what: "rows of the store", got: format!("{:?}", rows.dtype()), expected: "F32 or F16" });
            }
        }
        Ok(shards.iter().map(|shard| (shard.dims().iter().product(), shard.dtype())).collect())
    }

    /// Every shard in order, without autodiff.
    pub(crate) fn each(&self, device: &Device, mut visit: impl FnMut(Tensor<2>)) {
        match self {
            Self::Shards(shards) => shards.iter().for_each(|shard| visit(shard.clone().without_autodiff())),
            Self::Disk(store) => stream(store, &device.clone().without_autodiff(), visit),
        }
    }
}

/// Another thread reads and decodes a shard while this one has the device scan the shard before.
fn stream(store: &DiskStore, device: &Device, mut visit: impl FnMut(Tensor<2>)) {
    let (per_shard, half) = store.shards(device);
    let begin = Instant::now();
    let mut waited = Duration::ZERO;
    // No room in the channel: one shard is ready and one is in use, no more.
    let (send, receive) = sync_channel(0);
    std::thread::scope(|scope| {
        // Dropped here whatever happens, or the reader would wait for ever.
        let receive = receive;
        scope.spawn(move || {
            for first in (0..store.rows()).step_by(per_shard) {
                let data = store.read(first..(first + per_shard).min(store.rows()), half);
                if send.send(data).is_err() {
                    return;
                }
            }
        });
        loop {
            let asked = Instant::now();
            let Ok(data) = receive.recv() else { break };
            waited += asked.elapsed();
            let dtype = data.dtype();
            let shard = Tensor::from_data(data, (device, dtype));
            // A GPU still scans the shard before while this one is on its way. Waiting here keeps two shards on the device, not all of them; what a failing
            // device says is found when the lists are read.
            let _ = device.sync();
            visit(shard);
        }
    });
    let _ = device.sync();
    store.note(begin.elapsed().as_secs_f64(), waited.as_secs_f64());
}
