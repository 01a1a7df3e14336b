"""The test set of a trained net, read as the end of its training would have read it."""

import torch

from poolbench.measure.subject import Subject
from poolbench.models.sites import derive
from poolbench.training.loop import evaluate


def read_test_set(subject: Subject) -> dict[str, float]:
    """Accuracy (a fraction) and loss of ``subject``, by the names of a result.

    A pool that draws in evaluation draws what it would have drawn at the end of the training.
    """
    torch.manual_seed(derive(subject.seed, "evaluation"))
    reading = evaluate(subject.model, subject.batches(), subject.precision)
    return {"test_accuracy": reading.accuracy, "test_loss": reading.loss}
