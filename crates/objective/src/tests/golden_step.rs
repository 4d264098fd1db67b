//! Clip and first AdamW update of a whole encoder, against PyTorch: golden gradients in, golden weights out.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;

use super::{assert_close, device, scalar, shared, tensor, values};
use crate::{AdamW, AdamWConfig, clip_global_norm};

/// The tensors of a checkpoint, sorted by name within each rank.
#[derive(Module, Debug)]
struct Weights {
    matrices: Vec<Param<Tensor<2>>>,
    vectors: Vec<Param<Tensor<1>>>,
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap();
    bytes.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn the_first_update_equals_pytorch() {
    let files = ["tiny-bert/model", "step0.gradients", "after_step0"].map(|name| shared(&format!("golden/{name}.safetensors")));
    let [Some(before), Some(gradients), Some(after)] = files else { return };
    let [before, gradients, after] = [before, gradients, after].map(|path| std::fs::read(path).unwrap());
    let [before, gradients, after] = [&before, &gradients, &after].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let training = std::fs::read_to_string(shared("golden/training.json").unwrap()).unwrap();
    let training: serde_json::Value = serde_json::from_str(&training).unwrap();

    let mut names: Vec<String> = gradients.names().into_iter().map(|name| name.to_owned()).collect();
    names.sort();
    let of_rank =
        |rank: usize| -> Vec<&String> { names.iter().filter(|name| gradients.tensor(name).unwrap().shape().len() == rank).collect() };
    let (matrices, vectors) = (of_rank(2), of_rank(1));
    assert_eq!(matrices.len() + vectors.len(), 37);
    let shape = |name: &str| before.tensor(name).unwrap().shape().to_vec();
    let square = |name: &str| -> [usize; 2] { shape(name).try_into().unwrap() };

    let weights = Weights {
        matrices: matrices.iter().map(|name| Param::from_tensor(tensor(&floats(&before, name), square(name), &device()))).collect(),
        vectors: vectors.iter().map(|name| Param::from_tensor(tensor(&floats(&before, name), [shape(name)[0]], &device()))).collect(),
    };
    let mut registered = GradientsParams::new();
    for (parameter, name) in weights.matrices.iter().zip(&matrices) {
        registered.register(parameter.id, tensor(&floats(&gradients, name), square(name), &Device::flex()));
    }
    for (parameter, name) in weights.vectors.iter().zip(&vectors) {
        registered.register(parameter.id, tensor(&floats(&gradients, name), [shape(name)[0]], &Device::flex()));
    }

    let (clipped, norm) = clip_global_norm(&weights, registered, training["clip_global_norm"].as_f64().unwrap());
    let expected_norm = training["gradient_norms_before_clipping"][0].as_f64().unwrap();
    assert_close("gradient norm", &[scalar(&norm)], &[expected_norm], 1e-5, 1e-5);
    let mut optimizer = AdamW::new(AdamWConfig::default()).unwrap();
    let weights = optimizer.step(training["learning_rate"].as_f64().unwrap(), weights, clipped);

    // The first update is the learning rate times about the sign of the gradient: 1e-3. Both tolerances are far below that, except
    // where a gradient is as small as epsilon and PyTorch itself only rounds.
    let check = |name: &str, got: Vec<f32>| {
        let expected: Vec<f64> = floats(&after, name).iter().map(|&x| x.into()).collect();
        assert_close(name, &got, &expected, 1e-6, 1e-5);
    };
    for (parameter, name) in weights.matrices.iter().zip(&matrices) {
        check(name, values(&parameter.val()));
    }
    for (parameter, name) in weights.vectors.iter().zip(&vectors) {
        check(name, values(&parameter.val()));
    }
}
