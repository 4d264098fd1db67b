//! The momentum encoder's update: the slow copy follows the trained one (He et al. 2020, arXiv 1911.05722, equation 2).

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::error::MiningError;

/// `theta_k <- m theta_k + (1 - m) theta_q`, for every float parameter, by path; on the device, without waiting for it.
///
/// `key` keeps its parameter ids and its integer and boolean parameters, and nothing of it requires a gradient afterwards. It begins as a
/// copy of the trained module: `query.valid()` for one without dropout. Let the trained module be used or loaded before it is copied: burn
/// makes parameters on first use.
///
/// # Errors
/// When `m` is not from 0 to 1, or the two do not have the same parameters.
pub fn momentum_update<M: Module>(key: M, query: &M, m: f64) -> Result<M, MiningError> {
    if !(0.0..=1.0).contains(&m) {
        return Err(MiningError::Momentum { got: m });
    }
    let (mut followed, mut own) = (Parameters::default(), Parameters::default());
    query.visit(&mut followed);
    key.visit(&mut own);
    let shape = |of: Option<&(Vec<usize>, Tensor<1>)>| of.map_or_else(|| "no such parameter".to_owned(), |(shape, _)| format!("{shape:?}"));
    for path in followed.found.keys().chain(own.found.keys()) {
        let [got, expected] = [&followed, &own].map(|side| shape(side.found.get(path)));
        if got != expected {
            return Err(MiningError::NotACopy { path: path.clone(), got, expected });
        }
    }
    drop(own);
    Ok(key.map(&mut Follow { path: Vec::new(), followed: followed.found, m }))
}

/// Float parameters by path, flat so that one type holds every rank, with their shapes.
#[derive(Default)]
struct Parameters {
    path: Vec<String>,
    found: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let value = parameter.base().inner();
        self.found.insert(self.path.join("."), (value.dims().to_vec(), value.flatten(0, D - 1)));
    }
}

struct Follow {
    path: Vec<String>,
    followed: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
    m: f64,
}

impl ModuleMapper for Follow {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let followed = self.followed.get(&self.path.join(".")).map(|(_, value)| value.clone());
        let (id, value, mapper) = parameter.consume();
        let strategy = value.gradient_checkpointing_strategy();
        let value = value.inner();
        let value = match followed {
            Some(followed) => {
                let followed: Tensor<D> = followed.reshape(value.shape()).cast(value.dtype()).to_device(&value.device());
                value.mul_scalar(self.m) + followed.mul_scalar(1.0 - self.m)
            }
            None => value,
        };
        // On the form of the device it was on: a parameter must meet its inputs with the same checkpointing strategy.
        let value = match strategy {
            Some(strategy) => Tensor::from_inner(value).with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        Param::from_mapped_value(id, value, mapper).set_require_grad(false)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Int, TensorData};
    use proptest::prelude::*;

    use super::*;

