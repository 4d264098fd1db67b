//! Scores of chosen pairs of query and row: what a draw, which orders by something else, gives back with its rows.

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::stream::Store;

/// The inner product of each (query, id), in float32; ids run over the shards in order and must be there. About `scratch` numbers are held at a time.
///
/// # Errors
/// What the device said when it gave no answer.
pub(crate) fn pair_scores(queries: &Tensor<2>, store: Store<'_>, pairs: &[(u32, u32)], scratch: usize) -> Result<Vec<f32>, String> {
    let (device, dimension) = (queries.device().without_autodiff(), queries.dims()[1]);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_unstable_by_key(|&place| pairs[place].1);
    let mut scores = vec![0.0; pairs.len()];
    let step = (scratch / (3 * dimension)).max(1);
    let select = |from: &Tensor<2>, indices: &mut dyn Iterator<Item = i32>| {
        let indices: Vec<i32> = indices.collect();
        let count = indices.len();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), (&device, DType::I32));
        from.clone().without_autodiff().select(0, indices).cast(DType::F32)
    };
    // Scores of these places, whose rows `rows` gives.
    let mut score = |places: &[usize], rows: &dyn Fn(&[usize]) -> Tensor<2>| {
        for places in places.chunks(step) {
            let products = select(queries, &mut places.iter().map(|&place| pairs[place].0 as i32)) * rows(places);
            let some = products.sum_dim(1).try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
            places.iter().zip(some).for_each(|(&place, score)| scores[place] = score);
        }
        Ok::<(), String>(())
    };
    match store {
        Store::Shards(shards) => {
            let (mut first, mut done) = (0, 0);
            for shard in shards {
                let end = first + shard.dims()[0];
                let until = done + order[done..].partition_point(|&place| (pairs[place].1 as usize) < end);
                let rows = |places: &[usize]| select(shard, &mut places.iter().map(|&place| (pairs[place].1 as usize - first) as i32));
                score(&order[done..until], &rows)?;
                (first, done) = (end, until);
            }
        }
        Store::Disk(store) => {
            let ids = |places: &[usize]| places.iter().map(|&place| pairs[place].1).collect::<Vec<u32>>();
            score(&order, &|places| store.gather(&ids(places), &device))?;
        }
    }
    Ok(scores)
}
