"""Results of a run that never took place: invented numbers of a realistic size, for tests of the report."""

import math

from postrain.report.schema import (
    FORWARD,
    INPUT_GRADIENT,
    ONE_THREAD,
    PERMUTED,
    VERSION,
    WEIGHT_GRADIENT,
    Bytes,
    Environment,
    Epoch,
    Equivariance,
    Exactness,
    ExactnessRow,
    Geometry,
    Grades,
    Memory,
    Model,
    Repeat,
    Results,
    Run,
    StepTime,
)

LAYERS = {"mlp": ("fc1", "fc2", "fc3"), "ga": ("embed", "product", "readout")}
STEPS_PER_EPOCH = 23


def example_results() -> Results:
    """A complete set of results in which every claim holds."""
    return Results(
        schema=VERSION,
        run=Run("digits", "posit16", 10, 0, "2026-01-31T12:00:00+00:00", 95.5),
        environment=Environment(
            {"postrain": "0.1.0.dev0", "python": "3.11.7", "torch": "2.13.0"},
            "Linux 6.1 x86_64",
            "a processor",
            2,
            2,
        ),
        models=[
            _model("mlp", "float32", 17_226, 4),
            _model("mlp", "posit16", 17_226, 2),
            _model("ga", "float32", 1_104, 4),
            _model("ga", "posit16", 1_104, 2),
        ],
        exactness=Exactness(
            "posit16",
            [1, 115, 230],
            0,
            512,
            [
                ExactnessRow(model, layer, kind, 24_576, 512, 512, 31, 31, 31, 512, 489)
                for model, layers in LAYERS.items()
                for layer in layers
                for kind in (FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)
            ],
        ),
        repeats=[
            Repeat(
                model,
                arithmetic,
                variation,
                1 if variation == ONE_THREAD else 2,
                "a1" * 32,
                again,
                difference,
            )
            for model in LAYERS
            for variation in (PERMUTED, ONE_THREAD)
            for arithmetic, again, difference in (("float32", "b2" * 32, 3.1e-6), ("posit16", "a1" * 32, 0.0))
        ],
        geometry=Geometry(
            "Mean over triples x and orthogonal maps Q of |f(Qx) - det(Q) f(x)|, over the mean of |f(x)|.",
            [
                Equivariance("ga", "float32", 4.1e-7, 3.9e-7, 64),
                Equivariance("ga", "posit16", 5.2e-4, 6.1e-4, 64),
            ],
            [
                Grades("ga", arithmetic, f"{layer}.weight", grades, grades)
                for arithmetic in ("float32", "posit16")
                for layer, grades in (("embed", [1]), ("product", [0, 1, 2, 3]), ("readout", [3]))
            ],
        ),
        step_times=[StepTime("MLP 784-512-256-10", 128, "posit16", 0.0213, 0.0049)],
    )


def _model(model: str, arithmetic: str, parameters: int, width: int) -> Model:
    mlp = model == "mlp"
    losses = [
        2.3 * math.exp(-step / 60) + 0.04 + 0.02 * math.sin(step * width)
        for step in range(10 * STEPS_PER_EPOCH)
    ]
    epochs = [
        Epoch(losses[end - 1], losses[end - 1] + 0.02, 0.9 + 0.007 * n if mlp else 0.5 / n, 0.21 * width)
        for n, end in ((n, n * STEPS_PER_EPOCH) for n in range(1, 11))
    ]
    weights, activations, inputs = parameters * width, 64 * 266 * width, 64 * 64 * width
    inference = Bytes(weights, 0, 0, 64 * 128 * width, 9_000, inputs)
    training = Bytes(weights, weights, weights, activations, 20_000, inputs)
    return Model(
        model=model,
        arithmetic=arithmetic,
        task="digits" if mlp else "signed volume",
        network="MLP 64-128-64-10" if mlp else "GA Cl(3,0,0), 16 channels",
        parameters=parameters,
        recipe={"optimizer": "SGD", "learning rate": "0.1", "momentum": "0.9", "batch": "64"},
        loss_name="cross-entropy" if mlp else "mean squared error",
        score_name="test accuracy" if mlp else "test error",
        initial_score=0.1 if mlp else 1.0,
        step_losses=losses,
        epochs=epochs,
        batch=64,
        inference=Memory(inference, inference, inference.total + 1_024),
        training=Memory(training, training, training.total + 2_048),
        weights_file=f"{model}-{arithmetic}.safetensors",
        weights_sha256="a1" * 32,
    )