    #[derive(Module, Debug)]
    struct Encoder {
        first: Linear,
        layers: Vec<Linear>,
        scale: Param<Tensor<1>>,
        seen: Param<Tensor<1, Int>>,
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|at| ((at * 37 + seed * 101) % 211) as f32 / 64.0 - 1.5).collect()
    }

    fn encoder(seed: usize, device: &Device) -> Encoder {
        let tensor =
            |rows: usize, width: usize, seed| Tensor::<2>::from_data(TensorData::new(numbers(rows * width, seed), [rows, width]), device);
        let linear = |seed| Linear {
            weight: Param::from_tensor(tensor(3, 4, seed)),
            bias: Some(Param::from_tensor(tensor(1, 4, seed + 1).flatten(0, 1))),
        };
        let seen = Tensor::<1, Int>::from_data(TensorData::new(vec![seed as i32, 7], [2]), device);
        Encoder {
            first: linear(seed),
            layers: vec![linear(seed + 2), linear(seed + 4)],
            scale: Param::from_tensor(tensor(1, 5, seed + 6).flatten(0, 1)),
            seen: Param::initialized(ParamId::new(), seen),
        }
    }

    #[derive(Default)]
    struct Flat {
        floats: Vec<f32>,
        ids: Vec<ParamId>,
        tracked: usize,
    }

    impl ModuleVisitor for Flat {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.floats.extend(parameter.val().into_data().iter::<f32>());
            self.ids.push(parameter.id);
            let value = parameter.val();
            self.tracked += usize::from(value.is_require_grad() || value.is_tracked() || parameter.is_require_grad());
        }

        fn visit_int<const D: usize>(&mut self, parameter: &Param<Tensor<D, Int>>) {
            self.ids.push(parameter.id);
        }
    }

    fn flat(module: &Encoder) -> Flat {
        let mut flat = Flat::default();
        module.visit(&mut flat);
        flat
    }

    fn close(got: &[f32], key: &[f32], query: &[f32], m: f64) {
        assert_eq!((got.len(), query.len()), (key.len(), key.len()));
        for (place, (&got, (&key, &query))) in got.iter().zip(key.iter().zip(query)).enumerate() {
            let expected = m * f64::from(key) + (1.0 - m) * f64::from(query);
            assert!((f64::from(got) - expected).abs() <= 1e-6, "[{place}] {got}, expected {expected} at m = {m}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_parameter_is_the_weighted_mean(m in 0.0_f64..=1.0, seed in 0_usize..200) {
            follows(m, seed, &Device::flex());
        }
    }

    fn follows(m: f64, seed: usize, device: &Device) {
        let (key, query) = (encoder(seed, device), encoder(seed + 31, &device.clone().autodiff()));
        let (before, followed) = (flat(&key), flat(&query));
        let after = flat(&momentum_update(key, &query, m).unwrap());
        close(&after.floats, &before.floats, &followed.floats, m);
        assert_eq!((after.ids, after.tracked), (before.ids, 0));
    }

    #[test]
    fn every_parameter_follows_on_a_software_gpu() {
        let Some(device) = kernels::test_gpu() else { return };
        follows(0.75, 7, &device);
    }

    #[test]
    fn the_ends_are_exact_and_integers_stay() {
        let (key, query) = (encoder(1, &Device::flex()), encoder(2, &Device::flex()));
        let (before, followed) = (flat(&key).floats, flat(&query).floats);
        assert_eq!(flat(&momentum_update(key.clone(), &query, 1.0).unwrap()).floats, before);
        let copy = momentum_update(key, &query, 0.0).unwrap();
        assert_eq!(flat(&copy).floats, followed);
        assert_eq!(copy.seen.val().into_data().iter::<i64>().collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn nothing_of_it_requires_a_gradient_and_training_goes_on() {
        let device = Device::flex().autodiff();
        let query = encoder(3, &device);
        // On the training device, and as a snapshot beside it.
        for key in [query.clone(), query.valid()] {
            let key = momentum_update(key, &query, 0.9).unwrap();
            assert_eq!(flat(&key).tracked, 0);
            assert_eq!(flat(&key.clone().train()).tracked, 0, "dropout may be turned on, gradients stay off");
            assert_eq!(flat(&query).tracked, 8 - 1, "six of three layers and the scale are still trained");
            let gradients = (query.scale.val() * key.scale.val()).sum().backward();
            assert!(query.scale.val().grad(&gradients).is_some());
            assert!(key.scale.val().grad(&gradients).is_none());
        }
    }

    #[test]
    fn a_module_used_for_the_first_time_here_stays_trainable() {
        let device = Device::flex().autodiff();
        let query: Linear = LinearConfig::new(3, 2).init(&device);
        let key = momentum_update(query.valid(), &query, 0.5).unwrap();
        assert!(query.weight.is_require_grad() && !key.weight.is_require_grad());
        let (got, expected) = (key.weight.val().into_data(), query.weight.val().into_data());
        for (got, expected) in got.iter::<f32>().zip(expected.iter::<f32>()) {
            assert!((got - expected).abs() < 1e-6, "the copy of a module moves nowhere: {got} {expected}");
        }
    }

    #[test]
    fn what_is_no_copy_is_an_error() {
        let device = Device::flex();
        for m in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(momentum_update(encoder(1, &device), &encoder(1, &device), m), Err(MiningError::Momentum { .. })));
        }
        let mut shallow = encoder(1, &device);
        shallow.layers.pop();
        let message = momentum_update(encoder(1, &device), &shallow, 0.5).unwrap_err().to_string();
        assert!(message.contains("layers.1.bias") && message.contains("no such parameter"), "{message}");
        let mut narrow = encoder(1, &device);
        narrow.first.bias = None;
        let message = momentum_update(narrow, &encoder(1, &device), 0.5).unwrap_err().to_string();
        assert!(message.contains("first.bias") && message.contains("expected no such parameter"), "{message}");
        let mut wide = encoder(1, &device);
        wide.scale = Param::from_tensor(Tensor::zeros([6], &device));
        let message = momentum_update(encoder(1, &device), &wide, 0.5).unwrap_err().to_string();
        assert!(message.contains("scale") && message.contains("[6]") && message.contains("[5]"), "{message}");
    }
}
