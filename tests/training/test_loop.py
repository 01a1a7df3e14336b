"""The training loop: it learns, goes on where it was, says when it cannot, and no pool moves another's random draws."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_model
from poolbench.data.augment import Batches, plain_batches
from poolbench.models.sites import Trunk
from poolbench.options import Trainer
from poolbench.pooling.base import Pool
from poolbench.training import checkpoint, process
from poolbench.training.course import Course
from poolbench.training.loop import TrainingFailed, autocast, evaluate, resized, train
from poolbench.training.optimizers import muon, sgd
from poolbench.training.schedules import cosine
from poolbench.training.state import Progress, TrainingState, averaged

SAMPLES, SIDE, CLASSES = 96, 12, 3
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
AUGMENTATION = {"flip": True, "crop": 1, "cutout": 2}


class RandomPick(Pool):
    """One pixel of each window, drawn anew in every training step from torch's global generator."""

    random = True
    in_evaluation = False

    def forward(self, x):
        if not self.training and not self.in_evaluation:
            return F.avg_pool2d(x, 2)
        windows = F.pixel_unshuffle(x, 2).unflatten(1, (x.shape[1], 4))
        return windows[:, :, torch.randint(4, ())]


class AlwaysRandomPick(RandomPick):
    in_evaluation = True


class DropoutHead(nn.Module):
    def __init__(self, channels, num_classes, size):
        super().__init__()
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.fc(self.drop(x.mean((2, 3))))


class Recorded(Batches):
    """Batches that remember what they handed out."""

    def epoch(self, order, draws, mirror=None, skip=None):
        self.seen, self.which = [], []
        for x, y, which in super().epoch(order, draws, mirror, skip):
            self.seen.append((x.clone(), y.clone()))
            self.which.append(which.clone())
            yield x, y, which


