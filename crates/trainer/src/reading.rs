//! Numbers on their way from the device while it works on.
//!
//! A copy is queued behind the work that was submitted before it, so a number is asked for as soon as it is there to be asked for and waited for later: asking for a step's loss
//! after the next step was submitted would wait for that step too.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use anyhow::{Result, anyhow};
use burn::tensor::{ExecutionError, Tensor, TensorData, Transaction};

type Answer = std::result::Result<Vec<TensorData>, ExecutionError>;

/// Numbers that were asked for.
pub(crate) enum Reading {
    Here(Answer),
    OnTheWay(Pin<Box<dyn Future<Output = Answer>>>),
}

impl Reading {
    /// Asks for these numbers, any count from each, and does not wait for them.
    pub(crate) fn begin(numbers: impl IntoIterator<Item = Tensor<1>>) -> Self {
        let transaction =
            numbers.into_iter().fold(Transaction::default(), |transaction, number| transaction.register(number.without_autodiff()));
        let mut reading: Pin<Box<dyn Future<Output = Answer>>> = Box::pin(transaction.execute_async());
        // The first look is what queues the copies.
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Self::Here(answer),
            Poll::Pending => Self::OnTheWay(reading),
        }
    }

    /// The numbers in the order in which they were asked for.
    ///
    /// # Errors
    /// When the device failed at anything since.
    pub(crate) fn finish(self) -> Result<Vec<f32>> {
        let answer = match self {
            Self::Here(answer) => answer,
            Self::OnTheWay(reading) => burn::tensor::read_sync(reading),
        };
        let data = answer.map_err(|error| anyhow!("reading numbers from the device: {error:?}"))?;
        Ok(data.iter().flat_map(TensorData::iter::<f32>).collect())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn numbers_come_in_order_and_are_those_of_when_they_were_asked_for() {
        let device = Device::flex();
        let number = |value: f32| Tensor::<1>::from_data([value], &device);
        let first = number(1.0);
        let reading = Reading::begin([first.clone(), number(2.5), number(-3.0)]);
        let _ = first.add_scalar(1.0);
        assert_eq!(reading.finish().unwrap(), [1.0, 2.5, -3.0]);
        assert_eq!(Reading::begin([]).finish().unwrap(), [0.0f32; 0]);
    }
}
