"""The model that `fit` trains: the training graph, the five losses, and L2."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from mrcnn import backend, losses
from mrcnn.config import LOSS_NAMES, Config
from mrcnn.execution.recomputation import block_ends
from mrcnn.execution.training_pass import training_outputs
from mrcnn.nn.network import dtype_policy, training_graph
from mrcnn.training import distribution
from mrcnn.training.optimizers import build_optimizer, decayed
from mrcnn.types import Tensor
from mrcnn.weights.network import Network


@keras.saving.register_keras_serializable("mrcnn")
class TrainingModel(Network):
    """The training graph with its losses.

    Its inputs include the targets, so `fit` and `train_on_batch` take no separate targets. The loss
    is the weighted sum of the five losses, plus L2 on all trainable variables. Progress bar,
    TensorBoard and history show each of the five losses multiplied by its weight.

    Args:
        inputs, outputs: those of `nn.network.training_graph`.
        loss_weights: weight by loss name, 1 where a name is missing.
        weight_decay: factor of L2.
        gradient_checkpointing: compute the backbone's blocks again for gradients.
    """

    def __init__(
        self,
        *args: Any,
        loss_weights: Mapping[str, float] | None = None,
        weight_decay: float = 0.0,
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in LOSS_NAMES}
        self.loss_weights = dict(loss_weights or {})
        self.weight_decay = float(weight_decay)
        self.gradient_checkpointing = bool(gradient_checkpointing)
        self.distribution = distribution.current()
        if self.gradient_checkpointing and not self.block_ends:
            raise ValueError(
                "GRADIENT_CHECKPOINTING is True, and the BACKBONE has no blocks that end in a sum "
                "(keras.layers.Add); it must be False."
            )

    def get_config(self) -> dict[str, Any]:
        settings = {
            "loss_weights": dict(self.loss_weights),
            "weight_decay": self.weight_decay,
            "gradient_checkpointing": self.gradient_checkpointing,
        }
        return {**super().get_config(), **settings}

    def compile(
        self,
        optimizer: Any,
        loss_weights: Mapping[str, float] | None = None,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`, which can also change loss weights and the factor of L2.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss_weights, weight_decay: None keeps the present value.
            **kwargs: further arguments of `keras.Model.compile`.
        """
        kwargs.setdefault("jit_compile", "auto" if backend.SUPPORTS_JIT else False)
        with distribution.scope_of(self):
            super().compile(optimizer=optimizer, **kwargs)
            distribution.clip_the_mean(self.optimizer)
        # Keras resets the mean of the total loss here; the means of its parts are reset too.
        for mean in self.loss_means.values():
            mean.reset_state()
        if loss_weights is not None:
            self.loss_weights = dict(loss_weights)
        if weight_decay is not None:
            self.weight_decay = float(weight_decay)

    def get_compile_config(self) -> dict[str, Any] | None:
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "loss_weights": dict(self.loss_weights),
            "weight_decay": self.weight_decay,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"])
        self.compile(optimizer, config["loss_weights"], config["weight_decay"])
        start_optimizer(self)

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> dict[str, Tensor]:
        """The outputs by name, see `execution.training_pass`."""
        values = keras.tree.flatten(inputs)
        if any(isinstance(value, keras.KerasTensor) for value in values):
            return super().call(inputs, training=training, mask=mask)
        ends = self.block_ends if self.gradient_checkpointing else ()
        return training_outputs(self, values, bool(training), ends)

    @functools.cached_property
    def block_ends(self) -> list[keras.KerasTensor]:
        """Ends of the backbone's blocks; GRADIENT_CHECKPOINTING keeps no values between them."""
        return block_ends(self.get_layer("fpn_c5p5").input, self.inputs[0])

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        total = losses.l2_loss(decayed(self.trainable_variables), self.weight_decay)
        assert y_pred is not None, "Keras computes the outputs before the loss"
        for name, loss in losses.all_losses(y_pred).items():
            loss = loss * self.loss_weights.get(name, 1.0)
            self.loss_means[name].update_state(loss)
            total = total + loss
        # TensorFlow adds up the replicas' gradients, so each replica's loss is divided by their
        # number. Keras multiplies the loss that it reports by it.
        return total / distribution.replica_count()

    # ---- Keras' calls, on the model's devices ---------------------------------------------------

    def fit(
        self, x: Any = None, *args: Any, validation_data: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """`keras.Model.fit`, which also takes generators of `(inputs, outputs)`.

        `data_generator` makes such batches of two lists; the outputs are ignored.
        """
        if isinstance(x, Iterator):
            kwargs.setdefault("shuffle", False)
        if isinstance(kwargs.get("callbacks"), (list, tuple)):
            minimise_losses(kwargs["callbacks"])
        with distribution.data_on(self.distribution):
            return super().fit(
                _inputs_alone(x), *args, validation_data=_inputs_alone(validation_data), **kwargs
            )

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with distribution.data_on(self.distribution):
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with distribution.data_on(self.distribution):
            return super().test_on_batch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with distribution.data_on(self.distribution):
            return super().evaluate(*args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # To learn the shapes of a batch, Keras on TensorFlow would average it over the devices,
        # which fails for bool. Everything except the optimizer is built already.
        if self.optimizer is not None and not self.optimizer.built:
            start_optimizer(self)

    def fit_generator(
        self,
        generator: Iterator,
        steps_per_epoch: int | None = None,
        epochs: int = 1,
        *,
        max_queue_size: Any = None,
        workers: Any = None,
        use_multiprocessing: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """`fit` under its name in Keras 2; the last three arguments are ignored."""
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, **kwargs)


def minimise_losses(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Tell EarlyStopping and similar callbacks that each of the five losses should fall.

    If a callback has no `mode`, Keras asks the compiled metrics whether the monitored value should
    rise or fall. The five losses are metrics of the model itself, which Keras does not ask.
    """
    for callback in callbacks:
        monitored = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if monitored in LOSS_NAMES and getattr(callback, "mode", None) == "auto":
            callback.mode = "min"


def _inputs_alone(data):
    """Turn a generator of `(inputs, outputs)` into one of `(inputs,)`; return other data unchanged.

    Inputs become tuples, because TensorFlow takes no lists in a generator's batches.
    """
    if not isinstance(data, Iterator):
        return data
    return ((tuple(inputs),) for inputs, *_ in data)


def build_training_model(config: Config) -> TrainingModel:
    """The model that `fit` trains, on GPU_COUNT devices of each worker."""
    with distribution.scope(_device_count(config)), dtype_policy(config.DTYPE_POLICY):
        inputs, outputs = training_graph(config)
        return TrainingModel(
            inputs=inputs,
            outputs=outputs,
            name="mask_rcnn",
            loss_weights=config.LOSS_WEIGHTS,
            weight_decay=_l2_factor(config),
            gradient_checkpointing=config.GRADIENT_CHECKPOINTING,
        )


def _device_count(config: Config) -> int:
    """GPU_COUNT, or 1 where Keras cannot train on several devices."""
    if config.GRADIENT_ACCUMULATION_STEPS > 1 or config.DTYPE_POLICY == "mixed_float16":
        return distribution.one_device_on_tensorflow(
            config.GPU_COUNT,
            "Keras on TensorFlow neither accumulates gradients (GRADIENT_ACCUMULATION_STEPS) nor "
            "trains in mixed_float16 on several devices",
        )
    return config.GPU_COUNT


def _l2_factor(config: Config) -> float:
    """The factor of L2 in the loss: 0 if the optimizer decays the weights, so they decay once."""
    return 0.0 if config.DECOUPLED_WEIGHT_DECAY else float(config.WEIGHT_DECAY)


def compile_model(
    model: TrainingModel, config: Config, learning_rate: float, momentum: float
) -> None:
    """Compile with the Config's optimizer and loss weights."""
    with distribution.scope_of(model):
        optimizer = build_optimizer(config, learning_rate, momentum)
    model.compile(optimizer, config.LOSS_WEIGHTS, _l2_factor(config))


def start_optimizer(model: TrainingModel) -> None:
    """Build the optimizer of a compiled model: its variables exist before the first step."""
    if model.optimizer.built:  # otherwise the optimizer of mixed_float16 adds its counters twice
        return
    with distribution.scope_of(model):
        model.optimizer.build(model.trainable_variables)