@pytest.fixture(scope="module")
def images():
    """uint8 (N, H, W, 3) of one dim colour a class with noise, and their labels: learnt in a few epochs."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    pictures = torch.randint(0, 150, (SAMPLES, SIDE, SIDE, 3), generator=generator)
    pictures += 100 * F.one_hot(labels, 3)[:, None, None, :]
    return pictures.to(torch.uint8), labels


class Setting:
    """A training that is ready to start; ``seed`` alone tells two of one pool apart."""

    def __init__(self, images, pool="max", seed=0, make=sgd, head="global_average", batches=Batches, **trainer):
        self.trainer = Trainer(**{"epochs": 4, "batch_size": 20, **trainer})
        model = create_model("convnet", pool, head, CLASSES, (SIDE, SIDE), seed, widths=(4, 6), depths=(1, 1))
        model = model.to(memory_format=torch.channels_last)
        self.batches = batches(*images, self.trainer.batch_size, MEAN, STD, AUGMENTATION)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.state = TrainingState(model, make(model), scaler, averaged(model, self.trainer))
        self.seed, self.images = seed, images

    def __getattr__(self, name):
        return getattr(self.state, name)  # model, optimizers, average, progress

    def validation(self):
        return plain_batches(self.images[0][:30], self.images[1][:30], 20, MEAN, STD)

    def train(self, schedule=None, validation=None, during=None, after_epoch=lambda progress: None):
        course = Course(self.trainer, len(self.batches.images))
        during = during or (lambda done, row: None)
        train(self.state, course, self.batches, schedule or cosine(), self.seed, validation, during, after_epoch)
        return self

    def weights(self):
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def rows(self):
        """The history without what measures time."""
        return [{k: v for k, v in row.items() if "second" not in k} for row in self.progress.history]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_it_learns_what_can_be_learnt(images):
    setting = Setting(images, epochs=8)
    setting.train(validation=setting.validation)
    history = setting.progress.history
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert history[-1]["train_accuracy"] > 0.8
    assert history[-1]["validation_accuracy"] > 0.8
    read = evaluate(setting.model, setting.validation())
    loss, accuracy = read.loss, read.accuracy
    assert (loss, accuracy) == (history[-1]["validation_loss"], history[-1]["validation_accuracy"])


def test_the_history_has_a_row_an_epoch_and_the_progress_counts(images):
    setting = Setting(images).train()
    assert [row["epoch"] for row in setting.progress.history] == [1, 2, 3, 4]
    assert list(setting.progress.history[0]) == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "seconds",
        "images_per_second",
    ]
    assert setting.progress.history[0]["validation_loss"] is None
    assert setting.progress.epoch == 4
    assert setting.progress.images == 4 * 80  # the last 16 images do not fill a batch
    assert setting.progress.seconds == pytest.approx(sum(row["seconds"] for row in setting.progress.history))
    steps = len(setting.batches)
    last = [cosine()((epoch * steps + steps - 1) / (4 * steps)) for epoch in range(4)]
    assert [row["learning_rate"] for row in setting.progress.history] == pytest.approx([0.1 * f for f in last])


@pytest.mark.parametrize(
    ("pool", "head", "make", "skip_easy"),
    [("strided_conv", "global_average", muon, 0.0), (AlwaysRandomPick, DropoutHead, sgd, 0.5)],
    ids=["muon", "random pool and dropout, easy images skipped"],
)
def test_taken_up_after_any_epoch_it_ends_the_same_to_the_last_bit(images, tmp_path, pool, head, make, skip_easy):
    def setting():
        return Setting(images, pool, head=head, make=make, label_smoothing=0.1, skip_easy=skip_easy)

    def save(progress):
        checkpoint.save(tmp_path / str(progress.epoch), whole.state, "cell", {"size": 1})

    whole = setting()
    whole.train(after_epoch=save, validation=whole.validation)
    again = setting().train(validation=whole.validation)
    assert same(again.weights(), whole.weights())
    for epoch in (1, 2, 3):
        resumed = setting()
        torch.manual_seed(99)
        torch.rand(epoch)  # whatever was drawn before does not matter
        resumed.state.load_state_dict(checkpoint.read(tmp_path / str(epoch), "cell"))
        assert resumed.progress.epoch == len(resumed.progress.history) == epoch
        resumed.train(validation=resumed.validation)
        assert same(resumed.weights(), whole.weights()), epoch
        assert resumed.rows() == whole.rows()


def test_another_seed_is_another_training(images):
    assert Setting(images, seed=0).train().rows() != Setting(images, seed=1).train().rows()


def test_a_random_pool_draws_anew_in_every_epoch(images):
    drawn = []

    class Noting(RandomPick):
        def forward(self, x):
            drawn.extend([torch.rand(()).item()] if self.training else [])
            return super().forward(x)

    Setting(images, Noting, epochs=2).train()
    assert len(set(drawn)) == len(drawn) > 0


def test_every_pool_sees_the_same_images_in_the_same_order_with_the_same_augmentation(images):
    seen = []
    for pool, make in (("max", sgd), (RandomPick, muon), ("strided_conv", sgd)):
        setting = Setting(images, pool, make=make, batches=Recorded, epochs=2).train()
        seen.append(setting.batches.seen)
    for other in seen[1:]:
        assert len(other) == len(seen[0]) == 4
        for (x, y), (other_x, other_y) in zip(seen[0], other, strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)


def test_every_epoch_has_an_order_and_draws_of_its_own(images):
    first, second = (Setting(images, batches=Recorded, epochs=epochs).train().batches.seen for epochs in (1, 2))
    assert not torch.equal(first[0][0], second[0][0])


def test_label_smoothing_is_in_the_loss_that_is_trained_on(images):
    for smoothing in (0.0, 0.3):
        setting = Setting(images, batches=Recorded, epochs=1, label_smoothing=smoothing)
        untrained = copy.deepcopy(setting.model).train()
        setting.train(schedule=lambda done: 0.0)
        with torch.no_grad():
            losses = [
                F.cross_entropy(untrained(x), y, label_smoothing=smoothing).item() for x, y in setting.batches.seen
            ]
        assert setting.progress.history[0]["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_a_loss_that_is_no_number_ends_the_training_and_names_the_epoch(images):
    saved = []
    setting = Setting(images)
    with pytest.raises(TrainingFailed, match=r"loss became \w+ in epoch 2, by step \d.*optimizer\.lr"):
        setting.train(schedule=lambda done: 1e30 if done >= 0.25 else 0.1, after_epoch=lambda p: saved.append(p.epoch))
    assert saved == [1]
    assert len(setting.progress.history) == 1
    setting = Setting(images)
    setting.model.features.stage1.conv1.weight.data.fill_(math.nan)
    with pytest.raises(TrainingFailed, match="epoch 1"):
        setting.train()


def test_who_watches_hears_at_least_once_an_epoch_how_far_it_is(images):
    heard = []
    setting = Setting(images)
    setting.train(during=lambda done, row: heard.append((done, row)))
    assert [done for done, _ in heard if done == int(done)] == [1, 2, 3, 4]
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    for done, row in heard:
        assert row["epoch"] == math.ceil(done)
        assert 0 <= row["train_accuracy"] <= 1
        assert row["images_per_second"] > 0
    ends = [row for done, row in heard if done == int(done)]
    assert [row["train_loss"] for row in ends] == [row["train_loss"] for row in setting.progress.history]


def test_no_epochs_leave_the_untrained_net(images):
    setting = Setting(images, epochs=0)
    before = setting.weights()
    setting.train(during=lambda done, row: pytest.fail("nothing was to be said"))
    assert same(setting.weights(), before)
    assert setting.progress == Progress()


def test_evaluating_is_the_mean_over_all_images_the_last_partial_batch_included(images):
    setting = Setting(images, RandomPick, head=DropoutHead).train()
    pictures, labels = images
    batches = plain_batches(pictures[:50], labels[:50], 20, MEAN, STD)
    setting.model.train()
    state = setting.weights()
    read = evaluate(setting.model, batches)
    loss, accuracy = read.loss, read.accuracy
    assert not setting.model.training
    assert same(setting.weights(), state)  # no statistic moved
    x = ((pictures[:50] / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = setting.model(x)
    assert loss == pytest.approx(F.cross_entropy(logits, labels[:50]).item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == labels[:50]).sum().item() / 50


def test_precision_bf16_trains_in_it_and_keeps_weights_in_fp32(images):
    try:
        process.check_precision("bf16", torch.device("cpu"))
    except ValueError:
        pytest.skip("this CPU has no bfloat16 instructions")
    kinds = set()
    setting = Setting(images, precision="bf16", epochs=8)
    setting.model.features.stage1.conv1.register_forward_hook(lambda module, args, out: kinds.add(out.dtype))
    setting.train()
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in setting.model.parameters()} == {torch.float32}
    assert setting.progress.history[-1]["train_accuracy"] > 0.7
    assert setting.rows() != Setting(images, epochs=8).train().rows()


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_come_in_the_memory_format_that_was_chosen(images, channels_last):
    setting = Setting(images, epochs=1, channels_last=channels_last)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    came = []
    setting.model.features.register_forward_pre_hook(
        lambda module, args: came.append(args[0].is_contiguous(memory_format=wanted))
    )
    setting.train()
    assert came == [True] * 4


def test_fp32_is_left_alone():
    with autocast("fp32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


class Sizes(Trunk):
    """Tells the sizes of the images that it trained on."""

    def __init__(self, pool):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), pool(channels=4))
        self.channels = 4
        self.seen = []

    def loss(self, x, y, label_smoothing=0.0):
        self.seen.append(tuple(x.shape[-2:]))
        return super().loss(x, y, label_smoothing)


def test_sizes_alternate_by_epoch(images):
    setting = Setting(images, epochs=3, sizes=[SIDE, SIDE // 2])
    setting.state.model = create_model(Sizes, "max", "global_average", CLASSES, (SIDE, SIDE))
    setting.state.optimizers = sgd(setting.model)
    setting.train()
    steps = len(setting.batches)
    assert setting.model.seen == [
        *[(SIDE, SIDE)] * steps,
        *[(SIDE // 2, SIDE // 2)] * steps,
        *[(SIDE, SIDE)] * steps,
    ]


def test_resizing_keeps_constants_and_proportions():
    x = torch.full((2, 3, 12, 8), 0.7)
    assert resized(x, 12) is x
    torch.testing.assert_close(resized(x, 9), torch.full((2, 3, 9, 6), 0.7))


def test_alternating_flips_show_both_sides_of_every_image_in_two_epochs(images):
    setting = Setting(images, batches=Recorded, epochs=2, alternate_flip=True)
    # Without crops, what an image looks like tells how it was mirrored.
    setting.batches = Recorded(*images, setting.trainer.batch_size, MEAN, STD, {"flip": True})
    looks = []
    setting.train(after_epoch=lambda progress: looks.append(torch.cat([x for x, _ in setting.batches.seen])))
    plain = next(plain_batches(*images, len(images[0]), MEAN, STD))[0]
    mirrored = []
    for look in looks:
        same_as = (look[:, None] == plain[None]).flatten(2).all(2)
        flipped = (look[:, None] == plain.flip(3)[None]).flatten(2).all(2)
        assert (same_as.any(1) | flipped.any(1)).all()
        mirrored.append(
            {int(row.nonzero()[0, 0]): bool(f.any()) for row, f in zip(same_as | flipped, flipped, strict=True)}
        )
    shown = mirrored[0].keys() & mirrored[1].keys()  # the last partial batch is left out of an epoch
    assert len(shown) > 10
    assert all(mirrored[0][image] != mirrored[1][image] for image in shown)
    assert 0 < sum(mirrored[0].values()) < len(mirrored[0])


class Skipping(Recorded):
    """Batches that remember what they were told to leave out."""

    def epoch(self, order, draws, mirror=None, skip=None):
        self.skip = skip
        yield from super().epoch(order, draws, mirror, skip)


def test_easy_images_are_skipped_once_they_are_known_and_seen_again_in_the_end(images):
    setting = Setting(images, batches=Skipping, epochs=8, skip_easy=0.4)
    known, seen, left_out = [], [], []

    def note(progress):
        known.append(progress.losses.clone())
        seen.append(torch.cat(setting.batches.which))
        left_out.append(setting.batches.skip)

    setting.train(after_epoch=note)
    count = round(0.4 * SAMPLES)
    whole, part = SAMPLES // 20 * 20, (SAMPLES - count) // 20 * 20
    assert [len(which) for which in seen] == [whole, whole, whole, part, part, part, part, whole]
    assert all(len(which.unique()) == len(which) for which in seen)
    assert setting.progress.images == sum(map(len, seen))
    for epoch in range(8):
        assert left_out[epoch].sum() == (count if 3 <= epoch < 7 else 0)
        assert not left_out[epoch][seen[epoch]].any()
        if epoch:
            unseen = torch.ones(SAMPLES, dtype=torch.bool)
            unseen[seen[epoch]] = False
            assert torch.equal(known[epoch][unseen], known[epoch - 1][unseen])  # as they were last seen
            assert (known[epoch][seen[epoch]] != known[epoch - 1][seen[epoch]]).all()
        if 3 <= epoch < 7:
            before = known[epoch - 1].sort().values
            assert known[epoch - 1][left_out[epoch]].max() <= before[round(count / 0.8) - 1]  # easy ones alone
            assert known[epoch - 1][left_out[epoch]].max() > before[count]  # and not simply the easiest
    ranks = [left_out[epoch][known[epoch - 1].argsort(stable=True)] for epoch in (4, 5)]
    assert not torch.equal(*ranks)  # every epoch draws anew
    steps = torch.tensor([len(which) // 20 for which in seen])  # the schedule follows the steps
    expected = [0.1 * cosine()((steps[: epoch + 1].sum().item() - 1) / steps.sum().item()) for epoch in range(8)]
    assert [row["learning_rate"] for row in setting.progress.history] == pytest.approx(expected)


def test_the_loss_that_tells_easy_images_is_that_of_the_logits(images):
    setting = Setting(
        images, batches=Recorded, epochs=1, skip_easy=0.4, label_smoothing=0.3, make=partial(sgd, lr=1e-9)
    )
    state = setting.weights()
    setting.train()
    fresh = Setting(images)
    fresh.model.load_state_dict(state)
    fresh.model.train()
    for (x, y), which in zip(setting.batches.seen, setting.batches.which, strict=True):
        expected = F.cross_entropy(fresh.model(x), y, reduction="none")
        torch.testing.assert_close(setting.progress.losses[which], expected.detach(), rtol=1e-3, atol=1e-4)


def test_nothing_is_remembered_where_nothing_is_skipped(images):
    assert Setting(images).train().progress.losses is None


def test_to_skip_so_many_that_no_batch_is_left_is_refused(images):
    with pytest.raises(ValueError, match=r"trainer\.skip_easy=0\.8 leaves less than a batch of 20 of the 96 training"):
        Setting(images, epochs=4, skip_easy=0.8).train()


def test_the_average_of_weights_follows_them(images):
    setting = Setting(images, epochs=1, weight_averaging=0.5)
    followed, weights = None, []

    def update(model):
        nonlocal followed
        now = {name: p.detach().clone() for name, p in model.named_parameters()}
        weights.append(now)
        followed = now if followed is None else {n: 0.5 * followed[n] + 0.5 * now[n] for n in now}

    original = setting.average.update_parameters
    setting.average.update_parameters = lambda model: (update(model), original(model))
    setting.train()
    average = dict(setting.average.module.named_parameters())
    assert len(weights) == len(setting.batches)
    for name, value in followed.items():
        torch.testing.assert_close(average[name], value)
        assert not torch.equal(average[name], weights[-1][name])


def test_validation_reads_the_averaged_weights(images):
    setting = Setting(images, epochs=2, weight_averaging=0.9)
    setting.train(validation=setting.validation)
    loss = evaluate(setting.average.module, setting.validation()).loss
    assert setting.progress.history[-1]["validation_loss"] == loss
    assert loss != evaluate(setting.model, setting.validation()).loss
    assert averaged(setting.model, Trainer()) is None


def test_flip_averaging_reads_both_sides(images):
    setting = Setting(images, epochs=1).train()
    read = evaluate(setting.model, setting.validation(), flip=True)
    loss, accuracy, flipped = read.loss, read.accuracy, read.flip_averaged
    plain = evaluate(setting.model, setting.validation())
    assert (plain.loss, plain.accuracy, plain.flip_averaged) == (loss, accuracy, None)
    x, y = next(plain_batches(images[0][:30], images[1][:30], 30, MEAN, STD))
    with torch.no_grad():
        logits = setting.model(x) + setting.model(x.flip(3))
    assert flipped == pytest.approx((logits.argmax(1) == y).float().mean().item())


class Hinge(nn.Module):
    """A head with a loss of its own, and one for training alone."""

    def __init__(self, channels, num_classes, size):
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)
        self.images = []

    def forward(self, x):
        return self.fc(x.mean((2, 3)))

    def criterion(self, logits, y, label_smoothing=0.0):
        return F.multi_margin_loss(logits, y)

    def training_loss(self, maps, images, y, label_smoothing):
        self.images.append(images.shape)
        logits = self(maps)
        return self.criterion(logits, y) + 100.0, logits


def test_a_head_brings_its_own_loss(images):
    setting = Setting(images, head=Hinge, epochs=1).train()
    assert setting.rows()[-1]["train_loss"] > 100
    assert setting.model.head.images == [(setting.trainer.batch_size, 3, SIDE, SIDE)] * len(setting.batches)
    loss = evaluate(setting.model, setting.validation()).loss
    x, y = next(plain_batches(images[0][:30], images[1][:30], 30, MEAN, STD))
    with torch.no_grad():
        assert loss == pytest.approx(F.multi_margin_loss(setting.model(x), y).item(), rel=1e-4)


def test_a_compiled_training_takes_the_same_steps(images, monkeypatch):
    compiled = []

    def compile(function):
        compiled.append(function)
        return real(function, backend="aot_eager")  # the graph, without minutes of code generation

    real = torch.compile
    monkeypatch.setattr(torch, "compile", compile)
    plain, other = Setting(images, epochs=1), Setting(images, epochs=1, compile=True)
    plain.train()
    torch._dynamo.reset()
    other.train()
    assert compiled == [other.model.loss]
    for name, value in plain.weights().items():
        torch.testing.assert_close(other.weights()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stay_as_they_were_and_all_weights_learn(images, frozen):
    setting = Setting(images, epochs=2, frozen_statistics=frozen)
    before = setting.weights()
    after = setting.train().weights()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert len(statistics) == 6
    assert moved == set(before) - (statistics if frozen else set())
    assert all(module.training for module in setting.model.train().modules())
