//! Scores of chosen pairs of query and row: what a draw, which orders by something else, gives back with its rows.

use burn::tensor::{DType, Int, Tensor, TensorData};

/// The inner product of each (query, id), in float32; ids run over the shards in order and must be there. About `scratch` numbers are held at a time.
///
/// # Errors
/// What the device said when it gave no answer.
pub(crate) fn pair_scores(queries: &Tensor<2>, store: &[Tensor<2>], pairs: &[(u32, u32)], scratch: usize) -> Result<Vec<f32>, String> {
    let (device, dimension) = (queries.device(), queries.dims()[1]);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_unstable_by_key(|&place| pairs[place].1);
    let mut scores = vec![0.0; pairs.len()];
    let step = (scratch / (3 * dimension)).max(1);
    let (mut first, mut done) = (0, 0);
    for shard in store {
        let end = first + shard.dims()[0];
        let until = done + order[done..].partition_point(|&place| (pairs[place].1 as usize) < end);
        for places in order[done..until].chunks(step) {
            let select = |from: &Tensor<2>, index: &dyn Fn((u32, u32)) -> i32| {
                let indices: Vec<i32> = places.iter().map(|&place| index(pairs[place])).collect();
                let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [places.len()]), (&device, DType::I32));
                from.clone().without_autodiff().select(0, indices).cast(DType::F32)
            };
            let some = select(queries, &|pair| pair.0 as i32) * select(shard, &|pair| (pair.1 as usize - first) as i32);
            let some = some.sum_dim(1).try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"))?;
            places.iter().zip(some).for_each(|(&place, score)| scores[place] = score);
        }
        (first, done) = (end, until);
    }
    Ok(scores)
}
